#include "cli/replication_throttle.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/contains.h"
#include "wire/messages/describe_configs.h"
#include "wire/messages/incremental_alter_configs.h"

namespace millrace::cli {
namespace {

constexpr int8_t kTopicType = 2;
constexpr int8_t kBrokerType = 4;
constexpr int8_t kSet = 0;
constexpr int8_t kDelete = 1;
constexpr const char* kLeaderReplicas = "leader.replication.throttled.replicas";
constexpr const char* kFollowerReplicas = "follower.replication.throttled.replicas";
constexpr const char* kLeaderRate = "leader.replication.throttled.rate";
constexpr const char* kFollowerRate = "follower.replication.throttled.rate";
constexpr int8_t kTopicSource = 1;

using Alter = wire::IncrementalAlterConfigsRequest;

void alter_key(Alter& request, int8_t type, const std::string& name, const char* key,
               std::optional<std::string> value) {
  auto& resources = request.resources;
  if (resources.empty() || resources.back().resource_type != type || resources.back().resource_name != name) {
    resources.push_back({type, name, {}});
  }
  const int8_t operation = value ? kSet : kDelete;
  resources.back().configs.push_back({key, operation, std::move(value)});
}

Status send_alter(Session& session, const Alter& request) {
  if (request.resources.empty()) return {};
  TRY_ASSIGN(const auto answer, patiently(session, session.mono_ms() + session.timeout_ms(), [&] {
               return session.call<Alter>(client::Target::any(), Alter(request));
             }));
  for (const auto& r : answer.responses) {
    const ErrorCode code = error_from_wire(r.error_code);
    // What is gone needs no throttle.
    if (code == ErrorCode::none || code == ErrorCode::unknown_topic_or_partition) continue;
    return Error(code, fmt::format("{}: {}", r.resource_name, r.error_message.value_or("")));
  }
  return {};
}

/// Topics that have throttled replicas of their own.
Result<std::set<std::string>> throttled_topics(Session& session, const std::vector<std::string>& topics) {
  std::set<std::string> out;
  if (topics.empty()) return out;
  wire::DescribeConfigsRequest request;
  for (const std::string& t : topics) {
    auto& r = request.resources.emplace_back();
    r.resource_type = kTopicType;
    r.resource_name = t;
    r.configuration_keys = std::vector<std::string>{kLeaderReplicas, kFollowerReplicas};
  }
  TRY_ASSIGN(const auto answer,
             session.call<wire::DescribeConfigsRequest>(client::Target::any(), std::move(request)));
  for (const auto& r : answer.results) {
    for (const auto& c : r.configs) {
      if (c.config_source == kTopicSource && !c.value.value_or("").empty()) out.insert(r.resource_name);
    }
  }
  return out;
}

}  // namespace

Status set_throttle(Session& session, const ClusterState& state, const std::vector<PartitionMove>& moves,
                    int64_t bytes_per_second) {
  std::map<std::string, std::pair<std::set<std::string>, std::set<std::string>>>
      topics;  // leaders, followers
  std::set<int32_t> brokers;
  for (const PartitionMove& m : moves) {
    auto& [leaders, followers] = topics[m.topic];
    for (const int32_t b : m.from) {
      leaders.insert(fmt::format("{}:{}", m.partition, b));
      brokers.insert(b);
    }
    for (const int32_t b : m.to) {
      if (contains(m.from, b)) continue;
      followers.insert(fmt::format("{}:{}", m.partition, b));
      brokers.insert(b);
    }
  }
  Alter request;
  for (const auto& [topic, replicas] : topics) {
    alter_key(request, kTopicType, topic, kLeaderReplicas, fmt::format("{}", fmt::join(replicas.first, ",")));
    alter_key(request, kTopicType, topic, kFollowerReplicas,
              fmt::format("{}", fmt::join(replicas.second, ",")));
  }
  for (const int32_t b : brokers) {
    if (!state.brokers.contains(b)) continue;
    const std::string name = std::to_string(b);
    alter_key(request, kBrokerType, name, kLeaderRate, std::to_string(bytes_per_second));
    alter_key(request, kBrokerType, name, kFollowerRate, std::to_string(bytes_per_second));
  }
  return send_alter(session, request);
}

Status lift_throttle(Session& session, const std::vector<client::TopicPartition>& partitions) {
  std::set<std::string> names;
  for (const client::TopicPartition& p : partitions) names.insert(p.topic);
  TRY_ASSIGN(const ClusterState state, read_cluster(session));
  std::vector<std::string> all;
  for (const auto& [name, topic] : state.view.topics()) all.push_back(name);
  TRY_ASSIGN(std::set<std::string> throttled, throttled_topics(session, all));
  if (throttled.empty()) return {};
  Alter request;
  for (const std::string& name : names) {
    if (throttled.erase(name) == 0) continue;
    alter_key(request, kTopicType, name, kLeaderReplicas, std::nullopt);
    alter_key(request, kTopicType, name, kFollowerReplicas, std::nullopt);
  }
  // Another command's moves may still need the rates.
  if (throttled.empty()) {
    for (const auto& [id, b] : state.brokers) {
      alter_key(request, kBrokerType, std::to_string(id), kLeaderRate, std::nullopt);
      alter_key(request, kBrokerType, std::to_string(id), kFollowerRate, std::nullopt);
    }
  }
  return send_alter(session, request);
}

}  // namespace millrace::cli
