// Opening a log: what lies in the directory becomes segments; after an unclean stop everything past the
// recovery point is read and verified, and a torn tail is cut.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/plants.h"
#include "log/file_names.h"
#include "log/log.h"
#include "log/partition_metadata.h"

namespace millrace::log {

namespace {

constexpr size_t kEpochFileBytesMax = 16u << 20;
constexpr size_t kSnapshotBytesMax = 512u << 20;
constexpr size_t kReplayWindow = 256 * 1024;
constexpr uint64_t kRecallBytes =
    1u << 20;  // before a snapshot, looked through for what producers may repeat

}  // namespace

class LogOpener {
 public:
  LogOpener(Log& log, const OpenParams& params, RecoveryStats& stats)
      : log_(log), params_(params), stats_(stats) {}

  Status run();

 private:
  Status name_the_topic();
  Status clean_up_names();
  Status finish_swap(Offset offset);
  Status drop_deleted();
  Status load_segments();
  Status check_may_be_empty() const;
  Status begin_empty();
  Status load_epochs();
  void check_epochs();
  Status scan_segments();
  Status cut(size_t segment, const Segment::ScanResult& scan);
  Status check_ends();
  Status rewrite_unsynced();
  Status note_first_append();
  Status sync_snapshot();
  std::string path(std::string_view name) const { return io::join_path(log_.directory_, name); }
  Status remove_leftover(const std::string& name);
  /// Below it damage is damage, never a torn tail.
  Offset known_durable() const { return std::max(params_.recovery_point, params_.durable_end); }
  /// Whether a log that ends there lacks what was synced. Not if all of that was deleted since.
  bool lacks_data(Offset end) const {
    return end < known_durable() && known_durable() > params_.log_start_offset;
  }

  Log& log_;
  const OpenParams& params_;
  RecoveryStats& stats_;
  void note_epoch(const BatchHeader& batch);

