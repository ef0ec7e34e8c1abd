// One segment: a log file, its two sparse indexes and its transaction index. Only the last segment of a log
// is written; the others are immutable. A closed segment keeps no index in memory once its index files are
// durable: it is loaded when a lookup needs it, and the partition log bounds how many stay loaded. Owned by
// the partition log; the io::File is shared with whoever reads a region.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "io/disk.h"
#include "log/batch_header.h"
#include "log/file_names.h"
#include "log/log_config.h"
#include "log/offset_index.h"
#include "log/time_index.h"
#include "log/txn_index.h"

namespace millrace::log {

class Segment {
 public:
  Segment(io::Disk& disk, std::string directory, Offset base_offset, std::shared_ptr<io::File> file,
          uint64_t size_bytes)
      : disk_(disk),
        directory_(std::move(directory)),
        base_offset_(base_offset),
        next_offset_(base_offset),
        file_(std::move(file)),
        size_bytes_(size_bytes) {}

  /// Creates the empty log file. Errors: already_exists, no_space, io_error.
  static Result<std::unique_ptr<Segment>> create(io::Disk& disk, const std::string& directory,
                                                 Offset base_offset);

  Offset base_offset() const { return base_offset_; }
  /// Offset after the last record.
  Offset next_offset() const { return next_offset_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool empty() const { return size_bytes_ == 0; }
  const std::shared_ptr<io::File>& file() const { return file_; }
  std::string path_of(FileKind kind) const;

  // --- growth (the active segment) ---
  /// Notes a batch that was just written at size_bytes(): advances the end, adds index entries.
  void note_appended(const BatchHeader& batch, int32_t index_interval_bytes);
  /// Closing entry of the time index, as at a roll.
  void finish_time_index();
  /// Drops the batch that holds `offset` and all after it (file, indexes). The new end is next_offset().
  Status truncate_to(Offset offset, Bytes& scratch);

  // --- indexes ---
  bool indexes_loaded() const { return indexes_loaded_; }
  /// Makes the indexes available: reads the files, rebuilds from the log what is missing or does not fit.
  /// `rebuilt` (may be null) counts rebuilt ones. Errors: io_error, corrupt (the log file itself).
  Status load_indexes(Bytes& scratch, int32_t index_interval_bytes, uint32_t* rebuilt);
  /// Reads every header and makes offset and time index anew, up to next_offset()/size_bytes().
  Status rebuild_indexes(Bytes& scratch, int32_t index_interval_bytes);
  /// Forgets the loaded indexes of a closed segment (files hold them).
  void unload_indexes();
  /// Writes entries not yet in the files; dirty index files are collected for syncing in `files`.
  Status write_indexes(std::vector<std::shared_ptr<io::File>>* files);

  const OffsetIndex& offset_index() const { return offset_index_; }
  const TimeIndex& time_index() const { return time_index_; }
  TxnIndex& txn_index() { return txn_index_; }
  const TxnIndex& txn_index() const { return txn_index_; }

  int64_t max_timestamp() const { return max_timestamp_; }
  Offset max_timestamp_offset() const { return max_timestamp_offset_; }

  /// Wall time of the first append, for rolling by age; INT64_MIN: none yet.
  int64_t first_append_wall_ms = INT64_MIN;
  /// Bytes not yet synced; new names not yet synced.
  bool dirty = false;
  bool reserved_any = false;

 private:
  friend class SegmentLoader;

  io::Disk& disk_;
  std::string directory_;
  Offset base_offset_;
  Offset next_offset_;
  std::shared_ptr<io::File> file_;
  uint64_t size_bytes_;
  OffsetIndex offset_index_;
  TimeIndex time_index_;
  TxnIndex txn_index_;
  size_t offset_entries_written_ = 0;
  size_t time_entries_written_ = 0;
  size_t txn_entries_written_ = 0;
  int64_t max_timestamp_ = -1;
  Offset max_timestamp_offset_ = kNoOffset;
  bool indexes_loaded_ = true;
};

}  // namespace millrace::log
