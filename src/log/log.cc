#include "log/log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plants.h"
#include "log/file_names.h"
#include "record/control_batch.h"

namespace millrace::log {

namespace {

// Blocks are reserved ahead of the end, which makes appends a tenth cheaper and more for large batches:
// with preallocate=true from the beginning, otherwise once a segment is large, an eighth of it at a time.
constexpr uint64_t kReserveStepMin = 64 * 1024;
constexpr uint64_t kReserveStepMax = 16u << 20;
constexpr uint64_t kReserveFrom = 1u << 20;
constexpr uint64_t kReserveShare = 8;

/// Spread over segments and partitions, the same on every run: no randomness in this room.
int64_t jitter_of(const std::string& directory, Offset base_offset, int64_t jitter_max) {
  if (jitter_max <= 0) return 0;
  uint64_t hash = 0xcbf29ce484222325ull ^ static_cast<uint64_t>(base_offset.v);
  for (const char c : directory) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return static_cast<int64_t>(hash % static_cast<uint64_t>(jitter_max));
}

}  // namespace

Status SyncPlan::run(io::Disk& disk) const {
  for (const std::shared_ptr<io::File>& file : files) {
    Status status = file->sync();
    if (!status && status.code() != ErrorCode::not_found) return status;
  }
  for (const std::string& directory : directories) {
    if (planted(Plant::drop_directory_sync)) break;
    Status status = disk.sync_directory(directory);
    if (!status && status.code() != ErrorCode::not_found) return status;
  }
  const bool overtaken = epochs_on_disk && epochs_on_disk->load(std::memory_order_acquire) > epochs_version;
  for (const auto& [path, content] : replacements) {
    if (overtaken) break;
    Status status = disk.replace_file(path, as_bytes(content));
    if (!status && status.code() != ErrorCode::not_found) return status;
  }
  return {};
}

Log::Log(io::Disk& disk, const OpenParams& params, Trace trace)
    : disk_(disk),
      trace_(std::move(trace)),
      directory_(params.directory),
      config_(params.config),
      producers_(params.config.producer_ids_max) {}

Log::~Log() = default;

void Log::configure(const LogConfig& config) {
  config_ = config;
  producers_.set_entries_max(config.producer_ids_max);
}

Status Log::usable() const {
  if (closed_) return Error(ErrorCode::closed, fmt::format("{} is closed", directory_));
  if (failed_) {
    return Error(ErrorCode::kafka_storage_error,
                 fmt::format("{} failed earlier and takes no more writes", directory_));
  }
  return {};
}

// --- append ---

Status Log::parse(ByteView batches) {
  if (batches.empty()) return Error(ErrorCode::corrupt_message, "no batch");
  for (size_t at = 0; at < batches.size();) {
    Result<record::BatchView> batch = record::BatchView::parse(batches.subspan(at));
    if (!batch) return Error(ErrorCode::corrupt_message, std::move(batch).error().message);
    parsed_.push_back({BatchHeader::of(*batch), batch->bytes()});
    at += batch->size();
  }
  return {};
}

Status Log::check_producers(std::optional<ProducerBatch>& duplicate) const {
  // Batches of one append may follow each other: what the earlier ones make of a producer is kept here.
  std::vector<ProducerEntry> ahead;
  for (const ParsedBatch& p : parsed_) {
    const BatchHeader& h = p.header;
    if (!h.has_producer() || h.is_control()) continue;
    const auto seen =
        std::find_if(ahead.begin(), ahead.end(), [&](const auto& e) { return e.id == h.producer_id; });
    const ProducerEntry* known = seen != ahead.end() ? &*seen : producers_.find(h.producer_id);
    ProducerVerdict verdict = ProducerState::judge(h, known);
    if (verdict.error != ErrorCode::none) return Error(verdict.error, std::move(verdict.message));
    if (verdict.duplicate_of) {
      if (parsed_.size() > 1) {
        return Error(ErrorCode::duplicate_sequence_number, "a duplicate among several batches");
      }
      duplicate = verdict.duplicate_of;
      return {};
    }
    if (parsed_.size() == 1) continue;
    if (seen == ahead.end()) {
      ahead.push_back(known != nullptr ? *known : ProducerEntry{});
      ProducerState::fold(ahead.back(), h, 0);
    } else {
      ProducerState::fold(*seen, h, 0);
    }
  }
  return {};
}

Result<AppendResult> Log::append_as_leader(std::span<const MutableByteView> pieces, LeaderEpoch epoch,
                                           Now now) {
  append_in_doubt_ = false;
  TRY(usable());
  parsed_.clear();
  size_t bytes = 0;
  for (const MutableByteView piece : pieces) {
    TRY(parse(piece));
    bytes += piece.size();
  }
  ASSERT(!parsed_.empty());
  if (bytes > static_cast<size_t>(config_.segment_bytes)) {
    return Error(ErrorCode::record_list_too_large,
                 fmt::format("{} bytes do not fit a segment of {}", bytes, config_.segment_bytes));
  }
  Offset next = log_end_offset_;
  for (ParsedBatch& p : parsed_) {
    p.header.base_offset = next;
    p.header.leader_epoch = epoch;
    next = p.header.next_offset();
  }
  if (next - log_end_offset_ > INT32_MAX) {
    return Error(ErrorCode::record_list_too_large, "more offsets than a segment can hold");
  }
  std::optional<ProducerBatch> duplicate;
  TRY(check_producers(duplicate));
  if (duplicate) {
    return AppendResult{.base_offset = duplicate->first_offset(),
                        .last_offset = duplicate->last_offset,
                        .timestamp = duplicate->timestamp,
                        .log_start_offset = log_start_offset_,
                        .duplicate = true};
  }
  bool rolled = false;
  TRY(make_room(bytes, log_end_offset_, next - 1, now, rolled));
  auto p = parsed_.begin();
  for (const MutableByteView piece : pieces) {
    for (size_t at = 0; at < piece.size(); at += p->header.size, ++p) {
      record::set_base_offset(piece.subspan(at), p->header.base_offset);
      record::set_leader_epoch(piece.subspan(at), epoch);
    }
  }
  ASSERT(p == parsed_.end());
  if (pieces.size() == 1) {
    const ByteView all = pieces.front();
    return commit_append({&all, 1}, now, rolled);
  }
  pieces_.assign(pieces.begin(), pieces.end());
  return commit_append(pieces_, now, rolled);
}

Result<AppendResult> Log::append_as_follower(ByteView batches, Now now) {
  TRY(usable());
  parsed_.clear();
  TRY(parse(batches));
  Offset next = log_end_offset_;
  for (const ParsedBatch& p : parsed_) {
    if (p.header.base_offset < next) {
      return Error(ErrorCode::offset_out_of_range,
                   fmt::format("batch at offset {} does not continue at {}", p.header.base_offset.v, next.v));
    }
    next = p.header.next_offset();
  }
  if (next - parsed_.front().header.base_offset > INT32_MAX ||
      batches.size() > static_cast<size_t>(INT32_MAX)) {
    return Error(ErrorCode::record_list_too_large, "more offsets or bytes than a segment can hold");
  }
  bool rolled = false;
  TRY(make_room(batches.size(), parsed_.front().header.base_offset, next - 1, now, rolled));
  return commit_append({&batches, 1}, now, rolled);
}

bool Log::must_roll(uint64_t bytes, Offset last_offset, Now now) const {
  const Segment& segment = active();
  if (last_offset - segment.base_offset() > INT32_MAX) return true;
  if (segment.empty()) return false;
  if (segment.size_bytes() + bytes > static_cast<uint64_t>(config_.segment_bytes)) return true;
  const auto index_bytes = static_cast<size_t>(config_.segment_index_bytes);
  if ((segment.offset_index().size() + 1) * OffsetIndex::kEntrySize > index_bytes ||
      (segment.time_index().size() + 1) * TimeIndex::kEntrySize > index_bytes) {
    return true;
  }
  if (!segment.first_append_wall_ms) return false;
  const int64_t age = now.wall_ms - *segment.first_append_wall_ms;
  const int64_t age_max = config_.compact_policy ? std::min(config_.segment_ms, config_.max_compaction_lag_ms)
                                                 : config_.segment_ms;
  return age > age_max - jitter_of(directory_, segment.base_offset(), config_.segment_jitter_ms);
}

Status Log::make_room(uint64_t bytes, Offset first_offset, Offset last_offset, Now now, bool& rolled) {
  if (must_roll(bytes, last_offset, now)) {
    // Segments join also where a compacted leader's log has a hole, unless it is too wide for one.
    const bool joins = last_offset - log_end_offset_ <= int64_t{INT32_MAX};
    TRY(roll_at(joins ? log_end_offset_ : first_offset, now));
    rolled = true;
  }
  const uint64_t size = active().size_bytes();
  if (config_.preallocate || size >= kReserveFrom) {
    const uint64_t end = size + bytes;
    const auto segment_bytes = static_cast<uint64_t>(config_.segment_bytes);
    if (end + kReserveStepMin / 2 > reserved_until_ && reserved_until_ < segment_bytes) {
      // Before the last is used up: on a full disk there is always some left. It grows with the segment, so
      // that a thousand small partitions do not hold a thousand large gaps.
      const uint64_t step =
          std::clamp(config_.preallocate ? size : size / kReserveShare, kReserveStepMin, kReserveStepMax);
      reserved_until_ = std::max(end, std::min(end + step, segment_bytes));
      active().file()->reserve(reserved_until_);
    }
  }
  return {};
}

Status Log::roll(Now now) {
  TRY(usable());
  if (active().empty()) return {};
  return roll_at(log_end_offset_, now);
}

Status Log::roll_at(Offset base_offset, Now now) {
  Segment& old = active();
  if (old.empty()) {
    // An empty segment whose base is too far from what comes: it goes, unless it is the one wanted.
    if (old.base_offset() == base_offset) return {};
    TRY_ASSIGN(std::unique_ptr<Segment> fresh, Segment::create(disk_, directory_, base_offset));
    TRY(retire(old, now));
    segments_.back() = std::move(fresh);
  } else {
    old.finish_time_index();
    TRY(old.write_indexes(unsynced_));
    TRY(write_snapshot());
    if (reserved_until_ > 0) TRY(old.trim_reserved());
    TRY_ASSIGN(std::unique_ptr<Segment> fresh, Segment::create(disk_, directory_, base_offset));
    note_index_use(old);
    segments_.push_back(std::move(fresh));
  }
  ++names_version_;
  reserved_until_ = 0;
  landmarks_.clear();
  next_landmark_ = 0;
  last_bound_ = {};
  trace_.debug("{}: new segment at offset {}", directory_, base_offset.v);
  return {};
}

Status Log::write_out(std::span<const ByteView> pieces) {
  Segment& segment = active();
  Status written = segment.file()->write_at(segment.size_bytes(), pieces);
  if (written) return written;
  const Result<uint64_t> size = segment.file()->size();
  append_in_doubt_ = !size.ok() || *size != segment.size_bytes();
  // Part of it may be there (a full disk takes what fits): cut before anything else is appended.
  segment.dirty = true;
  const Status cut = segment.file()->truncate(segment.size_bytes());
  if (!cut) {
    failed_ = true;
    trace_.error("{}: could not cut a failed write at position {}: {}", segment.file()->path(),
                 segment.size_bytes(), cut.error().message);
  }
  return Error(written.code(), fmt::format("{}: {}", segment.file()->path(), written.error().message));
}

Result<AppendResult> Log::commit_append(std::span<const ByteView> pieces, Now now, bool rolled) {
  TRY(write_out(pieces));
  Segment& segment = active();
  if (!segment.first_append_wall_ms) segment.first_append_wall_ms = now.wall_ms;
  size_t bytes = 0;
  for (const ParsedBatch& p : parsed_) {
    if (epochs_.assign(p.header.leader_epoch, p.header.base_offset) || epoch_is_new_) ++epochs_version_;
    epoch_is_new_ = false;
    add_landmark(p.header.base_offset, segment.size_bytes());
    segment.note_appended(p.header, config_.index_interval_bytes);
    if (planted(Plant::trust_index_after_crash)) (void)segment.write_indexes(unsynced_);
    bytes += p.bytes.size();
    const std::optional<AbortedTxn> aborted = fold(producers_, p.header, p.bytes, now.mono_ms);
    const Status noted = aborted ? segment.note_aborted(*aborted) : Status();
    if (!noted) {
      // The bytes are in the log, its transaction index is not what they say: opening makes it anew.
      failed_ = true;
      trace_.error("{}: {}", directory_, noted.error().message);
    }
  }
  size_bytes_ += bytes;
  log_end_offset_ = segment.next_offset();
  return AppendResult{.base_offset = parsed_.front().header.base_offset,
                      .last_offset = log_end_offset_ - 1,
                      .timestamp = parsed_.back().header.max_timestamp,
                      .log_start_offset = log_start_offset_,
                      .bytes = bytes,
                      .batches = parsed_.size(),
                      .rolled = rolled};
}

std::optional<AbortedTxn> Log::fold(ProducerState& state, const BatchHeader& header, ByteView batch,
                                    int64_t mono_ms) {
  if (!header.has_producer()) return std::nullopt;
  if (!header.is_control()) {
    state.apply_data(header, mono_ms);
    return std::nullopt;
  }
  const Result<record::BatchView> view = record::BatchView::parse(batch);
  if (!view) return std::nullopt;
  const Result<record::EndTransactionMarker> marker = record::read_marker(*view);
  if (!marker) return std::nullopt;  // a control batch that ends no transaction
  const std::optional<CompletedTxn> completed =
      state.apply_marker(header, !marker->commit, marker->coordinator_epoch, mono_ms);
  if (!completed || !completed->aborted) return std::nullopt;
  return AbortedTxn{.producer_id = completed->producer_id,
                    .first_offset = completed->first_offset,
                    .last_offset = completed->last_offset,
                    .last_stable_offset = state.last_stable_offset_after(*completed)};
}

void Log::begin_epoch(LeaderEpoch epoch, bool lazily) {
  if (epoch <= epochs_.latest_epoch() || !epochs_.assign(epoch, log_end_offset_)) return;
  if (lazily) {
    epoch_is_new_ = true;
  } else {
    ++epochs_version_;
  }
}

Offset Log::last_stable_offset(Offset high_watermark) const {
  const std::optional<Offset> unstable = producers_.first_unstable_offset(high_watermark);
  return unstable ? std::min(*unstable, high_watermark) : high_watermark;
}

size_t Log::expire_producers(Now now) {
  return producers_.expire(now.mono_ms, config_.producer_id_expiration_ms);
}

EpochEnd Log::end_offset_for_epoch(LeaderEpoch requested) const {
  return epochs_.end_offset_for(requested, log_end_offset_);
}

std::vector<SegmentInfo> Log::segments() const {
  std::vector<SegmentInfo> out;
  out.reserve(segments_.size());
  for (const auto& s : segments_) {
    out.push_back({s->base_offset(), s->next_offset(), s->size_bytes(), s == segments_.back()});
  }
  return out;
}

// --- snapshots of the producer state ---

// One that is there says the same, and may be on disk already: written anew in place it could be torn.
Status Log::write_snapshot() {
  if (!snapshots_.empty() && snapshots_.back() == log_end_offset_) return {};
  return write_snapshot_of(producers_, log_end_offset_);
}

Status Log::write_snapshot_of(const ProducerState& state, Offset at) {
  const std::string path = io::join_path(directory_, file_name(at, FileKind::snapshot));
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk_.open(path, io::OpenMode::create));
  TRY(file->truncate(0));
  TRY(file->write_at(0, state.encode_snapshot()));
  unsynced_.push_back(file);
  ++names_version_;
  const auto place = std::lower_bound(snapshots_.begin(), snapshots_.end(), at);
  if (place == snapshots_.end() || *place != at) snapshots_.insert(place, at);
  return {};
}

