// Reading: which bytes answer a fetch, which record answers a timestamp.
#include <fmt/format.h>

#include <algorithm>

#include "log/log.h"
#include "record/opened_batch.h"

namespace millrace::log {

namespace {

constexpr size_t kLandmarks = 16;
constexpr size_t kLoadedIndexesMax = 4;  // of closed segments, per log
constexpr size_t kReadWindow = 8192;
constexpr size_t kColdWindow = 32 * 1024;
constexpr size_t kInflatedMax = 128u << 20;

}  // namespace

size_t Log::segment_index_of(Offset offset) const {
  const auto after = std::upper_bound(segments_.begin(), segments_.end(), offset,
                                      [](Offset o, const auto& s) { return o < s->base_offset(); });
  return after == segments_.begin() ? 0 : static_cast<size_t>(after - segments_.begin()) - 1;
}

void Log::add_landmark(Offset offset, uint64_t position) {
  if (landmarks_.size() < kLandmarks) {
    landmarks_.push_back({position, offset});
    return;
  }
  landmarks_[next_landmark_] = {position, offset};
  next_landmark_ = (next_landmark_ + 1) % kLandmarks;
}

std::optional<Place> Log::landmark(Offset offset) const {
  for (const Place& place : landmarks_) {
    if (place.offset == offset) return place;
  }
  return std::nullopt;
}

void Log::note_index_use(const Segment& segment) {
  std::erase(loaded_, segment.base_offset());
  loaded_.push_back(segment.base_offset());
  while (loaded_.size() > kLoadedIndexesMax) {
    const size_t i = segment_index_of(loaded_.front());
    if (i + 1 < segments_.size() && segments_[i]->base_offset() == loaded_.front())
      segments_[i]->unload_indexes();
    loaded_.erase(loaded_.begin());
  }
}

Result<std::optional<Place>> Log::locate(size_t segment, Offset offset, ReadMode mode, bool& would_block) {
  const bool is_active = segment + 1 == segments_.size();
  if (is_active) {
    if (const std::optional<Place> place = landmark(offset)) return place;
  }
  Result<std::optional<Place>> place =
      segments_[segment]->locate(offset, scratch_, config_.index_interval_bytes, mode, would_block);
  if (!is_active && segments_[segment]->indexes_loaded()) note_index_use(*segments_[segment]);
  return place;
}

Result<ReadResult> Log::read(Offset from, size_t max_bytes, Offset upper_bound, bool at_least_one,
                             ReadMode mode) {
  const ScratchLease lease(scratch_);
  if (closed_) return Error(ErrorCode::closed, fmt::format("{} is closed", directory_));
  if (from < log_start_offset_ || from > log_end_offset_) {
    return Error(ErrorCode::offset_out_of_range, fmt::format("offset {} is not within [{}, {}]", from.v,
                                                             log_start_offset_.v, log_end_offset_.v));
  }
  const Offset bound = std::min(upper_bound, log_end_offset_);
  ReadResult result;
  for (size_t i = segment_index_of(from); i < segments_.size(); ++i) {
    Segment& segment = *segments_[i];
    const Offset at = std::max(from, segment.base_offset());
    if (at >= bound || (max_bytes == 0 && !at_least_one)) return result;
    TRY_ASSIGN(const std::optional<Place> start, locate(i, at, mode, result.would_block));
    if (result.would_block) return result;
    if (!start) {
      // Compaction may have emptied the rest of the segment. Otherwise bytes are missing: never skipped
      // silently.
      if ((!config_.compact_policy && !given_up(lost_, at, segment.next_offset())) ||
          i + 1 == segments_.size()) {
        return Error(ErrorCode::corrupt,
                     fmt::format("{}: ends before offset {}", segment.file()->path(), at.v));
      }
      continue;
    }
    if (!damaged_.empty()) {
      Place here = *start;  // also what it says of its offsets may be wrong
      TRY(check_undamaged(segment, *start, here));
    }
    if (start->offset >= bound) return result;
    TRY_ASSIGN(Place end, end_of_read(i, *start, max_bytes, bound, at_least_one, mode, result.would_block));
    if (result.would_block || end.position <= start->position) return result;
    if (!damaged_.empty()) TRY(check_undamaged(segment, *start, end));
    result.bytes = static_cast<size_t>(end.position - start->position);
    result.regions.emplace_back(segment.file(), start->position, result.bytes);
    result.base_offset = start->offset;
    result.next_offset = end.offset;
    return result;
  }
  return result;
}

Result<ReadResult> Log::read_records(Offset from, size_t max_bytes, Offset upper_bound, bool at_least_one,
                                     ReadMode mode) {
  TRY_ASSIGN(ReadResult first, read(from, max_bytes, upper_bound, at_least_one, mode));
  ReadResult found = first;
  // A group of segments takes its place before the whole run has set the end.
  while (!found.empty() && (config_.compact_policy || found.base_offset < cleaned_end_)) {
    const ScratchLease lease(scratch_);
    const io::FileRegion& region = found.regions.front();
    BatchScanner scanner(*region.file, region.position, region.position + region.length, scratch_,
                         kReadWindow, mode);
    bool any = false;
    while (!any) {
      // Damage is for whoever reads the bytes.
      const Result<bool> more = scanner.next();
      if (scanner.would_block()) {
        found = {};
        found.would_block = true;
        return found;
      }
      if (!more || (*more && scanner.header().record_count > 0)) any = true;
      if (more && !*more) break;
    }
    if (any) return found;
    if (found.next_offset >= std::min(upper_bound, log_end_offset_)) return first;
    TRY_ASSIGN(found, read(found.next_offset, max_bytes, upper_bound, at_least_one, mode));
    if (found.empty() && !found.would_block) return first;
  }
  return found;
}

Result<Place> Log::end_of_read(size_t segment, const Place& start, size_t max_bytes, Offset bound,
                               bool at_least_one, ReadMode mode, bool& would_block) {
  Segment& s = *segments_[segment];
  const bool is_active = segment + 1 == segments_.size();
  Place end{s.size_bytes(), s.next_offset()};
  if (bound < s.next_offset()) {
    if (is_active && last_bound_.bound == bound) {
      end = last_bound_.place;
    } else {
      TRY_ASSIGN(const std::optional<Place> place, locate(segment, bound, mode, would_block));
      if (would_block) return start;
      if (place) end = *place;
      if (is_active && place) last_bound_ = {bound, *place};
    }
    end.offset = std::min(end.offset, bound);
  }
  if (end.position - start.position <= max_bytes) return end;

  // Too much: the last whole batch that fits. The index brings us near it.
  if (!s.indexes_loaded()) {
    if (mode == ReadMode::cached_only) {
      would_block = true;
      return start;
    }
    TRY(s.load_indexes(scratch_, config_.index_interval_bytes, nullptr));
    note_index_use(s);
  }
  const uint64_t limit = start.position + max_bytes;
  const uint64_t position = s.near_position(limit, start.position, scratch_, mode);
  BatchScanner scanner(*s.file(), position, end.position, scratch_, kReadWindow, mode);
  Place last = start;
  while (true) {
    TRY_ASSIGN(const bool more, scanner.next());
    if (scanner.would_block()) {
      would_block = true;
      return start;
    }
    if (!more) break;
    const bool fits = scanner.next_position() <= limit;
    if (!fits && !(at_least_one && scanner.position() == start.position)) {
      last = {scanner.position(), scanner.header().base_offset};
      break;
    }
    last = {scanner.next_position(), scanner.header().next_offset()};
    if (!fits) break;
  }
  return last;
}

Log::ColdParts Log::cold_parts(Offset from, size_t max_bytes, Offset upper_bound) const {
  ColdParts out;
  const size_t i = segment_index_of(from);
  const Segment& s = *segments_[i];
  if (!s.indexes_loaded()) {
    out.files = {s.path_of(FileKind::offset_index), s.path_of(FileKind::time_index)};
    return out;
  }
  const auto add = [&](uint64_t position) {
    if (position < s.size_bytes())
      out.regions.emplace_back(
          s.file(), position,
          static_cast<size_t>(std::min<uint64_t>(kColdWindow, s.size_bytes() - position)));
  };
  const auto near = [&](Offset offset) {
    const auto entry = s.offset_index().floor_offset(offset - s.base_offset());
    return entry ? static_cast<uint64_t>(entry->position) : uint64_t{0};
  };
  const uint64_t start = near(std::max(from, s.base_offset()));
  add(start);
  if (upper_bound < s.next_offset()) add(near(upper_bound));
  if (const auto limit = s.offset_index().floor_position(start + max_bytes))
    add(static_cast<uint64_t>(limit->position));
  return out;
}

Result<Bytes> Log::read_bytes(const ReadResult& result) {
  Bytes out(result.bytes);
  size_t at = 0;
  for (const io::FileRegion& region : result.regions) {
    TRY_ASSIGN(const size_t got,
               region.file->read_at(region.position, MutableByteView(out).subspan(at, region.length)));
    if (got != region.length) {
      return Error(ErrorCode::corrupt, fmt::format("{}: file is shorter than it was", region.file->path()));
    }
    at += got;
  }
  return out;
}

Result<std::vector<AbortedTxn>> Log::aborted_transactions(Offset from, Offset upper_bound) {
  const ScratchLease lease(scratch_);
  std::vector<AbortedTxn> out;
  for (size_t i = segment_index_of(from); i < segments_.size(); ++i) {
    TRY_ASSIGN(const TxnIndex* const index, txn_index_of(i));
    for (const AbortedTxn& txn : index->entries()) {
      if (txn.last_offset >= from && txn.first_offset < upper_bound) out.push_back(txn);
      // Everything below the last stable offset of that moment was decided: later markers are of later ones.
      if (txn.last_stable_offset >= upper_bound) return out;
    }
  }
  return out;
}

Result<std::optional<TimestampOffset>> Log::find_record(Segment& segment, int64_t timestamp, bool exactly,
                                                        Offset from) {
  using Found = std::optional<TimestampOffset>;
  TRY(segment.load_indexes(scratch_, config_.index_interval_bytes, nullptr));
  Offset start = std::max(from, segment.base_offset());
  // The entry names the first batch that reached its timestamp: nothing before it is later.
  TRY_ASSIGN(const std::optional<TimeIndex::Entry> entry,
             segment.time_floor(timestamp, scratch_, config_.index_interval_bytes));
  if (entry) {
    start = std::max(start, segment.base_offset() + int64_t{entry->relative_offset});
  }
  bool would_block = false;
  TRY_ASSIGN(const std::optional<Place> place,
             segment.locate(start, scratch_, config_.index_interval_bytes, ReadMode::may_block, would_block));
  if (!place) return Found();
  record::Codecs codecs;
  BatchScanner scanner(*segment.file(), place->position, segment.size_bytes(), scratch_, kReadWindow);
  while (true) {
    TRY_ASSIGN(const bool more, scanner.next());
    if (!more) return Found();
    const BatchHeader header = scanner.header();
    if (header.max_timestamp < timestamp || header.last_offset() < from) continue;
    TRY_ASSIGN(const ByteView bytes, scanner.bytes());
    TRY_ASSIGN(const record::BatchView view, record::BatchView::parse(bytes));
    TRY_ASSIGN(const record::OpenedBatch opened, record::OpenedBatch::open(view, codecs, kInflatedMax));
    record::RecordReader reader = opened.reader();
    record::Record record;
    while (true) {
      TRY_ASSIGN(const bool any, reader.next(record));
      if (!any) break;
      const int64_t at = opened.timestamp_of(record);
      const Offset offset = opened.offset_of(record);
      if (offset < from || (exactly ? at != timestamp : at < timestamp)) continue;
      return Found({offset, at, header.leader_epoch});
    }
  }
}

Result<std::optional<TimestampOffset>> Log::offset_for_timestamp(int64_t timestamp, Offset upper_bound) {
  const ScratchLease lease(scratch_);
  using Found = std::optional<TimestampOffset>;
  for (size_t i = segment_index_of(log_start_offset_); i < segments_.size(); ++i) {
    Segment& segment = *segments_[i];
    if (segment.base_offset() >= upper_bound) break;
    if (segment.empty()) continue;
    TRY_ASSIGN(const int64_t greatest, segment.max_timestamp(scratch_, config_.index_interval_bytes));
    if (i + 1 < segments_.size() && segment.indexes_loaded()) note_index_use(segment);
    if (greatest < timestamp) continue;
    TRY_ASSIGN(const Found found, find_record(segment, timestamp, false, log_start_offset_));
    if (found) return found->offset < upper_bound ? found : Found();
  }
  return Found();
}

Result<std::optional<TimestampOffset>> Log::offset_of_max_timestamp() {
  const ScratchLease lease(scratch_);
  using Found = std::optional<TimestampOffset>;
  const size_t first = segment_index_of(log_start_offset_);
  int64_t greatest = -1;
  size_t where = first;
  for (size_t i = first; i < segments_.size(); ++i) {
    Segment& segment = *segments_[i];
    int64_t candidate = -1;
    if (i == first && segment.base_offset() < log_start_offset_) {
      // The segment's own greatest may lie among records that were deleted.
      bool would_block = false;
      TRY_ASSIGN(const std::optional<Place> place,
                 locate(i, log_start_offset_, ReadMode::may_block, would_block));
      BatchScanner scanner(*segment.file(), place ? place->position : segment.size_bytes(),
                           segment.size_bytes(), scratch_, 64 * 1024);
      while (true) {
        TRY_ASSIGN(const bool more, scanner.next());
        if (!more) break;
        candidate = std::max(candidate, scanner.header().indexed_timestamp());
      }
    } else if (!segment.empty()) {
      TRY_ASSIGN(candidate, segment.max_timestamp(scratch_, config_.index_interval_bytes));
      if (i + 1 < segments_.size() && segment.indexes_loaded()) note_index_use(segment);
    }
    if (candidate > greatest) {
      greatest = candidate;
      where = i;
    }
  }
  if (greatest < 0) return Found();
  TRY_ASSIGN(const Found found, find_record(*segments_[where], greatest, true, log_start_offset_));
  if (found) return found;
  // It is told by a batch that compaction left without its records: only those that have some count.
  greatest = -1;
  for (size_t i = first; i < segments_.size(); ++i) {
    BatchScanner scanner(*segments_[i]->file(), 0, segments_[i]->size_bytes(), scratch_, 64 * 1024);
    while (true) {
      TRY_ASSIGN(const bool more, scanner.next());
      if (!more) break;
      const BatchHeader& h = scanner.header();
      if (h.record_count == 0 || h.base_offset < log_start_offset_ || h.max_timestamp <= greatest) continue;
      greatest = h.max_timestamp;
      where = i;
    }
  }
  if (greatest < 0) return Found();
  return find_record(*segments_[where], greatest, true, log_start_offset_);
}

}  // namespace millrace::log
