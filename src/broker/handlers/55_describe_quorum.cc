// DescribeQuorum (55), versions 0-2: the voters and followers of the metadata log and how far each has come,
// as its leader knows it.
//   1 times of last fetch and last catching up | 2 directory ids, nodes, error messages
#include <algorithm>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using QuorumResponse = wire::DescribeQuorumResponse;

QuorumResponse::PartitionData quorum_partition(const QuorumDescription& q) {
  QuorumResponse::PartitionData out;
  out.error_message.reset();
  out.leader_id = q.leader.v;
  out.leader_epoch = static_cast<int32_t>(q.term.v);
  out.high_watermark = q.committed.v;
  for (const QuorumDescription::Replica& r : q.replicas) {
    QuorumResponse::ReplicaState state;
    state.replica_id = r.node.v;
    state.replica_directory_id = r.directory;
    state.log_end_offset = r.end.v;
    state.last_fetch_timestamp = r.heard_wall_ms;
    state.last_caught_up_timestamp = r.end >= q.committed ? r.heard_wall_ms : -1;
    (r.voter ? out.current_voters : out.observers).push_back(state);
  }
  return out;
}

}  // namespace

void handle(Call call, wire::DescribeQuorumRequest& request) {
  const SharedCall shared = share(std::move(call));
  shared->broker().describe_quorum(
      shared->loop(), [shared, topics = request.topics](const Result<QuorumDescription>& q) {
        QuorumResponse response;
        response.error_message.reset();
        if (!q.ok()) {
          // Kafka's not_leader_or_follower: ask somebody who knows the leader.
          response.error_code = static_cast<int16_t>(ErrorCode::not_leader_or_follower);
          response.error_message = q.error().message;
          shared->reply(response);
          return;
        }
        for (const auto& t : topics) {
          auto& out = response.topics.emplace_back();
          out.topic_name = t.topic_name;
          for (const auto& p : t.partitions) {
            if (t.topic_name == kMetadataTopic && p.partition_index == 0) {
              out.partitions.push_back(quorum_partition(*q));
              continue;
            }
            auto& unknown = out.partitions.emplace_back();
            unknown.partition_index = p.partition_index;
            unknown.error_code = static_cast<int16_t>(ErrorCode::unknown_topic_or_partition);
          }
        }
        for (const QuorumDescription::Replica& r : q->replicas) {
          if (!r.voter || !r.endpoint) continue;
          response.nodes.push_back({r.node.v, {{r.endpoint->name, r.endpoint->host, r.endpoint->port}}});
        }
        shared->reply(response);
      });
}

}  // namespace millrace::broker
