#include "log/scrub.h"

#include <fmt/format.h>

#include <algorithm>

#include "log/file_names.h"
#include "log/log.h"
#include "log/verify.h"

namespace millrace::log {

namespace {

constexpr size_t kScrubIndexBytesMax = 64u << 20;
constexpr size_t kScrubPiece = 256 * 1024;
constexpr size_t kDamagedRangesMax = 1000;  // of one log; more are told, but not remembered

/// Sees the file through pieces that leave the page cache as it was: what had to come from the medium is
/// given back after it was read.
class PassingFile final : public io::File {
 public:
  explicit PassingFile(const io::File& file) : file_(file) {}

  Result<size_t> read_at(uint64_t position, MutableByteView out) const override {
    const Result<std::optional<size_t>> cached = file_.read_at_cached(position, out);
    if (cached && *cached && **cached == out.size()) return out.size();
    TRY_ASSIGN(const size_t got, file_.read_at(position, out));
    file_.forget_cached(position, got);
    return got;
  }
  Result<std::optional<size_t>> read_at_cached(uint64_t position, MutableByteView out) const override {
    return file_.read_at_cached(position, out);
  }
  using File::write_at;
  Status write_at(uint64_t, std::span<const ByteView>) override { return ErrorCode::invalid_argument; }
  Status truncate(uint64_t) override { return ErrorCode::invalid_argument; }
  Status sync() override { return ErrorCode::invalid_argument; }
  void reserve(uint64_t) override {}
  Result<uint64_t> size() const override { return file_.size(); }
  const std::string& path() const override { return file_.path(); }

