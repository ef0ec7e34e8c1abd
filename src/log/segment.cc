#include "log/segment.h"
#include "base/plants.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace millrace::log {

namespace {

constexpr size_t kIndexFileBytesMax = 1u << 30;
constexpr size_t kScanWindow = 256 * 1024;

/// The content of an index file; nullopt if there is none.
Result<std::optional<Bytes>> read_index_file(io::Disk& disk, const std::string& path) {
  Result<Bytes> content = disk.read_file(path, kIndexFileBytesMax);
  if (content) return std::optional<Bytes>(std::move(*content));
  if (content.code() == ErrorCode::not_found) return std::optional<Bytes>();
  return std::move(content).error();
}

}  // namespace

Result<std::unique_ptr<Segment>> Segment::create(io::Disk& disk, const std::string& directory,
                                                 Offset base_offset) {
  const std::string path = io::join_path(directory, file_name(base_offset, FileKind::log));
  TRY_ASSIGN(std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::create_new));
  return std::make_unique<Segment>(disk, directory, base_offset, std::move(file), 0);
}

std::string Segment::path_of(FileKind kind) const {
  return io::join_path(directory_, file_name(base_offset_, kind));
}

// --- growth ---

void Segment::index_batch(const BatchHeader& batch, uint64_t position, int32_t index_interval_bytes) {
  if (batch.indexed_timestamp() > max_timestamp_) {
    max_timestamp_ = batch.max_timestamp;
    max_timestamp_offset_ = batch.last_offset();
  }
  const uint64_t last_entry =
      offset_index_.empty() ? 0 : static_cast<uint64_t>(offset_index_.entries().back().position);
  if (position - last_entry <= static_cast<uint64_t>(index_interval_bytes)) return;
  offset_index_.append(static_cast<int32_t>(batch.last_offset() - base_offset_),
                       static_cast<int32_t>(position));
  (void)time_index_.append_if_later(max_timestamp_,
                                    static_cast<int32_t>(max_timestamp_offset_ - base_offset_));
}

void Segment::note_appended(const BatchHeader& batch, int32_t index_interval_bytes) {
  ASSERT(batch.base_offset >= next_offset_);
  ASSERT(batch.last_offset() - base_offset_ <= INT32_MAX);
  index_batch(batch, size_bytes_, index_interval_bytes);
  size_bytes_ += batch.size;
  next_offset_ = batch.next_offset();
  dirty = true;
}

void Segment::finish_time_index() {
  if (max_timestamp_ >= 0) {
    (void)time_index_.append_if_later(max_timestamp_,
                                      static_cast<int32_t>(max_timestamp_offset_ - base_offset_));
  }
}

Status Segment::truncate_to(Offset offset, Bytes& scratch) {
  ASSERT(indexes_loaded_);
  const int64_t relative = offset - base_offset_;
  uint64_t position = 0;
  if (const auto entry = offset_index_.floor_offset(relative - 1))
    position = static_cast<uint64_t>(entry->position);
  BatchScanner scanner(*file_, position, size_bytes_, scratch);
  Offset end = base_offset_;
  if (position == 0 && offset <= base_offset_) {
    end = base_offset_;
  } else {
    while (true) {
      TRY_ASSIGN(const bool more, scanner.next());
      if (!more) return {};  // nothing at or beyond `offset`
      if (scanner.header().last_offset() >= offset) break;
      end = scanner.header().next_offset();
      position = scanner.next_position();
    }
  }
  TRY(file_->truncate(position));
  dirty = true;
  size_bytes_ = position;
  next_offset_ = end;
  offset_index_.truncate_to_position(position);
  TRY(truncate_txn_index(end));
  // What the time index knows beyond its last entry is found again by reading from the last offset entry.
  time_index_.truncate_to_offset(end - base_offset_);
  offset_entries_written_ = std::min(offset_entries_written_, offset_index_.size());
  time_entries_written_ = std::min(time_entries_written_, time_index_.size());
  if (index_files_ == FileState::prefix) index_files_ = FileState::longer;
  max_timestamp_ = time_index_.empty() ? -1 : time_index_.last()->timestamp;
  max_timestamp_offset_ =
      time_index_.empty() ? kNoOffset : base_offset_ + int64_t{time_index_.last()->relative_offset};
  const uint64_t from = time_index_.empty() || offset_index_.empty()
                            ? 0
                            : static_cast<uint64_t>(offset_index_.entries().back().position);
  BatchScanner again(*file_, from, size_bytes_, scratch);
  while (true) {
    TRY_ASSIGN(const bool more, again.next());
    if (!more) break;
    if (again.header().indexed_timestamp() > max_timestamp_) {
      max_timestamp_ = again.header().max_timestamp;
      max_timestamp_offset_ = again.header().last_offset();
    }
  }
  max_timestamp_known_ = true;
  return {};
}

