#include "cli/topic_durability.h"

#include <set>
#include <utility>

#include "wire/messages/describe_configs.h"
#include "wire/messages/describe_log_dirs.h"

namespace millrace::cli {
namespace {

constexpr int8_t kTopicConfigs = 2;
constexpr char kDurabilityKey[] = "durability";

std::optional<std::string> durability_mode(Session& session, const std::string& topic) {
  wire::DescribeConfigsRequest request;
  auto& r = request.resources.emplace_back();
  r.resource_type = kTopicConfigs;
  r.resource_name = topic;
  r.configuration_keys = {kDurabilityKey};
  const auto response = session.call<wire::DescribeConfigsRequest>(client::Target::any(), std::move(request));
  if (!response.ok() || response->results.empty()) return std::nullopt;
  for (const auto& c : response->results[0].configs) {
    if (c.name == kDurabilityKey) return c.value;
  }
  return std::nullopt;
}

}  // namespace

TopicDurability topic_durability(Session& session, const client::TopicInfo& topic) {
  TopicDurability out;
  out.mode = durability_mode(session, topic.name);
  if (!out.mode) return out;  // no Millrace: it would not tell the other either
  std::map<int32_t, std::set<int32_t>> led;
  for (const auto& p : topic.partitions) {
    if (p.leader >= 0) led[p.leader].insert(p.id);
  }
  for (const auto& [leader, partitions] : led) {
    wire::DescribeLogDirsRequest request;
    auto& asked = request.topics.emplace().emplace_back();
    asked.topic = topic.name;
    asked.partitions.assign(partitions.begin(), partitions.end());
    const auto response =
        session.call<wire::DescribeLogDirsRequest>(client::Target::broker(leader), std::move(request));
    if (!response.ok()) continue;
    for (const auto& directory : response->results) {
      if (directory.sync_micros < 0) continue;
      for (const auto& t : directory.topics) {
        if (t.name != topic.name) continue;
        for (const auto& p : t.partitions) {
          if (partitions.contains(p.partition_index))
            out.sync_micros[p.partition_index] = directory.sync_micros;
        }
      }
    }
  }
  return out;
}

}  // namespace millrace::cli
