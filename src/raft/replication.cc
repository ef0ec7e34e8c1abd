// Log replication: thesis 3.5 and 3.6, pipelined as in 10.2.
#include <algorithm>
#include <functional>

#include "base/assert.h"
#include "base/plants.h"
#include "raft/raft.h"

namespace millrace::raft {

// --- the leader ---

/// Everybody in the membership but us has a Progress, nobody else has.
void Raft::refresh_progress() {
  const Membership& m = membership();
  std::erase_if(progress_, [&m](const auto& p) { return !m.contains(p.first); });
  for (const std::vector<NodeId>* nodes : {&m.voters, &m.learners}) {
    for (const NodeId node : *nodes) {
      if (node == options_.self || progress_.contains(node)) continue;
      Progress& p = progress_[node];
      p.next = log_.last_index() + 1;
      p.last_heard_ms = now_ms_;
      p.next_beat_ms = now_ms_;
    }
  }
}

// Sends what `to` may be sent now. `beat`: at least something, and again what may have been lost.
void Raft::replicate(NodeId to, Progress& p, bool beat) {
  if (beat) p.next_beat_ms = now_ms_ + options_.heartbeat_ms;
  if (p.flow == Flow::snapshot) {
    if (beat) send_chunk(to, p);
    return;
  }
  while (true) {
    const LogIndex prev = p.next - 1;
    const std::optional<Term> prev_term = log_.term_at(prev);
    if (!prev_term) {
      begin_snapshot(to, p);
      return;
    }
    if (p.flow == Flow::probe && p.probing && !beat) return;
    AppendRequest request{prev, *prev_term, commit_, {}};
    const bool room = p.flow == Flow::probe || p.inflight.size() < options_.inflight_max;
    if (room && p.next <= log_.last_index()) request.entries = log_.slice(p.next, options_.append_bytes_max);
    if (request.entries.empty() && !beat && p.commit_sent >= commit_ && p.flow != Flow::probe) return;

    const bool more = !request.entries.empty();
    if (more && p.flow == Flow::replicate) {
      p.inflight.push_back(request.entries.back().index);
      p.next = request.entries.back().index + 1;
    }
    p.commit_sent = commit_;
    p.next_beat_ms = now_ms_ + options_.heartbeat_ms;
    send(to, hard_.term, std::move(request), false);
    if (p.flow == Flow::probe) {
      p.probing = true;
      return;
    }
    if (!more) return;
    beat = false;
  }
}

void Raft::replicate_all() {
  for (auto& [node, p] : progress_) replicate(node, p, false);
  advance_commit();
}

// Who answered, if we replicate to it.
Raft::Progress* Raft::answered(const Message& m) {
  const auto at = progress_.find(m.from);
  if (at == progress_.end()) return nullptr;
  Progress& p = at->second;
  p.last_heard_ms = now_ms_;
  p.answered_ms = std::max(p.answered_ms, std::min(m.asked_mono_ms, now_ms_));
  return &p;
}

void Raft::on_append_reply(const Message& m, const AppendReply& reply) {
  Progress* const who = answered(m);
  if (who == nullptr) return;
  Progress& p = *who;
  if (reply.success) {
    if (reply.match > log_.last_index()) return;  // of no log of ours
    p.match = std::max(p.match, reply.match);
    while (!p.inflight.empty() && p.inflight.front() <= p.match) p.inflight.pop_front();
    if (p.flow == Flow::snapshot && p.match < p.snapshot->meta.index) return;
    if (p.flow != Flow::replicate) {
      p.flow = Flow::replicate;
      p.snapshot.reset();
      p.inflight.clear();
      p.next = p.match + 1;
    }
    p.next = std::max(p.next, p.match + 1);
    p.probing = false;
    const LogIndex committed = commit_;
    advance_commit();
    if (role_ != Role::leader) return;
    if (commit_ == committed) replicate(m.from, p, false);  // else everybody has been sent to
    continue_transfer();
    return;
  }
  if (p.flow == Flow::snapshot) return;
  if (p.flow == Flow::replicate ? reply.prev_index <= p.match : reply.prev_index != p.next - 1)
    return;  // stale
  // It lacks what it once acknowledged: its disk was lost. Asking again above that would go on for ever.
  if (reply.prev_index <= p.match) p.match = LogIndex(0);
  p.flow = Flow::probe;
  p.inflight.clear();
  p.probing = false;
  // Skip whole terms: nothing above the hint can agree, nor can entries of ours that are newer than its term.
  const LogIndex agree =
      log_.newest_at_or_below(std::min(reply.hint_index, reply.prev_index - 1), reply.hint_term);
  p.next = std::max(p.match + 1, agree + 1);
  if (reply.hint_index < log_.base_index()) p.next = std::max(p.match, reply.hint_index) + 1;
  replicate(m.from, p, false);
}

/// The newest entry that a majority holds durably, if it is of this term: with it commits everything before.
void Raft::advance_commit() {
  if (role_ != Role::leader) return;
  std::vector<LogIndex> matches;
  for (const NodeId node : membership().voters) {
    const auto at = progress_.find(node);
    matches.push_back(node == options_.self ? durable_ : at->second.match);
  }
  if (planted(Plant::count_observers)) {
    for (const auto& [node, p] : progress_)
      if (!membership().is_voter(node)) matches.push_back(p.match);
  }
  std::sort(matches.begin(), matches.end(), std::greater<>());
  const size_t fewer = planted(Plant::commit_without_majority) && membership().majority() > 1 ? 1 : 0;
  const LogIndex held = matches[membership().majority() - 1 - fewer];
  if (held <= commit_) return;
  if (log_.term_at(held) != hard_.term && !planted(Plant::commit_old_term)) return;
  for (LogIndex i = commit_ + 1; i <= held; ++i) {
    uncommitted_bytes_ -= std::min(uncommitted_bytes_, log_.at(i).payload.size());
  }
  commit_ = held;
  for (auto& [node, p] : progress_) replicate(node, p, false);
  // A leader that removed itself stays until the others have it on a majority (thesis 4.2.2).
  if (!is_voter() && log_.membership_index() <= commit_) become_follower(hard_.term, kNobody);
}

int64_t Raft::led_until_mono_ms() const {
  if (role_ != Role::leader) return INT64_MIN;
  std::vector<int64_t> answered;
  for (const NodeId node : membership().voters)
    answered.push_back(node == options_.self ? INT64_MAX : progress_.at(node).answered_ms);
  std::sort(answered.begin(), answered.end(), std::greater<>());
  return answered[membership().majority() - 1];
}

/// A leader that a majority has not answered for an election timeout is none (thesis 6.2).
void Raft::check_quorum() {
  size_t heard = 0;
  for (const NodeId node : membership().voters) {
    if (node == options_.self) {
      ++heard;
      continue;
    }
    const auto at = progress_.find(node);
    if (now_ms_ - at->second.last_heard_ms < options_.election_timeout_ms) ++heard;
  }
  if (heard < membership().majority()) become_follower(hard_.term, kNobody);
}

Status Raft::transfer_leadership(NodeId to, Now now) {
  see(now);
  if (role_ != Role::leader) return Error(ErrorCode::not_controller, "not the leader");
  if (to == options_.self || !membership().is_voter(to)) {
    return Error(ErrorCode::invalid_argument, "leadership goes to another voter");
  }
  transfer_to_ = to;
  transfer_sent_ = false;
  transfer_deadline_ms_ = now_ms_ + options_.election_timeout_ms;
  continue_transfer();
  return {};
}

void Raft::continue_transfer() {
  if (transfer_to_ == kNobody || transfer_sent_) return;
  const auto at = progress_.find(transfer_to_);
  if (at == progress_.end() || at->second.match < log_.last_index()) return;
  transfer_sent_ = true;
  send(transfer_to_, hard_.term, TimeoutNow{}, false);
}

// --- the follower ---

void Raft::on_append_request(const Message& m, AppendRequest& request) {
  AppendReply reply;
  reply.prev_index = request.prev_index;
  if (request.prev_index < log_.base_index()) {
    // What a snapshot covers is committed, so it agrees.
    reply.success = true;
    reply.match = commit_;
    send(m.from, hard_.term, std::move(reply), true);
    return;
  }
  LogIndex last = request.prev_index;
  Term term = request.prev_term;
  for (const Entry& e : request.entries) {
    const bool follows = e.index == last + 1 && e.term >= term && e.term <= m.term;
    if (!follows) return;  // no leader sends this
    if (e.kind == EntryKind::membership && !decode_membership(e.payload.view()).ok()) return;
    last = e.index;
    term = e.term;
  }
  if (log_.term_at(request.prev_index) != request.prev_term) {
    reply.hint_index =
        log_.newest_at_or_below(std::min(request.prev_index - 1, log_.last_index()), request.prev_term);
    reply.hint_term = log_.term_at(reply.hint_index).value_or(Term(0));
    send(m.from, hard_.term, std::move(reply), true);
    return;
  }
  for (Entry& e : request.entries) {
    if (e.index <= log_.last_index()) {
      if (e.index <= log_.base_index() || log_.term_at(e.index) == e.term) continue;
      if (planted(Plant::keep_conflicting_entries)) continue;
      if (e.index <= commit_) return;  // contradicts what is committed: no leader sends this
      truncate_log(e.index);
    }
    const LogIndex index = e.index;
    log_.append(std::move(e));
    write_from_ = std::min(write_from_.value_or(index), index);
    ++changes_;
  }
  commit_ = std::max(commit_, std::min(request.commit, last));
  reply.success = true;
  reply.match = last;
  send(m.from, hard_.term, std::move(reply), !planted(Plant::append_acknowledged_early));
}

}  // namespace millrace::raft