Status Segment::trim_reserved() {
  return file_->truncate(size_bytes_);
}

// --- indexes ---

void Segment::clear_indexes() {
  offset_index_ = OffsetIndex();
  time_index_ = TimeIndex();
  max_timestamp_ = -1;
  max_timestamp_offset_ = kNoOffset;
  max_timestamp_known_ = true;
  offset_entries_written_ = time_entries_written_ = 0;
  index_files_ = FileState::unknown;
}

Status Segment::load_indexes(Bytes& scratch, int32_t index_interval_bytes, uint32_t* rebuilt) {
  if (indexes_loaded_) return {};
  TRY_ASSIGN(const std::optional<Bytes> offsets, read_index_file(disk_, path_of(FileKind::offset_index)));
  TRY_ASSIGN(const std::optional<Bytes> times, read_index_file(disk_, path_of(FileKind::time_index)));
  if (offsets && times) {
    Result<OffsetIndex> offset_index = OffsetIndex::parse(*offsets, size_bytes_);
    Result<TimeIndex> time_index = TimeIndex::parse(*times);
    const int64_t last = next_offset_ - base_offset_ - 1;
    if (offset_index && time_index &&
        (offset_index->empty() || offset_index->entries().back().relative_offset <= last) &&
        (time_index->empty() || time_index->last()->relative_offset <= last)) {
      offset_index_ = std::move(*offset_index);
      time_index_ = std::move(*time_index);
      offset_entries_written_ = offset_index_.size();
      time_entries_written_ = time_index_.size();
      index_files_ = FileState::prefix;
      // The last entry speaks for the whole segment: a wrong one would hide it from lookups by time.
      if (time_index_.empty() ? !has_timestamps(scratch) : names_a_batch(*time_index_.last(), scratch)) {
        max_timestamp_ = time_index_.empty() ? -1 : time_index_.last()->timestamp;
        max_timestamp_offset_ =
            time_index_.empty() ? kNoOffset : base_offset_ + int64_t{time_index_.last()->relative_offset};
        max_timestamp_known_ = indexes_loaded_ = true;
        return {};
      }
    }
  }
  if (rebuilt != nullptr) ++*rebuilt;
  return rebuild_indexes(scratch, index_interval_bytes);
}

// Then an empty time index is one that a power cut left so.
bool Segment::has_timestamps(Bytes& scratch) const {
  BatchScanner scanner(*file_, 0, size_bytes_, scratch);
  const Result<bool> more = scanner.next();
  return more && *more && scanner.header().max_timestamp >= 0;
}

bool Segment::names_a_batch(const TimeIndex::Entry& entry, Bytes& scratch) const {
  const std::optional<OffsetIndex::Entry> near = offset_index_.floor_offset(entry.relative_offset);
  BatchScanner scanner(*file_, near ? static_cast<uint64_t>(near->position) : 0, size_bytes_, scratch);
  while (true) {
    const Result<bool> more = scanner.next();
    if (!more || !*more) return false;
    const int64_t last = scanner.header().last_offset() - base_offset_;
    if (last < entry.relative_offset) continue;
    return last == entry.relative_offset && scanner.header().max_timestamp == entry.timestamp;
  }
}

