// Elections: thesis 3.4, pre-vote 9.6, leader stickiness 4.2.3.
#include "base/assert.h"
#include "raft/raft.h"

namespace millrace::raft {

bool Raft::hears_leader() const {
  if (role_ == Role::leader) return true;
  return leader_ != kNobody && now_ms_ - leader_heard_ms_ < options_.election_timeout_ms;
}

bool Raft::is_up_to_date(const VoteRequest& request) const {
  if (request.last_term != log_.last_term()) return request.last_term > log_.last_term();
  return request.last_index >= log_.last_index();
}

void Raft::campaign(bool pre, bool transfer) {
  ASSERT(role_ != Role::leader && may_stand());
  reset_election_timer();
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
    send(node, term, VoteRequest{pre, !pre && transferring_in_, log_.last_index(), log_.last_term()}, !pre);
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

void Raft::on_vote_request(const Message& m, const VoteRequest& request) {
  if (!may_vote()) {
    send(m.from, hard_.term, VoteReply{request.pre, false}, true);
    return;
  }
  if (request.pre) {
    const bool grant = m.term > hard_.term && is_up_to_date(request) && !hears_leader();
    // A refusal carries our own term, so that a candidate that lags behind catches up.
    send(m.from, grant ? m.term : hard_.term, VoteReply{true, grant}, !grant);
    return;
  }
  const bool free = hard_.vote == m.from || (hard_.vote == kNobody && leader_ == kNobody);
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
  send(m.from, hard_.term, VoteReply{false, grant}, true);
}

void Raft::on_vote_reply(const Message& m, const VoteReply& reply) {
  if (!reply.granted || !membership().is_voter(m.from)) return;
  if (reply.pre ? role_ != Role::pre_candidate || m.term != hard_.term + 1 : role_ != Role::candidate) return;
  votes_.insert(m.from);
  count_votes();
}

}  // namespace millrace::raft
