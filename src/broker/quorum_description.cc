#include "broker/quorum_description.h"

#include <algorithm>
#include <utility>

#include "broker/broker.h"

namespace millrace::broker {
namespace {

constexpr int64_t kVoterChangeTimeoutMs = 10'000;

}  // namespace

void Broker::describe_quorum(io::Loop& home, std::function<void(Result<QuorumDescription>)> done) {
  env_.control_loop->post([this, &home, done = std::move(done)] {
    Result<QuorumDescription> r = describe_quorum();
    home.post([done, r = std::move(r)]() mutable { done(std::move(r)); });
  });
}

Result<QuorumDescription> Broker::describe_quorum() const {
  if (!ledger_.leading()) return Error(ErrorCode::not_controller, "this node does not lead the metadata log");
  const ledger::RaftRunner& raft = ledger_.runner();
  QuorumDescription q;
  q.leader = config_.node_id;
  q.term = raft.term();
  q.committed = raft.commit_index();
  const Now now = env_.clock->now();
  const std::vector<raft::PeerStatus> peers = raft.peers();
  const std::vector<ledger::NodeAddress> addresses = peers_.addresses();
  const auto add = [&](BrokerId node, bool voter, const Uuid& directory, bool heard) {
    QuorumDescription::Replica& r = q.replicas.emplace_back();
    r.node = node;
    r.voter = voter;
    r.directory = directory;
    if (node == config_.node_id) {
      r.end = raft.end_index();
      r.heard_wall_ms = now.wall_ms;
      r.endpoint = config_.internal;
      return;
    }
    for (const raft::PeerStatus& p : peers) {
      if (p.node != node || !heard) continue;
      r.end = p.match;
      if (p.last_heard_mono_ms > 0) r.heard_wall_ms = now.wall_ms - (now.mono_ms - p.last_heard_mono_ms);
    }
    for (const ledger::NodeAddress& a : addresses) {
      if (a.node != node || !config_.internal) continue;
      r.endpoint = *config_.internal;
      r.endpoint->host = a.endpoint.host;
      r.endpoint->port = a.endpoint.port;
    }
  };
  // A voter that follows with another directory is two: one that votes and is silent, one that does not vote.
  for (const BrokerId v : raft.membership().voters) {
    const Uuid directory = voting_directory(v);
    const auto joined = joined_directories_.find(v);
    const bool lost =
        joined != joined_directories_.end() && joined->second != directory && v != config_.node_id;
    add(v, true, directory, !lost);
    if (lost) add(v, false, joined->second, true);
  }
  for (const BrokerId l : raft.membership().learners) {
    const auto joined = joined_directories_.find(l);
    add(l, false, joined == joined_directories_.end() ? Uuid{} : joined->second, true);
  }
  return q;
}

Uuid Broker::voting_directory(BrokerId node) const {
  if (const Uuid* directory = ledger_.runner().membership().directory_of(node)) return *directory;
  for (const ledger::FoundingVoter& v : founding_->voters) {
    if (v.node == node) return v.directory;
  }
  return {};
}

void Broker::change_voters(io::Loop& home, raft::ChangeKind kind, BrokerId node, const Uuid& directory,
                           std::function<void(Status)> done) {
  env_.control_loop->post([this, &home, kind, node, directory, done = std::move(done)] {
    const auto answer = [&home, done](Status s) {
      home.post([done, s = std::move(s)]() mutable { done(std::move(s)); });
    };
    if (!ledger_.leading())
      return answer(Error(ErrorCode::not_controller, "this node does not lead the log"));
    const raft::Membership& members = ledger_.runner().membership();
    Uuid votes_with;
    if (kind == raft::ChangeKind::promote_learner) {
      if (members.is_voter(node)) return answer(Error(ErrorCode::duplicate_voter, "it votes already"));
      if (!members.is_learner(node)) {
        return answer(
            Error(ErrorCode::invalid_request, "no such node follows the metadata log: start it first"));
      }
      const auto joined = joined_directories_.find(node);
      if (joined == joined_directories_.end()) {
        return answer(Error(ErrorCode::invalid_request,
                            "the node has not said yet which directory it follows with: try again"));
      }
      if (!directory.is_zero() && joined->second != directory) {
        return answer(Error(ErrorCode::invalid_request,
                            "the node follows with directory " + joined->second.to_string()));
      }
      votes_with = joined->second;
    } else if (!members.is_voter(node)) {
      return answer(Error(ErrorCode::voter_not_found, "it does not vote"));
    } else if (!directory.is_zero() && voting_directory(node) != directory) {
      return answer(
          Error(ErrorCode::voter_not_found, "it votes with directory " + voting_directory(node).to_string()));
    }
    const Result<LogIndex> changed = ledger_.runner().change_membership(kind, node, votes_with);
    if (!changed.ok()) {
      const ErrorCode code =
          changed.code() == ErrorCode::invalid_argument ? ErrorCode::invalid_request : changed.code();
      return answer(Error(code, changed.error().message));
    }
    ledger_.when_published(*changed, kVoterChangeTimeoutMs, [this, index = *changed, answer] {
      if (ledger_.committed() >= index) return answer({});
      answer(Error(ErrorCode::request_timed_out, "the change is not committed yet"));
    });
  });
}

}  // namespace millrace::broker
