// What the controller is asked about topics and configurations and what it answers, as plain structs:
// handlers translate to and from the wire. Brokers: control/broker_requests.h; partitions:
// control/partition_requests.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/uuid.h"
#include "meta/config_view.h"
#include "meta/records.h"

namespace millrace::control {

/// How one item of a request fared. `message` is empty on success.
struct Outcome {
  ErrorCode error = ErrorCode::none;
  std::string message;

  bool ok() const { return error == ErrorCode::none; }
};

struct NamedValue {
  std::string name;
  std::optional<std::string> value;
};

// --- topics ---

struct Assignment {
  int32_t partition = 0;
  std::vector<BrokerId> replicas;
};

struct NewTopic {
  std::string name;
  int32_t partitions = -1;              // -1: num.partitions
  int16_t replication_factor = -1;      // -1: default.replication.factor
  std::vector<Assignment> assignments;  // if given, both numbers above are -1
  std::vector<NamedValue> configs;
  /// An internal topic: while the cluster has one broker, that one is enough.
  bool fit_single_broker = false;
};

struct CreateTopics {
  std::vector<NewTopic> topics;
  bool validate_only = false;
};

/// One configuration of a topic just created, as CreateTopics v5 reports it.
struct DescribedConfig {
  std::string name;
  std::optional<std::string> value;
  bool read_only = false;
  meta::ConfigSource source = meta::ConfigSource::default_config;
  bool sensitive = false;
};

struct CreatedTopic {
  std::string name;
  Outcome outcome;
  Uuid id;
  int32_t partitions = -1;
  int16_t replication_factor = -1;
  std::vector<DescribedConfig> configs;
};

struct CreateTopicsReply {
  std::vector<CreatedTopic> topics;  // one per name asked for, in the request's order
};

/// By name or, if the name is absent, by id.
struct TopicHandle {
  std::optional<std::string> name;
  Uuid id;
};

struct DeleteTopics {
  std::vector<TopicHandle> topics;
};

struct DeletedTopic {
  std::optional<std::string> name;  // absent if asked for by an id that is unknown
  Uuid id;
  Outcome outcome;
};

struct DeleteTopicsReply {
  std::vector<DeletedTopic> topics;
};

struct MorePartitions {
  std::string name;
  int32_t count = 0;                                              // the new total
  std::optional<std::vector<std::vector<BrokerId>>> assignments;  // of the added ones only
};

struct CreatePartitions {
  std::vector<MorePartitions> topics;
  bool validate_only = false;
};

struct NamedOutcome {
  std::string name;
  Outcome outcome;
};

struct CreatePartitionsReply {
  std::vector<NamedOutcome> topics;
};

// --- configuration ---

/// Kafka's numbers (IncrementalAlterConfigs).
enum class AlterOp : int8_t { set = 0, remove = 1, append = 2, subtract = 3 };

struct Alteration {
  std::string name;
  AlterOp op = AlterOp::set;
  std::optional<std::string> value;
};

struct AlteredResource {
  meta::ConfigResource resource;
  std::vector<Alteration> alterations;
};

struct IncrementalAlterConfigs {
  std::vector<AlteredResource> resources;
  bool validate_only = false;
};

/// AlterConfigs (key 33): the given values become all there is.
struct ReplacedResource {
  meta::ConfigResource resource;
  std::vector<NamedValue> values;
};

struct ReplaceConfigs {
  std::vector<ReplacedResource> resources;
  bool validate_only = false;
};

struct ResourceOutcome {
  meta::ConfigResource resource;
  Outcome outcome;
};

struct AlterConfigsReply {
  std::vector<ResourceOutcome> resources;
};

}  // namespace millrace::control
