// Membership changes: thesis 4, one server at a time.
#include <algorithm>

#include "base/assert.h"
#include "raft/raft.h"

namespace millrace::raft {
namespace {

void insert_node(std::vector<NodeId>& nodes, NodeId node) {
  nodes.insert(std::lower_bound(nodes.begin(), nodes.end(), node), node);
}

}  // namespace

Result<LogIndex> Raft::change_membership(ChangeKind kind, NodeId node, Now now, const Uuid& directory) {
  see(now);
  if (role_ != Role::leader || transfer_to_ != kNobody)
    return Error(ErrorCode::not_controller, "not the leader");
  // Two changes at once could make two majorities that do not meet; so could one that is proposed before the
  // leader knows that its predecessors' changes are settled.
  if (log_.membership_index() > commit_ || first_of_term_ > commit_) {
    return Error(ErrorCode::concurrent_transactions, "an earlier change is not committed yet");
  }
  Membership next = membership();
  switch (kind) {
    case ChangeKind::add_learner:
      if (node.v < 0 || next.contains(node))
        return Error(ErrorCode::invalid_argument, "the node is a member already");
      insert_node(next.learners, node);
      break;
    case ChangeKind::promote_learner: {
      if (!next.is_learner(node)) return Error(ErrorCode::invalid_argument, "only learners become voters");
      const auto at = progress_.find(node);
      if (log_.last_index() - at->second.match > options_.promotable_lag) {
        return Error(ErrorCode::invalid_argument, "the learner is too far behind");
      }
      std::erase(next.learners, node);
      insert_node(next.voters, node);
      if (!directory.is_zero()) {
        next.directories.emplace_back(node, directory);
        std::sort(next.directories.begin(), next.directories.end(),
                  [](const auto& a, const auto& b) { return a.first < b.first; });
      }
      break;
    }
    case ChangeKind::remove:
      if (!next.contains(node)) return Error(ErrorCode::invalid_argument, "the node is no member");
      if (next.is_voter(node) && next.voters.size() == 1) {
        return Error(ErrorCode::invalid_argument, "the last voter stays");
      }
      std::erase(next.voters, node);
      std::erase(next.learners, node);
      std::erase_if(next.directories, [node](const auto& d) { return d.first == node; });
      break;
  }
  const LogIndex index = log_.last_index() + 1;
  append_entry(EntryKind::membership, Slice(encode_membership(next)));
  refresh_progress();
  replicate_all();
  return index;
}

bool Raft::may_vote() const {
  const Uuid* directory = membership().directory_of(options_.self);
  return directory != nullptr ? *directory == options_.directory : options_.may_vote;
}

void Raft::restart_peer(NodeId node) {
  const auto at = progress_.find(node);
  if (role_ != Role::leader || at == progress_.end()) return;
  Progress p;
  p.next = log_.last_index() + 1;
  p.last_heard_ms = at->second.last_heard_ms;
  p.next_beat_ms = now_ms_;
  at->second = std::move(p);
  replicate(node, at->second, true);
}

}  // namespace millrace::raft
