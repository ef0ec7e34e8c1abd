#include "partition/partition.h"

#include <algorithm>

#include "partition/partition_notices.h"

namespace millrace::partition {
namespace {

// Every append starts a sync within this time, whatever its acks.
constexpr int64_t kSyncDelayMs = 10;

size_t effective_min_insync(const PartitionConfig& config, size_t replicas) {
  return std::min(static_cast<size_t>(config.min_insync_replicas), replicas);
}

// A batch that is in the log already, sent again because its answer was lost: what it was answered with. It
// must not hear "nothing was appended", however full the disk is.
std::optional<Appended> appended_before(const log::Log& log, ByteView batch) {
  const Result<record::BatchView> view = record::BatchView::parse(batch);
  if (!view.ok()) return std::nullopt;
  const log::BatchHeader header = log::BatchHeader::of(*view);
  if (!header.has_producer() || header.is_control()) return std::nullopt;
  const log::ProducerVerdict verdict =
      log::ProducerState::judge(header, log.producers().find(header.producer_id));
  if (verdict.error != ErrorCode::none || !verdict.duplicate_of) return std::nullopt;
  return Appended{verdict.duplicate_of->first_offset(), verdict.duplicate_of->last_offset,
                  verdict.duplicate_of->timestamp, log.log_start_offset(), true};
}

}  // namespace

Partition::Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
                     std::shared_ptr<const PartitionConfig> config, std::unique_ptr<log::Log> log)
    : env_(std::move(environment)),
      name_(std::move(name)),
      topic_id_(topic_id),
      directory_(std::move(directory)),
      config_(std::move(config)),
      log_(std::move(log)) {
  ASSERT(log_ != nullptr && config_ != nullptr);
}

Partition::~Partition() = default;

std::shared_ptr<const PartitionConfig> Partition::config() const {
  const std::lock_guard lock(mutex_);
  return config_;
}

void Partition::configure(std::shared_ptr<const PartitionConfig> config, size_t replicas) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    config_ = std::move(config);
    replicas_ = replicas;
    log_->configure(config_->log);
    if (leader_) {
      if (leader_->set_min_insync(effective_min_insync(*config_, replicas_))) {
        commit_waits_.take_up_to(leader_->high_watermark(), notices.commits);
        data_watches_.take_armed(notices.data);
      }
      on_ends_locked(notices);
    }
  }
  tell(std::move(notices));
}

Status Partition::lead(const Leadership& leadership) {
  Notices notices;
  Status synced;
  {
    const std::lock_guard lock(mutex_);
    if (leader_ && leader_->epoch() == leadership.epoch) return {};
    log_->begin_epoch(leadership.epoch);
    synced = flush_locked();
    if (synced.ok()) {
      replicas_ = leadership.replicas;
      // On its own a broker commits what it holds durably; the leader machine knows who else must have it.
      leader_.emplace(env_.self, leadership.epoch, leadership.isr, effective_min_insync(*config_, replicas_),
                      replica::Ends{log_->log_end_offset(), log_->log_end_offset()},
                      log_->log_start_offset());
      log_->on_high_watermark(leader_->high_watermark());
      stopped_ = ErrorCode::none;
      // Of an epoch that follows its own: the flush above was the sync that they wait for.
      commit_waits_.take_up_to(leader_->high_watermark(), notices.commits);
      data_watches_.take_armed(notices.data);
    } else {
      fail_locked(synced.error(), notices);
    }
  }
  tell(std::move(notices));
  return synced;
}

// A disk that is full need not keep a partition from serving: the records are synced then, the small files
// wait for the next checkpoint.
Status Partition::flush_locked() {
  TRY(usable());
  Status flushed = log_->flush();
  if (flushed.ok() || flushed.code() != ErrorCode::no_space) return flushed;
  TRY_ASSIGN(const log::SyncPlan plan, log_->plan_sync(log::SyncScope::records));
  Status synced = plan.run(*env_.disk);
  log_->synced(plan, synced);
  return synced;
}

void Partition::stop(ErrorCode why) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = why;
    leader_.reset();
    // What waits was appended: only "timed out" is true about it (it may or may not survive).
    commit_waits_.take_all(ErrorCode::request_timed_out, notices.commits);
    data_watches_.take_armed(notices.data);
  }
  tell(std::move(notices));
}

