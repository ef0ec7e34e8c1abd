#include "partition/partition.h"

#include <algorithm>

#include "base/plants.h"
#include "partition/partition_notices.h"
#include "record/batch_iterator.h"

namespace millrace::partition {
namespace {

// Every append starts a sync within this time, whatever its acks.
constexpr int64_t kSyncDelayMs = 10;
// Whether a slice is in the page cache is asked for one byte in so many; the last of what this process wrote
// is taken to be there.
constexpr size_t kProbeStride = 64 * 1024;
constexpr uint64_t kSurelyCachedBytes = 1u << 20;
constexpr size_t kWarmUpsMax = 4;             // then the lock is held while the medium is read
constexpr size_t kIndexBytesMax = 64u << 20;  // of an index file
constexpr size_t kDamagesMax = 1'000;         // places remembered

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
  return Appended{verdict.duplicate_of->first_offset(),
                  verdict.duplicate_of->last_offset,
                  verdict.duplicate_of->timestamp,
                  log.log_start_offset(),
                  true,
                  false,
                  false,
                  0};
}

}  // namespace

Partition::Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
                     std::shared_ptr<const PartitionConfig> config, std::unique_ptr<log::Log> log,
                     Offset high_watermark)
    : env_(std::move(environment)),
      name_(std::move(name)),
      topic_id_(topic_id),
      directory_(std::move(directory)),
      config_(std::move(config)),
      log_(std::move(log)),
      known_mark_(std::clamp(high_watermark, log_->log_start_offset(), log_->log_end_offset())),
      own_from_(log_->log_end_offset()) {
  ASSERT(log_ != nullptr && config_ != nullptr);
}

Partition::Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
                     std::shared_ptr<const PartitionConfig> config, const log::RestingLog& rest,
                     Offset high_watermark)
    : env_(std::move(environment)),
      name_(std::move(name)),
      topic_id_(topic_id),
      directory_(std::move(directory)),
      config_(std::move(config)),
      rest_(std::make_unique<log::RestingLog>(rest)),
      resting_(true),
      asleep_(true),
      known_mark_(std::clamp(high_watermark, rest.log_start, rest.log_end)),
      own_from_(rest.log_end),
      used_(false),
      changed_(false) {
  ASSERT(config_ != nullptr);
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
    if (log_) log_->configure(config_->log);
    if (leader_ && leader_->set_min_insync(effective_min_insync(*config_, replicas_)))
      on_mark_locked(notices);
    on_ends_locked(notices);
  }
  tell(std::move(notices));
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
    end_tenure_locked(notices);
    follower_.reset();
    stopped_ = why;
  }
  tell(std::move(notices));
}

void Partition::take_waits_locked(Notices& notices) {
  for (CommitWaits* waits : {&commit_waits_, &flush_waits_, &flush_commit_waits_})
    waits->take_all(planted(Plant::wrong_code_after_append) ? ErrorCode::not_leader_or_follower
                                                            : ErrorCode::request_timed_out,
                    notices.commits);
}

ErrorCode Partition::serving_locked(EpochCheck check) const {
  const bool follows = follower_ && check.from_follower;
  if (stopped_ != ErrorCode::none && !follows) return stopped_;
  if (offline()) return ErrorCode::kafka_storage_error;
  ASSERT(follows || leader_.has_value());
  if (check.current == kNoLeaderEpoch) return ErrorCode::none;
  const LeaderEpoch epoch = follows ? follower_->epoch() : leader_->epoch();
  if (check.current < epoch) return ErrorCode::fenced_leader_epoch;
  if (check.current > epoch) return ErrorCode::unknown_leader_epoch;
  return ErrorCode::none;
}

Offsets Partition::offsets_locked() const {
  Offsets o;
  o.log_start = log_start_locked();
  o.log_end = log_end_locked();
  o.high_watermark = leader_     ? leader_->high_watermark()
                     : follower_ ? follower_->high_watermark()
                                 : known_mark_;
  o.end_known = leader_ && leader_->knows_committed_end();
  o.high_watermark = std::max(o.high_watermark, o.log_start);
  // A transaction that began below the log start holds back what is left of it, nothing before.
  o.last_stable = std::max(
      log_ ? log_->last_stable_offset(o.high_watermark) : std::min(rest_->last_stable, o.high_watermark),
      o.log_start);
  return o;
}

