#include "ledger/raft_runner.h"

#include <algorithm>
#include <utility>

namespace millrace::ledger {
namespace {

constexpr int64_t kNoSpaceRetryMs = 250;

}  // namespace

// What the core wants persisted, until it is.
struct RaftRunner::Job {
  raft::Output output;
  Status status;
};

void RaftRunner::start(Quorum quorum, Handlers handlers) {
  handlers_ = std::move(handlers);
  if (failed_) {
    handlers_.on_failure(Error(ErrorCode::kafka_storage_error, "its directory failed before it was started"));
    return;
  }
  raft::Options options;
  options.self = quorum.self;
  options.seed = env_.random->next_u64();
  options.may_vote = quorum.may_vote;
  options.directory = quorum.directory;
  options.election_timeout_ms = quorum.election_timeout_ms;
  options.append_bytes_max = quorum.append_bytes_max;
  options.heartbeat_ms = quorum.heartbeat_ms;
  options.trailing_entries = trailing_entries_ = quorum.trailing_entries;
  options.snapshot_chunk_bytes = quorum.snapshot_chunk_bytes;
  raft::Restored restored;
  restored.hard_state = store_.hard_state();
  restored.entries = store_.take_entries();
  restored.snapshot = store_.take_snapshot();
  restored.initial = std::move(quorum.initial);
  const std::optional<raft::Snapshot> snapshot = restored.snapshot;
  Result<std::unique_ptr<raft::Raft>> opened =
      raft::Raft::open(options, std::move(restored), env_.clock->now());
  if (!opened.ok()) {
    fail(opened.error());
    return;
  }
  raft_ = std::move(*opened);
  if (snapshot) handlers_.on_snapshot(snapshot->meta, snapshot->data);
  raft_->tick(env_.clock->now());
  pump();
}

void RaftRunner::step(raft::Message message) {
  if (failed_ || !raft_) return;
  raft_->step(std::move(message), env_.clock->now());
  // Messages of one tick are answered together.
  pump_soon();
}

Result<LogIndex> RaftRunner::propose(Bytes payload) {
  if (failed_ || !raft_) return Error(ErrorCode::kafka_storage_error, "the metadata log has failed");
  if (no_space_) {
    return Error(ErrorCode::kafka_storage_error,
                 "the metadata log's disk is full: nothing can be changed until there is room");
  }
  const Slice slice(std::move(payload));
  Result<LogIndex> index = raft_->propose({&slice, 1}, env_.clock->now());
  // The owner applies the entry before anything of it can be committed.
  pump_soon();
  return index;
}

Result<LogIndex> RaftRunner::change_membership(raft::ChangeKind kind, BrokerId node, const Uuid& directory) {
  if (failed_ || !raft_) return Error(ErrorCode::not_controller, "the metadata log has failed");
  Result<LogIndex> index = raft_->change_membership(kind, node, env_.clock->now(), directory);
  pump_soon();
  return index;
}

void RaftRunner::restart_peer(BrokerId node) {
  if (failed_ || !raft_) return;
  raft_->restart_peer(node);
  pump_soon();
}

Status RaftRunner::transfer_leadership(BrokerId to) {
  if (failed_ || !raft_) return Error(ErrorCode::not_controller, "the metadata log has failed");
  Status begun = raft_->transfer_leadership(to, env_.clock->now());
  pump_soon();
  return begun;
}

void RaftRunner::node_gone(BrokerId node) {
  if (failed_ || !raft_) return;
  raft_->node_gone(node, env_.clock->now());
  pump_soon();
}

void RaftRunner::keep_snapshot(LogIndex index, std::function<Bytes()> state) {
  if (failed_ || keeping_) return;
  std::optional<raft::SnapshotMeta> meta = raft_->snapshot_meta(index);
  if (!meta) return;
  keeping_ = true;
  auto snapshot = std::make_shared<raft::Snapshot>(raft::Snapshot{std::move(*meta), {}});
  env_.disk->run(
      *env_.loop, [snapshot, state = std::move(state)] { snapshot->data = Slice(state()); },
      [this, snapshot] {
        to_keep_ = snapshot;
        pump();
      });
}

// The store does one thing at a time: this takes the place of a write of entries.
void RaftRunner::write_snapshot() {
  ASSERT(!writing_);
  writing_ = true;
  const std::shared_ptr<raft::Snapshot> snapshot = std::exchange(to_keep_, nullptr);
  auto status = std::make_shared<Status>();
  env_.disk->run(
      *env_.loop,
      [this, snapshot, status] {
        *status = store_.write_snapshot(*snapshot, snapshot->meta.index - trailing_entries_);
      },
      [this, snapshot, status] {
        writing_ = false;
        keeping_ = false;
        if (status->ok()) {
          raft_->snapshot_taken(std::move(*snapshot));
        } else if (status->code() == ErrorCode::no_space) {
          env_.trace.warn("no room for a snapshot of the metadata: {}", status->error().message);
        } else {
          fail(status->error());
          return;
        }
        pump();
      });
}

void RaftRunner::pump_soon() {
  if (pump_armed_) return;
  pump_armed_ = true;
  env_.loop->at_end_of_tick([this] {
    pump_armed_ = false;
    pump();
  });
}

bool RaftRunner::leading() const {
  return raft_ && !failed_ && raft_->leads();
}

Term RaftRunner::term() const {
  return raft_->term();
}

void RaftRunner::pump() {
  if (pumping_ || failed_) return;
  pumping_ = true;
  while (!failed_) {
    if (to_keep_ && !writing_) write_snapshot();
    raft::Output out = raft_->take_output(!writing_);
    const bool idle = out.ticket == 0 && out.committed.empty() && !out.leadership && out.send.empty();
    if (!out.send.empty()) handlers_.send(std::move(out.send));
    if (out.snapshot) handlers_.on_snapshot(out.snapshot->meta, out.snapshot->data);
    if (!out.committed.empty()) handlers_.on_commit(out.committed);
    if (out.leadership) handlers_.on_leadership(out.leadership->leading);
    if (out.ticket != 0) write(out);
    if (idle) break;
  }
  pumping_ = false;
  if (!failed_ && told_leader_ != raft_->leader()) {
    told_leader_ = raft_->leader();
    handlers_.on_leader(told_leader_);
  }
  arm_tick();
}

void RaftRunner::write(raft::Output& output) {
  ASSERT(!writing_);
  writing_ = true;
  run(std::make_shared<Job>(Job{std::move(output), {}}));
}

void RaftRunner::run(const std::shared_ptr<Job>& job) {
  env_.disk->run(
      *env_.loop,
      [this, job] {
        job->status = {};
        const raft::Output& o = job->output;
        if (o.hard_state) job->status = store_.write_hard_state(*o.hard_state);
        if (job->status.ok() && o.snapshot) job->status = store_.install_snapshot(*o.snapshot);
        if (job->status.ok()) job->status = store_.append(o.entries);
      },
      [this, job] { on_written(job); });
}

// A disk that is full kept nothing of the write: it is tried again for as long as it takes, what was proposed
// waits, and more is refused meanwhile. Every other failure is final.
void RaftRunner::on_written(const std::shared_ptr<Job>& job) {
  if (!job->status.ok() && job->status.code() == ErrorCode::no_space) {
    if (!no_space_) env_.trace.error("{}; tried again until there is room", job->status.error().message);
    no_space_ = true;
    env_.loop->call_after(kNoSpaceRetryMs, [this, job] { run(job); });
    return;
  }
  writing_ = false;
  if (!job->status.ok()) {
    fail(job->status.error());
    return;
  }
  if (std::exchange(no_space_, false)) env_.trace.info("the metadata log has room again");
  raft_->persisted(job->output.ticket, env_.clock->now());
  pump();
}

void RaftRunner::arm_tick() {
  if (failed_) return;
  const int64_t at = raft_->next_deadline_mono_ms();
  if (timer_ != 0 && timer_at_ms_ <= at) return;
  if (timer_ != 0) env_.loop->cancel(timer_);
  timer_ = 0;
  if (at == kNoDeadline) return;
  timer_at_ms_ = at;
  timer_ = env_.loop->call_after(std::max<int64_t>(at - env_.clock->now().mono_ms, 0), [this] {
    timer_ = 0;
    raft_->tick(env_.clock->now());
    pump();
  });
}

void RaftRunner::fail(const Error& why) {
  if (failed_) return;
  failed_ = true;
  if (handlers_.on_failure) handlers_.on_failure(why);  // else start() tells
}

}  // namespace millrace::ledger
