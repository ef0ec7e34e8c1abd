// The log of one partition: segments in a directory laid out as Kafka lays it out, leader epochs, producer
// state. Owned by one partition object whose lock serialises every call; the io::File objects it hands out
// (read regions, sync plans) are used outside that lock. Knows no threads, no clock, no high watermark but as
// a parameter.
//
// Three ends, in order: recovery_point <= durable_end <= log_end_offset.
//   durable_end     record bytes below it are synced: what acks=all may rest on
//   recovery_point  indexes, snapshot and leader epochs below it are synced too: what opening may skip
// A failed write is cut away before anything else is appended; if even that fails, or a sync fails, the log
// is failed: it answers reads of what is durable and refuses everything else with kafka_storage_error.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "io/disk.h"
#include "log/compaction.h"
#include "log/epoch_cache.h"
#include "log/log_config.h"
#include "log/lost_ranges.h"
#include "log/producer_state.h"
#include "log/recovery.h"
#include "log/resting_log.h"
#include "log/scrub.h"
#include "log/segment.h"

namespace millrace::log {

struct OpenParams {
  std::string directory;
  LogConfig config;
  Now now;
  bool clean_shutdown = false;   // nothing needs scanning
  Offset recovery_point{0};      // from the checkpoint; scanning begins here after an unclean stop
  Offset durable_end{0};         // from the commit file; damage below max(this, recovery_point) is `corrupt`
  Offset log_start_offset{0};    // from the checkpoint
  bool log_start_exact = false;  // known to be the start: a log that begins later misses segments
  Offset cleaned_end{0};         // from the cleaner's checkpoint: what lies below is compacted
  bool create = false;           // a new partition: the directory may be absent or empty
  Uuid topic_id;                 // if not zero, partition.metadata is to name it; written if it is not there
};

struct AppendResult {
  Offset base_offset;      // of the first batch
  Offset last_offset;      // of the last batch
  int64_t timestamp = -1;  // greatest of the last batch
  Offset log_start_offset;
  uint64_t bytes = 0;
  size_t batches = 0;
  bool duplicate = false;  // nothing appended: the offsets are the original's
  bool rolled = false;
};

struct ReadResult {
  std::vector<io::FileRegion> regions;  // whole batches, ascending
  Offset base_offset = kNoOffset;       // of the first batch (may lie below the offset asked for)
  Offset next_offset = kNoOffset;       // after the last batch, or further where a hole follows
  size_t bytes = 0;
  bool would_block = false;  // ReadMode::cached_only was not enough: ask again where blocking is allowed

  bool empty() const { return bytes == 0; }
};

struct TimestampOffset {
  Offset offset = kNoOffset;
  int64_t timestamp = -1;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
};

struct SegmentInfo {
  Offset base_offset;
  Offset next_offset;
  uint64_t bytes = 0;
  bool active = false;
};

/// What retention wants to go: everything below `log_start`.
struct Retention {
  Offset log_start = kNoOffset;
  uint64_t generation = 0;
  std::string reason;  // "retention.ms", ...: for the trace line
  bool empty() const { return log_start == kNoOffset; }
};

struct DeletedSegments {
  std::vector<Offset> base_offsets;
  uint64_t bytes = 0;
  Offset log_start_offset;  // now
  std::string reason;       // "retention.ms", ...: for the trace line
  bool empty() const { return base_offsets.empty(); }
};

/// How much of a compacted log waits for compaction.
struct CompactionNeed {
  uint64_t clean_bytes = 0;
  uint64_t dirty_bytes = 0;  // closed, settled and old enough
  bool overdue = false;      // something dirty is older than max.compaction.lag.ms

  double dirty_ratio() const {
    const uint64_t all = clean_bytes + dirty_bytes;
    return all == 0 ? 0 : static_cast<double>(dirty_bytes) / static_cast<double>(all);
  }
};

enum class SyncScope : uint8_t {
  records,     // advances durable_end; what group commit runs
  everything,  // also indexes and leader epochs: advances recovery_point too. For the checkpoint, once a
               // minute
};

/// What must be synced (outside the lock) so that everything below `end` is durable. Made under the
/// partition's lock, run outside it.
struct SyncPlan {
  std::vector<std::shared_ptr<io::File>> files;
  std::vector<std::string> directories;
  std::vector<std::pair<std::string, std::string>>
      replacements;                   // path, content: small files, replaced whole
  Offset end = kNoOffset;             // record bytes below it are covered
  Offset recovery_point = kNoOffset;  // indexes, snapshots and epochs below it are covered
  uint64_t generation = 0;
  uint64_t names_version = 0;
  uint64_t epochs_version = 0;
  /// What of the epochs is on disk by now: a plan that was overtaken does not put back older ones.
  std::shared_ptr<const std::atomic<uint64_t>> epochs_on_disk;