Result<Appended> Partition::append(std::span<const MutableByteView> batches, bool acks_all, io::Loop& loop,
                                   Now now, Origin origin) {
  ASSERT(!batches.empty());
  Status room;
  if (env_.directory_state) room = env_.directory_state->may_append(origin);
  Notices notices;
  Result<Appended> result = ErrorCode::unknown_server_error;
  if (room.ok()) TRY(open_if_resting());
  {
    const std::lock_guard lock(mutex_);
    if (!room.ok() && offline()) return room.error();  // it says more than `stopped_`
    if (stopped_ != ErrorCode::none) return stopped_;
    if (in_doubt_locked(now.mono_ms)) {
      return Error(ErrorCode::not_leader_or_follower,
                   "the controller has not been heard of: another may lead");
    }
    if (!room.ok()) {
      if (batches.size() > 1) return room.error();
      std::optional<Appended> before = log_ ? appended_before(*log_, batches.front()) : std::nullopt;
      if (!before) return room.error();
      before->tenure = tenure_;
      return *before;
    }
    // Laid to rest again this very moment: nothing was appended, the client asks again.
    if (!log_) return ErrorCode::not_leader_or_follower;
    used_ = true;
    if (acks_all && !leader_->enough_in_sync()) {
      return Error(ErrorCode::not_enough_replicas, "fewer replicas in sync than min.insync.replicas");
    }
    Result<log::AppendResult> appended = log_->append_as_leader(batches, leader_->epoch(), now);
    if (appended.ok()) {
      result = Appended{appended->base_offset,
                        appended->last_offset,
                        appended->timestamp,
                        appended->log_start_offset,
                        appended->duplicate,
                        false,
                        false,
                        tenure_};
      const int64_t unsynced = log_->log_end_offset() - log_->durable_end();
      result->flush = unsynced >= config_->flush_messages && log_->durable_end() <= appended->last_offset;
      if (!appended->duplicate) {
        batches_appended_ += appended->batches;
        changed_ = true;
        request_sync_locked(loop, (config_->fsync && acks_all) || result->flush);
        on_ends_locked(notices);
        if (log_->failed()) fail_locked(Error(ErrorCode::kafka_storage_error, "the log has failed"), notices);
      } else if (result->flush) {
        request_sync_locked(loop, true);
      }
      if (leader_ && !log_->failed()) result->committed = leader_->high_watermark() > appended->last_offset;
    } else {
      result = appended.error();
      // Nothing was appended, the torn end was cut: the next may fit.
      if (appended.code() == ErrorCode::no_space && env_.directory_state)
        env_.directory_state->note_no_space();
      if (log_->failed()) fail_locked(appended.error(), notices);
      // What was written of it is there again if power fails before the cut is on disk: in doubt.
      if (log_->failed() || log_->append_in_doubt())
        result = Error(ErrorCode::request_timed_out, appended.error().message);
    }
  }
  tell(std::move(notices));
  return result;
}

// Recomputes the ends after an append, a sync or a configuration change and gathers who is to be told.
void Partition::on_ends_locked(Notices& notices) {
  if (follower_) on_follower_log_locked(notices);
  if (!leader_ || !log_) return;  // a log at rest is committed to its end
  const Offset end = log_->log_end_offset();
  if (!replica_watches_.empty() && end > leader_->local().log_end) replica_watches_.take_armed(notices.data);
  flush_waits_.take_up_to(log_->durable_end(), notices.commits);
  flush_commit_waits_.move_up_to(log_->durable_end(), commit_waits_);
  commit_waits_.take_up_to(leader_->high_watermark(), notices.commits);
  if (leader_->on_local(
          {end, config_->fsync ? std::max(log_->durable_end(), leader_->local().durable_end) : end})) {
    on_mark_locked(notices);
  }
}

// The high watermark moved.
void Partition::on_mark_locked(Notices& notices) {
  if (log_) log_->on_high_watermark(leader_->high_watermark());
  commit_waits_.take_up_to(leader_->high_watermark(), notices.commits);
  data_watches_.take_armed(notices.data);
  replica_watches_.take_armed(notices.data);
}