ErrorCode Partition::serving_locked(EpochCheck check) const {
  if (stopped_ != ErrorCode::none) return stopped_;
  if (offline()) return ErrorCode::kafka_storage_error;
  ASSERT(leader_.has_value());
  if (check.current == kNoLeaderEpoch) return ErrorCode::none;
  if (check.current < leader_->epoch()) return ErrorCode::fenced_leader_epoch;
  if (check.current > leader_->epoch()) return ErrorCode::unknown_leader_epoch;
  return ErrorCode::none;
}

Offsets Partition::offsets_locked() const {
  Offsets o;
  o.log_start = log_->log_start_offset();
  o.log_end = log_->log_end_offset();
  o.high_watermark = leader_ ? leader_->high_watermark() : o.log_start;
  o.high_watermark = std::max(o.high_watermark, o.log_start);
  // A transaction that began below the log start holds back what is left of it, nothing before.
  o.last_stable = std::max(log_->last_stable_offset(o.high_watermark), o.log_start);
  return o;
}

Result<Appended> Partition::append(MutableByteView batch, bool acks_all, io::Loop& loop, Now now,
                                   Origin origin) {
  Status room;
  if (env_.directory_state) room = env_.directory_state->may_append(origin);
  Notices notices;
  Result<Appended> result = ErrorCode::unknown_server_error;
  {
    const std::lock_guard lock(mutex_);
    if (!room.ok() && offline()) return room.error();  // it says more than `stopped_`
    if (stopped_ != ErrorCode::none) return stopped_;
    if (!room.ok()) {
      const std::optional<Appended> before = appended_before(*log_, batch);
      if (!before) return room.error();
      return *before;
    }
    if (acks_all && !leader_->enough_in_sync()) {
      return Error(ErrorCode::not_enough_replicas, "fewer replicas in sync than min.insync.replicas");
    }
    Result<log::AppendResult> appended = log_->append_as_leader(batch, leader_->epoch(), now);
    if (appended.ok()) {
      result = Appended{appended->base_offset, appended->last_offset, appended->timestamp,
                        appended->log_start_offset, appended->duplicate};
      if (!appended->duplicate) {
        if (config_->fsync) {
          request_sync_locked(loop, acks_all);
        }
        on_ends_locked(notices);
      }
    } else {
      result = appended.error();
      // Nothing was appended, the torn end was cut: the next may fit.
      if (appended.code() == ErrorCode::no_space && env_.directory_state)
        env_.directory_state->note_no_space();
      if (log_->failed()) fail_locked(appended.error(), notices);
    }
  }
  tell(std::move(notices));
  return result;
}

// Recomputes the ends after an append, a sync or a configuration change and gathers who is to be told.
void Partition::on_ends_locked(Notices& notices) {
  if (!leader_) return;
  const Offset end = log_->log_end_offset();
  if (!leader_->on_local(
          {end, config_->fsync ? std::max(log_->durable_end(), leader_->local().durable_end) : end})) {
    return;
  }
  log_->on_high_watermark(leader_->high_watermark());
  commit_waits_.take_up_to(leader_->high_watermark(), notices.commits);
  data_watches_.take_armed(notices.data);
}

bool Partition::await_commit(Offset committed_at, std::shared_ptr<CommitWaiter> waiter, uint64_t tag) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ == ErrorCode::none) {
      if (leader_->high_watermark() >= committed_at) return true;
      commit_waits_.add(committed_at, std::move(waiter), tag);
      return false;
    }
    notices.commits.push_back({std::move(waiter), tag, ErrorCode::request_timed_out});
  }
  tell(std::move(notices));
  return false;
}

// Appends of one tick share one sync: it begins when the tick of the loop that appended ends.
void Partition::request_sync_locked(io::Loop& loop, bool urgent) {
  if (sync_running_) {
    sync_again_ = true;
    return;
  }
  if (urgent) {
    if (sync_scheduled_) return;
    sync_scheduled_ = true;
    loop.at_end_of_tick(
        [self = shared_from_this(), &loop] { self->begin_sync(loop, log::SyncScope::records); });
    return;
  }
  if (sync_again_) return;
  sync_again_ = true;
  loop.call_after(kSyncDelayMs,
                  [self = shared_from_this(), &loop] { self->begin_sync(loop, log::SyncScope::records); });
}

