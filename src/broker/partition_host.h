// The data directories of this broker and the partitions in them. Belongs to the control loop, which plans;
// what touches the disk is in the functions marked blocking and runs on the disk's pool.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/trace.h"
#include "broker/view.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/random.h"
#include "log/data_directory.h"
#include "partition/commit_journal.h"
#include "partition/directory_state.h"
#include "partition/partition.h"

namespace millrace::broker {

inline constexpr std::string_view kMetadataTopic = "__cluster_metadata";

class PartitionHost {
 public:
  struct Params {
    std::vector<std::string> log_dirs;
    std::string cluster_id;  // empty: what the directories say
    BrokerId node_id;
  };
  /// What a partition is to be, from the image.
  struct Spec {
    partition::PartitionName name;
    Uuid topic_id;
    std::shared_ptr<const partition::PartitionConfig> config;
    partition::Partition::Leadership leadership;
    /// Named by the metadata log before this start: its data exist somewhere, unless no directory is missing.
    bool existing = false;
    bool leads = true;  // no: it waits to be told whom to follow
    /// Others have it, and do not count on this replica: it may begin empty.
    bool expendable = false;
  };
  /// Everything open() needs, so that many may run at once.
  struct OpenPlan {
    Spec spec;
    size_t directory = 0;
    std::string path;
    std::vector<std::string> stale;  // of another topic of this name, or damaged: to be moved away first
    bool anew = false;               // what was there is given up, as others have it
    bool create = false;
    bool clean = false;
    std::optional<log::RestingLog> rest;  // the log is at rest: nothing is to be opened
    Offset recovery_point{0};
    Offset log_start{0};
    Offset cleaned_end{0};
    bool log_start_exact = false;  // segments above it are missing if the log begins later
    Offset durable_end{0};         // what the commit file says was synced
    Offset high_watermark{0};      // from the checkpoint
  };

  PartitionHost(io::Disk& disk, const io::Clock& clock, io::Random& random, Trace trace,
                std::function<void(const std::string& partition_path, const Error&)> on_storage_failure);

  /// Whose timers the commit files use; before open_directories().
  void set_loop(io::Loop& loop) { loop_ = &loop; }
  /// What partitions of several replicas ask before they take anything in; before the first open().
  void set_standing(std::shared_ptr<const partition::Standing> standing) { standing_ = std::move(standing); }
  /// What group commit counts into, by data directory; before open_directories().
  void set_sync_metrics(const std::string& directory, partition::SyncMetrics metrics) {
    sync_metrics_[directory] = metrics;
  }
  /// Locks the directories, checks whose they are, reads checkpoints, lists partitions. Blocking, once. A
  /// directory that cannot be read is offline, unless it is the one with the metadata log.
  /// Errors: those of log::DataDirectory::open; invalid_config if two directories belong to two clusters.
  Status open_directories(const Params& params);
  /// The directories this broker registered last: what lies in one that is not there any more, or not any
  /// more the same, is missing. Before the first plan().
  void expect(const std::vector<Uuid>& registered);
  /// Ids to register: those of the directories, and of missing ones whose partitions are missed.
  std::vector<Uuid> ids_to_register() const;
  /// Empty until it is known.
  const std::string& cluster_id() const { return cluster_id_; }
  /// New directories become those of this cluster. Blocking. Errors: inconsistent_cluster_id, those of
  /// writing.
  Status claim(const std::string& cluster_id);
  /// The directory that holds the metadata log.
  const log::DataDirectory& metadata_directory() const { return *directories_.front(); }
  /// Where the metadata log lies: in the first directory.
  std::string metadata_path() const {
    return io::join_path(states_.front()->path(), std::string(kMetadataTopic) + "-0");
  }

  /// Where the partition lies, or the directory with the fewest of those with room. Error:
  /// kafka_storage_error if it lies in a directory that is offline or missing, or if all are offline.
  Result<OpenPlan> plan(Spec spec);
  /// What lies here of the partition is damaged, or missing. As soon as others vouch for its records
  /// (Spec::expendable) it begins anew beside that, and is copied.
  void found_damaged(const log::CommitKey& key) { damaged_.insert(key); }
  /// Opened after a stop that was not clean, it ends before what is known to have been committed: it was not
  /// synced all the time. As if it had been found damaged, but what is there is good.
  const std::set<log::CommitKey>& unsynced() const { return unsynced_; }
  /// Those that have not begun anew.
  const std::set<log::CommitKey>& damaged() const { return damaged_; }
  /// Opens the log, unless it is at rest (as a new one is: its files come with the first append), and begins
  /// to lead. Blocking, any thread.
  Result<PartitionRef> open(const OpenPlan& plan) const;
  /// The partition serves: what was found of it at start is not needed any more.
  void opened(const OpenPlan& plan, const partition::Partition& partition);
  /// Every partition of the first image was planned: the manifests have said what they knew.
  void forget_manifests();
  /// The plan came to nothing: the next plan() of this new partition begins anew.
  void abandon(const OpenPlan& plan);
  /// The path a deleted partition's directory gets.
  std::string tombstone(const partition::Partition& partition);
  void forget(const partition::Partition& partition);
  /// Leftovers of deleted topics found at start.
  std::vector<std::string> take_leftovers() { return std::exchange(leftovers_, {}); }
  /// Reports directories that no partition of the image claimed; forgets the durable ends of topics that
  /// `exists` does not know.
  void report_strays(const std::function<bool(const Uuid& topic_id)>& exists);