bool Partition::await_commit(Offset committed_at, std::shared_ptr<CommitWaiter> waiter, uint64_t tag,
                             Awaited what) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ == ErrorCode::none && (what.tenure == 0 || what.tenure == tenure_)) {
      const bool flushed = !what.flushed || durable_end_locked() >= committed_at;
      const bool committed = !what.committed || leader_->high_watermark() >= committed_at;
      if (flushed && committed) return true;
      CommitWaits& waits = flushed ? commit_waits_ : what.committed ? flush_commit_waits_ : flush_waits_;
      waits.add(committed_at, std::move(waiter), tag);
      return false;
    }
    notices.commits.push_back({std::move(waiter), tag, ErrorCode::request_timed_out});
  }
  tell(std::move(notices));
  return false;
}

// Appends of one tick share one sync: it begins when the tick of the loop that appended ends. What nobody
// waits for is synced a little later, so that more come along.
void Partition::request_sync_locked(io::Loop& loop, bool somebody_waits) {
  if (!somebody_waits) {
    set_sync_timer_locked(loop);
  } else if (sync_running_) {
    sync_wanted_ = true;
  } else if (!sync_scheduled_) {
    sync_scheduled_ = true;
    loop.at_end_of_tick(
        [self = shared_from_this(), &loop] { self->begin_sync(loop, log::SyncScope::records); });
  }
}

void Partition::set_sync_timer_locked(io::Loop& loop) {
  const int64_t delay_ms = config_->fsync ? std::min(kSyncDelayMs, config_->flush_ms) : config_->flush_ms;
  if (delay_ms >= sync_timer_ms_) return;  // without a delay the checkpoint does it
  sync_timer_ms_ = delay_ms;
  loop.call_after(delay_ms, [self = shared_from_this(), &loop] {
    {
      const std::lock_guard lock(self->mutex_);
      self->sync_timer_ms_ = INT64_MAX;
      if (self->durable_end_locked() >= self->log_end_locked()) return;
    }
    self->begin_sync(loop, log::SyncScope::records);
  });
}

struct Partition::Sync {
  log::SyncPlan plan;
  bool checkpoint = false;
  uint64_t batches = 0;  // appended when it was planned
  Status outcome;
  int64_t took_ns = 0;
};

void Partition::begin_sync(io::Loop& loop, log::SyncScope scope) {
  auto sync = std::make_shared<Sync>();
  sync->checkpoint = scope == log::SyncScope::everything;
  Notices notices;
  const bool begun = [&] {
    const std::lock_guard lock(mutex_);
    if (!sync->checkpoint) sync_scheduled_ = false;
    if (!log_ || log_->closed()) return false;
    if (sync->checkpoint ? checkpoint_running_ : sync_running_) {
      if (!sync->checkpoint) sync_wanted_ = true;
      return false;
    }
    Result<log::SyncPlan> made = log_->plan_sync(scope);
    if (log_->failed()) {
      // Whoever waits is told; nothing is synced any more.
      if (!sync->checkpoint)
        fail_locked(Error(ErrorCode::kafka_storage_error, "the log has failed"), notices);
      return false;
    }
    if (!made.ok()) {
      env_.trace.warn("{}: the indexes could not be written: {}", name_.text(), made.error().message);
      return false;
    }
    if (!sync->checkpoint) sync_wanted_ = false;
    sync->plan = std::move(*made);
    sync->batches = batches_appended_;
    if (sync->plan.empty()) {
      log_->synced(sync->plan, {});  // nothing to be done for it to be true
      note_durable_locked();
      on_ends_locked(notices);
      return false;
    }
    (sync->checkpoint ? checkpoint_running_ : sync_running_) = true;
    return true;
  }();
  tell(std::move(notices));
  if (!begun) return;
  // A checkpoint is in no hurry, and must not stand before those who are.
  env_.disk->run_in(
      sync->checkpoint ? io::Lane::background : io::Lane::sync, loop,
      [self = shared_from_this(), sync] {
        const int64_t begun_ns = self->env_.clock->mono_ns();
        const std::lock_guard files(self->files_mutex_);
        // Its paths may be those of a new partition of this name by now.
        if (!self->removed_) sync->outcome = sync->plan.run(*self->env_.disk);
        sync->took_ns = self->env_.clock->mono_ns() - begun_ns;
      },
      [self = shared_from_this(), sync, &loop] { self->end_sync(loop, *sync); });
}

