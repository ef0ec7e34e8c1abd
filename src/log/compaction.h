// One compaction run over one log (cleanup.policy=compact), in bounded steps, outside the partition's lock.
//
//   plan      under the lock: Log::plan_compaction lists the closed segments below everything that may still
//             change and takes shared references to their files
//   map       the dirty part is read: last offset of every key, as many keys as the memory limit takes
//   clean     from the front: groups of segments become one .cleaned segment each (see cleaned_batch.h)
//   swap      Log::begin_swap renames to .swap (lock), the directory is synced (no lock), Log::finish_swap
//             puts the segment in place and retires its sources (lock)
//
// A crash opens the old or the new content: .cleaned files go at open; a .swap file is complete, its name and
// its content are on disk before any source loses its name, and opening finishes what it began.
//
// Segments still join: a segment always ends with a batch that reaches the next one's base, if need be with
// one that holds no record. So holes lie inside segments only, and a segment that is missing shows, whatever
// the topic's policy becomes later.
//
// Everything read is checked (CRC, order, bounds); damage ends the run with `corrupt` and changes nothing.
// Knows no threads and no clock.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "io/disk.h"
#include "log/batch_header.h"
#include "log/cleaned_batch.h"
#include "log/cleaned_segment.h"
#include "log/log_config.h"
#include "log/offset_map.h"
#include "record/codec.h"

namespace millrace::log {

/// What is closed and settled when the run begins.
struct CompactionPlan {
  struct Source {
    Offset base_offset;
    Offset next_offset;
    uint64_t size_bytes = 0;
    std::shared_ptr<io::File> file;
  };
  std::string directory;
  LogConfig config;
  int64_t now_wall_ms = 0;
  uint64_t generation = 0;  // of the log: a truncation since ends the run
  Offset first_dirty{0};
  Offset log_start{0};
  std::vector<Source> sources;  // from the first segment on, ascending, joining
  std::vector<AbortedTxn> aborted;
  std::unordered_map<ProducerId, LastOfProducer> producers;

  Offset end() const { return sources.empty() ? first_dirty : sources.back().next_offset; }
};

struct CompactionLimits {
  size_t map_bytes = 128u << 20;   // log.cleaner.dedupe.buffer.size, this run's share
  double map_load_factor = 0.9;    // log.cleaner.io.buffer.load.factor
  size_t read_bytes = 256u << 10;  // one read; log.cleaner.io.buffer.size, this run's share
  HashSecret secret;
};

struct CompactionStats {
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t bytes_before = 0;  // of the segments that were replaced
  uint64_t bytes_after = 0;
  uint64_t records_dropped = 0;
  uint64_t batches_dropped = 0;
  uint32_t segments_before = 0;
  uint32_t segments_after = 0;
  size_t keys = 0;
};

/// A finished .cleaned segment and what it replaces.
struct CleanedGroup {
  Offset base_offset;
  Offset next_offset;
  uint64_t size_bytes = 0;
  std::vector<std::shared_ptr<io::File>> sources;  // the files read, ascending
  uint64_t generation = 0;
};

class Compaction {
 public:
  enum class State : uint8_t {
    working,
    group_ready,  // ready() waits to be swapped in: go on with group_swapped()
    done,         // everything below cleaned_end() is clean
  };

  Compaction(io::Disk& disk, CompactionPlan plan, CompactionLimits limits);

  const CompactionPlan& plan() const { return plan_; }
  /// Goes on for about `bytes` of reading and writing. Blocks. Errors: corrupt (what and where), no_space,
  /// io_error, limit_exceeded, unsupported_compression_type; then only abandon() may follow.
  Result<State> step(uint64_t bytes);
  const CleanedGroup& ready() const;
  void group_swapped();
  /// Removes a half-made segment.
  void abandon();

  /// Whether the error of step() came from writing or syncing: the directory cannot be trusted any more,
  /// unless it was only full.
  bool write_failed() const { return write_failed_; }

  /// Where the next run begins.
  Offset cleaned_end() const { return map_end_; }
  const CompactionStats& stats() const { return stats_; }

 private:
  enum class Phase : uint8_t { mapping, cleaning, swapping, done };

  Status map_some(uint64_t& budget);
  Result<bool> map_batch(const record::BatchView& batch);
  void begin_group();
  Status clean_some(uint64_t& budget);
  Status clean_one(const record::BatchView& batch, bool& differs);
  Status finish_group();
  Status written(Status status);
  /// Reads the next batch of the source at `source_`, verified; nullopt at its end.
  Result<std::optional<record::BatchView>> next_batch(uint64_t& budget);
  /// Reading goes on at the beginning of this source.
  void read_from(size_t source);
  Error damage(const std::string& what) const;
  /// What a batch says about itself, with the place where it stands.
  Error located(const Error& error) const;

  io::Disk& disk_;
  CompactionPlan plan_;
  CompactionLimits limits_;
  OffsetMap map_;
  record::Codecs codecs_;
  CompactionStats stats_;
  Bytes scratch_;
  Phase phase_ = Phase::mapping;
  Offset map_end_{0};
  PassingTransactions transactions_;

  // Where reading stands.
  size_t source_ = 0;
  std::optional<BatchScanner> scanner_;
  Offset next_offset_{0};  // no batch below it may follow

  // The group being cleaned: sources [group_first_, group_end_).
  size_t group_first_ = 0;
  size_t group_end_ = 0;
  bool looking_ = false;  // nothing is written before something differs: a clean segment stays as it is
  PassingTransactions transactions_before_;
  LeaderEpoch last_epoch_ = kNoLeaderEpoch;
  Offset last_base_{0};
  int64_t last_timestamp_ = -1;
  std::unique_ptr<CleanedSegment> output_;
  bool write_failed_ = false;
  CleanedGroup ready_;
};

}  // namespace millrace::log