  std::vector<Offset> bases_;
  std::vector<size_t> damaged_txn_indexes_;
  bool epochs_lost_ = false;
  std::vector<EpochStart> known_epochs_;  // as the file had them
  Offset batches_end_{0};                 // of the batches met so far
};

Result<std::unique_ptr<Log>> Log::open(io::Disk& disk, OpenParams params, Trace trace, RecoveryStats* stats) {
  std::unique_ptr<Log> log(new Log(disk, params, std::move(trace)));
  RecoveryStats own;
  TRY(LogOpener(*log, params, stats != nullptr ? *stats : own).run());
  Bytes().swap(log->scratch_);
  return log;
}

Status LogOpener::run() {
  if (!log_.disk_.exists(log_.directory_)) {
    if (!params_.create)
      return Error(ErrorCode::not_found, fmt::format("{} does not exist", log_.directory_));
    TRY(check_may_be_empty());
    TRY(log_.disk_.make_directories(log_.directory_));
    log_.parent_dirty_ = true;
    ++log_.names_version_;
  }
  if (!params_.clean_shutdown || params_.create) {
    // An opening that failed half-way, or the life before may have made names that it did not come to sync.
    log_.parent_dirty_ = true;
    ++log_.names_version_;
  }
  if (!params_.topic_id.is_zero()) TRY(name_the_topic());
  TRY(clean_up_names());
  if (bases_.empty()) {
    TRY(begin_empty());
  } else {
    TRY(load_segments());
  }
  TRY(load_epochs());
  check_epochs();
  TRY(scan_segments());
  TRY(check_ends());
  TRY(rewrite_unsynced());
  TRY(note_first_append());
  // Those below the recovery point would not come again with the producers.
  for (const size_t i : damaged_txn_indexes_) {
    if (i < log_.segments_.size()) TRY(log_.txn_index_of(i));
  }
  TRY(log_.txn_index_of(log_.segments_.size() - 1));
  // The snapshot where the log begins was on disk before what lay below was removed.
  const Offset trusted = std::max(log_.recovery_point_, log_.segments_.front()->base_offset());
  TRY(log_.rebuild_producers(params_.clean_shutdown ? log_.log_end_offset_ : trusted, params_.now.mono_ms,
                             &stats_));
  for (const auto& segment : log_.segments_) {
    if (segment != log_.segments_.back()) TRY(segment->write_txn_index(log_.unsynced_));
  }
  TRY(sync_snapshot());
  stats_.segments = static_cast<uint32_t>(log_.segments_.size());
  log_.set_cleaned_end(params_.cleaned_end);
  return {};
}

Status LogOpener::remove_leftover(const std::string& name) {
  Status removed = log_.disk_.remove(path(name));
  if (!removed && removed.code() != ErrorCode::not_found) return removed;
  ++stats_.leftovers_removed;
  ++log_.names_version_;
  return {};
}

// Created before the first segment and synced before the first record: records never lie in a directory that
// does not say whose they are.
Status LogOpener::name_the_topic() {
  const Result<std::optional<PartitionMetadata>> known = read_partition_metadata(log_.disk_, log_.directory_);
  const bool named = known && known->has_value();
  if (named) {
    // After an unclean stop nobody knows whether it came to the disk: written again, synced with the records.
    // So it is after an opening that failed half-way.
    if ((*known)->topic_id == params_.topic_id && params_.clean_shutdown && !params_.create) return {};
    if ((*known)->topic_id != params_.topic_id) {
      return Error(ErrorCode::corrupt,
                   fmt::format("{} belongs to topic id {}, not {}", log_.directory_,
                               (*known)->topic_id.to_string(), params_.topic_id.to_string()));
    }
  }
  if (!known && known.code() != ErrorCode::parse_error) return known.error();
  TRY_ASSIGN(const std::shared_ptr<io::File> file,
             log_.disk_.open(path(kPartitionMetadataName), io::OpenMode::create));
  if (!named) TRY(file->truncate(0));
  TRY(file->write_at(0, as_bytes(encode_partition_metadata({.topic_id = params_.topic_id}))));
  log_.unsynced_.push_back(file);
  ++log_.names_version_;
  return {};
}

// Sorts the names: segments, snapshots, what an interrupted deletion or compaction left.
Status LogOpener::clean_up_names() {
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, log_.disk_.list(log_.directory_));
  std::vector<Offset> swaps;
  std::vector<std::pair<std::string, FileName>> indexes;
  for (const io::DirectoryEntry& entry : entries) {
    if (entry.is_directory) continue;
    const std::optional<FileName> name = parse_file_name(entry.name);
    if (!name) {
      if (const std::optional<LostRange> lost = parse_lost_name(entry.name)) log_.lost_.push_back(*lost);
      if (entry.name.ends_with(".tmp")) TRY(remove_leftover(entry.name));  // of an interrupted replace_file
      continue;
    }
    if (name->stage == FileStage::deleted || name->stage == FileStage::cleaned) {
      TRY(remove_leftover(entry.name));
    } else if (name->stage == FileStage::swap) {
      // Indexes of a swapped segment are made anew.
      if (name->kind == FileKind::log) {
        swaps.push_back(name->offset);
      } else {
        TRY(remove_leftover(entry.name));
      }
    } else if (name->kind == FileKind::log) {
      bases_.push_back(name->offset);
    } else if (name->kind == FileKind::snapshot) {
      log_.snapshots_.push_back(name->offset);
    } else {
      indexes.emplace_back(entry.name, *name);
    }
  }
  std::sort(bases_.begin(), bases_.end());
  std::sort(log_.snapshots_.begin(), log_.snapshots_.end());
  for (const Offset offset : swaps) TRY(finish_swap(offset));
  TRY(drop_deleted());
  for (const auto& [name, parsed] : indexes) {
    if (!std::binary_search(bases_.begin(), bases_.end(), parsed.offset)) TRY(remove_leftover(name));
  }
  return {};
}

// A .swap file is complete: it takes the place of the segments that it covers.
Status LogOpener::finish_swap(Offset offset) {
  const std::string swap = path(file_name(offset, FileKind::log) + std::string(kSwapSuffix));
  TRY_ASSIGN(const std::shared_ptr<io::File> file, log_.disk_.open(swap, io::OpenMode::read));
  TRY_ASSIGN(const uint64_t size, file->size());
  BatchScanner scanner(*file, 0, size, log_.scratch_, kReplayWindow);
  Offset end = offset;
  while (true) {
    TRY_ASSIGN(const bool more, scanner.next());
    if (!more) break;
    end = scanner.header().next_offset();
  }
  for (auto it = bases_.begin(); it != bases_.end();) {
    if (*it < offset || (*it > offset && *it >= end)) {
      ++it;
      continue;
    }
    for (const FileKind kind :
         {FileKind::offset_index, FileKind::time_index, FileKind::txn_index, FileKind::log}) {
      const std::string name = file_name(*it, kind);
      if (log_.disk_.exists(path(name))) TRY(remove_leftover(name));
    }
    it = bases_.erase(it);
  }
  TRY(log_.disk_.rename(swap, path(file_name(offset, FileKind::log))));
  ++log_.names_version_;
  bases_.insert(std::lower_bound(bases_.begin(), bases_.end(), offset), offset);
  return {};
}