void Partition::begin_sync(io::Loop& loop, log::SyncScope scope) {
  auto plan = std::make_shared<log::SyncPlan>();
  {
    const std::lock_guard lock(mutex_);
    sync_scheduled_ = false;
    if (sync_running_ || log_->failed() || log_->closed()) return;
    sync_again_ = false;
    Result<log::SyncPlan> made = log_->plan_sync(scope);
    if (!made.ok()) {
      env_.trace.warn("{}: the indexes could not be written: {}", name_.text(), made.error().message);
      return;
    }
    *plan = std::move(*made);
    if (plan->empty()) {
      log_->synced(*plan, {});  // nothing to be done for it to be true
      return;
    }
    sync_running_ = true;
  }
  auto outcome = std::make_shared<Status>();
  env_.disk->run(
      loop,
      [self = shared_from_this(), plan, outcome] {
        const std::lock_guard files(self->files_mutex_);
        // Its paths may be those of a new partition of this name by now.
        if (!self->removed_) *outcome = plan->run(*self->env_.disk);
      },
      [self = shared_from_this(), plan, outcome, &loop] { self->end_sync(loop, *plan, *outcome); });
}

void Partition::end_sync(io::Loop& loop, const log::SyncPlan& plan, const Status& status) {
  Notices notices;
  bool again = false;
  {
    const std::lock_guard lock(mutex_);
    sync_running_ = false;
    // Of a directory that failed meanwhile nothing is acknowledged any more.
    const Status outcome = status.ok() ? usable() : status;
    log_->synced(plan, outcome);
    if (outcome.ok() || outcome.code() == ErrorCode::no_space) {
      on_ends_locked(notices);
      again = sync_again_ || (!commit_waits_.empty() && log_->durable_end() < log_->log_end_offset());
      sync_again_ = false;
    } else {
      // Never retried: the kernel may have dropped the pages and would report success.
      fail_locked(outcome.error(), notices);
    }
  }
  tell(std::move(notices));
  if (again) begin_sync(loop, log::SyncScope::records);
}

void Partition::checkpoint(io::Loop& loop) {
  begin_sync(loop, log::SyncScope::everything);
}

void Partition::fail_locked(const Error& error, Notices& notices) {
  // One failure shows itself in many places: it is reported once.
  if (!failure_told_) notices.storage_failure = error;
  failure_told_ = true;
  stopped_ = ErrorCode::kafka_storage_error;
  leader_.reset();
  commit_waits_.take_all(ErrorCode::request_timed_out, notices.commits);
  data_watches_.take_armed(notices.data);
}

void Partition::tell(Notices notices) {
  for (CommitWaits::Fired& f : notices.commits) {
    io::Loop& loop = f.waiter->loop();
    if (loop.is_here()) {
      f.waiter->on_commit(f.tag, f.outcome);
    } else {
      loop.post([f = std::move(f)] { f.waiter->on_commit(f.tag, f.outcome); });
    }
  }
  for (DataWatches::Watch& w : notices.data) {
    w.waiter->loop().post([w = std::move(w)] { w.waiter->on_data(w.tag); });
  }
  if (notices.storage_failure) {
    env_.trace.error("{}: {}; the partition is offline", name_.text(), notices.storage_failure->message);
    if (env_.on_storage_failure) env_.on_storage_failure(directory_, *notices.storage_failure);
  }
}

Result<Fetched> Partition::fetch(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                                 EpochCheck check, Offsets& offsets) {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  offsets = offsets_locked();
  if (from < offsets.log_start || from > offsets.log_end) {
    return Error(ErrorCode::offset_out_of_range, "");
  }
  Fetched out;
  out.offsets = offsets;
  const Offset bound = isolation == Isolation::read_committed ? offsets.last_stable : offsets.high_watermark;
  if (from >= bound || bytes_max == 0) return out;
  TRY_ASSIGN(log::ReadResult read, log_->read(from, bytes_max, bound, at_least_one));
  out.bytes = read.bytes;
  for (io::FileRegion& r : read.regions)
    out.regions.push_back(std::make_shared<const io::FileRegion>(std::move(r)));
  return out;
}

