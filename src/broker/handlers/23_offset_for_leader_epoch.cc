// OffsetForLeaderEpoch (23), versions 2-4: where an epoch ends, for a client that checks for truncation
// (KIP-320).
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::OffsetForLeaderEpochRequest& request) {
  wire::OffsetForLeaderEpochResponse r;
  for (const auto& topic : request.topics) {
    auto& out = r.topics.emplace_back();
    out.topic = topic.topic;
    const meta::Topic* known = call.view().image->topic(topic.topic);
    for (const auto& p : topic.partitions) {
      auto& answer = out.partitions.emplace_back();
      answer.partition = p.partition;
      const PartitionRef* found = known == nullptr ? nullptr : call.view().partition(known->id, p.partition);
      if (found == nullptr) {
        answer.error_code = static_cast<int16_t>(ErrorCode::unknown_topic_or_partition);
        continue;
      }
      const auto end =
          (*found)->end_offset_for_epoch(LeaderEpoch(p.leader_epoch), {LeaderEpoch(p.current_leader_epoch)});
      if (!end.ok()) {
        answer.error_code = static_cast<int16_t>(wire_code(end.code()));
        continue;
      }
      answer.leader_epoch = end->epoch.v;
      answer.end_offset = end->end_offset.v;
    }
  }
  call.reply(r);
}

}  // namespace millrace::broker
