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

void RaftRunner::start(BrokerId self, Handlers handlers) {
  handlers_ = std::move(handlers);
  raft::Options options;
  options.self = self;
  options.seed = env_.random->next_u64();
  raft::Restored restored;
  restored.hard_state = store_.hard_state();
  restored.entries = store_.take_entries();
  restored.initial.voters = {self};
  Result<std::unique_ptr<raft::Raft>> opened =
      raft::Raft::open(options, std::move(restored), env_.clock->now());
  if (!opened.ok()) {
    fail(opened.error());
    return;
  }
  raft_ = std::move(*opened);
  raft_->tick(env_.clock->now());
  pump();
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
  env_.loop->at_end_of_tick([this] { pump(); });
  return index;
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
    raft::Output out = raft_->take_output(!writing_);
    const bool idle = out.ticket == 0 && out.committed.empty() && !out.leadership && out.send.empty();
    ASSERT(out.send.empty());  // the only voter has nobody to send to
    if (!out.committed.empty()) handlers_.on_commit(out.committed);
    if (out.leadership) handlers_.on_leadership(out.leadership->leading);
    if (out.ticket != 0) write(out);
    if (idle) break;
  }
  pumping_ = false;
  arm_tick();
}

void RaftRunner::write(raft::Output& output) {
  ASSERT(!writing_ && !output.snapshot);
  writing_ = true;
  run(std::make_shared<Job>(Job{std::move(output), {}}));
}

void RaftRunner::run(const std::shared_ptr<Job>& job) {
  env_.disk->run(
      *env_.loop,
      [this, job] {
        job->status = {};
        if (job->output.hard_state) job->status = store_.write_hard_state(*job->output.hard_state);
        if (job->status.ok()) job->status = store_.append(job->output.entries);
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
  handlers_.on_failure(why);
}

}  // namespace millrace::ledger