  bool empty() const { return files.empty() && directories.empty() && replacements.empty(); }
  /// Syncs the files, then the directories, then replaces the small files; stops at the first error. A file
  /// that was removed meanwhile is done. Two plans of one log never run at once; in what order does not
  /// matter.
  Status run(io::Disk& disk) const;
};

class Log {
 public:
  /// Loads and, where needed, recovers. Twice on the same files gives the same log. Errors: corrupt (names
  /// file and position: damage that is not a torn tail, or segments missing), not_found, io_error, no_space.
  static Result<std::unique_ptr<Log>> open(io::Disk& disk, OpenParams params, Trace trace,
                                           RecoveryStats* stats = nullptr);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  const std::string& directory() const { return directory_; }
  const LogConfig& config() const { return config_; }
  void configure(const LogConfig& config);

  // --- append ---
  /// One or more whole, validated batches (CRC, counts, timestamps are the caller's). Checks producers,
  /// assigns offsets and `epoch` in place, writes once. Errors (nothing is appended): invalid_producer_epoch,
  /// out_of_order_sequence_number, invalid_txn_state, duplicate_sequence_number (a duplicate among several
  /// batches), record_list_too_large (a batch above segment.bytes), corrupt_message, no_space, io_error,
  /// kafka_storage_error (failed log).
  Result<AppendResult> append_as_leader(MutableByteView batches, LeaderEpoch epoch, Now now) {
    return append_as_leader(std::span<const MutableByteView>(&batches, 1), epoch, now);
  }
  /// The same for batches that lie apart: one write, all or nothing.
  Result<AppendResult> append_as_leader(std::span<const MutableByteView> pieces, LeaderEpoch epoch, Now now);
  /// The same bytes as in the leader's log: offsets and epochs stay. The first offset must be the log end
  /// (or, behind a compacted leader, beyond it). Errors: offset_out_of_range, else as above without producer
  /// errors.
  Result<AppendResult> append_as_follower(ByteView batches, Now now);
  /// A new leadership begins at the log end. Idempotent. `lazily`: its first append has it written down, an
  /// epoch in which nothing was written needs no file.
  void begin_epoch(LeaderEpoch epoch, bool lazily = false);
  /// Starts a new segment, if the active one holds anything.
  Status roll(Now now);

  // --- read ---
  /// read() for a consumer: begins behind batches that compaction has left without records, if something with
  /// records follows below the bound (some clients take a response without any for a record that is too
  /// large).
  Result<ReadResult> read_records(Offset from, size_t max_bytes, Offset upper_bound, bool at_least_one,
                                  ReadMode mode = ReadMode::may_block);
  /// Whole batches from the one that holds `from`, none that reaches `upper_bound`; at least one if
  /// `at_least_one`, however large; of one segment. Errors: offset_out_of_range, corrupt, io_error.
  Result<ReadResult> read(Offset from, size_t max_bytes, Offset upper_bound, bool at_least_one,
                          ReadMode mode = ReadMode::may_block);
  /// What read() with cached_only may have lacked: read it (outside the lock) and ask again.
  struct ColdParts {
    std::vector<std::string> files;       // index files that are not loaded
    std::vector<io::FileRegion> regions;  // where batch headers are to be looked at
  };
  ColdParts cold_parts(Offset from, size_t max_bytes, Offset upper_bound) const;
  /// Reads the bytes of a result (tests, tools, state machines; `net` sends regions instead). No lock needed.
  static Result<Bytes> read_bytes(const ReadResult& result);
  /// Aborted transactions that overlap [from, upper_bound), by first offset (FetchResponse).
  Result<std::vector<AbortedTxn>> aborted_transactions(Offset from, Offset upper_bound);