// Missing files are damage, not an empty log.
Status LogOpener::check_may_be_empty() const {
  if (known_durable() > params_.log_start_offset) {
    return Error(ErrorCode::corrupt,
                 fmt::format("{}: no segments, but everything below offset {} was synced: files are missing",
                             log_.directory_, known_durable().v));
  }
  return {};
}

Status LogOpener::begin_empty() {
  TRY(check_may_be_empty());
  TRY_ASSIGN(std::unique_ptr<Segment> fresh,
             Segment::create(log_.disk_, log_.directory_, params_.log_start_offset));
  log_.segments_.push_back(std::move(fresh));
  ++log_.names_version_;
  return {};
}

// Segments below where the log begins were about to go. What is wrong with them, or missing between them, is
// nobody's loss, and no reason to cut what lies above.
Status LogOpener::drop_deleted() {
  if (params_.clean_shutdown) return {};
  size_t gone = 0;
  while (gone + 1 < bases_.size() && bases_[gone + 1] <= params_.log_start_offset) {
    TRY(remove_leftover(file_name(bases_[gone], FileKind::log)));
    ++gone;
  }
  bases_.erase(bases_.begin(), bases_.begin() + static_cast<std::ptrdiff_t>(gone));
  return {};
}

Status LogOpener::load_segments() {
  log_.segments_.reserve(bases_.size());
  for (size_t i = 0; i < bases_.size(); ++i) {
    TRY_ASSIGN(std::shared_ptr<io::File> file,
               log_.disk_.open(path(file_name(bases_[i], FileKind::log)), io::OpenMode::write));
    TRY_ASSIGN(const uint64_t size, file->size());
    if (size > static_cast<uint64_t>(INT32_MAX)) {
      return Error(ErrorCode::corrupt,
                   fmt::format("{}: {} bytes are more than a segment can have", file->path(), size));
    }
    auto segment = std::make_unique<Segment>(log_.disk_, log_.directory_, bases_[i], std::move(file), size);
    if (i + 1 < bases_.size()) segment->set_closed(bases_[i + 1]);
    log_.segments_.push_back(std::move(segment));
  }
  return {};
}

Status LogOpener::load_epochs() {
  Result<Bytes> content = log_.disk_.read_file(path(kEpochCheckpointName), kEpochFileBytesMax);
  if (content) {
    Result<EpochCache> parsed = EpochCache::parse(as_text(*content));
    if (parsed) {
      log_.epochs_ = std::move(*parsed);
      known_epochs_ = log_.epochs_.entries();
      if (!params_.clean_shutdown) {
        // What lies beyond the recovery point is told by the batches there.
        if (log_.epochs_.truncate_from_end(params_.recovery_point)) ++log_.epochs_version_;
      }
      return {};
    }
    log_.trace_.warn("{}: {}, made anew", path(kEpochCheckpointName), parsed.error().message);
  } else if (content.code() != ErrorCode::not_found) {
    return std::move(content).error();
  }
  epochs_lost_ = true;
  return {};
}

// The log start came back from its last checkpoint, the epochs below the start that was reached since did
// not: they are told by the batches.
void LogOpener::check_epochs() {
  if (params_.clean_shutdown || epochs_lost_) return;
  const Offset start = std::max(params_.log_start_offset, log_.segments_.front()->base_offset());
  const auto& entries = log_.epochs_.entries();
  const Offset known_from = entries.empty() ? params_.recovery_point : entries.front().start_offset;
  if (known_from <= start) return;
  log_.epochs_.clear();
  ++log_.epochs_version_;
  epochs_lost_ = true;
}