Result<std::optional<TimeIndex::Entry>> Segment::time_floor(int64_t timestamp, Bytes& scratch,
                                                            int32_t index_interval_bytes) {
  const std::optional<TimeIndex::Entry> entry = time_index_.floor(timestamp);
  if (!entry || names_a_batch(*entry, scratch)) return entry;
  TRY(rebuild_indexes(scratch, index_interval_bytes));
  return time_index_.floor(timestamp);
}

// Half of an index would hide the rest of the segment: what cannot be made wholly leaves things as they were.
Status Segment::rebuild_indexes(Bytes& scratch, int32_t index_interval_bytes) {
  OffsetIndex offset_index = std::move(offset_index_);
  TimeIndex time_index = std::move(time_index_);
  const auto before = std::tuple(max_timestamp_, max_timestamp_offset_, max_timestamp_known_,
                                 offset_entries_written_, time_entries_written_, index_files_);
  Status rebuilt = index_whole_file(scratch, index_interval_bytes);
  if (rebuilt) {
    indexes_loaded_ = true;
    return rebuilt;
  }
  offset_index_ = std::move(offset_index);
  time_index_ = std::move(time_index);
  std::tie(max_timestamp_, max_timestamp_offset_, max_timestamp_known_, offset_entries_written_,
           time_entries_written_, index_files_) = before;
  return rebuilt;
}

Status Segment::index_whole_file(Bytes& scratch, int32_t index_interval_bytes) {
  clear_indexes();
  BatchScanner scanner(*file_, 0, size_bytes_, scratch, kScanWindow);
  while (true) {
    TRY_ASSIGN(const bool more, scanner.next());
    if (!more) break;
    const BatchHeader& h = scanner.header();
    if (h.base_offset < base_offset_ || h.last_offset() - base_offset_ > INT32_MAX ||
        h.next_offset() > next_offset_) {
      return Error(ErrorCode::corrupt,
                   fmt::format("{}: batch with offset {} at position {} does not belong here", file_->path(),
                               h.base_offset.v, scanner.position()));
    }
    index_batch(h, scanner.position(), index_interval_bytes);
  }
  finish_time_index();
  return {};
}

Status Segment::replace_indexes(Bytes& scratch, int32_t index_interval_bytes,
                                std::vector<std::shared_ptr<io::File>>& files) {
  TRY(rebuild_indexes(scratch, index_interval_bytes));
  index_files_ = FileState::unknown;
  offset_entries_written_ = time_entries_written_ = 0;
  return write_indexes(files);
}

void Segment::unload_indexes() {
  if (!indexes_loaded_ || index_files_ != FileState::prefix ||
      offset_entries_written_ != offset_index_.size() || time_entries_written_ != time_index_.size()) {
    return;
  }
  offset_index_ = OffsetIndex();
  time_index_ = TimeIndex();
  indexes_loaded_ = false;
}

Status Segment::write_index(FileKind kind, FileState state, const Bytes& bytes, size_t keep_bytes,
                            std::vector<std::shared_ptr<io::File>>& files) {
  if (state == FileState::unknown) {
    ASSERT(keep_bytes == 0);
    return disk_.replace_file(path_of(kind), bytes);
  }
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk_.open(path_of(kind), io::OpenMode::create));
  if (state == FileState::longer) TRY(file->truncate(keep_bytes));
  if (!bytes.empty()) TRY(file->write_at(keep_bytes, bytes));
  files.push_back(file);
  return {};
}

Status Segment::write_indexes(std::vector<std::shared_ptr<io::File>>& files) {
  ASSERT(indexes_loaded_);
  const bool all = index_files_ != FileState::prefix;
  if (all || offset_entries_written_ != offset_index_.size()) {
    TRY(write_index(FileKind::offset_index, index_files_, offset_index_.encode(offset_entries_written_),
                    offset_entries_written_ * OffsetIndex::kEntrySize, files));
  }
  if (all || time_entries_written_ != time_index_.size()) {
    TRY(write_index(FileKind::time_index, index_files_, time_index_.encode(time_entries_written_),
                    time_entries_written_ * TimeIndex::kEntrySize, files));
  }
  offset_entries_written_ = offset_index_.size();
  time_entries_written_ = time_index_.size();
  index_files_ = FileState::prefix;
  return write_txn_index(files);
}

