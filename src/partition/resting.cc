// A partition whose log is at rest: waking it, and laying it to rest again.
#include <algorithm>

#include "base/contains.h"
#include "log/file_names.h"
#include "partition/partition.h"
#include "partition/partition_notices.h"

namespace millrace::partition {

std::string Partition::log_directory() const {
  return io::join_path(directory_, log::partition_directory_name(name_.topic, name_.partition));
}

bool Partition::awake_for(const io::Loop& loop) const {
  if (!asleep_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock(mutex_);
  if (waking_) return waking_->outcome && waking_->first_of(loop) == waking_->waiters.end();
  return log_ || stopped_ != ErrorCode::none;
}

bool Partition::wake(io::Loop& loop, std::function<void(const Status&)> then) {
  {
    const std::lock_guard lock(mutex_);
    if (waking_) {
      if (waking_->outcome && waking_->first_of(loop) == waking_->waiters.end()) return true;
      waking_->waiters.push_back({&loop, std::move(then)});
      return false;
    }
    if (log_ || stopped_ != ErrorCode::none) return true;  // append() says why it cannot
    waking_ = std::make_unique<Waking>();
    waking_->waiters.push_back({&loop, std::move(then)});
  }
  auto outcome = std::make_shared<Status>();
  env_.disk->run(
      loop, [self = shared_from_this(), outcome] { *outcome = self->open_if_resting(); },
      [self = shared_from_this(), outcome] { self->woken(*outcome); });
  return false;
}

void Partition::woken(const Status& outcome) {
  std::vector<io::Loop*> loops;
  {
    const std::lock_guard lock(mutex_);
    waking_->outcome = outcome;
    for (const Waking::Waiter& w : waking_->waiters) {
      if (!contains(loops, w.loop)) loops.push_back(w.loop);
    }
  }
  for (io::Loop* loop : loops) {
    loop->post([self = shared_from_this(), loop] { self->drain_woken(*loop); });
  }
}

void Partition::drain_woken(io::Loop& loop) {
  while (true) {
    std::function<void(const Status&)> then;
    Status outcome;
    {
      const std::lock_guard lock(mutex_);
      if (!waking_) return;
      const auto next = waking_->first_of(loop);
      if (next == waking_->waiters.end()) {
        if (waking_->waiters.empty()) end_waking_locked();
        return;
      }
      then = std::move(next->then);
      outcome = *waking_->outcome;
      waking_->waiters.erase(next);
    }
    then(outcome);
  }
}

void Partition::end_waking_locked() {
  waking_.reset();
  asleep_.store(!log_, std::memory_order_release);
}

bool Partition::hold_appends() {
  const std::lock_guard lock(mutex_);
  if (!leader_ || !log_ || replicas_ < 2 || waking_) return false;
  waking_ = std::make_unique<Waking>();
  waking_->held = true;
  asleep_.store(true, std::memory_order_release);
  return true;
}

void Partition::release_appends() {
  {
    const std::lock_guard lock(mutex_);
    if (!waking_ || !std::exchange(waking_->held, false)) return;
    if (waking_->waiters.empty()) return end_waking_locked();
  }
  woken({});
}

bool Partition::commits_awaited() const {
  const std::lock_guard lock(mutex_);
  return !commit_waits_.empty() || !flush_commit_waits_.empty();
}

bool Partition::must_wake_to_read(Offset from) const {
  if (!resting_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  return rest_ && from >= rest_->log_start && from < rest_->log_end;
}

// Blocks: on the pool, or on a loop whose caller did not ask wake() (a coordinator's first append).
Status Partition::open_if_resting(bool for_role) {
  if (!resting_.load(std::memory_order_acquire)) return {};
  Notices notices;
  Status status;
  {
    const std::lock_guard files(files_mutex_);
    log::OpenParams params;
    Offset expected;
    uint64_t bytes = 0;
    uint32_t segments = 0;
    {
      const std::lock_guard lock(mutex_);
      if (log_) return {};
      const bool begins = for_role && stopped_ == ErrorCode::not_leader_or_follower;
      if (stopped_ != ErrorCode::none && !begins) return stopped_;
      TRY(usable());
      params.directory = log_directory();
      params.config = config_->log;
      params.now = env_.clock->now();
      params.clean_shutdown = true;
      params.recovery_point = params.durable_end = expected = rest_->log_end;
      params.log_start_offset = rest_->log_start;
      params.log_start_exact = true;
      params.cleaned_end = rest_->cleaned_end;
      params.create = !rest_->on_disk();
      bytes = rest_->bytes;
      segments = rest_->segments;
      params.topic_id = topic_id_;
    }
    Result<std::unique_ptr<log::Log>> opened =
        log::Log::open(*env_.disk, std::move(params), env_.trace.named("log"));
    const std::lock_guard lock(mutex_);
    if (opened.ok() && (*opened)->log_end_offset() != expected) {
      opened = Error(ErrorCode::corrupt, log_directory() + " ends at offset " +
                                             std::to_string((*opened)->log_end_offset().v) + ", not at " +
                                             std::to_string(expected.v) + " as when it was closed");
    }
    // A compacted log has holes: that a segment is missing, or ends early, shows by this alone.
    if (opened.ok() && segments > 0 &&
        ((*opened)->segment_count() != segments || (*opened)->size_bytes() != bytes)) {
      opened =
          Error(ErrorCode::corrupt, log_directory() + " has " + std::to_string((*opened)->segment_count()) +
                                        " segments of " + std::to_string((*opened)->size_bytes()) +
                                        " bytes, not " + std::to_string(segments) + " of " +
                                        std::to_string(bytes) + " as when it was closed");
    }
    if (opened.ok()) {
      log_ = std::move(*opened);
      rest_.reset();
      resting_.store(false, std::memory_order_release);
      asleep_.store(waking_ != nullptr, std::memory_order_release);
      used_ = true;
      log_->configure(config_->log);
      if (leader_) {
        log_->begin_epoch(leader_->epoch(), true);
        log_->on_high_watermark(leader_->high_watermark());
      }
    } else {
      status = Error(ErrorCode::kafka_storage_error, opened.error().message);
      if (opened.code() == ErrorCode::no_space) {
        env_.trace.warn("{}: {}", name_.text(), opened.error().message);  // there may be room later
      } else if (opened.code() == ErrorCode::io_error) {
        fail_locked(opened.error(), notices);
      } else {
        env_.trace.error("{}: {}; the partition is offline", name_.text(), opened.error().message);
        stopped_ = ErrorCode::kafka_storage_error;
        leader_.reset();
        data_watches_.take_armed(notices.data);
      }
    }
  }
  tell(std::move(notices));
  return status;
}

// What retention might take from a log that is not open, seen from its oldest segment. A compacted one is
// opened: what there is to be cleaned only its records tell.
bool Partition::retention_due_locked(Now now) const {
  const log::LogConfig& config = config_->log;
  const log::RestingLog& r = *rest_;
  if (r.bytes == 0) return false;
  if (config.compact_policy) return true;
  if (r.segments > 1 && r.oldest_end <= r.log_start) return true;
  if (!config.delete_policy) return false;
  if (config.retention_ms >= 0 && r.oldest_bytes > 0 &&
      (r.oldest_timestamp < 0 || now.wall_ms - r.oldest_timestamp > config.retention_ms)) {
    return true;
  }
  return config.retention_bytes >= 0 && r.segments > 1 &&
         r.bytes >= static_cast<uint64_t>(config.retention_bytes) + r.oldest_bytes;
}

// In two steps, so that nobody waits for a sync behind the lock: first everything is written and synced,
// then, if nobody came meanwhile, the log is let go. What was appended meanwhile waits for a sync, which is
// given here: the one who appended saw that one runs.
void Partition::lay_to_rest() {
  for (log::SyncScope scope = log::SyncScope::everything;; scope = log::SyncScope::records) {
    log::SyncPlan plan;
    {
      const std::lock_guard lock(mutex_);
      if (!log_ || log_->failed() || log_->closed() || offline()) return;
      if (follower_ || replicas_ > 1) return;  // others fetch from it, or it fetches itself
      if (env_.directory_state && env_.directory_state->full() && scope == log::SyncScope::everything) return;
      if (scope == log::SyncScope::everything) {
        if (sync_running_ || checkpoint_running_ || sync_scheduled_ || sync_wanted_) return;
        if (!commit_waits_.empty() || !flush_waits_.empty() || !flush_commit_waits_.empty()) return;
        if (config_->log.compact_policy || log_->has_pending_removals()) return;
        if (!log_->prepare_close().ok()) return;
      }
      Result<log::SyncPlan> made = log_->plan_sync(scope);
      if (!made.ok()) return;
      plan = std::move(*made);
      sync_running_ = true;
    }
    Status synced;
    {
      const std::lock_guard files(files_mutex_);
      if (!removed_) synced = plan.run(*env_.disk);
      if (synced.ok()) synced = usable();
    }
    Notices notices;
    bool again = false;
    {
      const std::lock_guard files(files_mutex_);
      const std::lock_guard lock(mutex_);
      sync_running_ = false;
      again = std::exchange(sync_wanted_, false);
      changed_ = true;
      if (!log_) return;  // closed meanwhile
      log_->synced(plan, synced);
      if (!synced.ok() && synced.code() != ErrorCode::no_space) {
        fail_locked(synced.error(), notices);
        again = false;
      } else {
        note_durable_locked();
        on_ends_locked(notices);
        if (!used_ && !again && !checkpoint_running_ && leader_ &&
            leader_->high_watermark() == log_->log_end_offset() && log_->settled() && log_->at_rest().ok()) {
          const Status laid = lay_to_rest_locked();
          if (!laid.ok()) fail_locked(laid.error(), notices);
        }
      }
    }
    tell(std::move(notices));
    if (!again) return;
  }
}

Status Partition::lay_to_rest_locked() {
  const Result<log::RestingLog> rest = log_->at_rest();
  TRY(log_->close(true));
  note_durable_locked();
  if (!rest.ok()) {
    env_.trace.warn("{}: {}", name_.text(), rest.error().message);
    return {};  // closed, but the next start has to look
  }
  rest_ = std::make_unique<log::RestingLog>(*rest);
  log_.reset();
  resting_.store(true, std::memory_order_release);
  asleep_.store(true, std::memory_order_release);
  return {};
}

std::optional<log::RestingLog> Partition::resting() const {
  const std::lock_guard lock(mutex_);
  if (!rest_) return std::nullopt;
  return *rest_;
}

}  // namespace millrace::partition