void Log::remove_snapshots(Offset from, Offset below) {
  std::erase_if(snapshots_, [&](Offset at) {
    if (at < from || at >= below) return false;
    // One that stays behind is removed at the next open.
    (void)disk_.remove(io::join_path(directory_, file_name(at, FileKind::snapshot)));
    ++names_version_;
    return true;
  });
}

// --- durability ---

bool Log::anything_dirty() const {
  return !unsynced_.empty() || names_version_ != names_synced_ || epochs_version_ != *epochs_synced_ ||
         parent_dirty_ ||
         std::any_of(segments_.rbegin(), segments_.rend(), [](const auto& s) { return s->dirty; });
}

bool Log::settled() const {
  return !failed_ && durable_end_ == log_end_offset_ && recovery_point_ == log_end_offset_ &&
         !anything_dirty() && pending_.empty() &&
         std::all_of(segments_.begin(), segments_.end(), [](const auto& s) { return s->indexes_written(); });
}

Result<SyncPlan> Log::plan_sync(SyncScope scope) {
  TRY(usable());
  SyncPlan plan;
  plan.end = log_end_offset_;
  plan.generation = generation_;
  plan.names_version = names_version_;
  plan.epochs_version = epochs_version_;
  plan.epochs_on_disk = epochs_synced_;
  if (scope == SyncScope::everything) {
    for (const auto& segment : segments_) {
      // Those of closed segments were written at the roll, but some had to be made anew.
      if (segment->indexes_loaded()) TRY(segment->write_indexes(unsynced_));
    }
    plan.recovery_point = plan.end;
    if (epochs_version_ != *epochs_synced_) {
      plan.replacements.emplace_back(io::join_path(directory_, kEpochCheckpointName), epochs_.encode());
    }
  }
  if (scope == SyncScope::records && epochs_version_ == *epochs_synced_) {
    // Closed segments will be on disk wholly: their indexes and the snapshot were written at the roll.
    plan.recovery_point = active().base_offset();
  }
  // Before the records: what says whose they are (partition.metadata) is among these.
  plan.files = unsynced_;
  for (const auto& segment : segments_) {
    if (segment->dirty) plan.files.push_back(segment->file());
  }
  if (names_version_ != names_synced_) plan.directories.push_back(directory_);
  if (parent_dirty_) plan.directories.push_back(io::parent_path(directory_));
  return plan;
}