 private:
  const io::File& file_;
};

}  // namespace

SegmentScrub::SegmentScrub(io::Disk& disk, ScrubTarget target)
    : disk_(disk), target_(std::move(target)), expected_(target_.base) {}

void SegmentScrub::load_indexes() {
  loaded_ = true;
  const auto content = [&](FileKind kind) {
    const std::string path = io::join_path(target_.directory, file_name(target_.base, kind));
    Result<Bytes> bytes = disk_.read_file(path, kScrubIndexBytesMax);
    // Absent: made anew when needed. Zeros at the end: room.
    if (!bytes) return Bytes();
    size_t used = bytes->size();
    while (used > 0 && (*bytes)[used - 1] == 0) --used;
    const size_t entry = kind == FileKind::offset_index ? OffsetIndex::kEntrySize : TimeIndex::kEntrySize;
    bytes->resize(std::min(bytes->size(), (used + entry - 1) / entry * entry));
    return std::move(*bytes);
  };
  Result<OffsetIndex> offsets = OffsetIndex::parse(content(FileKind::offset_index), target_.size);
  if (offsets) {
    offsets_ = std::move(*offsets);
  } else {
    blame_index("the offset index: " + offsets.error().message);
  }
  Result<TimeIndex> times = TimeIndex::parse(content(FileKind::time_index));
  if (times) {
    times_ = std::move(*times);
  } else {
    blame_index("the time index: " + times.error().message);
  }
}

void SegmentScrub::blame_index(std::string what) {
  if (index_problem_.empty()) index_problem_ = target_.file->path() + ": " + std::move(what);
}

Result<bool> SegmentScrub::step(size_t bytes_max) {
  if (!loaded_) load_indexes();
  const PassingFile file(*target_.file);
  const uint64_t stop = position_ + std::max<size_t>(bytes_max, 1);
  while (position_ < target_.size && position_ < stop) {
    BatchScanner scanner(file, position_, target_.size, scratch_, kScrubPiece);
    std::string wrong;
    while (wrong.empty() && position_ < stop) {
      const Result<bool> more = scanner.next();
      if (!more && more.code() != ErrorCode::corrupt) return more.error();
      if (!more) {
        wrong = more.error().message;
      } else if (!*more) {
        break;
      } else {
        const BatchHeader& h = scanner.header();
        TRY_ASSIGN(const bool sound, scanner.crc_matches());
        if (!sound) {
          wrong = fmt::format("{}: checksum does not match at position {}", target_.file->path(), position_);
        } else if (h.base_offset < expected_ || h.next_offset() > target_.next_base) {
          wrong = fmt::format("{}: offsets {} to {} do not belong at position {}", target_.file->path(),
                              h.base_offset.v, h.last_offset().v, position_);
        } else {
          see(h, position_);
          expected_ = h.next_offset();
          position_ = scanner.next_position();
        }
      }
    }
    if (wrong.empty()) continue;
    TRY_ASSIGN(const uint64_t next,
               next_sound_batch(file, position_, target_.size, expected_, target_.next_base));
    wrong += fmt::format(" (offset {}, {} bytes)", expected_.v, next - position_);
    damaged_.push_back({target_.base, position_, next, std::move(wrong)});
    position_ = next;
  }
  if (position_ < target_.size) return false;
  Bytes().swap(scratch_);
  finish();
  return true;
}

void SegmentScrub::see(const BatchHeader& h, uint64_t position) {
  if (pending_ && h.last_offset() >= *pending_) {
    if (h.last_offset() > *pending_)
      blame_index(fmt::format("the offset index names offset {}", pending_->v));
    pending_.reset();
  }
  while (next_offset_entry_ < offsets_.size()) {
    const OffsetIndex::Entry& e = offsets_.entries()[next_offset_entry_];
    const auto at = static_cast<uint64_t>(static_cast<uint32_t>(e.position));
    if (at > position) break;
    ++next_offset_entry_;
    const Offset named = target_.base + e.relative_offset;
    if (at < position || named < h.last_offset()) {
      blame_index(fmt::format("the offset index names offset {} at position {}", named.v, at));
    } else if (named > h.last_offset()) {
      pending_ = named;
    }
  }
  max_timestamp_ = std::max(max_timestamp_, h.indexed_timestamp());
  while (next_time_entry_ < times_.size()) {
    const TimeIndex::Entry e = times_.entry(next_time_entry_);
    const Offset named = target_.base + e.relative_offset;
    if (named > h.last_offset()) break;
    ++next_time_entry_;
    if (named < h.base_offset || e.timestamp != max_timestamp_) {
      blame_index(fmt::format("the time index names timestamp {} at offset {}", e.timestamp, named.v));
    }
  }
}

void SegmentScrub::finish() {
  if (!damaged_.empty()) {
    index_problem_.clear();  // nothing to hold it against
    return;
  }
  if (pending_ || next_offset_entry_ < offsets_.size()) blame_index("the offset index goes beyond the end");
  if (next_time_entry_ < times_.size()) blame_index("the time index goes beyond the end");
}

// --- of the log ---

std::optional<ScrubTarget> Log::scrub_target(Offset from) const {
  if (closed_ || failed_) return std::nullopt;
  for (size_t i = 0; i + 1 < segments_.size(); ++i) {
    const Segment& s = *segments_[i];
    if (s.base_offset() < from || s.empty()) continue;
    return ScrubTarget{s.base_offset(), segments_[i + 1]->base_offset(), s.file(), s.size_bytes(),
                       directory_};
  }
  return std::nullopt;
}

bool Log::note_damage(DamagedRange range, const std::shared_ptr<const io::File>& file) {
  for (size_t i = 0; i + 1 < segments_.size(); ++i) {
    if (segments_[i]->base_offset() != range.segment || segments_[i]->file() != file) continue;
    for (const DamagedRange& known : damaged_) {
      if (known.file == file && known.position == range.position) return false;
    }
    range.file = file;
    if (damaged_.size() < kDamagedRangesMax) damaged_.push_back(std::move(range));
    return true;
  }
  return false;  // retention or compaction was faster
}

size_t Log::damaged_ranges() {
  std::erase_if(damaged_, [&](const DamagedRange& range) {
    return std::none_of(segments_.begin(), segments_.end(),
                        [&](const auto& s) { return s->file() == range.file; });
  });
  return damaged_.size();
}

Status Log::check_undamaged(const Segment& segment, const Place& start, Place& end) {
  for (const DamagedRange& range : damaged_) {
    if (range.file != segment.file() || range.end <= start.position) continue;
    if (range.position <= start.position) return Error(ErrorCode::corrupt, range.what);
    if (range.position >= end.position) continue;
    // What lies before the damage may be served; its end is a batch's.
    BatchScanner scanner(*segment.file(), start.position, range.position, scratch_);
    Offset next = start.offset;
    while (true) {
      TRY_ASSIGN(const bool more, scanner.next());
      if (!more) break;
      next = scanner.header().next_offset();
    }
    end = {range.position, next};
  }
  return {};
}

Status Log::rebuild_indexes_of(Offset base) {
  const ScratchLease lease(scratch_);
  TRY(usable());
  for (size_t i = 0; i + 1 < segments_.size(); ++i) {
    Segment& s = *segments_[i];
    if (s.base_offset() != base) continue;
    TRY(s.replace_indexes(scratch_, config_.index_interval_bytes, unsynced_));
    note_index_use(s);
  }
  return {};
}

}  // namespace millrace::log