Status LogOpener::scan_segments() {
  const Offset checksums_from = params_.clean_shutdown ? Offset(INT64_MAX) : params_.recovery_point;
  batches_end_ = std::max(log_.segments_.front()->base_offset(), params_.recovery_point);
  LeaderEpoch last_epoch = kNoLeaderEpoch;
  for (size_t i = 0; i < log_.segments_.size(); ++i) {
    Segment& segment = *log_.segments_[i];
    const bool is_active = i + 1 == log_.segments_.size();
    const bool beyond = !is_active && !params_.clean_shutdown && segment.next_offset() >= checksums_from;
    if (!is_active && !beyond && !epochs_lost_) continue;
    const Offset next_base = is_active ? kNoOffset : segment.next_offset();
    const auto note_epoch = [&](const BatchHeader& h) {
      if (epochs_lost_ || h.base_offset >= checksums_from) this->note_epoch(h);
      batches_end_ = h.next_offset();
    };
    const bool whole = epochs_lost_ && (is_active || beyond);
    if (!is_active && !beyond) {
      // Only its epochs are wanted.
      BatchScanner scanner(*segment.file(), 0, segment.size_bytes(), log_.scratch_, kReplayWindow);
      while (true) {
        TRY_ASSIGN(const bool more, scanner.next());
        if (!more) break;
        note_epoch(scanner.header());
      }
      continue;
    }
    TRY_ASSIGN(Segment::ScanResult scan,
               segment.scan({.checksums_from = checksums_from,
                             .index_interval_bytes = log_.config_.index_interval_bytes,
                             .stop_at = is_active ? Offset(INT64_MAX) : next_base,
                             .trust_index_below = !whole},
                            log_.scratch_, last_epoch, note_epoch));
    last_epoch = scan.last_epoch;
    if (!params_.clean_shutdown) {
      ++stats_.segments_scanned;
      stats_.bytes_scanned += scan.bytes_scanned;
      // Aborted transactions past the recovery point come again with the replay of the producers.
      const Status known = segment.truncate_txn_index(checksums_from);
      if (known.code() == ErrorCode::corrupt) {
        damaged_txn_indexes_.push_back(i);  // made anew when all segments are known
        ++stats_.indexes_rebuilt;
      } else if (!known) {
        return known;
      }
    }
    const bool complete = !is_active && (segment.next_offset() == next_base ||
                                         given_up(log_.lost_, segment.next_offset(), next_base));
    if (scan.overrun || (scan.damaged && complete)) {
      // Bytes that were cut away, but not synced, before the next segment was begun: they are back. Nothing
      // that is missing lies among them if the next segment goes on here; if not, that is said below.
      TRY_ASSIGN(const uint64_t file_bytes, segment.file()->size());
      stats_.bytes_cut += file_bytes - segment.size_bytes();
      TRY(segment.cut_at_end());
      scan.damaged = false;
    }
    if (scan.damaged) {
      TRY(cut(i, scan));
      break;
    }
    if (!is_active) {
      segment.finish_time_index();
      TRY(segment.write_indexes(log_.unsynced_));
      log_.note_index_use(segment);
      // Kafka's compaction leaves holes between segments. What nobody knows to have been compacted or synced
      // is no such hole.
      const bool may_be_hole = segment.next_offset() < std::max(params_.cleaned_end, known_durable());
      if (complete || (log_.config_.compact_policy && may_be_hole)) continue;
      // Every batch verified, and the next segment does not go on here: unsynced bytes at a batch boundary
      // lost.
      scan.damage = fmt::format("{}: ends at offset {}, the next segment begins at {}",
                                segment.file()->path(), segment.next_offset().v, next_base.v);
      TRY(cut(i, scan));
      break;
    }
  }
  return {};
}

// Where compaction took the batches with which epochs began, the file still knows their beginnings.
void LogOpener::note_epoch(const BatchHeader& batch) {
  if (batch.base_offset > batches_end_) {
    for (const EpochStart& e : known_epochs_) {
      const bool in_hole = e.start_offset >= batches_end_ && e.start_offset <= batch.base_offset;
      if (in_hole && e.epoch > log_.epochs_.latest_epoch() && e.epoch <= batch.leader_epoch &&
          log_.epochs_.assign(e.epoch, e.start_offset)) {
        ++log_.epochs_version_;
      }
    }
  }
  if (log_.epochs_.assign(batch.leader_epoch, batch.base_offset)) ++log_.epochs_version_;
}