void Log::synced(const SyncPlan& plan, const Status& outcome) {
  if (closed_) return;
  if (outcome.code() == ErrorCode::no_space) {
    // A small file could not be replaced; what it replaces is whole, and the next plan carries it again. Of
    // the records nothing is lost (a failed sync is never reported as no_space).
    trace_.warn("{}: {}", directory_, outcome.error().message);
    return;
  }
  if (!outcome) {
    failed_ = true;
    trace_.error("{}: sync failed, nothing more is written: {}", directory_, outcome.error().message);
    return;
  }
  if (plan.generation != generation_) return;
  for (const auto& segment : segments_) {
    if (segment->dirty && segment->next_offset() <= plan.end) segment->dirty = false;
  }
  std::erase_if(unsynced_, [&](const std::shared_ptr<io::File>& file) {
    return std::find(plan.files.begin(), plan.files.end(), file) != plan.files.end();
  });
  names_synced_ = std::max(names_synced_, plan.names_version);
  parent_dirty_ = parent_dirty_ && plan.directories.empty();
  durable_end_ = std::max(durable_end_, plan.end);
  // Only a plan that carried the epochs, or had none to carry, may move it: see plan_sync().
  recovery_point_ =
      std::max(recovery_point_, planted(Plant::recovery_point_ahead) ? log_end_offset_ : plan.recovery_point);
  if (plan.recovery_point != kNoOffset && plan.epochs_version > *epochs_synced_)
    epochs_synced_->store(plan.epochs_version, std::memory_order_release);
}

Status Log::flush() {
  TRY_ASSIGN(const SyncPlan plan, plan_sync(SyncScope::everything));
  Status outcome = plan.run(disk_);
  synced(plan, outcome);
  return outcome;
}

}  // namespace millrace::log
