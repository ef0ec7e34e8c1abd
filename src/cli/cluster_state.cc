#include "cli/cluster_state.h"

#include <algorithm>
#include <utility>

#include "base/contains.h"
#include "wire/messages/describe_cluster.h"
#include "wire/messages/describe_quorum.h"
#include "wire/messages/list_partition_reassignments.h"

namespace millrace::cli {
namespace {

constexpr const char* kMetadataTopic = "__cluster_metadata";

Error told(int16_t code, const std::optional<std::string>& message) {
  const ErrorCode known = error_from_wire(code);
  const std::string text = message.value_or("");
  return {known, text.empty() ? std::string(error_name(known)) : text};
}

}  // namespace

std::vector<int32_t> OngoingMove::target() const {
  std::vector<int32_t> out;
  for (const int32_t b : replicas) {
    if (!contains(removing, b)) out.push_back(b);
  }
  return out;
}

Layout ClusterState::layout() const {
  Layout out;
  for (const auto& [id, b] : brokers) out.brokers[id] = {b.rack.value_or(""), b.alive};
  for (const auto& [name, topic] : view.topics()) {
    for (const client::PartitionInfo& p : topic.partitions) {
      const auto move = moves.find({name, p.id});
      std::vector<int32_t> replicas = move == moves.end() ? p.replicas : move->second.target();
      if (!replicas.empty()) out.partitions.push_back({name, p.id, std::move(replicas)});
    }
  }
  return out;
}

int64_t ClusterState::living() const {
  return std::count_if(brokers.begin(), brokers.end(), [](const auto& b) { return b.second.alive; });
}

int64_t QuorumState::end() const {
  const QuorumReplica* r = voter(leader);
  return r == nullptr ? committed : r->end;
}

const QuorumReplica* QuorumState::voter(int32_t node) const {
  const auto at =
      std::find_if(voters.begin(), voters.end(), [node](const QuorumReplica& r) { return r.node == node; });
  return at == voters.end() ? nullptr : &*at;
}

const QuorumReplica* QuorumState::observer(int32_t node) const {
  const auto at = std::find_if(observers.begin(), observers.end(),
                               [node](const QuorumReplica& r) { return r.node == node; });
  return at == observers.end() ? nullptr : &*at;
}

bool is_passing(ErrorCode code) {
  switch (code) {
    case ErrorCode::closed:
    case ErrorCode::timed_out:
    case ErrorCode::network_exception:
    case ErrorCode::broker_not_available:
    case ErrorCode::not_controller:
      return true;
    default:
      return is_retriable(code);
  }
}

Result<std::map<int32_t, BrokerState>> read_brokers(Session& session) {
  wire::DescribeClusterRequest request;
  request.include_fenced_brokers = true;
  TRY_ASSIGN(const auto answer,
             session.call<wire::DescribeClusterRequest>(client::Target::any(), std::move(request)));
  if (answer.error_code != 0) return told(answer.error_code, answer.error_message);
  std::map<int32_t, BrokerState> out;
  for (const auto& b : answer.brokers) {
    if (b.port < 0 || b.port > UINT16_MAX)
      return Error(ErrorCode::corrupt, "a broker's port is out of range");
    out[b.broker_id] = {{b.host, static_cast<uint16_t>(b.port)}, b.rack, !b.is_fenced};
  }
  return out;
}

Result<OngoingMoves> read_moves(Session& session) {
  wire::ListPartitionReassignmentsRequest request;
  request.topics.reset();  // all
  TRY_ASSIGN(const auto answer, session.call<wire::ListPartitionReassignmentsRequest>(client::Target::any(),
                                                                                      std::move(request)));
  if (answer.error_code != 0) return told(answer.error_code, answer.error_message);
  OngoingMoves out;
  for (const auto& t : answer.topics) {
    for (const auto& p : t.partitions)
      out[{t.name, p.partition_index}] = {p.replicas, p.adding_replicas, p.removing_replicas};
  }
  return out;
}

Result<QuorumState> read_quorum(Session& session) {
  wire::DescribeQuorumRequest request;
  request.topics.push_back({kMetadataTopic, {{0}}});
  TRY_ASSIGN(const auto answer,
             session.call<wire::DescribeQuorumRequest>(client::Target::any(), std::move(request)));
  if (answer.error_code != 0) return told(answer.error_code, answer.error_message);
  if (answer.topics.empty() || answer.topics[0].partitions.empty())
    return Error(ErrorCode::corrupt, "the broker's answer is empty");
  const auto& p = answer.topics[0].partitions[0];
  if (p.error_code != 0) return told(p.error_code, p.error_message);
  QuorumState out;
  out.leader = p.leader_id;
  out.epoch = p.leader_epoch;
  out.committed = p.high_watermark;
  const auto add = [](const auto& from, std::vector<QuorumReplica>& to) {
    for (const auto& r : from)
      to.push_back({r.replica_id, r.replica_directory_id, r.log_end_offset, r.last_fetch_timestamp});
    std::sort(to.begin(), to.end(),
              [](const QuorumReplica& a, const QuorumReplica& b) { return a.node < b.node; });
  };
  add(p.current_voters, out.voters);
  add(p.observers, out.observers);
  return out;
}

// Moves before places: of a move that ends meanwhile the end is known, and both are the same broker's word.
Result<ClusterState> read_cluster(Session& session, std::optional<std::vector<std::string>> names) {
  ClusterState out;
  TRY_ASSIGN(out.brokers, read_brokers(session));
  TRY_ASSIGN(out.moves, read_moves(session));
  TRY_ASSIGN(out.view, session.metadata(std::move(names)));
  return out;
}

}  // namespace millrace::cli
