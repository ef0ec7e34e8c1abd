// Elections: thesis 3.4, pre-vote 9.6, leader stickiness 4.2.3.
#include <algorithm>

#include "base/assert.h"
#include "base/plants.h"
#include "raft/raft.h"

namespace millrace::raft {

bool Raft::hears_leader() const {
  if (role_ == Role::leader) return true;
  return leader_ != kNobody && now_ms_ - leader_heard_ms_ < options_.election_timeout_ms;
}

bool Raft::is_up_to_date(const VoteRequest& request) const {
  if (planted(Plant::vote_for_stale_log)) return true;
  if (request.last_term != log_.last_term()) return request.last_term > log_.last_term();
  return request.last_index >= log_.last_index();
}

namespace {

// Between voters that stand because the leader is gone: a pre-vote and a vote fit in, with their writes.
constexpr int64_t kTurnMs = 40;
constexpr uint64_t kTurnSpreadMs = 10;

}  // namespace

/// How long this voter lets those with lower numbers go first.
int64_t Raft::turn_ms() const {
  int64_t before = 0;
  for (const NodeId node : membership().voters) before += node < options_.self && node != gone_ ? 1 : 0;
  return std::min(before * kTurnMs, options_.election_timeout_ms / 2);
}

void Raft::node_gone(NodeId node, Now now) {
  see(now);
  if (node == kNobody || node != leader_ || role_ != Role::follower) return;
  gone_ = leader_;
  leader_ = kNobody;
  hasty_until_ms_ = now_ms_ + options_.election_timeout_ms;
  if (!may_stand()) return;
  election_deadline_ms_ = std::min(election_deadline_ms_,
                                   now_ms_ + turn_ms() + static_cast<int64_t>(next_random() % kTurnSpreadMs));
}

void Raft::campaign(bool pre, bool transfer) {
  ASSERT(role_ != Role::leader && may_stand());
  reset_election_timer();
  if (now_ms_ < hasty_until_ms_) {
    // Others may not know yet, or have stood at the same moment.
    election_deadline_ms_ = std::min(
        election_deadline_ms_, now_ms_ + 2 * kTurnMs + turn_ms() +
                                   static_cast<int64_t>(next_random() % static_cast<uint64_t>(2 * kTurnMs)));
  }
  votes_.clear();
  leader_ = kNobody;
  if (pre) {
    role_ = Role::pre_candidate;
    votes_.insert(options_.self);
  } else {
    role_ = Role::candidate;
    hard_ = {hard_.term + 1, options_.self};
    hard_changed_ = true;
    ++changes_;
    held_.clear();
    incoming_.reset();
    transferring_in_ = transfer;
    vote_written_by_ = changes_;  // our own vote, too, counts only when it is on disk
  }
  const Term term = pre ? hard_.term + 1 : hard_.term;
  for (const NodeId node : membership().voters) {
    if (node == options_.self) continue;
    const Uuid* directory = membership().directory_of(node);
    send(node, term,
         VoteRequest{pre, !pre && transferring_in_, log_.last_index(), log_.last_term(),
                     directory == nullptr ? Uuid{} : *directory},
         !pre);
  }
  count_votes();
}

void Raft::count_votes() {
  size_t granted = 0;
  for (const NodeId node : membership().voters) granted += votes_.contains(node) ? 1u : 0u;
  if (granted < membership().majority()) return;
  if (role_ == Role::pre_candidate) {
    campaign(false, false);
  } else if (role_ == Role::candidate) {
    become_leader();
  }
}

void Raft::become_leader() {
  ASSERT(role_ == Role::candidate && changes_durable_ >= vote_written_by_);
  role_ = Role::leader;
  leader_ = options_.self;
  votes_.clear();
  progress_.clear();
  refresh_progress();
  uncommitted_bytes_ = 0;
  transfer_to_ = kNobody;
  first_of_term_ = log_.last_index() + 1;
  append_entry(EntryKind::no_op, {});
  replicate_all();
}

// A candidate may know more of who votes than a voter whose log lags behind: that it was let in again with
// the directory it has now, and with no other.
bool Raft::may_vote_for(const VoteRequest& request) const {
  return request.voter_directory.is_zero() ? may_vote() : request.voter_directory == options_.directory;
}

void Raft::on_vote_request(const Message& m, const VoteRequest& request) {
  if (!may_vote_for(request)) {
    send(m.from, hard_.term, VoteReply{request.pre, false}, true);
    return;
  }
  if (request.pre) {
    const bool grant = m.term > hard_.term && is_up_to_date(request) && !hears_leader();
    // A refusal carries our own term, so that a candidate that lags behind catches up.
    send(m.from, grant ? m.term : hard_.term, VoteReply{true, grant}, !grant);
    return;
  }
  const bool free =
      hard_.vote == m.from || (hard_.vote == kNobody && leader_ == kNobody) || planted(Plant::vote_twice);
  const bool grant = free && is_up_to_date(request);
  if (grant && hard_.vote != m.from) {
    hard_.vote = m.from;
    hard_changed_ = true;
    ++changes_;
  }
  if (grant) {
    reset_election_timer();
    if (role_ == Role::pre_candidate) role_ = Role::follower;
  }
  send(m.from, hard_.term, VoteReply{false, grant}, !planted(Plant::vote_before_sync));
}

void Raft::on_vote_reply(const Message& m, const VoteReply& reply) {
  if (!reply.granted || !membership().is_voter(m.from)) return;
  if (reply.pre ? role_ != Role::pre_candidate || m.term != hard_.term + 1 : role_ != Role::candidate) return;
  votes_.insert(m.from);
  count_votes();
}

}  // namespace millrace::raft