void Partition::end_sync(io::Loop& loop, const Sync& sync) {
  Notices notices;
  bool again = false;
  {
    const std::lock_guard lock(mutex_);
    (sync.checkpoint ? checkpoint_running_ : sync_running_) = false;
    // Of a directory that failed meanwhile nothing is acknowledged any more.
    Status outcome = sync.outcome.ok() ? usable() : sync.outcome;
    if (planted(Plant::ignore_failed_sync)) outcome = Status();
    changed_ = true;
    const Offset before = log_ ? log_->durable_end() : Offset(0);
    const bool retry = planted(Plant::retry_failed_sync) && !outcome.ok();
    if (log_ && !retry) log_->synced(sync.plan, outcome);
    if (log_ && outcome.ok()) {
      if (env_.sync.seconds != nullptr && !sync.checkpoint) env_.sync.seconds->observe_ns(sync.took_ns);
      if (env_.sync.records != nullptr && log_->durable_end() > before)
        env_.sync.records->add(static_cast<uint64_t>(log_->durable_end() - before));
      if (sync.batches > batches_synced_) {
        if (env_.sync.batches != nullptr) env_.sync.batches->add(sync.batches - batches_synced_);
        batches_synced_ = sync.batches;
      }
    }
    if (!log_) {
      sync_wanted_ = false;  // closed meanwhile, which synced everything
    } else if (outcome.ok() || outcome.code() == ErrorCode::no_space) {
      note_durable_locked();
      on_ends_locked(notices);
      const bool waited_for =
          (config_->fsync && !commit_waits_.empty()) || !flush_waits_.empty() || !flush_commit_waits_.empty();
      again = !sync_running_ && (sync_wanted_ || waited_for) && log_->durable_end() < log_->log_end_offset();
    } else if (retry) {
      again = true;
    } else {
      // Never retried: the kernel may have dropped the pages and would report success.
      fail_locked(outcome.error(), notices);
    }
  }
  tell(std::move(notices));
  if (again) begin_sync(loop, log::SyncScope::records);
}

void Partition::checkpoint(io::Loop& loop) {
  if (resting_.load(std::memory_order_acquire)) return;
  begin_sync(loop, log::SyncScope::everything);
}

void Partition::note_durable_locked() {
  if (log_ && env_.journal && !log_->failed())
    env_.journal->note(commit_key(), log_->durable_end(), log_->log_start_offset());
}

Status Partition::record_lowered_locked(Offset end) {
  if (!env_.journal ||
      end >= std::max({log_->durable_end(), log_->recovery_point(), log_->log_start_offset()}))
    return {};
  return env_.journal->lower(commit_key(), end);
}

Status Partition::truncate_to(Offset offset, Now now) {
  const std::lock_guard lock(mutex_);
  return truncate_locked(offset, now);
}

Status Partition::truncate_locked(Offset offset, Now now) {
  ASSERT(!leader_);
  if (!log_ || log_->failed() || log_->closed()) return Error(ErrorCode::kafka_storage_error, name_.text());
  if (offset >= log_->log_end_offset()) return {};
  // The whole batch goes, so the end may come to lie below `offset`.
  Offset end{0};
  if (offset >= log_->log_start_offset()) {
    TRY_ASSIGN(const log::ReadResult holds, log_->read(offset, 1, log_->log_end_offset(), true));
    end = std::min(offset, holds.base_offset);
  } else if (const Offset first = log_->segments().front().base_offset; offset >= first) {
    end = first;
  }
  TRY(record_lowered_locked(end));
  TRY(log_->truncate_to(offset, now));
  verified_.forget_from(end);
  own_from_ = std::min(own_from_, end);
  known_mark_ = std::min(known_mark_, log_->log_end_offset());
  note_durable_locked();
  return {};
}

Status Partition::restart_at(Offset offset, Now now) {
  const std::lock_guard lock(mutex_);
  return restart_locked(offset, now);
}

Status Partition::restart_locked(Offset offset, Now now) {
  ASSERT(!leader_);
  if (!log_ || log_->failed() || log_->closed()) return Error(ErrorCode::kafka_storage_error, name_.text());
  // Segments go one by one, the last first: nothing is promised until the new one is there.
  TRY(record_lowered_locked(Offset(0)));
  TRY(log_->truncate_fully_and_start_at(offset, now));
  known_mark_ = offset;
  verified_ = {};
  own_from_ = offset;
  return env_.journal ? env_.journal->advance_start(commit_key(), offset) : Status();
}