bool Segment::indexes_written() const {
  if (indexes_loaded_ &&
      (index_files_ != FileState::prefix || offset_entries_written_ != offset_index_.size() ||
       time_entries_written_ != time_index_.size())) {
    return false;
  }
  return !txn_loaded_ || ((txn_file_ == FileState::prefix || txn_file_ == FileState::absent) &&
                          txn_entries_written_ == txn_index_.size());
}

Status Segment::write_txn_index(std::vector<std::shared_ptr<io::File>>& files) {
  if (!txn_loaded_) return {};
  const bool clean = txn_file_ == FileState::prefix || txn_file_ == FileState::absent;
  if (clean && txn_entries_written_ == txn_index_.size()) return {};
  TRY(write_index(FileKind::txn_index, txn_file_, txn_index_.encode(txn_entries_written_),
                  txn_entries_written_ * TxnIndex::kEntrySize, files));
  txn_entries_written_ = txn_index_.size();
  txn_file_ = FileState::prefix;
  return {};
}

Result<std::optional<Place>> Segment::locate(Offset offset, Bytes& scratch, int32_t index_interval_bytes,
                                             ReadMode mode, bool& would_block) {
  if (!indexes_loaded_) {
    if (mode == ReadMode::cached_only) {
      would_block = true;
      return std::optional<Place>();
    }
    TRY(load_indexes(scratch, index_interval_bytes, nullptr));
  }
  for (const bool last_try : {false, true}) {
    const std::optional<OffsetIndex::Entry> entry = offset_index_.floor_offset(offset - base_offset_);
    BatchScanner scanner(*file_, entry ? static_cast<uint64_t>(entry->position) : 0, size_bytes_, scratch,
                         8192, mode);
    bool check_entry = entry.has_value();
    bool rebuild = false;
    std::optional<uint64_t> misplaced;  // where the first batch lies whose offsets cannot be true
    while (true) {
      Result<bool> more = scanner.next();
      if (scanner.would_block()) {
        would_block = true;
        return std::optional<Place>();
      }
      // A read that failed says nothing about the index.
      if (!more && more.code() != ErrorCode::corrupt &&
          more.code() != ErrorCode::unsupported_for_message_format) {
        return std::move(more).error();
      }
      if (check_entry &&
          (!more || !*more || scanner.header().last_offset() - base_offset_ != entry->relative_offset)) {
        rebuild = true;
        break;
      }
      check_entry = false;
      if (!more) return std::move(more).error();
      if (*more && scanner.header().next_offset() > next_offset_) {
        // The base offset lies outside the checksum. What comes behind may still be found.
        if (!misplaced) misplaced = scanner.position();
        continue;
      }
      const bool found = *more && scanner.header().last_offset() >= offset;
      if (misplaced && (!*more || (found && scanner.header().base_offset > offset))) {
        return Error(ErrorCode::corrupt,
                     fmt::format("{}: offset out of order at position {}", file_->path(), *misplaced));
      }
      if (!*more) return std::optional<Place>();
      if (found) {
        return std::optional<Place>(Place{scanner.position(), scanner.header().base_offset});
      }
    }
    if (!rebuild || last_try) break;
    if (mode == ReadMode::cached_only) {
      would_block = true;
      return std::optional<Place>();
    }
    TRY(rebuild_indexes(scratch, index_interval_bytes));
  }
  return Error(ErrorCode::corrupt,
               fmt::format("{}: index and file do not agree about offset {}", file_->path(), offset.v));
}

