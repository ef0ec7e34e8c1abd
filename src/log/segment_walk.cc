// The walk over a segment file that goes on behind damage.
#include <fmt/format.h>

#include <algorithm>

#include "log/verify.h"

namespace millrace::log {

namespace {

constexpr size_t kWalkWindow = 512 * 1024;

/// Where a batch with a right checksum and offsets in [from_offset, limit) begins, at or after `position`;
/// `end` if none does.
class NextSound {
 public:
  NextSound(const io::File& file, uint64_t end, Offset from_offset, Offset limit)
      : file_(file), end_(end), from_offset_(from_offset), limit_(limit) {}

  Result<bool> sound_at(uint64_t position) {
    BatchScanner scanner(file_, position, end_, scratch_, record::kBatchHeaderSize);
    const Result<bool> more = scanner.next();
    if (!more) return more.code() == ErrorCode::corrupt ? Result<bool>(false) : more;
    if (!*more) return false;
    const BatchHeader& h = scanner.header();
    if (h.base_offset < from_offset_ || h.next_offset() > limit_ || h.size > kBatchBytesMax) return false;
    return scanner.crc_matches();
  }

  Result<uint64_t> search(uint64_t position) {
    while (position + record::kBatchHeaderSize <= end_) {
      const auto want = static_cast<size_t>(std::min<uint64_t>(kWalkWindow, end_ - position));
      window_.resize(want);
      TRY_ASSIGN(const size_t got, file_.read_at(position, window_));
      if (got < record::kBatchHeaderSize) break;
      for (size_t i = 0; i + record::kBatchHeaderSize <= got; ++i) {
        if (window_[i + 16] != static_cast<uint8_t>(record::kMagic) || window_[i] != 0) continue;
        TRY_ASSIGN(const bool sound, sound_at(position + i));
        if (sound) return position + i;
      }
      position += got - record::kBatchHeaderSize + 1;
    }
    return end_;
  }

 private:
  const io::File& file_;
  uint64_t end_;
  Offset from_offset_;
  Offset limit_;
  Bytes scratch_;
  Bytes window_;
};

/// What is wrong at a place, without the path that the scanner puts before it.
std::string reason_of(const Error& error, const std::string& path) {
  std::string text = error.message;
  if (text.starts_with(path + ": ")) text = text.substr(path.size() + 2);
  if (const size_t at = text.find(" at position "); at != std::string::npos) text.resize(at);
  return text;
}

}  // namespace

Result<uint64_t> next_sound_batch(const io::File& file, uint64_t position, uint64_t end, Offset expected,
                                  Offset limit) {
  NextSound next(file, end, expected, limit);
  // A damaged record leaves the length as it was. What lies inside a batch may look like one.
  Bytes scratch;
  BatchScanner scanner(file, position, end, scratch, record::kBatchHeaderSize);
  const Result<bool> framed = scanner.next();
  if (!framed && framed.code() != ErrorCode::corrupt) return framed.error();
  if (framed && *framed) {
    if (scanner.next_position() == end) return end;
    TRY_ASSIGN(const bool sound, next.sound_at(scanner.next_position()));
    if (sound) return scanner.next_position();
  }
  return next.search(position + 1);
}

Result<SegmentWalk> walk_segment(io::Disk& disk, const std::string& path, Offset base, Offset limit,
                                 const std::function<void(const WalkedBatch&)>& each) {
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::read));
  SegmentWalk walk;
  TRY_ASSIGN(walk.file_bytes, file->size());
  walk.end = base;
  Bytes scratch;
  uint64_t from = 0;
  while (from < walk.file_bytes) {
    BatchScanner scanner(*file, from, walk.file_bytes, scratch, kWalkWindow);
    std::string wrong;
    uint64_t wrong_at = 0;
    while (wrong.empty()) {
      const Result<bool> more = scanner.next();
      if (!more) {
        if (more.code() != ErrorCode::corrupt) return more.error();
        wrong = reason_of(more.error(), path);
        wrong_at = scanner.next_position();
        break;
      }
      if (!*more) break;
      const BatchHeader& h = scanner.header();
      wrong_at = scanner.position();
      if (h.size > kBatchBytesMax) {
        wrong = fmt::format("a batch of {} bytes", h.size);
        break;
      }
      TRY_ASSIGN(const bool crc_matches, scanner.crc_matches());
      if (!crc_matches) {
        wrong = "checksum does not match";
      } else if (h.base_offset < walk.end) {
        wrong = fmt::format("offset {} is not beyond {}", h.base_offset.v, walk.end.v - 1);
      } else if (h.next_offset() > limit) {
        wrong = fmt::format("offset {} reaches into the next segment, which begins at {}", h.last_offset().v,
                            limit.v);
      } else {
        ++walk.batches;
        walk.records += static_cast<uint64_t>(h.record_count);
        walk.end = h.next_offset();
        if (each) {
          TRY_ASSIGN(const ByteView bytes, scanner.bytes());
          each({h, scanner.position(), bytes});
        }
      }
    }
    if (wrong.empty()) break;
    TRY_ASSIGN(const uint64_t resume, next_sound_batch(*file, wrong_at, walk.file_bytes, walk.end, limit));
    DamagedSpan span{wrong_at, resume - wrong_at, walk.end, kNoOffset, wrong};
    if (resume < walk.file_bytes) {
      BatchScanner found(*file, resume, walk.file_bytes, scratch, record::kBatchHeaderSize);
      TRY_ASSIGN(const bool more, found.next());
      if (more) span.next = found.header().base_offset;
    }
    if (walk.damaged.size() < kFindingsMax) walk.damaged.push_back(std::move(span));
    from = resume;
  }
  return walk;
}

}  // namespace millrace::log