  /// The broker epoch of the last stop, if it was clean in every directory.
  std::optional<BrokerEpoch> clean_epoch() const;
  /// Removes the clean-shutdown markers: before the first append. Blocking.
  Status begin_serving();
  /// Writes recovery points, log starts and high watermarks. Blocking; `partitions` of any directory.
  Status write_checkpoints(const std::vector<PartitionRef>& partitions) const;
  /// After every partition was closed: the last durable ends, the manifests of the logs at rest, then the
  /// markers. A directory that holds others (damaged ones, ones that nobody claimed) gets no marker: it would
  /// vouch for them, too. Blocking.
  Status write_clean_markers(const std::vector<PartitionRef>& partitions, BrokerEpoch epoch);

  struct DirectoryInfo {
    std::string path;
    Uuid id;
    std::shared_ptr<partition::DirectoryState> state;
    /// How long an fdatasync takes there: the median of those since the start, before any of a probe at the
    /// start. -1: unknown.
    int64_t sync_us = -1;
  };
  std::vector<DirectoryInfo> directories() const;
  const std::vector<std::shared_ptr<partition::DirectoryState>>& states() const { return states_; }
  /// The state of the directory that holds `path`, or null. Any thread, after open_directories().
  std::shared_ptr<partition::DirectoryState> state_of(const std::string& path) const;
  /// Ok if new partitions can be placed: one directory serves. kafka_storage_error says why there is none.
  /// Any thread, after open_directories().
  Status may_place() const;

 private:
  struct Found {
    size_t directory = 0;
    std::string path;
    std::optional<Uuid> topic_id;
    bool claimed = false;
    bool metadata_torn = false;
    bool empty = false;  // no segment has a byte; looked at only if another one has its name
  };
  struct Checkpoints {
    log::OffsetCheckpoint recovery_points;
    log::OffsetCheckpoint log_starts;
    std::optional<log::TopicIdCheckpoint> topic_ids;  // of which topics those are; nullopt: unknown
    bool is_of(const log::TopicPartition& key, const Uuid& topic_id) const {
      if (!topic_ids) return true;
      const auto it = topic_ids->find(key);
      return it != topic_ids->end() && it->second == topic_id;
    }
    log::OffsetCheckpoint cleaned_ends;
    /// Whether records of exactly this topic's partition are known to have been on disk.
    bool reached_disk(const log::TopicPartition& key, const Uuid& topic_id) const {
      const auto end = recovery_points.find(key);
      if (!topic_ids || end == recovery_points.end() || !is_of(key, topic_id)) return false;
      const auto start = log_starts.find(key);
      return end->second > (start == log_starts.end() ? Offset(0) : start->second);
    }
    log::OffsetCheckpoint high_watermarks;
  };
  size_t directory_index(const std::string& partition_path) const;
  int64_t probe_sync_us(const std::string& directory) const;
  Status agree_on_cluster(const Params& params);
  const log::RestingLog* at_rest(size_t directory, const Spec& spec) const;
  void keep_absent(size_t directory, Checkpoints& sheet) const;
  Status open_directory(const Params& params, size_t index);
  /// Error: corrupt, if it lies in two.
  Status choose_directory(const log::TopicPartition& key, const Uuid& topic_id, bool expendable,
                          OpenPlan& plan);
  bool has_no_record(const std::string& path) const;
  void give_up(const log::TopicPartition& key, OpenPlan& plan, const Uuid& topic_id);
  std::string missing_directories() const;

  /// The durable end of a partition that no directory holds: the directory that lost it, and the end.
  std::optional<std::pair<size_t, Offset>> lost(const log::CommitKey& key) const;

  io::Disk& disk_;
  const io::Clock& clock_;
  io::Random& random_;
  io::Loop* loop_ = nullptr;
  std::shared_ptr<const partition::Standing> standing_;
  Trace trace_;
  std::function<void(const std::string&, const Error&)> on_storage_failure_;
  std::string cluster_id_;
  BrokerId node_id_;
  // By position in log.dirs. Null where the directory could not be opened; its state is failed.
  std::vector<std::unique_ptr<log::DataDirectory>> directories_;
  std::vector<std::shared_ptr<partition::DirectoryState>> states_;
  std::vector<Checkpoints> checkpoints_;
  std::vector<std::optional<log::Manifest>> manifests_;  // of the clean stop before; empty once used
  std::vector<std::shared_ptr<partition::CommitJournal>> journals_;
  std::map<std::string, partition::SyncMetrics> sync_metrics_;
  std::vector<int64_t> probed_us_;
  std::vector<size_t> counts_;
  std::vector<Uuid> missing_ids_;                          // registered, not here
  bool all_missing_ = false;                               // none of those registered is here
  std::set<std::pair<log::TopicPartition, Uuid>> missed_;  // partitions that lie in no directory that is here
  std::set<log::CommitKey> damaged_;
  std::set<log::CommitKey> unsynced_;
  std::map<log::TopicPartition, Found> found_;
  /// Of the same names, in other directories (one failed, its topic was made again elsewhere, it came back).
  std::multimap<log::TopicPartition, Found> rivals_;
  std::vector<std::string> leftovers_;
};

}  // namespace millrace::broker
