// One segment: a log file, its two sparse indexes and its transaction index. Only the last segment of a log
// is written; the others are immutable. A closed segment keeps no index in memory once its index files are
// durable: it is loaded when a lookup needs it, and the partition log bounds how many stay loaded. Owned by
// the partition log; the io::File is shared with whoever reads a region.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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

/// Where a batch begins.
struct Place {
  uint64_t position = 0;
  Offset offset;  // its base offset
};

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
  /// Drops the batch that holds `offset` and all after it (file, indexes). The new end is next_offset(). The
  /// indexes must be loaded. Errors: io_error, corrupt.
  Status truncate_to(Offset offset, Bytes& scratch);
  /// Gives back blocks reserved beyond the end.
  Status trim_reserved();

  // --- indexes ---
  bool indexes_loaded() const { return indexes_loaded_; }
  /// Makes the indexes available: reads the files, rebuilds from the log what is missing or does not fit.
  /// `rebuilt` (may be null) counts rebuilt ones. Errors: io_error, corrupt (the log file itself).
  Status load_indexes(Bytes& scratch, int32_t index_interval_bytes, uint32_t* rebuilt);
  /// Reads every header and makes offset and time index anew, up to next_offset()/size_bytes().
  Status rebuild_indexes(Bytes& scratch, int32_t index_interval_bytes);
  /// rebuild_indexes(), and files that hold just that instead of what they held.
  Status replace_indexes(Bytes& scratch, int32_t index_interval_bytes,
                         std::vector<std::shared_ptr<io::File>>& files);
  /// Forgets the loaded indexes of a closed segment, if the files hold them.
  void unload_indexes();
  /// Writes entries not yet in the files; the files written are added to `files`, to be synced.
  Status write_indexes(std::vector<std::shared_ptr<io::File>>& files);
  /// Whether that would write nothing.
  bool indexes_written() const;
  /// The transaction index alone.
  Status write_txn_index(std::vector<std::shared_ptr<io::File>>& files);

  /// Position of the batch that holds `offset` or, if none does, of the next one, with its header; nullopt:
  /// none, or `would_block`. Checks the index entry that it used and rebuilds indexes that do not fit.
  Result<std::optional<Place>> locate(Offset offset, Bytes& scratch, int32_t index_interval_bytes,
                                      ReadMode mode, bool& would_block);

  /// A place to start reading from that lies at most at `position` and after `at_least`: the batch that the
  /// index names, if it is there; else `at_least`. The indexes must be loaded.
  uint64_t near_position(uint64_t position, uint64_t at_least, Bytes& scratch, ReadMode mode) const;

  const OffsetIndex& offset_index() const { return offset_index_; }
  const TimeIndex& time_index() const { return time_index_; }
  /// The last time entry with a timestamp <= `timestamp`, after a look at the batch that it names: an index
  /// that does not fit is rebuilt. The indexes must be loaded.
  Result<std::optional<TimeIndex::Entry>> time_floor(int64_t timestamp, Bytes& scratch,
                                                     int32_t index_interval_bytes);

  /// Aborted transactions; loads the file when first asked. Errors: corrupt, io_error.
  Result<TxnIndex*> txn_index();
  /// Adds a transaction aborted by the marker just appended (or replayed: known ones are skipped).
  Status note_aborted(const AbortedTxn& txn);
  /// Drops transactions whose marker is at or beyond `offset`. Errors as txn_index().
  Status truncate_txn_index(Offset offset);
  /// Empties a damaged transaction index; the file is replaced when it is written next.
  void forget_txn_index();

  /// Greatest timestamp of the segment, -1 if none has one. For a closed segment it may take a read of the
  /// time index. Errors as load_indexes.
  Result<int64_t> max_timestamp(Bytes& scratch, int32_t index_interval_bytes);
  /// Last offset of the first batch that has it; valid after max_timestamp().
  Offset max_timestamp_offset() const { return max_timestamp_offset_; }

  // --- opening ---
  /// A closed segment ends where the next one begins.
  void set_closed(Offset next_segment_base);
  struct ScanParams {
    Offset checksums_from;  // batches that end beyond it have their checksum verified
    int32_t index_interval_bytes = 4096;
    Offset stop_at{INT64_MAX};      // where the next segment begins: batches that reach it do not belong here
    bool trust_index_below = true;  // begin at the last sound index entry below checksums_from
  };
  struct ScanResult {
    bool damaged = false;  // the segment then ends before the damage, but the file is untouched
    std::string damage;    // what and where
    bool overrun = false;  // ended before a batch that reaches stop_at
    uint64_t bytes_scanned = 0;
    LeaderEpoch last_epoch = kNoLeaderEpoch;
  };
  /// Walks the file (from the last sound index entry) to find its end and complete its indexes; calls `each`
  /// for every batch met. Errors: io_error.
  Result<ScanResult> scan(const ScanParams& params, Bytes& scratch, LeaderEpoch epoch_before,
                          const std::function<void(const BatchHeader&)>& each);
  /// Cuts the file where the scan ended, and syncs it.
  Status cut_at_end();
  /// Header of the first batch; nullopt if empty.
  Result<std::optional<BatchHeader>> first_header(Bytes& scratch);

  /// Wall time of the first append, for rolling by age; nullopt: none yet.
  std::optional<int64_t> first_append_wall_ms;
  /// Written since the last sync that is known to have succeeded.
  bool dirty = false;

 private:
  // What the index files hold, so that what was synced of them is never rewritten in place.
  enum class FileState : uint8_t {
    absent,
    prefix,   // the first `written` entries
    longer,   // those and more, which must go
    unknown,  // to be replaced as a whole
  };

  void index_batch(const BatchHeader& batch, uint64_t position, int32_t index_interval_bytes);
  void clear_indexes();
  Status index_whole_file(Bytes& scratch, int32_t index_interval_bytes);
  Result<uint64_t> adopt_indexes(int64_t trusted, Bytes& scratch);
  Result<ScanResult> walk(const ScanParams& params, uint64_t start, Bytes& scratch, LeaderEpoch epoch_before,
                          const std::function<void(const BatchHeader&)>& each);
  bool has_timestamps(Bytes& scratch) const;
  bool names_a_batch(const TimeIndex::Entry& entry, Bytes& scratch) const;
  Status write_index(FileKind kind, FileState state, const Bytes& bytes, size_t keep_bytes,
                     std::vector<std::shared_ptr<io::File>>& files);

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
  bool max_timestamp_known_ = true;
  bool indexes_loaded_ = true;
  FileState index_files_ = FileState::absent;
  FileState txn_file_ = FileState::absent;
  bool txn_loaded_ = true;
};

}  // namespace millrace::log