void Partition::fail_locked(const Error& error, Notices& notices) {
  // One failure shows itself in many places: it is reported once.
  if (!failure_told_) notices.storage_failure = error;
  failure_told_ = true;
  end_tenure_locked(notices);
  follower_.reset();
  stopped_ = ErrorCode::kafka_storage_error;
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
  if (notices.fetcher) {
    io::Loop& loop = notices.fetcher->loop();
    loop.post([f = std::move(notices.fetcher), tag = notices.fetcher_tag] { f->on_data(tag); });
  }
  if (notices.storage_failure) {
    env_.trace.error("{}: {}; the partition is offline", name_.text(), notices.storage_failure->message);
    if (env_.on_storage_failure) env_.on_storage_failure(directory_, *notices.storage_failure);
  }
}

// The bound, and what lies before it. Nothing to read: an empty result.
Result<log::ReadResult> Partition::read_locked(Offset from, size_t bytes_max, bool at_least_one,
                                               Isolation isolation, EpochCheck check, log::ReadMode mode,
                                               Offsets& offsets) {
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  if (isolation != Isolation::replica && in_doubt_locked(env_.clock->now().mono_ms))
    return ErrorCode::not_leader_or_follower;
  offsets = offsets_locked();
  if (from > offsets.log_end) {
    // A follower may be behind what its leader told the consumer, and so may a leader that has a successor.
    const bool may_be_behind =
        !leader_ || (env_.standing && env_.standing->session_over(env_.clock->now().mono_ms));
    return Error(may_be_behind ? ErrorCode::offset_not_available : ErrorCode::offset_out_of_range, "");
  }
  if (from < offsets.log_start) return Error(ErrorCode::offset_out_of_range, "");
  const bool to_the_end = isolation == Isolation::replica || planted(Plant::read_uncommitted_end);
  const Offset bound = to_the_end                               ? offsets.log_end
                       : isolation == Isolation::read_committed ? offsets.last_stable
                                                                : offsets.high_watermark;
  if (from >= bound || bytes_max == 0) return log::ReadResult{};
  if (!log_) {
    log::ReadResult at_rest;
    at_rest.would_block = true;
    return at_rest;
  }
  used_ = true;
  Result<log::ReadResult> read = log_->read_records(from, bytes_max, bound, at_least_one, mode);
  if (!read.ok() && read.code() == ErrorCode::corrupt) return damaged_locked(read.error().message);
  return read;
}

bool Partition::may_send_locked(const log::ReadResult& read) {
  if (read.base_offset < own_from_ && !verified_.covers(read.base_offset, read.next_offset)) return false;
  if (cached_locked(read)) return true;
  verified_.forget_from(read.base_offset);
  own_from_ = std::max(own_from_, log_->log_end_offset());
  return false;
}

void Partition::forget_verified_locked() {
  verified_ = {};
  if (log_) own_from_ = std::max(own_from_, log_->log_end_offset());
}

// What was just written is in the page cache; anything else is asked for at a stride.
bool Partition::cached_locked(const log::ReadResult& read) const {
  if (read.base_offset >= own_from_ && read.regions.size() == 1) {
    const log::SegmentInfo active = log_->active_segment();
    const io::FileRegion& r = read.regions.front();
    if (read.base_offset >= active.base_offset && r.position + kSurelyCachedBytes >= active.bytes)
      return true;
  }
  uint8_t byte = 0;
  for (const io::FileRegion& r : read.regions) {
    for (size_t at = 0; at < r.length; at += kProbeStride) {
      const auto got = r.file->read_at_cached(r.position + at, MutableByteView(&byte, 1));
      if (!got.ok() || !got->has_value()) return false;
    }
    const auto last = r.file->read_at_cached(r.position + r.length - 1, MutableByteView(&byte, 1));
    if (!last.ok() || !last->has_value()) return false;
  }
  return true;
}

// Told once for each place; the partition goes on with what is healthy.
void Partition::mark_damaged() {
  damaged_.store(true, std::memory_order_relaxed);
  if (env_.directory_state) env_.directory_state->note_damage();
}

Error Partition::damaged_locked(const std::string& what) {
  if (damages_.size() < kDamagesMax && damages_.insert(what).second) {
    if (env_.sync.damages != nullptr) env_.sync.damages->add();
    mark_damaged();
    env_.trace.error("{}: damaged: {}; readers of it get KAFKA_STORAGE_ERROR", name_.text(), what);
  }
  return Error(ErrorCode::kafka_storage_error, what);
}

