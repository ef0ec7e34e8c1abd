// The door of one partition: one short lock over its log and its replica machine, the requests that wait
// here, and group commit. Any loop may call it; nothing behind it knows of threads.
//
// The lock is held from the duplicate check through the write, never across a wait and never while a waiter
// is told. fdatasync runs on the disk's pool, outside the lock: one call serves everything appended before it
// began; what is appended meanwhile waits for the next.
//
// The log may be at rest: never written, closed cleanly before the last start, or idle. Then the partition
// knows its ends (log/resting_log.h) and holds no file; what needs the log opens it, on the pool if the
// caller asked with wake() first. Opening holds a second lock that nobody takes who only wants the ends.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/ids.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/time.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "io/clock.h"
#include "io/disk.h"
#include "log/log.h"
#include "partition/commit_journal.h"
#include "partition/directory_state.h"
#include "partition/offset_ranges.h"
#include "partition/partition_config.h"
#include "partition/waiters.h"
#include "replica/leader.h"

namespace millrace::partition {

struct PartitionName {
  std::string topic;
  PartitionId partition;
  std::string text() const { return topic + "-" + std::to_string(partition.v); }
};

enum class Isolation : uint8_t { read_uncommitted = 0, read_committed = 1 };

/// Every offset a reply carries, of one moment.
struct Offsets {
  Offset log_start{0};
  Offset high_watermark{0};
  Offset last_stable{0};
  Offset log_end{0};
};

struct Appended {
  Offset base_offset{0};
  Offset last_offset{0};
  int64_t log_append_time_ms = -1;
  Offset log_start_offset{0};
  bool duplicate = false;
  /// flush.messages was reached: the reply waits until the records are synced (Awaited::flushed).
  bool flush = false;
};

/// What a reply waits for.
struct Awaited {
  bool committed = true;
  bool flushed = false;  // synced here, whatever the topic's durability
};

/// What group commit reports of a data directory; null pointers: nothing is counted.
struct SyncMetrics {
  Histogram* seconds = nullptr;  // of one sync: everything of one partition that was dirty
  Counter* records = nullptr;
  Counter* batches = nullptr;
  Counter* damages = nullptr;  // places found damaged by reading
};

struct Fetched {
  Offsets offsets;
  std::vector<std::shared_ptr<const io::FileRegion>> regions;  // whole batches
  std::vector<log::AbortedTxn> aborted;  // read_committed: transactions whose records must not be seen
  size_t bytes = 0;
  /// Instead of regions: read from the medium, every batch's checksum verified.
  Bytes verified;
  /// Something of it is not in the page cache: nothing was read, ask fetch_cold() where blocking is allowed.
  bool cold = false;
};

/// What fetch, ListOffsets and OffsetForLeaderEpoch say about the leader epoch they know; -1: nothing.
struct EpochCheck {
  LeaderEpoch current = kNoLeaderEpoch;
};

class Partition final : public std::enable_shared_from_this<Partition> {
 public:
  struct Environment {
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    BrokerId self;
    Trace trace;
    /// Of the directory that holds the log; null: never full, never failed.
    std::shared_ptr<DirectoryState> directory_state;
    /// A file operation failed for good: the directory must be fenced. Called outside the lock, any thread.
    std::function<void(const std::string& directory, const Error&)> on_storage_failure;
    std::shared_ptr<CommitJournal> journal;  // of the data directory; null: durable ends are not recorded
    SyncMetrics sync;
  };
  struct Leadership {
    LeaderEpoch epoch;
    std::vector<BrokerId> isr;
    size_t replicas = 1;  // caps min.insync.replicas
  };

  Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
            std::shared_ptr<const PartitionConfig> config, std::unique_ptr<log::Log> log);
  /// With its log at rest. Its files, if there are any, are those of a clean close.
  Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
            std::shared_ptr<const PartitionConfig> config, const log::RestingLog& rest);
  ~Partition();

  const PartitionName& name() const { return name_; }
  const Uuid& topic_id() const { return topic_id_; }
  /// The data directory that holds the log.
  const std::string& directory() const { return directory_; }
  std::shared_ptr<const PartitionConfig> config() const;
  void configure(std::shared_ptr<const PartitionConfig> config, size_t replicas);

  /// Begins to lead. What the log holds is synced first (a new incarnation serves nothing that a power cut
  /// could take back), then the epoch is recorded. May block: run it where blocking is allowed.
  Status lead(const Leadership& leadership);
  /// Stops serving (deletion, shutdown): waiters are told, later calls get `why`.
  void stop(ErrorCode why);

  /// Whether append() may go ahead here and now without opening files. If not, `then` is called on `loop`
  /// when it may: with what became of the opening (a failure: nothing was appended, nothing will be). Callers
  /// of one loop go ahead in the order in which they asked.
  bool wake(io::Loop& loop, std::function<void(const Status&)> then);
  /// Whether wake() would say so at once.
  bool awake_for(const io::Loop& loop) const;
  /// Whether reading at `from` has to open files first.
  bool must_wake_to_read(Offset from) const;

  /// Appends one validated batch; patches it in place. With `acks_all`, not_enough_replicas if the ISR is too
  /// small. kafka_storage_error if the directory is full (for clients) or failed, and for want of space. A
  /// sync is started at the end of the caller's tick when somebody waits for it, within 10 ms otherwise.
  Result<Appended> append(MutableByteView batch, bool acks_all, io::Loop& loop, Now now,
                          Origin origin = Origin::client);
  /// Tells `waiter` when everything below `committed_at` is committed (or what `what` says): at once (by
  /// return value true, without a callback) or later on its loop.
  bool await_commit(Offset committed_at, std::shared_ptr<CommitWaiter> waiter, uint64_t tag,
                    Awaited what = {});

  /// Reads whole batches from `from`, if they are in the page cache (Fetched::cold if not); never blocks.
  /// Errors: kafka_storage_error (damage), offset_out_of_range, fenced_leader_epoch, unknown_leader_epoch,
  /// not_leader_or_follower. `offsets` is filled whenever the partition serves, also with an error.
  Result<Fetched> fetch(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                        EpochCheck check, Offsets& offsets);
  /// The same where blocking is allowed: the bytes come into memory, and no batch whose checksum is wrong is
  /// ever given out. What is healthy before a damaged batch is given; at the damage: kafka_storage_error, and
  /// it is reported with file and position. Does not hold the lock while it waits for the medium.
  Result<Fetched> fetch_cold(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                             EpochCheck check, Offsets& offsets);
  /// Registers for a notice when more may be readable.
  DataWatches::Id watch(std::shared_ptr<DataWaiter> waiter, uint64_t tag);
  void rearm(DataWatches::Id id);
  void unwatch(DataWatches::Id id);

  Result<Offsets> offsets(EpochCheck check = {}) const;
  LeaderEpoch leader_epoch() const;
  struct TimestampAnswer {
    Offset offset{-1};
    int64_t timestamp_ms = -1;
    LeaderEpoch epoch = kNoLeaderEpoch;
  };
  /// First record at or after `timestamp_ms` below the visible end. May read the disk.
  Result<TimestampAnswer> offset_for_timestamp(int64_t timestamp_ms, Isolation isolation, EpochCheck check);
  Result<TimestampAnswer> offset_of_max_timestamp(EpochCheck check);
  /// The epoch that begins or contains `offset`, for ListOffsets v4+ replies.
  LeaderEpoch epoch_of(Offset offset) const;
  using EpochEnd = log::EpochEnd;
  /// May open the log.
  Result<EpochEnd> end_offset_for_epoch(LeaderEpoch epoch, EpochCheck check);
  /// DeleteRecords: `before` -1 means the high watermark. Returns the new log start, which is durable then.
  /// Blocks. Errors: offset_out_of_range, no_space, io_error, kafka_storage_error.
  Result<Offset> delete_records(Offset before);

  /// Cuts the batch that holds `offset` and all after it; while not leading. The lowered durable end is in
  /// the commit file, synced, before a byte is cut. Blocks. Errors: no_space, io_error (nothing was cut),
  /// kafka_storage_error.
  Status truncate_to(Offset offset, Now now);
  /// Drops everything; the log is empty and begins at `offset`. As truncate_to().
  Status restart_at(Offset offset, Now now);

  /// Retention and expiry; lays a log to rest that nobody used since the last call. Blocks on the disk.
  /// Called by the broker's housekeeping, on the pool. `urgent`: room is wanted now, so that files do not
  /// wait for file.delete.delay.ms (readers that hold one keep it).
  void keep_house(Now now, bool urgent = false);
  /// Whether the directory has failed: the partition is offline whatever the metadata say. Any thread.
  bool offline() const { return env_.directory_state && env_.directory_state->failed(); }
  /// What waits for compaction; blocks on the disk. Errors: not_leader_or_follower and the like if it does
  /// not serve, those of log::Log::compaction_need.
  Result<log::CompactionNeed> compaction_need(Now now);
  /// One compaction run, by one caller at a time, where blocking is allowed. The lock is held to plan and to
  /// exchange names, never while data is read or written. nullptr: nothing is dirty.
  Result<std::unique_ptr<log::Compaction>> begin_compaction(const log::CompactionLimits& limits, Now now);
  /// Goes on for about `bytes` of reading and writing; true: more is to be done. After an error the run is
  /// over, its files are gone, the log is as it was. Errors: cancelled (truncated, closed or stopped
  /// meanwhile), corrupt (what and where), no_space, io_error, limit_exceeded, kafka_storage_error.
  Result<bool> compact(log::Compaction& run, uint64_t bytes, Now now);
  /// What the scrub asks and tells; see log::Log.
  std::optional<log::ScrubTarget> scrub_target(Offset from);  // may open the log
  bool note_damage(log::DamagedRange range, const std::shared_ptr<const io::File>& file);
  Status rebuild_indexes_of(Offset base);
  size_t damaged_ranges() const;
  /// Starts a sync of everything dirty, indexes included, so that the recovery point moves up; in the
  /// background lane, beside group commit. Writes indexes: call it where blocking is allowed, or accept it.
  void checkpoint(io::Loop& loop);
  /// Whether anything that a checkpoint records may have changed since the last call.
  bool take_changed();
  /// Last sync and clean close: the log is at rest. Blocks. After stop().
  Status close();
  /// What is known of a log at rest; nullopt: it is open, or was not closed cleanly.
  std::optional<log::RestingLog> resting() const;
  /// Renames the log's directory to `tombstone_directory` (same parent), to be removed as a tree; blocks.
  /// After stop().
  Status remove(const std::string& tombstone_directory);

  struct Usage {
    uint64_t bytes = 0;
    size_t segments = 0;
    Offsets offsets;
    Offset recovery_point{0};
    Offset durable_end{0};
    size_t commit_waits = 0;
    size_t data_watches = 0;
    Offset cleaned_end{0};  // compacted up to here
    size_t damages = 0;     // places in the files that were found damaged
  };
  Usage usage() const;

 private:
  struct Notices;  // who is to be told, gathered under the lock
  struct Waking;   // who waits for the log to be opened
  Offset log_start_locked() const { return log_ ? log_->log_start_offset() : rest_->log_start; }
  Offset durable_end_locked() const { return log_ ? log_->durable_end() : rest_->log_end; }
  Offset log_end_locked() const { return log_ ? log_->log_end_offset() : rest_->log_end; }
  std::string log_directory() const;
  Status open_if_resting();
  void woken(const Status& outcome);
  void drain_woken(io::Loop& loop);
  bool retention_due_locked(Now now) const;
  void lay_to_rest();
  Status lay_to_rest_locked();
  ErrorCode serving_locked(EpochCheck check) const;
  Offsets offsets_locked() const;
  Status flush_locked();
  log::CommitKey commit_key() const { return {topic_id_, name_.partition}; }
  void request_sync_locked(io::Loop& loop, bool somebody_waits);
  void set_sync_timer_locked(io::Loop& loop);
  void begin_sync(io::Loop& loop, log::SyncScope scope);
  struct Sync;
  void end_sync(io::Loop& loop, const Sync& sync);
  void note_durable_locked();
  Status record_lowered_locked(Offset end);
  Result<log::ReadResult> read_locked(Offset from, size_t bytes_max, bool at_least_one, Isolation isolation,
                                      EpochCheck check, log::ReadMode mode, Offsets& offsets);
  bool may_send_locked(const log::ReadResult& read);
  bool cached_locked(const log::ReadResult& read) const;
  Error damaged_locked(const std::string& what);
  void take_waits_locked(Notices& notices);
  void on_ends_locked(Notices& notices);
  Status usable() const { return env_.directory_state ? env_.directory_state->usable() : Status(); }
  void fail_locked(const Error& error, Notices& notices);
  Status retain(Now now, Notices& notices);
  Result<log::Compaction::State> compact_step(log::Compaction& run, uint64_t bytes, Now now);
  Status swap_in(const log::Compaction& run, Now now);
  void tell(Notices notices);

  const Environment env_;
  const PartitionName name_;
  const Uuid topic_id_;
  const std::string directory_;

  // Held while files of a sync plan are written, by path, and while files of a resting log are opened: never
  // while the log is renamed away or closed. Taken before mutex_, by whoever may block.
  std::mutex files_mutex_;
  bool removed_ = false;

  mutable std::mutex mutex_;
  std::shared_ptr<const PartitionConfig> config_;
  std::unique_ptr<log::Log> log_;          // null while at rest ...
  std::unique_ptr<log::RestingLog> rest_;  // ... and this is what is known then
  std::atomic<bool> resting_ = false;
  std::atomic<bool> asleep_ = false;  // resting, or somebody waits for the opening
  std::unique_ptr<Waking> waking_;
  std::optional<replica::Leader> leader_;
  size_t replicas_ = 1;
  ErrorCode stopped_ = ErrorCode::not_leader_or_follower;  // none while serving
  CommitWaits commit_waits_;
  CommitWaits flush_waits_;         // for the durable end alone
  CommitWaits flush_commit_waits_;  // for the durable end, then for the commit
  DataWatches data_watches_;
  // Group commit. While anything is unsynced that is to be synced, one of these leads on: a sync is
  // scheduled, or runs (and is followed by another if it is wanted), or a timer will look. A checkpoint
  // beside it may advance the ends, but never takes one of these away.
  bool sync_scheduled_ = false;  // at the end of this tick
  bool sync_running_ = false;
  bool sync_wanted_ = false;           // asked for since the running one was planned
  int64_t sync_timer_ms_ = INT64_MAX;  // delay of the shortest timer that is set; INT64_MAX: none
  bool checkpoint_running_ = false;
  // Whether bytes that are in the page cache may be sent as they are: those this process wrote, and those it
  // has read and verified. Once something had to come from the medium, what lies behind it may have come with
  // it unseen (read-ahead), and is verified anew.
  Offset own_from_;
  OffsetRanges verified_;
  std::set<std::string> damages_;  // found and told; at most kDamagesMax
  uint64_t batches_appended_ = 0;
  uint64_t batches_synced_ = 0;
  bool failure_told_ = false;
  bool used_ = true;     // appended to or read since housekeeping came by
  bool changed_ = true;  // since the last checkpoint
};

}  // namespace millrace::partition
