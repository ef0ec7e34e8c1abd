// The machine's frame: messages in by term, time, persistence, output.
#include "raft/raft.h"

#include <algorithm>
#include <functional>

#include "base/assert.h"
#include "base/plants.h"

namespace millrace::raft {

Result<std::unique_ptr<Raft>> Raft::open(Options options, Restored restored, Now now) {
  ASSERT(options.self != kNobody);
  ASSERT(options.heartbeat_ms > 0 && options.heartbeat_ms < options.election_timeout_ms);
  SnapshotMeta base;
  base.membership = std::move(restored.initial);
  std::shared_ptr<const Snapshot> snapshot;
  if (restored.snapshot) {
    base = restored.snapshot->meta;
    snapshot = std::make_shared<const Snapshot>(std::move(*restored.snapshot));
  }
  EntryLog log(std::move(base));
  for (Entry& e : restored.entries) {
    if (e.index <= log.base_index()) continue;
    if (e.index != log.last_index() + 1 || e.term < log.last_term() || e.term > restored.hard_state.term) {
      return Error(ErrorCode::corrupt,
                   "raft: entry " + std::to_string(e.index.v) + " does not follow the one before");
    }
    if (e.kind == EntryKind::membership) {
      const Result<Membership> m = decode_membership(e.payload.view());
      if (!m.ok()) return m.error();
    }
    log.append(std::move(e));
  }
  return std::unique_ptr<Raft>(
      new Raft(options, restored.hard_state, std::move(log), std::move(snapshot), now));
}

Raft::Raft(Options options, HardState hard, EntryLog log, std::shared_ptr<const Snapshot> snapshot, Now now)
    : options_(options),
      now_ms_(now.mono_ms),
      random_(options.seed),
      hard_(hard),
      log_(std::move(log)),
      snapshot_(std::move(snapshot)),
      commit_(log_.base_index()),
      delivered_(log_.base_index()),
      leader_heard_ms_(now.mono_ms - options.election_timeout_ms),
      durable_(log_.last_index()) {
  reset_election_timer();
  if (is_voter() && membership().voters.size() == 1) election_deadline_ms_ = now_ms_;  // nobody to wait for
}

// --- what happens ---

void Raft::step(Message m, Now now) {
  see(now);
  asked_ms_ = m.asked_mono_ms;
  if (m.to != options_.self || m.from == options_.self || m.from == kNobody) return;
  const auto* vote_request = std::get_if<VoteRequest>(&m.body);
  const auto* vote_reply = std::get_if<VoteReply>(&m.body);
  const bool from_leader =
      std::holds_alternative<AppendRequest>(m.body) || std::holds_alternative<SnapshotRequest>(m.body);

  if (m.term > hard_.term) {
    // A pre-vote speaks of a term that nobody is in yet; a vote is not even looked at while a leader is
    // heard.
    const bool pre = (vote_request != nullptr && vote_request->pre) ||
                     (vote_reply != nullptr && vote_reply->pre && vote_reply->granted);
    if (vote_request != nullptr && !vote_request->pre && !vote_request->transfer && hears_leader()) return;
    if (!pre) become_follower(m.term, from_leader ? m.from : kNobody);
  } else if (m.term < hard_.term) {
    // Whoever is behind learns our term: an old leader steps down, a candidate catches up.
    if (from_leader) send(m.from, hard_.term, AppendReply{}, true);
    if (vote_request != nullptr) send(m.from, hard_.term, VoteReply{vote_request->pre, false}, true);
    return;
  }

  if (vote_request != nullptr) {
    on_vote_request(m, *vote_request);
  } else if (vote_reply != nullptr) {
    on_vote_reply(m, *vote_reply);
  } else if (from_leader) {
    if (role_ == Role::leader) return;  // a second leader of one term: a liar
    if (role_ != Role::follower || leader_ != m.from) become_follower(hard_.term, m.from);
    leader_heard_ms_ = now_ms_;
    reset_election_timer();
    if (auto* append = std::get_if<AppendRequest>(&m.body)) on_append_request(m, *append);
    if (auto* snapshot = std::get_if<SnapshotRequest>(&m.body)) on_snapshot_request(m, *snapshot);
  } else if (const auto* append_reply = std::get_if<AppendReply>(&m.body)) {
    if (role_ == Role::leader) on_append_reply(m, *append_reply);
  } else if (const auto* snapshot_reply = std::get_if<SnapshotReply>(&m.body)) {
    if (role_ == Role::leader) on_snapshot_reply(m, *snapshot_reply);
  } else if (std::holds_alternative<TimeoutNow>(m.body)) {
    if (role_ == Role::follower && m.from == leader_ && may_stand()) campaign(false, true);
  }
}

void Raft::tick(Now now) {
  see(now);
  if (role_ != Role::leader) {
    if (may_stand() && now_ms_ >= election_deadline_ms_) campaign(true, false);
    return;
  }
  if (transfer_to_ != kNobody && now_ms_ >= transfer_deadline_ms_) transfer_to_ = kNobody;
  check_quorum();
  if (role_ != Role::leader) return;
  for (auto& [node, p] : progress_) {
    if (now_ms_ >= p.next_beat_ms) replicate(node, p, true);
  }
}

int64_t Raft::next_deadline_mono_ms() const {
  if (role_ != Role::leader) return may_stand() ? election_deadline_ms_ : kNoDeadline;
  int64_t at = transfer_to_ != kNobody ? transfer_deadline_ms_ : kNoDeadline;
  for (const auto& [node, p] : progress_) at = std::min(at, p.next_beat_ms);
  return at;
}

Result<LogIndex> Raft::propose(std::span<const Slice> payloads, Now now) {
  see(now);
  if (role_ != Role::leader) return Error(ErrorCode::not_controller, "not the leader");
  if (transfer_to_ != kNobody) return Error(ErrorCode::not_controller, "leadership is being handed over");
  size_t bytes = 0;
  for (const Slice& p : payloads) bytes += p.size();
  if (uncommitted_bytes_ > 0 && uncommitted_bytes_ + bytes > options_.uncommitted_bytes_max) {
    return Error(ErrorCode::limit_exceeded, "too much is waiting to be committed");
  }
  const LogIndex first = log_.last_index() + 1;
  for (const Slice& p : payloads) append_entry(EntryKind::payload, p);
  replicate_all();
  return first;
}

// --- persistence and output ---

void Raft::persisted(uint64_t ticket, Now now) {
  see(now);
  ASSERT(ticket <= changes_taken_);
  changes_durable_ = std::max(changes_durable_, ticket);
  while (!writes_.empty() && writes_.front().ticket <= ticket) {
    durable_ = std::max(durable_, writes_.front().last);
    writes_.pop_front();
  }
  ASSERT(durable_ <= log_.last_index());
  std::erase_if(held_, [&](std::pair<uint64_t, Message>& h) {
    if (h.first > changes_durable_) return false;
    outbox_.push_back(std::move(h.second));
    return true;
  });
  if (role_ == Role::candidate && changes_durable_ >= vote_written_by_) {
    votes_.insert(options_.self);
    count_votes();
  } else if (role_ == Role::leader) {
    advance_commit();
  }
}

Output Raft::take_output(bool may_persist) {
  Output out;
  if (may_persist && changes_ > changes_taken_) {
    out.ticket = changes_;
    changes_taken_ = changes_;
    if (std::exchange(hard_changed_, false)) out.hard_state = hard_;
    out.snapshot = std::exchange(install_, std::nullopt);
    if (out.snapshot) delivered_ = out.snapshot->meta.index;
    if (write_from_) {
      for (LogIndex i = *write_from_; i <= log_.last_index(); ++i) out.entries.push_back(log_.at(i));
      write_from_.reset();
    }
    writes_.push_back({out.ticket, log_.last_index()});
  }
  // What comes after a snapshot that has not been handed out yet waits for it.
  if (!install_) {
    deliver(out);
    note_leadership(out);
  }
  out.send = std::exchange(outbox_, {});
  return out;
}

void Raft::deliver(Output& out) {
  const LogIndex upto = std::min(commit_, durable_);
  while (delivered_ < upto) {
    ++delivered_;
    out.committed.push_back(log_.at(delivered_));
  }
}

void Raft::note_leadership(Output& out) {
  const bool leading =
      role_ == Role::leader && (delivered_ >= first_of_term_ || planted(Plant::serve_before_epoch_start));
  if (leading == told_.leading && (!leading || told_.term == hard_.term)) return;
  told_ = {leading, hard_.term};
  out.leadership = told_;
}

// --- shared by all roles ---

void Raft::become_follower(Term term, NodeId leader) {
  ASSERT(term >= hard_.term);
  if (term > hard_.term) {
    hard_ = {term, kNobody};
    hard_changed_ = true;
    ++changes_;
    held_.clear();  // promises of a term that is over
    incoming_.reset();
  }
  if (role_ == Role::leader) reset_election_timer();
  role_ = Role::follower;
  leader_ = leader;
  if (leader != kNobody) hasty_until_ms_ = 0;
  votes_.clear();
  progress_.clear();
  transfer_to_ = kNobody;
}

// splitmix64
uint64_t Raft::next_random() {
  uint64_t z = (random_ += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

void Raft::reset_election_timer() {
  const auto spread = static_cast<uint64_t>(options_.election_timeout_ms);
  election_deadline_ms_ =
      now_ms_ + options_.election_timeout_ms + static_cast<int64_t>(next_random() % spread);
}

// `after_writes`: not before everything decided so far is durable.
void Raft::send(NodeId to, Term term, decltype(Message::body) body, bool after_writes) {
  Message m{options_.self, to, term, std::move(body), now_ms_};
  if (std::holds_alternative<AppendReply>(m.body) || std::holds_alternative<SnapshotReply>(m.body))
    m.asked_mono_ms = asked_ms_;
  if (after_writes && changes_ > changes_durable_) {
    held_.emplace_back(changes_, std::move(m));
  } else {
    outbox_.push_back(std::move(m));
  }
}

void Raft::append_entry(EntryKind kind, Slice payload) {
  ASSERT(role_ == Role::leader);
  uncommitted_bytes_ += payload.size();
  const LogIndex index = log_.last_index() + 1;
  log_.append({index, hard_.term, kind, std::move(payload)});
  write_from_ = std::min(write_from_.value_or(index), index);
  ++changes_;
}

void Raft::truncate_log(LogIndex from) {
  ASSERT(from > commit_);
  log_.truncate_from(from);
  const LogIndex last = from - 1;
  durable_ = std::min(durable_, last);
  for (PendingWrite& w : writes_) w.last = std::min(w.last, last);
  write_from_ = std::min(write_from_.value_or(from), from);
  ++changes_;
}

std::vector<PeerStatus> Raft::peers() const {
  std::vector<PeerStatus> out;
  for (const auto& [node, p] : progress_) out.push_back({node, p.match, p.last_heard_ms});
  return out;
}

}  // namespace millrace::raft