DataWatches::Id Partition::watch(std::shared_ptr<DataWaiter> waiter, uint64_t tag) {
  const std::lock_guard lock(mutex_);
  return data_watches_.add(std::move(waiter), tag);
}

void Partition::rearm(DataWatches::Id id) {
  const std::lock_guard lock(mutex_);
  data_watches_.rearm(id);
}

void Partition::unwatch(DataWatches::Id id) {
  const std::lock_guard lock(mutex_);
  data_watches_.remove(id);
}

Result<Offsets> Partition::offsets(EpochCheck check) const {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  return offsets_locked();
}

LeaderEpoch Partition::leader_epoch() const {
  const std::lock_guard lock(mutex_);
  return leader_ ? leader_->epoch() : kNoLeaderEpoch;
}

Result<Partition::TimestampAnswer> Partition::offset_for_timestamp(int64_t timestamp_ms, Isolation isolation,
                                                                   EpochCheck check) {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  const Offsets o = offsets_locked();
  const Offset bound = isolation == Isolation::read_committed ? o.last_stable : o.high_watermark;
  TRY_ASSIGN(const auto found, log_->offset_for_timestamp(timestamp_ms, bound));
  TimestampAnswer answer;
  if (found) answer = {found->offset, found->timestamp, found->leader_epoch};
  return answer;
}

Result<Partition::TimestampAnswer> Partition::offset_of_max_timestamp(EpochCheck check) {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  TRY_ASSIGN(const auto found, log_->offset_of_max_timestamp());
  TimestampAnswer answer;
  if (found) answer = {found->offset, found->timestamp, found->leader_epoch};
  return answer;
}

LeaderEpoch Partition::epoch_of(Offset offset) const {
  const std::lock_guard lock(mutex_);
  return log_->epoch_of(offset);
}

Result<Partition::EpochEnd> Partition::end_offset_for_epoch(LeaderEpoch epoch, EpochCheck check) const {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  if (epoch == leader_->epoch()) return EpochEnd{epoch, log_->log_end_offset()};
  const auto end = log_->end_offset_for_epoch(epoch);
  return EpochEnd{end.epoch, end.end_offset};
}

Result<Offset> Partition::delete_records(Offset before) {
  const std::lock_guard lock(mutex_);
  if (stopped_ != ErrorCode::none) return stopped_;
  TRY(usable());
  const Offsets o = offsets_locked();
  if (before == Offset(-1)) before = o.high_watermark;
  if (before < Offset(0) || before > o.high_watermark) {
    return Error(ErrorCode::offset_out_of_range,
                 "beyond the high watermark " + std::to_string(o.high_watermark.v));
  }
  if (before > o.log_start) TRY(log_->advance_log_start(before));
  return log_->log_start_offset();
}

void Partition::keep_house(Now now, bool urgent) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ != ErrorCode::none || offline()) return;
    (void)log_->expire_producers(now);
    const Result<log::DeletedSegments> deleted =
        log_->delete_old_segments(now, offsets_locked().high_watermark);
    if (!deleted.ok()) {
      env_.trace.error("{}: retention: {}", name_.text(), deleted.error().message);
      if (log_->failed()) fail_locked(deleted.error(), notices);
    }
    (void)log_->remove_pending(now, urgent);
  }
  tell(std::move(notices));
}

Status Partition::close() {
  const std::lock_guard files(files_mutex_);
  const std::lock_guard lock(mutex_);
  ASSERT(!leader_);
  if (log_->closed()) return {};
  return log_->close(!log_->failed() && !offline());
}

Status Partition::remove(const std::string& tombstone_directory) {
  const std::lock_guard files(files_mutex_);
  removed_ = true;
  const std::lock_guard lock(mutex_);
  ASSERT(!leader_);
  return log_->rename_for_removal(tombstone_directory);
}

Partition::Usage Partition::usage() const {
  const std::lock_guard lock(mutex_);
  Usage u;
  u.bytes = log_->size_bytes();
  u.segments = log_->segment_count();
  u.offsets = offsets_locked();
  u.recovery_point = log_->recovery_point();
  u.durable_end = log_->durable_end();
  u.commit_waits = commit_waits_.size();
  u.data_watches = data_watches_.size();
  u.cleaned_end = log_->cleaned_end();
  return u;
}

}  // namespace millrace::partition