  /// First record at or after the log start with a timestamp >= `timestamp`, below `upper_bound`; nullopt:
  /// none.
  Result<std::optional<TimestampOffset>> offset_for_timestamp(int64_t timestamp, Offset upper_bound);
  /// First record that has the greatest timestamp; nullopt: log empty or without timestamps.
  Result<std::optional<TimestampOffset>> offset_of_max_timestamp();

  // --- where it begins and ends ---
  Offset log_start_offset() const { return log_start_offset_; }
  Offset log_end_offset() const { return log_end_offset_; }
  Offset durable_end() const { return durable_end_; }
  Offset recovery_point() const { return recovery_point_; }
  uint64_t size_bytes() const { return size_bytes_; }
  std::vector<SegmentInfo> segments() const;
  SegmentInfo active_segment() const {
    return {active().base_offset(), active().next_offset(), active().size_bytes(), true};
  }
  size_t segment_count() const { return segments_.size(); }
  bool failed() const { return failed_; }
  /// Whether the last append failed in the midst of its write: what was written of it was cut, and is there
  /// again if power fails before that is on disk.
  bool append_in_doubt() const { return append_in_doubt_; }
  bool closed() const { return closed_; }

  // --- leader epochs ---
  LeaderEpoch latest_epoch() const { return epochs_.latest_epoch(); }
  EpochEnd end_offset_for_epoch(LeaderEpoch requested) const;
  LeaderEpoch epoch_of(Offset offset) const { return epochs_.epoch_of(offset); }
  const EpochCache& epochs() const { return epochs_; }

  // --- producers ---
  const ProducerState& producers() const { return producers_; }
  /// Last stable offset for this high watermark (read_committed's bound).
  Offset last_stable_offset(Offset high_watermark) const;
  void on_high_watermark(Offset high_watermark) { producers_.on_high_watermark(high_watermark); }
  /// Forgets producers not seen for producer.id.expiration.ms, by the clock that nobody sets.
  size_t expire_producers(Now now);

  // --- durability ---
  bool needs_sync() const { return durable_end_ < log_end_offset_ || anything_dirty(); }
  /// Whether the files say all that is known: a close has nothing to write, a checkpoint nothing to do.
  bool settled() const;
  /// Writes (not syncs) what the scope wants and lists what is to be synced. Several plans may be in flight.
  /// Errors: no_space, io_error (indexes or checkpoint could not be written; `records` never fails for them).
  Result<SyncPlan> plan_sync(SyncScope scope);
  /// The plan ran. On an error the log is failed (a failed fsync is never retried), but after no_space the
  /// plan counts for nothing and is to be made again, as is one from before a truncation.
  void synced(const SyncPlan& plan, const Status& outcome);
  /// plan, run and report in one, blocking.
  Status flush();

  // --- retention and truncation ---
  /// Finds whole closed segments that are to go by age, by size, or because they lie below the log start;
  /// rolls an active segment that is expired as a whole. Only what is durable and below the high watermark
  /// goes. The log start moves at once, but for retire_below() the new one, and a sync that was planned after
  /// this call, must be durable: later a log that begins beyond its recorded start is known to miss data, and
  /// the producers' snapshot at the new start is all that is left of what went.
  Result<Retention> plan_retention(Now now, Offset high_watermark);
  /// Retires what was planned. Files are renamed now and removed by remove_pending().
  Result<DeletedSegments> retire_below(const Retention& retention, Now now);
  /// Both in one, for owners without a record of log starts.
  Result<DeletedSegments> delete_old_segments(Now now, Offset high_watermark);
  /// Removes files whose delay is over; returns how many. `all`: at once.
  size_t remove_pending(Now now, bool all = false);
  bool has_pending_removals() const { return !pending_.empty(); }
  /// DeleteRecords. Errors: offset_out_of_range (beyond the end). Lower than the current start: nothing
  /// happens.
  Status advance_log_start(Offset offset);
  /// Cuts the batch that holds `offset` and everything after it; the new end is log_end_offset(). Before it
  /// appends again the caller makes the lowered recovery_point() and durable_end() durable (checkpoint,
  /// commit file). The cut itself is on disk on return. Errors: io_error (the log is then failed).
  Status truncate_to(Offset offset, Now now);
  /// Drops everything; the log is empty and begins at `offset`. The caller first records log start, recovery
  /// point and durable end as `offset`.
  Status truncate_fully_and_start_at(Offset offset, Now now);