uint64_t Segment::near_position(uint64_t position, uint64_t at_least, Bytes& scratch, ReadMode mode) const {
  const std::optional<OffsetIndex::Entry> entry = offset_index_.floor_position(position);
  if (!entry || static_cast<uint64_t>(entry->position) <= at_least) return at_least;
  BatchScanner probe(*file_, static_cast<uint64_t>(entry->position), size_bytes_, scratch, 512, mode);
  const Result<bool> found = probe.next();
  const bool fits = found && *found && probe.header().last_offset() - base_offset_ == entry->relative_offset;
  return fits ? static_cast<uint64_t>(entry->position) : at_least;
}

// --- transactions and timestamps ---

Result<TxnIndex*> Segment::txn_index() {
  if (!txn_loaded_) {
    TRY_ASSIGN(const std::optional<Bytes> content, read_index_file(disk_, path_of(FileKind::txn_index)));
    if (content) {
      Result<TxnIndex> parsed = TxnIndex::parse(*content, base_offset_);
      if (!parsed) {
        return Error(ErrorCode::corrupt,
                     fmt::format("{}: {}", path_of(FileKind::txn_index), parsed.error().message));
      }
      txn_index_ = std::move(*parsed);
    }
    txn_entries_written_ = txn_index_.size();
    txn_file_ = content ? FileState::prefix : FileState::absent;
    txn_loaded_ = true;
  }
  return &txn_index_;
}

Status Segment::note_aborted(const AbortedTxn& txn) {
  TRY_ASSIGN(TxnIndex* const index, txn_index());
  if (index->empty() || index->entries().back().last_offset < txn.last_offset) index->append(txn);
  return {};
}

Status Segment::truncate_txn_index(Offset offset) {
  TRY_ASSIGN(TxnIndex* const index, txn_index());
  index->truncate_to_offset(offset);
  if (txn_entries_written_ > index->size()) {
    txn_entries_written_ = index->size();
    txn_file_ = FileState::longer;
  }
  return {};
}

void Segment::forget_txn_index() {
  txn_index_ = TxnIndex();
  txn_loaded_ = true;
  txn_entries_written_ = 0;
  txn_file_ = FileState::unknown;
}

Result<int64_t> Segment::max_timestamp(Bytes& scratch, int32_t index_interval_bytes) {
  if (!max_timestamp_known_) TRY(load_indexes(scratch, index_interval_bytes, nullptr));
  ASSERT(max_timestamp_known_);
  return max_timestamp_;
}

// --- opening ---

void Segment::set_closed(Offset next_segment_base) {
  next_offset_ = next_segment_base;
  indexes_loaded_ = false;
  max_timestamp_known_ = false;
  txn_loaded_ = false;
  index_files_ = FileState::prefix;  // load_indexes() will see
}

// Takes over what of the index files lies below `trusted` (relative offset); the position to go on from.
Result<uint64_t> Segment::adopt_indexes(int64_t trusted, Bytes& scratch) {
  TRY_ASSIGN(const std::optional<Bytes> offsets, read_index_file(disk_, path_of(FileKind::offset_index)));
  TRY_ASSIGN(const std::optional<Bytes> times, read_index_file(disk_, path_of(FileKind::time_index)));
  if (!offsets || !times) return uint64_t{0};
  OffsetIndex offset_index = OffsetIndex::sound_prefix(*offsets, size_bytes_);
  offset_index.truncate_to_offset(trusted);
  if (offset_index.empty()) return uint64_t{0};
  const OffsetIndex::Entry last = offset_index.entries().back();
  // A time entry is never ahead of the offset entry made with it (the closing one is made anew), so the time
  // index is complete if it is sound, or goes on beyond that.
  bool whole = false;
  TimeIndex time_index = TimeIndex::sound_prefix(*times, whole);
  if (!whole && (time_index.empty() || time_index.last()->relative_offset <= last.relative_offset)) {
    return uint64_t{0};
  }
  time_index.truncate_to_offset(int64_t{last.relative_offset} + 1);
  BatchScanner probe(*file_, static_cast<uint64_t>(last.position), size_bytes_, scratch, 512);
  const Result<bool> found = probe.next();
  if (!found || !*found || probe.header().last_offset() - base_offset_ != last.relative_offset)
    return uint64_t{0};
  offset_index_ = std::move(offset_index);
  time_index_ = std::move(time_index);
  offset_entries_written_ = offset_index_.size();
  time_entries_written_ = time_index_.size();
  index_files_ = FileState::longer;
  if (const auto entry = time_index_.last()) {
    max_timestamp_ = entry->timestamp;
    max_timestamp_offset_ = base_offset_ + int64_t{entry->relative_offset};
  }
  return static_cast<uint64_t>(last.position);
}

