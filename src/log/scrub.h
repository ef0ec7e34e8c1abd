// Reading closed segments again to see whether the disk still gives what was written: every batch's checksum,
// and whether the indexes name the batches that are there. In small steps, outside the partition's lock: the
// bytes of a closed segment do not change. Owned by the broker's scrubber.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "io/disk.h"
#include "log/batch_header.h"
#include "log/offset_index.h"
#include "log/time_index.h"

namespace millrace::log {

/// A closed segment as it was when it was asked for. Its file stays readable when the segment is deleted.
struct ScrubTarget {
  Offset base;
  Offset next_base;  // of the segment after it
  std::shared_ptr<const io::File> file;
  uint64_t size = 0;
  std::string directory;
};

/// Bytes of a closed segment that are no sound batch.
struct DamagedRange {
  Offset segment;                                  // base offset
  uint64_t position = 0;                           // of the first damaged byte
  uint64_t end = 0;                                // position after the last
  std::string what;                                // a sentence naming file, position and offset
  std::shared_ptr<const io::File> file = nullptr;  // set by the log: compaction may put another in its place
};

class SegmentScrub {
 public:
  SegmentScrub(io::Disk& disk, ScrubTarget target);

  /// Reads some `bytes_max` bytes more (one batch at least); true when the segment is done. Errors: io_error
  /// (the disk refuses to give the bytes).
  Result<bool> step(size_t bytes_max);

  const ScrubTarget& target() const { return target_; }
  uint64_t bytes_read() const { return position_; }
  const std::vector<DamagedRange>& damaged() const { return damaged_; }
  /// What is wrong with an index; empty: nothing. Known when the segment is done.
  const std::string& index_problem() const { return index_problem_; }

 private:
  void load_indexes();
  void see(const BatchHeader& header, uint64_t position);
  void finish();
  void blame_index(std::string what);

  io::Disk& disk_;
  ScrubTarget target_;
  uint64_t position_ = 0;
  Offset expected_;
  Bytes scratch_;
  std::vector<DamagedRange> damaged_;
  std::string index_problem_;
  bool loaded_ = false;
  OffsetIndex offsets_;
  TimeIndex times_;
  size_t next_offset_entry_ = 0;
  size_t next_time_entry_ = 0;
  std::optional<Offset> pending_;
  int64_t max_timestamp_ = -1;
};

}  // namespace millrace::log
