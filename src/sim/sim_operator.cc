#include "sim/sim_operator.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/contains.h"
#include "wire/messages/add_raft_voter.h"
#include "wire/messages/alter_partition_reassignments.h"
#include "wire/messages/remove_raft_voter.h"

namespace millrace::sim {

namespace {

constexpr int32_t kOperatorTimeoutMs = 5'000;
// A request whose answer was lost may still be carried out so long.
constexpr int64_t kInDoubtMs = 12'000;

}  // namespace

void SimOperator::next() {
  later(dice_.between(300, 1'000), [this] { look(); });
}

template <class Request>
void SimOperator::call(Request request, std::function<void(const typename Request::Response&)> then) {
  busy_ = true;
  client::CallOptions options;
  options.timeout_ms = 6'000;
  client().call<Request>(client::Target::controller(), std::move(request), options, nullptr,
                         [this, then = std::move(then)](Result<typename Request::Response> response) {
                           busy_ = false;
                           if (response.ok()) then(*response);
                           next();
                         });
}

void SimOperator::look() {
  wire::DescribeQuorumRequest request;
  auto& t = request.topics.emplace_back();
  t.topic_name = "__cluster_metadata";
  t.partitions.emplace_back().partition_index = 0;
  busy_ = true;
  client::CallOptions options;
  options.timeout_ms = 6'000;
  client().call<wire::DescribeQuorumRequest>(client::Target::controller(), std::move(request), options,
                                             nullptr, [this](Result<wire::DescribeQuorumResponse> r) {
                                               busy_ = false;
                                               if (!r.ok() || r->error_code != 0 || r->topics.size() != 1 ||
                                                   r->topics[0].partitions.size() != 1 ||
                                                   r->topics[0].partitions[0].error_code != 0) {
                                                 return next();
                                               }
                                               judge(r->topics[0].partitions[0]);
                                             });
}

void SimOperator::judge(const wire::DescribeQuorumResponse::PartitionData& quorum) {
  const int64_t now_ms = clock_.now().mono_ms;
  const auto voter = [&](int32_t node) {
    return std::find_if(quorum.current_voters.begin(), quorum.current_voters.end(),
                        [node](const auto& v) { return v.replica_id == node; });
  };
  for (const auto& newcomer : quorum.observers) {
    if (const auto lost = voter(newcomer.replica_id); lost != quorum.current_voters.end())
      return remove(lost->replica_id, lost->replica_directory_id);
  }
  for (const auto& newcomer : quorum.observers) {
    if (newcomer.replica_id > world_.knobs.voters) continue;  // it only follows
    if (resting_ || without_vote_until_ms_[newcomer.replica_id] <= now_ms)
      return add(newcomer.replica_id, newcomer.replica_directory_id);
  }
  const bool all_vote = quorum.current_voters.size() == static_cast<size_t>(world_.knobs.voters);
  if (!all_vote) {
    world_.votes_in_doubt_until_us = std::max(world_.votes_in_doubt_until_us, world_.scheduler.now_us() + 1);
    return next();
  }
  if (resting_ || !world_.emptied.empty()) return next();
  if (world_.knobs.voter_changes && world_.knobs.voters > 2 && dice_.percent(15)) {
    const auto& chosen = quorum.current_voters[dice_.index(quorum.current_voters.size())];
    without_vote_until_ms_[chosen.replica_id] = now_ms + dice_.skewed(200, 10'000);
    return remove(chosen.replica_id, chosen.replica_directory_id);
  }
  if (world_.knobs.drains && world_.knobs.nodes > world_.knobs.replication_factor && dice_.percent(10))
    return drain();
  next();
}

void SimOperator::remove(int32_t node, const Uuid& directory) {
  world_.say(fmt::format("operator: node {} is to vote no more", node));
  world_.votes_in_doubt_until_us = world_.scheduler.now_us() + kInDoubtMs * 1'000;
  wire::RemoveRaftVoterRequest request;
  request.cluster_id.reset();
  request.voter_id = node;
  request.voter_directory_id = directory;
  call<wire::RemoveRaftVoterRequest>(std::move(request), [this](const wire::RemoveRaftVoterResponse& r) {
    world_.count("vote taken away: " + std::string(error_name(error_from_wire(r.error_code))));
  });
}

void SimOperator::add(int32_t node, const Uuid& directory) {
  world_.say(fmt::format("operator: node {} is to vote", node));
  world_.votes_in_doubt_until_us =
      std::max(world_.votes_in_doubt_until_us, world_.scheduler.now_us() + kInDoubtMs * 1'000);
  wire::AddRaftVoterRequest request;
  request.cluster_id.reset();
  request.timeout_ms = kOperatorTimeoutMs;
  request.voter_id = node;
  request.voter_directory_id = directory;
  call<wire::AddRaftVoterRequest>(std::move(request), [this](const wire::AddRaftVoterResponse& r) {
    world_.count("vote given: " + std::string(error_name(error_from_wire(r.error_code))));
  });
}

void SimOperator::drain() {
  const auto node = static_cast<int32_t>(dice_.between(1, world_.knobs.nodes));
  wire::AlterPartitionReassignmentsRequest request;
  request.timeout_ms = kOperatorTimeoutMs;
  for (const auto& [name, partitions] : world_.topics) {
    const client::TopicInfo* topic = client().view().topic(name);
    if (topic == nullptr) continue;
    for (int32_t i = 0; i < partitions; ++i) {
      const client::PartitionInfo* p = topic->partition(i);
      if (p == nullptr || !contains(p->replicas, node)) continue;
      std::vector<int32_t> others;
      for (int32_t n = 1; n <= world_.knobs.nodes; ++n) {
        if (n != node && !contains(p->replicas, n)) others.push_back(n);
      }
      if (others.empty()) continue;
      std::vector<int32_t> replicas = p->replicas;
      *std::find(replicas.begin(), replicas.end(), node) = others[dice_.index(others.size())];
      if (request.topics.empty() || request.topics.back().name != name)
        request.topics.emplace_back().name = name;
      auto& asked = request.topics.back().partitions.emplace_back();
      asked.partition_index = i;
      asked.replicas = std::move(replicas);
    }
  }
  if (request.topics.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, partitions] : world_.topics) names.push_back(name);
    client().refresh(names, false, 3'000, [this](const Status&) { next(); });
    return;
  }
  world_.say(fmt::format("operator: node {} is to be emptied", node));
  world_.draining = node;
  call<wire::AlterPartitionReassignmentsRequest>(
      std::move(request), [this](const wire::AlterPartitionReassignmentsResponse& r) {
        world_.count("drain begun: " + std::string(error_name(error_from_wire(r.error_code))));
      });
}

}  // namespace millrace::sim