Result<Segment::ScanResult> Segment::scan(const ScanParams& params, Bytes& scratch, LeaderEpoch epoch_before,
                                          const std::function<void(const BatchHeader&)>& each) {
  int64_t trusted = params.checksums_from > base_offset_ ? params.checksums_from - base_offset_ : 0;
  if (planted(Plant::trust_index_after_crash)) trusted = INT32_MAX;
  clear_indexes();
  uint64_t start = 0;
  if ((params.trust_index_below || planted(Plant::trust_index_after_crash)) && trusted > 0) {
    TRY_ASSIGN(start, adopt_indexes(trusted, scratch));
  }
  Result<ScanResult> result = walk(params, start, scratch, epoch_before, each);
  // With nothing indexed below the recovery point there is nothing in the files that must not be lost.
  if (index_files_ == FileState::unknown && !offset_index_.floor_offset(trusted - 1)) {
    index_files_ = FileState::longer;
  }
  return result;
}

Result<Segment::ScanResult> Segment::walk(const ScanParams& params, uint64_t start, Bytes& scratch,
                                          LeaderEpoch epoch_before,
                                          const std::function<void(const BatchHeader&)>& each) {
  const uint64_t file_bytes = size_bytes_;
  indexes_loaded_ = true;
  txn_loaded_ = false;
  size_bytes_ = start;
  next_offset_ = base_offset_;
  ScanResult result;
  result.last_epoch = epoch_before;
  BatchScanner scanner(*file_, start, file_bytes, scratch, kScanWindow);
  const auto damaged = [&](std::string what) {
    result.damaged = true;
    result.damage = std::move(what);
    return result;
  };
  const auto damaged_here = [&](std::string_view what) {
    return damaged(fmt::format("{}: {} at position {}", file_->path(), what, scanner.position()));
  };
  bool first = true;
  while (true) {
    Result<bool> more = scanner.next();
    if (!more) {
      if (more.code() == ErrorCode::io_error) return std::move(more).error();
      return damaged(more.error().message);
    }
    if (!*more) break;
    const BatchHeader& h = scanner.header();
    if (h.base_offset < (first ? base_offset_ : next_offset_) || h.last_offset() - base_offset_ > INT32_MAX) {
      return damaged_here("offset out of order");
    }
    if (h.leader_epoch < result.last_epoch && h.next_offset() > params.checksums_from) {
      return damaged_here("leader epoch goes backwards");  // bytes of an older life of this file
    }
    if (h.next_offset() > params.checksums_from) {
      TRY_ASSIGN(const bool matches, scanner.crc_matches());
      if (!matches && !planted(Plant::recover_without_checksums))
        return damaged_here("checksum does not match");
    }
    if (h.next_offset() > params.stop_at) {
      result.overrun = true;
      return result;
    }
    first = false;
    result.last_epoch = std::max(result.last_epoch, h.leader_epoch);
    result.bytes_scanned += h.size;
    each(h);
    note_appended(h, params.index_interval_bytes);
  }
  return result;
}

Status Segment::cut_at_end() {
  TRY(file_->truncate(size_bytes_));
  return file_->sync();
}

Result<std::optional<BatchHeader>> Segment::first_header(Bytes& scratch) {
  BatchScanner scanner(*file_, 0, size_bytes_, scratch, 512);
  TRY_ASSIGN(const bool any, scanner.next());
  if (!any) return std::optional<BatchHeader>();
  return std::optional<BatchHeader>(scanner.header());
}

}  // namespace millrace::log
