// DescribeTopicPartitions (75), version 0: topics by name, paged by partitions (KIP-966). An empty list means
// all.
#include <algorithm>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

constexpr int32_t kPartitionsPerReply = 2000;

}  // namespace

void handle(Call call, wire::DescribeTopicPartitionsRequest& request) {
  const meta::Image& image = *call.view().image;
  std::vector<std::string> names;
  if (request.topics.empty()) {
    image.topics().for_each([&](const std::string& name, const meta::TopicRef&) { names.push_back(name); });
  } else {
    for (auto& t : request.topics) names.push_back(std::move(t.name));
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  }
  wire::DescribeTopicPartitionsResponse r;
  int32_t left = std::clamp(request.response_partition_limit, 1, kPartitionsPerReply);
  const std::string from = request.cursor ? request.cursor->topic_name : "";
  for (const std::string& name : names) {
    if (name < from) continue;
    if (left == 0) {
      r.next_cursor.emplace(wire::DescribeTopicPartitionsResponse::Cursor{name, 0});
      break;
    }
    auto& t = r.topics.emplace_back();
    t.name = name;
    t.is_internal = is_internal_topic(name);
    const meta::Topic* topic = image.topic(name);
    if (topic == nullptr) {
      t.error_code = static_cast<int16_t>(ErrorCode::unknown_topic_or_partition);
      continue;
    }
    t.topic_id = topic->id;
    size_t i = request.cursor && name == from
                   ? static_cast<size_t>(std::max(request.cursor->partition_index, 0))
                   : 0;
    for (; i < topic->partitions.size() && left > 0; ++i, --left) {
      const meta::Partition& p = topic->partitions[i];
      auto& out = t.partitions.emplace_back();
      out.partition_index = static_cast<int32_t>(i);
      out.leader_id = p.leader.v;
      out.leader_epoch = p.leader_epoch.v;
      out.replica_nodes = broker_numbers(p.replicas);
      out.isr_nodes = broker_numbers(p.isr);
      out.eligible_leader_replicas = broker_numbers(p.elr);
      out.last_known_elr = broker_numbers(p.last_known_elr);
      for (size_t at = 0; at < p.replicas.size(); ++at) {
        if (replica_is_offline(image, p, at)) out.offline_replicas.push_back(p.replicas[at].v);
      }
      if (p.leader == kNoBroker) out.error_code = static_cast<int16_t>(ErrorCode::leader_not_available);
    }
    if (i < topic->partitions.size()) {
      r.next_cursor.emplace(wire::DescribeTopicPartitionsResponse::Cursor{name, static_cast<int32_t>(i)});
      break;
    }
  }
  call.reply(r);
}

}  // namespace millrace::broker