Result<Fetched> Partition::fetch(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                                 EpochCheck check, Offsets& offsets) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(log::ReadResult read, read_locked(from, bytes_max, at_least_one, isolation, check,
                                               log::ReadMode::cached_only, offsets));
  Fetched out;
  out.offsets = offsets;
  if (read.would_block) forget_verified_locked();
  out.cold = read.would_block || (!read.empty() && !may_send_locked(read));
  if (out.cold) return out;
  out.bytes = read.bytes;
  if (log_ && isolation == Isolation::read_committed && read.bytes > 0) {
    TRY_ASSIGN(out.aborted, log_->aborted_transactions(read.base_offset, read.next_offset));
  }
  for (io::FileRegion& r : read.regions)
    out.regions.push_back(std::make_shared<const io::FileRegion>(std::move(r)));
  return out;
}

Result<Fetched> Partition::fetch_cold(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                                      EpochCheck check, Offsets& offsets) {
  if (must_wake_to_read(from)) TRY(open_if_resting());
  log::ReadResult read;
  std::vector<log::AbortedTxn> aborted;
  for (size_t attempt = 0;; ++attempt) {
    log::Log::ColdParts parts;
    {
      const std::lock_guard lock(mutex_);
      const bool last = attempt == kWarmUpsMax;
      TRY_ASSIGN(read, read_locked(from, bytes_max, at_least_one, isolation, check,
                                   last ? log::ReadMode::may_block : log::ReadMode::cached_only, offsets));
      if (!read.would_block) {
        if (isolation == Isolation::read_committed && !read.empty()) {
          TRY_ASSIGN(aborted, log_->aborted_transactions(read.base_offset, read.next_offset));
        }
        break;
      }
      if (!log_) return ErrorCode::not_leader_or_follower;  // laid to rest this very moment: asked again
      ASSERT(!last);
      parts = log_->cold_parts(from, bytes_max,
                               isolation == Isolation::replica ? offsets.log_end : offsets.high_watermark);
    }
    // Into the page cache, so that the look at it holds the lock for no longer than a loop may wait. Errors
    // show themselves there.
    for (const std::string& file : parts.files) (void)env_.disk->read_file(file, kIndexBytesMax);
    Bytes scratch;
    for (const io::FileRegion& r : parts.regions) {
      scratch.resize(r.length);
      (void)r.file->read_at(r.position, scratch);
    }
  }
  Fetched out;
  out.offsets = offsets;
  if (read.empty()) return out;
  Result<Bytes> bytes = log::Log::read_bytes(read);
  const io::FileRegion& region = read.regions.front();
  size_t healthy = 0;
  std::string damage;
  Offset expected = read.base_offset;
  if (bytes.ok()) {
    record::BatchIterator batches(*bytes);
    while (damage.empty()) {
      const auto next = batches.next();
      if (next.ok() && !*next) break;
      if (!next.ok()) {
        damage = next.error().message;
      } else if (!(*next)->crc_matches() && !planted(Plant::serve_damaged)) {
        damage = "checksum does not match";
      } else if ((*next)->base_offset() < expected || (*next)->next_offset() > read.next_offset ||
                 (healthy == 0 && (*next)->base_offset() != expected)) {
        damage = "offset out of order";  // it lies outside the checksum
      } else {
        healthy = batches.position();
        expected = (*next)->next_offset();
      }
    }
    if (damage.empty() && batches.torn_bytes() != 0) damage = "batch is not whole";
  } else {
    damage = bytes.error().message;
  }
  {
    const std::lock_guard lock(mutex_);
    if (healthy > 0) verified_.add(read.base_offset, expected);
    if (!damage.empty()) {
      const Error error = damaged_locked(region.file->path() + ": " + damage + " at position " +
                                         std::to_string(region.position + healthy));
      if (healthy == 0) return error;
    }
  }
  out.aborted = std::move(aborted);
  out.verified = std::move(*bytes);
  out.verified.resize(healthy);
  out.bytes = healthy;
  return out;
}

DataWatches::Id Partition::watch(std::shared_ptr<DataWaiter> waiter, uint64_t tag) {
  const std::lock_guard lock(mutex_);
  return data_watches_.add(std::move(waiter), tag);
}

DataWatches::Id Partition::watch_as_replica(std::shared_ptr<DataWaiter> waiter, uint64_t tag) {
  const std::lock_guard lock(mutex_);
  return replica_watches_.add(std::move(waiter), tag);
}

void Partition::rearm(DataWatches::Id id) {
  const std::lock_guard lock(mutex_);
  (id % 2 == 0 ? data_watches_ : replica_watches_).rearm(id);
}