// The torn tail: the file ends before the damage, segments after it go.
Status LogOpener::cut(size_t at, const Segment::ScanResult& scan) {
  Segment& segment = *log_.segments_[at];
  if (params_.clean_shutdown || lacks_data(segment.next_offset())) {
    if (params_.clean_shutdown) {
      return Error(ErrorCode::corrupt,
                   fmt::format("{}; the log was closed cleanly, so this is no torn tail", scan.damage));
    }
    return Error(ErrorCode::corrupt,
                 fmt::format("{}; readable up to offset {}, but everything below offset {} was synced",
                             scan.damage, segment.next_offset().v, known_durable().v));
  }
  TRY_ASSIGN(const uint64_t file_bytes, segment.file()->size());
  stats_.bytes_cut += file_bytes - segment.size_bytes();
  stats_.cut_reason = scan.damage;
  while (log_.segments_.size() > at + 1) {
    Segment& last = log_.active();
    stats_.bytes_cut += last.size_bytes();
    for (const FileKind kind :
         {FileKind::offset_index, FileKind::time_index, FileKind::txn_index, FileKind::log}) {
      Status removed = log_.disk_.remove(last.path_of(kind));
      if (!removed && removed.code() != ErrorCode::not_found) return removed;
    }
    ++stats_.segments_removed;
    ++log_.names_version_;
    log_.segments_.pop_back();
  }
  TRY(segment.cut_at_end());
  TRY(log_.sync_cut());
  log_.trace_.warn("{}: {} bytes cut at offset {}: {}", log_.directory_, stats_.bytes_cut,
                   segment.next_offset().v, scan.damage);
  return {};
}

Status LogOpener::check_ends() {
  const Offset end = log_.active().next_offset();
  if (lacks_data(end)) {
    return Error(
        ErrorCode::corrupt,
        fmt::format("{}: ends at position {} with offset {}, but everything below offset {} was synced",
                    log_.active().file()->path(), log_.active().size_bytes(), end.v, known_durable().v));
  }
  const Offset first = log_.segments_.front()->base_offset();
  const bool begins_late = params_.log_start_exact && first > params_.log_start_offset;
  if (begins_late && known_durable() > params_.log_start_offset) {
    return Error(ErrorCode::corrupt,
                 fmt::format("{}: the first segment begins at offset {}, the log at {}: segments are missing",
                             log_.directory_, first.v, params_.log_start_offset.v));
  }
  log_.log_end_offset_ = end;
  log_.log_start_offset_ = std::max(params_.log_start_offset, log_.segments_.front()->base_offset());
  log_.recovery_point_ = params_.clean_shutdown ? end : std::min(end, params_.recovery_point);
  log_.durable_end_ = params_.clean_shutdown ? end : std::min(end, known_durable());
  for (const auto& segment : log_.segments_) {
    log_.size_bytes_ += segment->size_bytes();
    // Also one that ends just there: it may have been truncated to that end.
    segment->dirty = !params_.clean_shutdown && segment->next_offset() >= known_durable();
  }
  if (begins_late && !params_.clean_shutdown) {
    // A follower was to begin anew further back, and nothing of that was synced. What lies here now would
    // follow a hole.
    TRY(log_.truncate_fully_and_start_at(params_.log_start_offset, params_.now));
  } else if (log_.log_start_offset_ > end) {
    // Records up to the log start were deleted, and the tail that reached it was lost: nothing is left.
    TRY(log_.truncate_fully_and_start_at(log_.log_start_offset_, params_.now));
  }
  if (log_.epochs_.truncate_from_end(log_.log_end_offset_)) ++log_.epochs_version_;
  if (log_.epochs_.truncate_from_start(log_.log_start_offset_)) ++log_.epochs_version_;
  return {};
}

