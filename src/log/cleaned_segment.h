// The files of a segment that compaction writes, under names that end in .cleaned: batches in order, the
// indexes made with them. Owned by one run, no threads; nobody else writes names with that end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "log/log_config.h"
#include "log/segment.h"

namespace millrace::log {

class CleanedSegment {
 public:
  /// Makes the log file; what an earlier attempt left under the name goes. Errors: no_space, io_error,
  /// not_found (the partition's directory).
  static Result<std::unique_ptr<CleanedSegment>> create(io::Disk& disk, const std::string& directory,
                                                        Offset base_offset, const LogConfig& config);

  /// Adds a whole batch that lies at or after next_offset(). Errors: no_space, io_error, limit_exceeded (more
  /// bytes than a segment can have).
  Status append(ByteView batch, const BatchHeader& header);
  /// Writes what is buffered and the indexes, syncs all of them, then the names. Errors: as append();
  /// io_error from a sync is final.
  Status finish(const std::vector<AbortedTxn>& aborted);
  /// Removes the files.
  void remove();

  Offset base_offset() const { return segment_.base_offset(); }
  Offset next_offset() const { return segment_.next_offset(); }
  uint64_t size_bytes() const { return segment_.size_bytes(); }

 private:
  CleanedSegment(io::Disk& disk, std::string directory, Offset base_offset, const LogConfig& config,
                 std::shared_ptr<io::File> file)
      : disk_(disk),
        directory_(std::move(directory)),
        index_interval_bytes_(config.index_interval_bytes),
        file_(std::move(file)),
        segment_(disk, directory_, base_offset, file_, 0) {}
  Status flush();
  Status write_index(FileKind kind, const Bytes& content);

  io::Disk& disk_;
  const std::string directory_;
  const int32_t index_interval_bytes_;
  const std::shared_ptr<io::File> file_;
  Segment segment_;  // keeps size, end and indexes while it grows; reads and writes nothing
  Bytes buffer_;     // the end of the file, not written yet
};

/// Name of such a file.
std::string cleaned_name(Offset base_offset, FileKind kind);

}  // namespace millrace::log
