// What the client knows of the cluster: brokers, topics with their ids, leaders. The fold of Metadata
// answers; an answer about some topics leaves the others as they were.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"
#include "io/network.h"
#include "wire/messages/metadata.h"

namespace millrace::client {

struct BrokerInfo {
  int32_t id = -1;
  io::Endpoint endpoint;
  std::optional<std::string> rack;
};

struct PartitionInfo {
  int32_t id = 0;
  ErrorCode error = ErrorCode::none;
  int32_t leader = -1;
  int32_t leader_epoch = -1;
  std::vector<int32_t> replicas;
  std::vector<int32_t> isr;
  std::vector<int32_t> offline;
};

struct TopicInfo {
  std::string name;
  Uuid id;  // zero with brokers that know no topic ids
  bool internal = false;
  std::vector<PartitionInfo> partitions;  // ascending by id

  const PartitionInfo* partition(int32_t index) const;
};

class ClusterView {
 public:
  /// `all`: the answer names every topic, so others are gone.
  void update(const wire::MetadataResponse& response, bool all);
  /// The next use of the topic asks again.
  void forget_topic(const std::string& name) { topics_.erase(name); }

  const TopicInfo* topic(const std::string& name) const;
  const TopicInfo* topic(const Uuid& id) const;
  /// Why the last answer had no such topic; none if it was not asked for.
  ErrorCode topic_error(const std::string& name) const;
  const BrokerInfo* broker(int32_t id) const;
  void add_broker(BrokerInfo broker) { brokers_[broker.id] = std::move(broker); }

  const std::map<std::string, TopicInfo>& topics() const { return topics_; }
  const std::map<int32_t, BrokerInfo>& brokers() const { return brokers_; }
  int32_t controller_id() const { return controller_id_; }
  const std::string& cluster_id() const { return cluster_id_; }

 private:
  std::map<int32_t, BrokerInfo> brokers_;
  std::map<std::string, TopicInfo> topics_;
  std::map<std::string, ErrorCode> topic_errors_;
  int32_t controller_id_ = -1;
  std::string cluster_id_;
};

}  // namespace millrace::client