// After a failed fsync the page cache holds, as clean, pages that never came to the disk; they read well
// until they are dropped. What nobody is known to have synced is written once more, so that the sync with
// which serving begins is true of it.
Status LogOpener::rewrite_unsynced() {
  if (params_.clean_shutdown || planted(Plant::trust_page_cache_after_fail)) return {};
  const Offset from = std::max(log_.durable_end_, log_.segments_.front()->base_offset());
  for (size_t i = log_.segment_index_of(from); i < log_.segments_.size(); ++i) {
    const Segment& segment = *log_.segments_[i];
    if (segment.empty() || segment.next_offset() <= from) continue;
    bool would_block = false;
    TRY_ASSIGN(const std::optional<Place> place,
               log_.locate(i, std::max(from, segment.base_offset()), ReadMode::may_block, would_block));
    if (!place) continue;
    // Verified once more: a bit that flipped on the way here may not be written over what is sound.
    BatchScanner scanner(*segment.file(), place->position, segment.size_bytes(), log_.scratch_,
                         kReplayWindow);
    Bytes window;
    uint64_t at = place->position;
    while (true) {
      TRY_ASSIGN(const bool more, scanner.next());
      if (more) {
        TRY_ASSIGN(const ByteView bytes, scanner.bytes());
        const Result<record::BatchView> batch = record::BatchView::parse(bytes);
        if (!batch || !batch->crc_matches())
          return Error(ErrorCode::corrupt, fmt::format("{}: reads differently at position {} the second time",
                                                       segment.file()->path(), at + window.size()));
        window.insert(window.end(), bytes.begin(), bytes.end());
      }
      if (window.size() < kReplayWindow && more) continue;
      TRY(segment.file()->write_at(at, window));
      at += window.size();
      window.clear();
      if (!more) break;
    }
    if (at != segment.size_bytes())
      return Error(ErrorCode::corrupt, fmt::format("{}: ends at position {}", segment.file()->path(), at));
  }
  return {};
}

// The life before may have written it and not come to sync it. What is vouched for from now on rests on it.
Status LogOpener::sync_snapshot() {
  if (params_.clean_shutdown || log_.snapshots_.empty()) return {};
  // Of the others only the one where the log begins is of use, and nobody has looked at it.
  const Offset used = log_.snapshots_.back();
  const Offset front = log_.segments_.front()->base_offset();
  log_.remove_snapshots(front + 1, used);
  if (log_.snapshots_.front() != used) {
    const Result<Bytes> first =
        log_.disk_.read_file(path(file_name(log_.snapshots_.front(), FileKind::snapshot)), kSnapshotBytesMax);
    if (!first || !ProducerState::decode_snapshot(*first)) log_.remove_snapshots(Offset(0), used);
  }
  Result<std::shared_ptr<io::File>> file =
      log_.disk_.open(path(file_name(log_.snapshots_.back(), FileKind::snapshot)), io::OpenMode::write);
  if (!file) return file.error();
  log_.unsynced_.push_back(std::move(*file));
  return {};
}

Status LogOpener::note_first_append() {
  Segment& segment = log_.active();
  TRY_ASSIGN(const std::optional<BatchHeader> first, segment.first_header(log_.scratch_));
  if (!first) return {};
  const int64_t stamped = first->max_timestamp;
  segment.first_append_wall_ms = stamped >= 0 ? std::min(stamped, params_.now.wall_ms) : params_.now.wall_ms;
  return {};
}

// A snapshot tells the last batch of each producer, but up to five may be in flight, appended and not
// answered, and come again: to a broker that has just started and leads now. Those before the last are
// looked up where they lie, as far back as a bounded look reaches. What cannot be read is not known.
void Log::recall_in_flight(Offset end, int64_t mono_ms) {
  if (producers_.size() == 0) return;
  const size_t i = segment_index_of(end - 1);
  Segment& segment = *segments_[i];
  if (segment.empty()) return;
  bool would_block = false;
  const Result<std::optional<Place>> last = locate(i, end - 1, ReadMode::may_block, would_block);
  if (!last || !*last) return;
  uint64_t begin = 0;
  if ((*last)->position > kRecallBytes) {
    const auto entry = segment.offset_index().floor_position((*last)->position - kRecallBytes);
    if (entry) begin = static_cast<uint64_t>(entry->position);
  }
  std::unordered_map<ProducerId, std::vector<BatchHeader>> recent;
  BatchScanner scanner(*segment.file(), begin, segment.size_bytes(), scratch_, kReplayWindow);
  while (true) {
    const Result<bool> more = scanner.next();
    if (!more || !*more || scanner.header().base_offset >= end) break;
    const BatchHeader& h = scanner.header();
    if (!h.has_producer() || h.is_control() || h.base_sequence < 0) continue;
    const ProducerEntry* known = producers_.find(h.producer_id);
    if (known == nullptr || known->in_transaction() || h.is_transactional()) continue;
    if (known->epoch != h.producer_epoch) continue;
    std::vector<BatchHeader>& batches = recent[h.producer_id];
    if (batches.size() == kProducerBatchesKept) batches.erase(batches.begin());
    batches.push_back(h);
  }
  for (const auto& [id, batches] : recent) {
    const ProducerEntry* known = producers_.find(id);
    if (known->batch_count == 0 || batches.back().last_sequence() != known->last_sequence()) continue;
    for (const BatchHeader& h : batches) producers_.apply_data(h, mono_ms);
  }
}

