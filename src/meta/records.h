// The records of the metadata log as plain structs, and their bytes (proto/metadata.proto).
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"

namespace millrace::meta {

/// The replicated state of one partition.
struct Partition {
  std::vector<BrokerId> replicas;  // the first is the preferred leader
  std::vector<BrokerId> isr;
  std::vector<BrokerId> adding_replicas;
  std::vector<BrokerId> removing_replicas;
  std::vector<BrokerId> elr;             // eligible leaders outside the ISR (KIP-966)
  std::vector<BrokerId> last_known_elr;  // for operators
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch{0};
  int32_t partition_epoch = 0;     // raised by every change
  bool leader_recovering = false;  // elected uncleanly, not yet recovered
  std::vector<Uuid> directories;   // parallel to replicas, or empty

  bool operator==(const Partition&) const = default;
};

/// Kafka's numbers.
enum class ResourceType : int8_t {
  unknown = 0,
  topic = 2,
  broker = 4,
  broker_logger = 8,
  client_metrics = 16,
  group = 32
};

/// What configuration is attached to. A broker's name is its number, empty for the cluster-wide default.
struct ConfigResource {
  ResourceType type = ResourceType::unknown;
  std::string name;

  auto operator<=>(const ConfigResource&) const = default;
};

/// Kafka's numbers.
enum class SecurityProtocol : int16_t { plaintext = 0, ssl = 1, sasl_plaintext = 2, sasl_ssl = 3 };

struct Endpoint {
  std::string name;  // of the listener
  std::string host;
  uint16_t port = 0;
  SecurityProtocol protocol = SecurityProtocol::plaintext;

  bool operator==(const Endpoint&) const = default;
};

struct FeatureRange {
  int16_t min_level = 0;
  int16_t max_level = 0;

  bool operator==(const FeatureRange&) const = default;
};

/// One registration of a broker.
struct Broker {
  BrokerId id = kNoBroker;
  BrokerEpoch epoch{-1};
  Uuid incarnation;
  std::vector<Endpoint> endpoints;
  std::map<std::string, FeatureRange> features;
  std::optional<std::string> rack = {};
  std::vector<Uuid> log_dirs;
  bool fenced = true;
  bool in_controlled_shutdown = false;
  bool decommissioning = false;  // being emptied: gets no new replicas

  bool operator==(const Broker&) const = default;
};

struct NoOpRecord {
  bool operator==(const NoOpRecord&) const = default;
};

struct ClusterRecord {
  Uuid cluster_id;
  BrokerEpoch next_broker_epoch{0};
  bool operator==(const ClusterRecord&) const = default;
};

struct FeatureLevelRecord {
  std::string name;
  int16_t level = 0;  // 0: removed
  bool operator==(const FeatureLevelRecord&) const = default;
};

struct TopicRecord {
  std::string name;
  Uuid id;
  bool operator==(const TopicRecord&) const = default;
};

struct PartitionRecord {
  Uuid topic_id;
  PartitionId partition;
  Partition state;
  bool operator==(const PartitionRecord&) const = default;
};

/// What is absent stays. Raises the partition epoch; a leader that is named, even the same, also raises the
/// leader epoch.
struct PartitionChangeRecord {
  Uuid topic_id;
  PartitionId partition;
  std::optional<BrokerId> leader = {};
  std::optional<std::vector<BrokerId>> replicas = {};
  std::optional<std::vector<BrokerId>> isr = {};
  std::optional<std::vector<BrokerId>> adding_replicas = {};
  std::optional<std::vector<BrokerId>> removing_replicas = {};
  std::optional<std::vector<BrokerId>> elr = {};
  std::optional<std::vector<BrokerId>> last_known_elr = {};
  std::optional<bool> leader_recovering = {};
  std::optional<std::vector<Uuid>> directories = {};
  bool operator==(const PartitionChangeRecord&) const = default;
};

struct RemoveTopicRecord {
  Uuid id;
  bool operator==(const RemoveTopicRecord&) const = default;
};

struct ConfigRecord {
  ConfigResource resource;
  std::string key;
  std::optional<std::string> value = {};  // absent: the override is removed
  bool operator==(const ConfigRecord&) const = default;
};

struct RegisterBrokerRecord {
  Broker broker;
  bool operator==(const RegisterBrokerRecord&) const = default;
};

struct BrokerChangeRecord {
  BrokerId id;
  BrokerEpoch epoch;
  std::optional<bool> fenced = {};
  std::optional<bool> in_controlled_shutdown = {};
  std::optional<std::vector<Uuid>> log_dirs = {};
  std::optional<bool> decommissioning = {};
  bool operator==(const BrokerChangeRecord&) const = default;
};

struct UnregisterBrokerRecord {
  BrokerId id;
  BrokerEpoch epoch;
  bool operator==(const UnregisterBrokerRecord&) const = default;
};

struct ProducerIdsRecord {
  BrokerId broker;
  BrokerEpoch broker_epoch;
  ProducerId next_producer_id;  // those below are given away
  bool operator==(const ProducerIdsRecord&) const = default;
};

using Record = std::variant<NoOpRecord, ClusterRecord, FeatureLevelRecord, TopicRecord, PartitionRecord,
                            PartitionChangeRecord, RemoveTopicRecord, ConfigRecord, RegisterBrokerRecord,
                            BrokerChangeRecord, UnregisterBrokerRecord, ProducerIdsRecord>;

/// The payload of one Raft entry.
Bytes encode_entry(std::span<const Record> records);
/// Error: corrupt (not an entry, a kind of record this version does not know, a value out of range).
Result<std::vector<Record>> decode_entry(ByteView bytes);

}  // namespace millrace::meta