void Partition::unwatch(DataWatches::Id id) {
  const std::lock_guard lock(mutex_);
  (id % 2 == 0 ? data_watches_ : replica_watches_).remove(id);
}

Result<Offsets> Partition::offsets(EpochCheck check) const {
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  return offsets_locked();
}

LeaderEpoch Partition::leader_epoch() const {
  const std::lock_guard lock(mutex_);
  return leader_ ? leader_->epoch() : follower_ ? follower_->epoch() : kNoLeaderEpoch;
}

Result<Partition::TimestampAnswer> Partition::offset_for_timestamp(int64_t timestamp_ms, Isolation isolation,
                                                                   EpochCheck check) {
  TRY(open_if_resting());
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  if (!log_) return ErrorCode::not_leader_or_follower;
  used_ = true;
  const Offsets o = offsets_locked();
  const Offset bound = isolation == Isolation::read_committed ? o.last_stable : o.high_watermark;
  forget_verified_locked();
  TRY_ASSIGN(const auto found, log_->offset_for_timestamp(timestamp_ms, bound));
  TimestampAnswer answer;
  if (found) answer = {found->offset, found->timestamp, found->leader_epoch};
  return answer;
}

Result<Partition::TimestampAnswer> Partition::offset_of_max_timestamp(EpochCheck check) {
  TRY(open_if_resting());
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  if (!log_) return ErrorCode::not_leader_or_follower;
  used_ = true;
  forget_verified_locked();
  TRY_ASSIGN(const auto found, log_->offset_of_max_timestamp());
  TimestampAnswer answer;
  if (found) answer = {found->offset, found->timestamp, found->leader_epoch};
  return answer;
}

LeaderEpoch Partition::epoch_of(Offset offset) const {
  const std::lock_guard lock(mutex_);
  if (log_) return log_->epoch_of(offset);
  if (rest_->log_start == rest_->log_end) return leader_ ? leader_->epoch() : kNoLeaderEpoch;
  if (offset >= rest_->last_epoch_start) return rest_->last_epoch;
  return offset == rest_->log_start ? rest_->first_epoch : kNoLeaderEpoch;
}

Result<Partition::EpochEnd> Partition::end_offset_for_epoch(LeaderEpoch epoch, EpochCheck check) {
  {
    const std::lock_guard lock(mutex_);
    if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
    if (epoch == leader_->epoch()) return EpochEnd{epoch, log_end_locked()};
    if (rest_ && epoch < leader_->epoch()) {
      // The last epoch with records ends where the leader's own, still empty one begins.
      if (rest_->last_epoch == kNoLeaderEpoch) return EpochEnd{epoch, rest_->log_end};
      if (epoch >= rest_->last_epoch) return EpochEnd{rest_->last_epoch, rest_->log_end};
    }
  }
  TRY(open_if_resting());
  const std::lock_guard lock(mutex_);
  if (const ErrorCode code = serving_locked(check); code != ErrorCode::none) return code;
  if (!log_) return ErrorCode::not_leader_or_follower;
  if (leader_ && epoch == leader_->epoch()) return EpochEnd{epoch, log_->log_end_offset()};
  const auto end = log_->end_offset_for_epoch(epoch);
  return EpochEnd{end.epoch, end.end_offset};
}

Result<Offset> Partition::delete_records(Offset before) {
  TRY(open_if_resting());
  Offset start;
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ != ErrorCode::none) return stopped_;
    if (in_doubt_locked(env_.clock->now().mono_ms)) return ErrorCode::not_leader_or_follower;
    TRY(usable());
    const Offsets o = offsets_locked();
    if (before == Offset(-1)) before = o.high_watermark;
    if (before < Offset(0) || before > o.high_watermark) {
      return Error(ErrorCode::offset_out_of_range,
                   "beyond the high watermark " + std::to_string(o.high_watermark.v));
    }
    if (!log_) return ErrorCode::not_leader_or_follower;
    if (before > o.log_start) TRY(log_->advance_log_start(before));
    used_ = changed_ = true;
    start = log_->log_start_offset();
    replica_watches_.take_armed(notices.data);
  }
  tell(std::move(notices));
  if (env_.journal) TRY(env_.journal->advance_start(commit_key(), start));
  return start;
}

