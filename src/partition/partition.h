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
#include <span>
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
#include "partition/standing.h"
#include "partition/waiters.h"
#include "replica/follower.h"
#include "replica/leader.h"

namespace millrace::partition {

struct PartitionName {
  std::string topic;
  PartitionId partition;
  std::string text() const { return topic + "-" + std::to_string(partition.v); }
};

/// How far a reader may see: to the high watermark, to the last stable offset; a replica sees the log end.
enum class Isolation : uint8_t { read_uncommitted = 0, read_committed = 1, replica = 2 };

/// Every offset a reply carries, of one moment.
struct Offsets {
  Offset log_start{0};
  Offset high_watermark{0};
  Offset last_stable{0};
  Offset log_end{0};
  /// Whether what earlier reigns committed is all below the high watermark. Not yet: who asks for the end, or
  /// builds on it, is to ask again.
  bool end_known = true;
};

struct Appended {
  Offset base_offset{0};
  Offset last_offset{0};
  int64_t log_append_time_ms = -1;
  Offset log_start_offset{0};
  bool duplicate = false;
  /// All of it is below the high watermark already: with acks=all nothing is left to wait for.
  bool committed = false;
  /// flush.messages was reached: the reply waits until the records are synced (Awaited::flushed).
  bool flush = false;
  /// For Awaited: what was appended under this tenure may be gone in the next.
  uint64_t tenure = 0;
};

/// What a reply waits for.
struct Awaited {
  bool committed = true;
  bool flushed = false;  // synced here, whatever the topic's durability
  uint64_t tenure = 0;   // Appended::tenure; 0: whoever leads now
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
  /// A replica that follows may answer, too (a consumer's fetch, KIP-392).
  bool from_follower = false;
};

/// What the leader answered to a FetchPosition of this partition.
struct ReplicaAnswer {
  uint64_t number = 0;
  LeaderEpoch leader_epoch;
  ErrorCode error = ErrorCode::none;
  std::optional<log::EpochEnd> diverging;
  ByteView records;
  Offset high_watermark{0};
  Offset log_start = kNoOffset;
};

/// How a replica stands, for metrics and for the choice of where a consumer reads.
struct ReplicaState {
  BrokerId id = kNoBroker;
  bool in_sync = false;
  Offset log_end = kNoOffset;  // none: not heard in this reign
  Offset durable_end = kNoOffset;
  int64_t behind_ms = 0;  // since it was last caught up
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
    std::shared_ptr<const Standing> standing;  // null: nobody else could lead
  };
  struct Leadership {
    LeaderEpoch epoch;
    std::vector<BrokerId> isr;
    size_t replicas = 1;  // caps min.insync.replicas
    int32_t partition_epoch = 0;
    std::vector<replica::BrokerState> brokers{};  // of the replicas; none: nobody changes the ISR
    int64_t lag_time_max_ms = 30'000;
  };
  enum class Role : uint8_t { none, leader, follower };

  Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
            std::shared_ptr<const PartitionConfig> config, std::unique_ptr<log::Log> log,
            Offset high_watermark = Offset(0));
  /// With its log at rest. Its files, if there are any, are those of a clean close.
  Partition(Environment environment, PartitionName name, Uuid topic_id, std::string directory,
            std::shared_ptr<const PartitionConfig> config, const log::RestingLog& rest,
            Offset high_watermark = Offset(0));
  ~Partition();

  const PartitionName& name() const { return name_; }
  const Uuid& topic_id() const { return topic_id_; }
  /// The data directory that holds the log.
  const std::string& directory() const { return directory_; }
  std::shared_ptr<const PartitionConfig> config() const;
  void configure(std::shared_ptr<const PartitionConfig> config, size_t replicas);
  /// Whether the metadata counts the replica here as in sync: then it is not throttled. From any loop.
  void note_in_sync(bool in_sync) { in_sync_.store(in_sync, std::memory_order_relaxed); }
  bool noted_in_sync() const { return in_sync_.load(std::memory_order_relaxed); }

  /// Begins to lead. What the log holds is synced first (a new incarnation serves nothing that a power cut
  /// could take back), then the epoch is recorded. May block: run it where blocking is allowed. An epoch that
  /// is over, or one without this broker in its ISR, is refused: not_leader_or_follower.
  Status lead(const Leadership& leadership);
  /// The image changed under the epoch that is led already. False: another epoch is, call lead().
  bool on_assignment(const Leadership& leadership);
  /// Follows `leader` (kNoBroker: nobody leads) in `epoch`. Who waits here is told that the time is up: what
  /// was appended may or may not survive. An epoch that is over is ignored. A log at rest is opened first,
  /// and stays open: that blocks. Otherwise (see needs_opening()) it may run on a loop.
  void follow(LeaderEpoch epoch, BrokerId leader);
  bool needs_opening() const { return resting_.load(std::memory_order_acquire); }
  Role role() const;
  /// At rest, and could not be opened for the role that it was given, for want of space: to be told again.
  bool waits_for_room() const;
  /// Leads, but another may by now: the controller has not been heard of for a session, nor has some member
  /// of the ISR, so that nothing could be committed. Then append() and what consumers ask answer
  /// not_leader_or_follower, and tick() tells who waits that the time is up. It ends by itself.
  bool in_doubt(Now now) const;

  // --- the leader's side of replication ---
  /// A replica fetches, told once for each request, before fetch() with Isolation::replica. `proposes`: there
  /// is something for take_proposal().
  replica::FetchOutcome on_replica_fetch(const replica::FollowerFetch& fetch, Now now, bool& proposes);
  /// Lag is looked at; what is to be proposed to the controller now, if anything.
  std::optional<replica::IsrProposal> tick(Now now);
  void on_isr_answer(const replica::IsrAnswer& answer, Now now);
  /// Registers a replica's fetch: told of appends, and of anything else that an answer would say.
  DataWatches::Id watch_as_replica(std::shared_ptr<DataWaiter> waiter, uint64_t tag);
  /// Empty while not leading.
  std::vector<ReplicaState> replica_states() const;

  // --- the follower's side ---
  /// Who fetches from now on, told on its loop when the leader waits for a durable end that it was not told.
  /// What was asked before, maybe by another fetcher, maybe of another leader, is given up: it is asked anew.
  void set_fetcher(std::shared_ptr<DataWaiter> fetcher, uint64_t tag);
  /// Syncs what the log holds beyond its durable end: after a crash there is no append that would, and
  /// without it this replica stays out of the ISR. On `loop`.
  void sync_tail(io::Loop& loop);
  /// What to ask the leader for; nothing: another fetch is out, it is not time yet, nobody leads, or `asker`
  /// is not the fetcher (any more): one that still follows the leader before must not take the question away.
  std::optional<replica::FetchPosition> next_fetch(Now now, const DataWaiter* asker);
  int64_t next_fetch_mono_ms() const;
  /// A durable end that the fetcher is to tell at once, beside the fetch that is out.
  std::optional<replica::FetchPosition> owed_durable_end(const DataWaiter* asker);
  enum class Followed : uint8_t {
    done,  // appended, or told to wait
    cut    // the log is to be cut: call cut_log() where blocking is allowed before the next fetch
  };
  /// Checks and appends what the leader sent. `problem`: what was wrong with it, or none.
  Followed on_replica_answer(const ReplicaAnswer& answer, io::Loop& loop, Now now, ErrorCode& problem);
  /// Does what the last answer called for, unless the role changed meanwhile.
  void cut_log(Now now);
  /// Stops serving (deletion, shutdown): waiters are told, later calls get `why`.
  void stop(ErrorCode why);

  /// Whether append() may go ahead here and now without opening files. If not, `then` is called on `loop`
  /// when it may: with what became of the opening (a failure: nothing was appended, nothing will be). Callers
  /// of one loop go ahead in the order in which they asked.
  bool wake(io::Loop& loop, std::function<void(const Status&)> then);
  /// Whether wake() would say so at once.
  bool awake_for(const io::Loop& loop) const;
  /// Leading with others, and about to be handed to one of them: from now until release_appends() whoever
  /// asks wake() waits. What does not ask is appended. False: there is nothing to hold.
  bool hold_appends();
  /// Who waited goes ahead, and is refused if another leads by now.
  void release_appends();
  /// Whether somebody waits for a commit of what was appended.
  bool commits_awaited() const;
  /// Whether reading at `from` has to open files first.
  bool must_wake_to_read(Offset from) const;

  /// Appends one validated batch; patches it in place. With `acks_all`, not_enough_replicas if the ISR is too
  /// small. kafka_storage_error if the directory is full (for clients) or failed, and for want of space. A
  /// sync is started at the end of the caller's tick when somebody waits for it, within 10 ms otherwise.
  Result<Appended> append(MutableByteView batch, bool acks_all, io::Loop& loop, Now now,
                          Origin origin = Origin::client) {
    return append(std::span<const MutableByteView>(&batch, 1), acks_all, loop, now, origin);
  }
  /// The same for several that follow each other, with one write: all of them or none. After an error of
  /// several each may be appended by itself, which tells what is wrong with it.
  Result<Appended> append(std::span<const MutableByteView> batches, bool acks_all, io::Loop& loop, Now now,
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
  /// Of either kind of watch.
  void rearm(DataWatches::Id id);
  void unwatch(DataWatches::Id id);

  Result<Offsets> offsets(EpochCheck check = {}) const;
  /// That is led or followed; none before lead() or follow().
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
  /// Whether anything of it was found damaged, by whoever read it. Any thread, without a lock.
  bool damaged() const { return damaged_.load(std::memory_order_relaxed); }
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
    Role role = Role::none;
    bool under_replicated = false;  // leading, and the ISR is smaller than the assignment
    bool under_min_isr = false;     // leading, and the ISR is too small for acks=all
    uint64_t isr_shrinks = 0;       // as confirmed by the controller, while led here
    uint64_t isr_expands = 0;
    int64_t replica_lag = 0;  // following: records the leader is known to have beyond the log end
  };
  Usage usage() const;

 private:
  struct Notices;  // who is to be told, gathered under the lock
  struct Waking;   // who waits for the log to be opened, or to be handed over
  Offset log_start_locked() const { return log_ ? log_->log_start_offset() : rest_->log_start; }
  Offset durable_end_locked() const { return log_ ? log_->durable_end() : rest_->log_end; }
  Offset log_end_locked() const { return log_ ? log_->log_end_offset() : rest_->log_end; }
  std::string log_directory() const;
  /// `for_role`: of one that begins to lead or to follow.
  Status open_if_resting(bool for_role = false);
  void woken(const Status& outcome);
  void drain_woken(io::Loop& loop);
  bool retention_due_locked(Now now) const;
  void lay_to_rest();
  Status lay_to_rest_locked();
  void end_waking_locked();
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
  void mark_damaged();
  Error damaged_locked(const std::string& what);
  /// Something came from the medium without being verified: what was verified earlier may have come anew with
  /// it, too.
  void forget_verified_locked();
  void take_waits_locked(Notices& notices);
  void on_ends_locked(Notices& notices);
  void on_mark_locked(Notices& notices);
  void end_tenure_locked(Notices& notices);
  bool in_doubt_locked(int64_t now_mono_ms) const;
  /// none while it leads or follows: the log is kept in order then.
  ErrorCode hosting_locked() const { return follower_ ? ErrorCode::none : stopped_; }
  replica::LocalLog local_log_locked() const;
  void on_follower_log_locked(Notices& notices);
  void note_isr_locked();
  Status append_followed_locked(ByteView records, io::Loop& loop, Now now, Notices& notices);
  Status truncate_locked(Offset offset, Now now);
  Status restart_locked(Offset offset, Now now);
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
  std::atomic<bool> in_sync_ = false;
  std::atomic<bool> resting_ = false;
  std::atomic<bool> asleep_ = false;  // resting, held, or somebody waits for the opening
  std::unique_ptr<Waking> waking_;
  std::optional<replica::Leader> leader_;
  std::optional<replica::Follower> follower_;  // never both
  std::optional<replica::Step> cut_;           // what cut_log() is to do ...
  LeaderEpoch cut_epoch_ = kNoLeaderEpoch;     // ... while this epoch is followed
  Offset known_mark_;                          // committed, as the checkpoint or an earlier role had it
  uint64_t tenure_ = 1;                        // counts the ends of reigns
  bool doubted_ = false;                       // who waited was told of it
  std::shared_ptr<DataWaiter> fetcher_;
  uint64_t fetcher_tag_ = 0;
  bool fetcher_told_ = false;
  std::vector<BrokerId> told_isr_;  // what the counts below have seen
  uint64_t isr_shrinks_ = 0;
  uint64_t isr_expands_ = 0;
  size_t replicas_ = 1;
  ErrorCode stopped_ = ErrorCode::not_leader_or_follower;  // none while serving
  CommitWaits commit_waits_;
  CommitWaits flush_waits_;         // for the durable end alone
  CommitWaits flush_commit_waits_;  // for the durable end, then for the commit
  DataWatches data_watches_;
  DataWatches replica_watches_{true};  // ids are odd, those of data_watches_ even
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
  std::atomic<bool> damaged_ = false;
  uint64_t batches_appended_ = 0;
  uint64_t batches_synced_ = 0;
  bool failure_told_ = false;
  bool used_ = true;     // appended to or read since housekeeping came by
  bool changed_ = true;  // since the last checkpoint
};

}  // namespace millrace::partition
