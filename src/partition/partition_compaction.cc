// Compaction of one partition: the steps of a run, with the lock held only to plan and to exchange names.
#include "partition/partition.h"
#include "partition/partition_notices.h"

namespace millrace::partition {

Result<log::CompactionNeed> Partition::compaction_need(Now now) {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode why = hosting_locked(); why != ErrorCode::none) return why;
  if (!log_) return log::CompactionNeed();  // at rest; housekeeping opens what may have to be cleaned
  return log_->compaction_need(now, offsets_locked().high_watermark);
}

Result<std::unique_ptr<log::Compaction>> Partition::begin_compaction(const log::CompactionLimits& limits,
                                                                     Now now) {
  log::CompactionPlan plan;
  {
    const std::lock_guard lock(mutex_);
    if (const ErrorCode why = hosting_locked(); why != ErrorCode::none) return why;
    if (!log_) return std::unique_ptr<log::Compaction>();
    TRY_ASSIGN(plan, log_->plan_compaction(now, offsets_locked().high_watermark));
  }
  if (plan.sources.empty()) return std::unique_ptr<log::Compaction>();
  return std::make_unique<log::Compaction>(*env_.disk, std::move(plan), limits);
}

Result<bool> Partition::compact(log::Compaction& run, uint64_t bytes, Now now) {
  Result<log::Compaction::State> state = compact_step(run, bytes, now);
  if (state.ok()) {
    if (*state != log::Compaction::State::done) return true;
    const std::lock_guard lock(mutex_);
    if (log_ && !log_->closed() && log_->generation() == run.plan().generation)
      log_->set_cleaned_end(run.cleaned_end());
    changed_ = true;
    return false;
  }
  run.abandon();
  Notices notices;
  Error error = state.error();
  {
    const std::lock_guard lock(mutex_);
    forget_verified_locked();
    if (!log_ || log_->closed() || log_->generation() != run.plan().generation) {
      // What was read may have been cut away meanwhile: no verdict.
      error = Error(ErrorCode::cancelled, name_.text() + ": closed or truncated under compaction");
    } else if (log_->failed() || run.write_failed()) {
      fail_locked(error, notices);
    }
  }
  tell(std::move(notices));
  return error;
}

Result<log::Compaction::State> Partition::compact_step(log::Compaction& run, uint64_t bytes, Now now) {
  {
    const std::lock_guard lock(mutex_);
    if (hosting_locked() != ErrorCode::none || !log_ || log_->closed()) {
      return Error(ErrorCode::cancelled, name_.text() + ": does not serve");
    }
  }
  TRY_ASSIGN(const log::Compaction::State state, run.step(bytes));
  if (state != log::Compaction::State::group_ready) return state;
  TRY(swap_in(run, now));
  run.group_swapped();
  return log::Compaction::State::working;
}

Status Partition::swap_in(const log::Compaction& run, Now now) {
  {
    const std::lock_guard lock(mutex_);
    if (!log_) return Error(ErrorCode::cancelled, name_.text() + ": was closed");
    TRY(log_->begin_swap(run.ready()));
  }
  // From here on a crash completes the swap; only with this name on disk may the old ones go.
  const Status synced = env_.disk->sync_directory(run.plan().directory);
  const std::lock_guard lock(mutex_);
  if (!log_) return Error(ErrorCode::cancelled, name_.text() + ": was closed");
  return log_->finish_swap(run.ready(), synced, now);
}

}  // namespace millrace::partition