// Newest usable snapshot at or below `snapshot_max`, then every batch from there to the end. Later snapshots
// are removed: they may tell of bytes that were cut. So are those from below the first segment: what happened
// between them and it is unknown, and a producer that is not known at all may go on.
Status Log::rebuild_producers(Offset snapshot_max, int64_t mono_ms, RecoveryStats* stats) {
  remove_snapshots(snapshot_max + 1, Offset(INT64_MAX));
  remove_snapshots(Offset(0), segments_.front()->base_offset());
  producers_.clear();
  Offset from = segments_.front()->base_offset();
  while (!snapshots_.empty()) {
    const Offset at = snapshots_.back();
    Result<Bytes> content =
        disk_.read_file(io::join_path(directory_, file_name(at, FileKind::snapshot)), kSnapshotBytesMax);
    Status loaded = content ? producers_.load_snapshot(*content, mono_ms) : Status(content.error());
    if (loaded) {
      from = std::max(from, at);
      if (stats != nullptr) stats->snapshot_used = at;
      break;
    }
    if (loaded.code() == ErrorCode::io_error) return loaded;
    trace_.warn("{}: snapshot at {} is unusable: {}", directory_, at.v, loaded.error().message);
    remove_snapshots(at, at + 1);
  }
  if (planted(Plant::forget_recent_producers) && stats != nullptr) return {};
  if (from > segments_.front()->base_offset()) recall_in_flight(from, mono_ms);
  return replay(
      producers_, from, Offset(INT64_MAX), mono_ms,
      [](Segment& segment, const AbortedTxn& txn) { return segment.note_aborted(txn); }, stats);
}

Status Log::replay(ProducerState& state, Offset from, Offset to, int64_t mono_ms,
                   const std::function<Status(Segment&, const AbortedTxn&)>& on_aborted,
                   RecoveryStats* stats) {
  for (size_t i = segment_index_of(from); i < segments_.size(); ++i) {
    Segment& segment = *segments_[i];
    const Offset start = std::max(from, segment.base_offset());
    if (start >= to) break;
    if (segment.empty() || start >= segment.next_offset()) continue;
    bool would_block = false;
    TRY_ASSIGN(const std::optional<Place> place, locate(i, start, ReadMode::may_block, would_block));
    if (!place) continue;
    BatchScanner scanner(*segment.file(), place->position, segment.size_bytes(), scratch_, kReplayWindow);
    while (true) {
      TRY_ASSIGN(const bool more, scanner.next());
      if (!more || scanner.header().base_offset >= to) break;
      const BatchHeader header = scanner.header();
      ByteView bytes;
      if (header.is_control() && header.has_producer()) {
        TRY_ASSIGN(bytes, scanner.bytes());
      }
      if (const std::optional<AbortedTxn> aborted = fold(state, header, bytes, mono_ms)) {
        TRY(on_aborted(segment, *aborted));
      }
      if (stats != nullptr) ++stats->batches_replayed;
    }
  }
  return {};
}

// A damaged transaction index is made anew from the batches since the last snapshot before the segment.
Result<TxnIndex*> Log::txn_index_of(size_t segment) {
  Segment& s = *segments_[segment];
  Result<TxnIndex*> index = s.txn_index();
  if (index || index.code() != ErrorCode::corrupt) return index;
  trace_.warn("{}, made anew", index.error().message);
  s.forget_txn_index();
  ProducerState state(config_.producer_ids_max);
  Offset from = segments_.front()->base_offset();
  for (auto at = snapshots_.rbegin(); at != snapshots_.rend(); ++at) {
    if (*at > s.base_offset()) continue;
    const Result<Bytes> content =
        disk_.read_file(io::join_path(directory_, file_name(*at, FileKind::snapshot)), kSnapshotBytesMax);
    if (!content || !state.load_snapshot(*content, 0)) continue;
    from = std::max(from, *at);
    break;
  }
  TRY(replay(
      state, from, s.next_offset(), 0,
      [&s](Segment& in, const AbortedTxn& txn) { return &in == &s ? in.note_aborted(txn) : Status(); },
      nullptr));
  return s.txn_index();
}

}  // namespace millrace::log
