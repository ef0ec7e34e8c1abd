// Snapshots: thesis 5. Sent in pieces, one unanswered at a time, sent again with the heartbeat.
#include <algorithm>

#include "base/assert.h"
#include "raft/raft.h"

namespace millrace::raft {

std::optional<SnapshotMeta> Raft::snapshot_meta(LogIndex index) const {
  ASSERT(index <= delivered_);
  const std::optional<Term> term = log_.term_at(index);
  if (!term) return std::nullopt;
  return SnapshotMeta{index, *term, log_.membership_at(index)};
}

void Raft::snapshot_taken(Snapshot snapshot) {
  const LogIndex index = snapshot.meta.index;
  ASSERT(index <= delivered_);
  if (snapshot_ && snapshot_->meta.index >= index) return;
  snapshot_ = std::make_shared<const Snapshot>(std::move(snapshot));
  // What has not been handed out to be written stays.
  LogIndex upto = index - options_.trailing_entries;
  if (write_from_) upto = std::min(upto, *write_from_ - 1);
  log_.compact_to(upto);
}

// --- the leader ---

void Raft::begin_snapshot(NodeId to, Progress& p) {
  ASSERT(snapshot_ != nullptr && snapshot_->meta.index >= log_.base_index());
  p.flow = Flow::snapshot;
  p.inflight.clear();
  p.probing = false;
  p.snapshot = snapshot_;
  p.snapshot_offset = 0;
  send_chunk(to, p);
}

void Raft::send_chunk(NodeId to, Progress& p) {
  const Slice& data = p.snapshot->data;
  const uint64_t count = std::min<uint64_t>(options_.snapshot_chunk_bytes, data.size() - p.snapshot_offset);
  p.next_beat_ms = now_ms_ + options_.heartbeat_ms;
  send(to, hard_.term,
       SnapshotRequest{p.snapshot->meta, p.snapshot_offset, data.size(), data.sub(p.snapshot_offset, count)},
       false);
}

void Raft::on_snapshot_reply(const Message& m, const SnapshotReply& reply) {
  Progress* const who = answered(m);
  if (who == nullptr) return;
  Progress& p = *who;
  if (p.flow != Flow::snapshot || p.snapshot->meta.index != reply.index) return;
  if (reply.next_offset > p.snapshot->data.size() || reply.next_offset == p.snapshot_offset) return;
  p.snapshot_offset = reply.next_offset;
  send_chunk(m.from, p);
}

// --- the follower ---

void Raft::on_snapshot_request(const Message& m, SnapshotRequest& request) {
  if (request.meta.index <= commit_) {
    incoming_.reset();
    send(m.from, hard_.term, AppendReply{true, request.meta.index, commit_, {}, {}}, true);
    return;
  }
  if (request.total > options_.snapshot_bytes_max || request.meta.membership.voters.empty()) return;
  if (!incoming_ || incoming_->meta != request.meta || incoming_->total != request.total) {
    incoming_ = Incoming{request.meta, request.total, {}};
  }
  Bytes& data = incoming_->data;
  if (request.offset == data.size() && request.data.size() <= incoming_->total - data.size()) {
    data.insert(data.end(), request.data.view().begin(), request.data.view().end());
  }
  if (data.size() < incoming_->total) {
    send(m.from, hard_.term, SnapshotReply{request.meta.index, data.size()}, true);
    return;
  }
  Snapshot whole{std::move(incoming_->meta), Slice(std::move(data))};
  incoming_.reset();
  const LogIndex index = whole.meta.index;
  if (log_.term_at(index) == whole.meta.term) {
    commit_ = index;  // we have all of it as entries
  } else {
    install(std::move(whole));
  }
  send(m.from, hard_.term, AppendReply{true, index, index, {}, {}}, true);
}

void Raft::install(Snapshot snapshot) {
  ASSERT(role_ == Role::follower && snapshot.meta.index > commit_);
  log_ = EntryLog(snapshot.meta);
  commit_ = snapshot.meta.index;
  durable_ = LogIndex(0);
  for (PendingWrite& w : writes_) w.last = LogIndex(0);
  write_from_.reset();
  ++changes_;
  snapshot_ = std::make_shared<const Snapshot>(snapshot);
  install_ = std::move(snapshot);
}

}  // namespace millrace::raft