void Partition::keep_house(Now now, bool urgent) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (hosting_locked() != ErrorCode::none || offline()) return;
    if (rest_ && !retention_due_locked(now)) return;
  }
  if (!open_if_resting().ok()) return;  // which said why
  const Status retained = retain(now, notices);
  bool idle = false;
  {
    const std::lock_guard lock(mutex_);
    if (!retained.ok()) {
      env_.trace.error("{}: retention: {}", name_.text(), retained.error().message);
      if (log_ && log_->failed()) fail_locked(retained.error(), notices);
    }
    if (log_ && !log_->closed() && !offline()) (void)log_->remove_pending(now, urgent);
    idle = log_ && !std::exchange(used_, false) && stopped_ == ErrorCode::none;
    if (follower_ && log_) on_follower_log_locked(notices);
  }
  tell(std::move(notices));
  if (idle) lay_to_rest();
}

bool Partition::take_changed() {
  const std::lock_guard lock(mutex_);
  return std::exchange(changed_, false);
}

// In three steps: what goes is found; where the log then begins is made durable, without the lock; it goes.
Status Partition::retain(Now now, Notices& notices) {
  log::Retention retention;
  log::SyncPlan plan;
  {
    const std::lock_guard lock(mutex_);
    if (hosting_locked() != ErrorCode::none || offline() || !log_) return {};
    (void)log_->expire_producers(now);
    TRY_ASSIGN(retention, log_->plan_retention(now, offsets_locked().high_watermark));
    if (retention.empty()) return {};
    TRY_ASSIGN(plan, log_->plan_sync(log::SyncScope::records));
  }
  Status synced;
  {
    const std::lock_guard files(files_mutex_);
    if (removed_) return {};
    synced = plan.run(*env_.disk);
  }
  {
    const std::lock_guard lock(mutex_);
    if (!log_) return {};  // laid to rest meanwhile
    if (synced.ok()) synced = usable();
    log_->synced(plan, synced);
    TRY(synced);
    note_durable_locked();
    on_ends_locked(notices);
  }
  if (env_.journal) TRY(env_.journal->advance_start(commit_key(), retention.log_start));
  const std::lock_guard lock(mutex_);
  if (stopped_ != ErrorCode::none || offline() || !log_) return {};
  TRY_ASSIGN(const log::DeletedSegments deleted, log_->retire_below(retention, now));
  changed_ = changed_ || !deleted.empty();
  replica_watches_.take_armed(notices.data);  // the log start moved
  return {};
}

Status Partition::close() {
  const std::lock_guard files(files_mutex_);
  const std::lock_guard lock(mutex_);
  ASSERT(!leader_);
  if (!log_ || log_->closed()) return {};
  if (log_->failed() || offline()) return log_->close(false);
  return lay_to_rest_locked();
}

Status Partition::remove(const std::string& tombstone_directory) {
  const std::lock_guard files(files_mutex_);
  removed_ = true;
  const std::lock_guard lock(mutex_);
  ASSERT(!leader_);
  if (log_) return log_->rename_for_removal(tombstone_directory);
  // A first append that failed may have left a directory behind.
  if (!rest_->on_disk() && !env_.disk->exists(log_directory())) return {};
  TRY(env_.disk->rename(log_directory(), tombstone_directory));
  return env_.disk->sync_directory(directory_);
}

Partition::Usage Partition::usage() const {
  const std::lock_guard lock(mutex_);
  Usage u;
  u.bytes = log_ ? log_->size_bytes() : rest_->bytes;
  u.segments = log_ ? log_->segment_count() : rest_->segments;
  u.offsets = offsets_locked();
  u.recovery_point = log_ ? log_->recovery_point() : rest_->log_end;
  u.durable_end = log_ ? log_->durable_end() : rest_->log_end;
  u.commit_waits = commit_waits_.size() + flush_waits_.size() + flush_commit_waits_.size();
  u.data_watches = data_watches_.size() + replica_watches_.size();
  u.cleaned_end = log_ ? log_->cleaned_end() : rest_->cleaned_end;
  u.damages = damages_.size();
  u.isr_shrinks = isr_shrinks_;
  u.isr_expands = isr_expands_;
  if (leader_) {
    u.role = Role::leader;
    u.under_replicated = leader_->isr().size() < replicas_;
    u.under_min_isr = !leader_->enough_in_sync();
  } else if (follower_) {
    u.role = Role::follower;
    u.replica_lag = std::max<int64_t>(follower_->leader_high_watermark() - u.offsets.log_end, 0);
  }
  return u;
}

}  // namespace millrace::partition