  // --- compaction (see compaction.h; cleanup.policy says whether a caller should) ---
  /// Below it the log is compacted; dirty from there on.
  Offset cleaned_end() const { return cleaned_end_; }
  void set_cleaned_end(Offset end);
  /// Rolls an active segment that is older than max.compaction.lag.ms. Errors: those of roll(), io_error,
  /// corrupt.
  Result<CompactionNeed> compaction_need(Now now, Offset high_watermark);
  /// Everything that may be compacted now; no sources: nothing is dirty.
  Result<CompactionPlan> plan_compaction(Now now, Offset high_watermark);
  /// Counts truncations: a plan of another generation is void.
  uint64_t generation() const { return generation_; }
  /// Makes the .cleaned segment the .swap that a later open completes. The directory is to be synced before
  /// finish_swap(). Errors (nothing changed): cancelled (the sources are not there any more, or another swap
  /// is on its way), closed, kafka_storage_error, io_error.
  Status begin_swap(const CleanedGroup& group);
  /// Puts the segment in place of its sources, whose files are retired. `synced`: how the sync of the
  /// directory went. Errors: cancelled (the log was truncated meanwhile), closed, io_error (the log is then
  /// failed).
  Status finish_swap(const CleanedGroup& group, const Status& synced, Now now);

  // --- scrubbing (scrub.cc) ---
  /// The first closed segment that begins at or after `from`; nullopt: none, or the log is not usable.
  std::optional<ScrubTarget> scrub_target(Offset from) const;
  /// From now on these bytes are not served: read() ends before them or answers corrupt. True if they still
  /// belong to the log (as bytes of `file`) and were not known.
  bool note_damage(DamagedRange range, const std::shared_ptr<const io::File>& file);
  /// How many damaged ranges the log is known to have.
  size_t damaged_ranges();
  /// Makes the indexes of a closed segment anew and replaces their files.
  Status rebuild_indexes_of(Offset base);

  // --- end of life ---
  /// `clean`: writes and syncs indexes, epochs and a producer snapshot, so that the next open scans nothing;
  /// removes what waits for removal. No plan may be in flight.
  Status close(bool clean);
  /// Writes (not syncs) what a clean close would: the sync comes with the next plan for everything.
  Status prepare_close();
  /// What is to be known of the log once it is closed cleanly. Errors: io_error, corrupt (an index).
  Result<RestingLog> at_rest();
  /// Topic deletion: renames the directory to `new_directory` (same parent) and closes; the caller removes
  /// the tree later.
  Status rename_for_removal(const std::string& new_directory);

 private:
  friend class LogOpener;
  friend class PartitionVerifier;  // folds batches as this class does
  struct PendingRemoval {
    std::vector<std::string> paths;
    int64_t due_mono_ms = 0;
  };
  struct ParsedBatch {
    BatchHeader header;
    ByteView bytes;
  };

  Log(io::Disk& disk, const OpenParams& params, Trace trace);

  Segment& active() { return *segments_.back(); }
  const Segment& active() const { return *segments_.back(); }
  Status usable() const;

  // log.cc: append and sync
  /// Adds to parsed_.
  Status parse(ByteView batches);
  Status check_producers(std::optional<ProducerBatch>& duplicate) const;
  bool must_roll(uint64_t bytes, Offset last_offset, Now now) const;
  Status make_room(uint64_t bytes, Offset first_offset, Offset last_offset, Now now, bool& rolled);
  Status roll_at(Offset base_offset, Now now);
  Status write_out(std::span<const ByteView> pieces);
  /// Writes `pieces`, which hold the batches of parsed_.
  Result<AppendResult> commit_append(std::span<const ByteView> pieces, Now now, bool rolled);
  /// Folds one batch of the log into `state`; the transaction that it aborted, if it did.
  static std::optional<AbortedTxn> fold(ProducerState& state, const BatchHeader& header, ByteView batch,
                                        int64_t mono_ms);
  Status write_snapshot();
  void remove_snapshots(Offset from, Offset below);
  Status keep_snapshot_at(Offset at, int64_t mono_ms);
  Status write_snapshot_of(const ProducerState& state, Offset at);
  bool anything_dirty() const;

  // log_read.cc
  /// Gives the scratch buffer back at the end of a call: a hundred thousand logs must not keep one each.
  class ScratchLease {
   public:
    explicit ScratchLease(Bytes& scratch) : scratch_(scratch) {}
    ~ScratchLease() { Bytes().swap(scratch_); }
    ScratchLease(const ScratchLease&) = delete;
    ScratchLease& operator=(const ScratchLease&) = delete;

   private:
    Bytes& scratch_;
  };
  size_t segment_index_of(Offset offset) const;
  Result<std::optional<Place>> locate(size_t segment, Offset offset, ReadMode mode, bool& would_block);
  Result<Place> end_of_read(size_t segment, const Place& start, size_t max_bytes, Offset bound,
                            bool at_least_one, ReadMode mode, bool& would_block);
  std::optional<Place> landmark(Offset offset) const;
  void add_landmark(Offset offset, uint64_t position);
  void note_index_use(const Segment& segment);
  Result<std::optional<TimestampOffset>> find_record(Segment& segment, int64_t timestamp, bool exactly,
                                                     Offset from);

  // scrub.cc
  Status check_undamaged(const Segment& segment, const Place& start, Place& end);

  // log_open.cc
  Status rebuild_producers(Offset snapshot_max, int64_t mono_ms, RecoveryStats* stats);
  void recall_in_flight(Offset end, int64_t mono_ms);
  Status replay(ProducerState& state, Offset from, Offset to, int64_t mono_ms,
                const std::function<Status(Segment&, const AbortedTxn&)>& on_aborted, RecoveryStats* stats);
  Result<TxnIndex*> txn_index_of(size_t segment);

  // log_retention.cc
  Status sync_cut();
  Status retire(Segment& segment, Now now);
  void lower_ends(Offset end);

  // log_compaction.cc
  Result<Offset> cleanable_end(Now now, Offset high_watermark);
  std::optional<size_t> find_sources(const CleanedGroup& group) const;
  Status replace_sources(const CleanedGroup& group, size_t first, Now now);
  /// Before a truncation: a .swap file must not bring back what is cut.
  Status cancel_swap();

  io::Disk& disk_;
  Trace trace_;
  std::string directory_;
  LogConfig config_;
  std::vector<std::unique_ptr<Segment>> segments_;  // ascending, never empty once open
  EpochCache epochs_;
  ProducerState producers_;
  std::vector<Offset> snapshots_;  // ascending; files that exist
  Offset log_start_offset_{0};
  Offset log_end_offset_{0};
  Offset durable_end_{0};
  Offset recovery_point_{0};
  uint64_t size_bytes_ = 0;
  uint64_t reserved_until_ = 0;  // of the active segment
  uint64_t generation_ = 0;      // counts truncations: plans from before them count for nothing
  uint64_t names_version_ = 0;   // counts changes of file names ...
  uint64_t names_synced_ = 0;    // ... and what of them is synced
  uint64_t epochs_version_ = 0;  // the same for leader epochs
  std::shared_ptr<std::atomic<uint64_t>> epochs_synced_ = std::make_shared<std::atomic<uint64_t>>(0);
  Offset cleaned_end_{0};
  Offset swap_base_ = kNoOffset;  // of a .swap file on its way in
  bool parent_dirty_ = false;     // the partition directory itself is new
  bool epoch_is_new_ = false;     // the latest epoch has no record yet
  bool failed_ = false;
  bool closed_ = false;
  std::vector<PendingRemoval> pending_;
  std::vector<std::shared_ptr<io::File>> unsynced_;  // index and snapshot files written, not yet synced
  std::vector<Place> landmarks_;                     // ring: the last batches of the active segment
  size_t next_landmark_ = 0;
  std::vector<DamagedRange> damaged_;  // found by scrubbing
  std::vector<LostRange> lost_;        // holes that a repair left, by its files
  struct {
    Offset bound = kNoOffset;
    Place place;
  } last_bound_;                // of the active segment: spares a consumer's fetch the scan for its bound
  std::vector<Offset> loaded_;  // closed segments with loaded indexes, last used last
  std::vector<ParsedBatch> parsed_;  // scratch of one append
  std::vector<ByteView> pieces_;     // the same
  Bytes scratch_;                    // scratch of header walks
  bool append_in_doubt_ = false;
};

}  // namespace millrace::log
