// One data directory (an entry of log.dirs): its lock, its identity, the clean-shutdown marker, the
// partitions it holds and the three checkpoint files. Owned by the composition root; calls may block
// (startup, shutdown, the checkpoint timer through io::Disk::run).
//
//   meta.properties       version=1, cluster.id, node.id, directory.id (Java properties, # comments)
//   .kafka_cleanshutdown  {"version":0,"brokerEpoch":N}; there only between a clean stop and the next start
//   log-manifest          what the clean stop knew of every log (log/manifest.h)
//   .lock                 held while a process uses the directory
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "io/disk.h"
#include "log/checkpoints.h"
#include "log/file_names.h"
#include "log/manifest.h"

namespace millrace::log {

struct MetaProperties {
  std::string cluster_id;  // empty until the cluster is known
  BrokerId node_id = kNoBroker;
  Uuid directory_id;
};

/// There from a clean stop to the next start.
inline constexpr std::string_view kCleanMarkerName = ".kafka_cleanshutdown";
/// The number after "brokerEpoch" in the marker (ours or Kafka's); nothing if there is none.
std::optional<BrokerEpoch> marker_broker_epoch(std::string_view json);

std::string encode_meta_properties(const MetaProperties& meta);
Result<MetaProperties> parse_meta_properties(std::string_view text);

struct PartitionDirectory {
  std::string path;
  std::string topic;
  PartitionId partition;
  std::optional<Uuid> topic_id;  // from partition.metadata; nullopt: none or unreadable
  bool metadata_torn = false;    // the file is there, but not what was written to it
};

struct DirectoryListing {
  std::vector<PartitionDirectory> partitions;  // sorted by topic, partition
  std::vector<std::string> being_deleted;      // paths: remove_tree them
  std::vector<std::string> unknown;            // paths that are no partition
};

class DataDirectory {
 public:
  struct Params {
    std::string path;
    std::string cluster_id;  // empty: not known yet, claim() follows
    BrokerId node_id = kNoBroker;
    Uuid new_directory_id;  // used if the directory is new
    bool create = true;     // make the directory and its meta.properties if absent
  };

  /// Makes, locks and checks the directory. Errors: already_exists (another process holds it), not_found,
  /// inconsistent_cluster_id, invalid_config (another node's directory), corrupt (meta.properties), io_error.
  static Result<std::unique_ptr<DataDirectory>> open(io::Disk& disk, Params params, Trace trace);

  const std::string& path() const { return path_; }
  const Uuid& id() const { return meta_.directory_id; }
  const MetaProperties& meta() const { return meta_; }
  /// Whether meta.properties was made by this open.
  bool is_new() const { return is_new_; }

  /// Makes the directory one of this cluster. Errors: inconsistent_cluster_id, no_space, io_error.
  Status claim(const std::string& cluster_id);

  // --- clean shutdown ---
  /// Whether the last stop was clean (the marker was there at open), and the broker epoch it names.
  bool was_clean() const { return was_clean_; }
  std::optional<BrokerEpoch> last_broker_epoch() const { return last_broker_epoch_; }
  /// Removes the marker, directory synced: before the first append.
  Status remove_clean_marker();
  /// After every log was closed cleanly.
  Status write_clean_marker(BrokerEpoch epoch);

  /// The manifest of the clean stop before this start; nullopt if that was none, or wrote none that can be
  /// read: every log is then to be opened. Call it before the marker is removed. Errors: io_error.
  Result<std::optional<Manifest>> read_manifest();
  /// After every log was closed cleanly, before the marker.
  Status write_manifest(const Manifest& manifest);

  /// What lies here. Partitions that `known` names are taken by their names; of the others partition.metadata
  /// is read.
  Result<DirectoryListing> list(const Manifest* known = nullptr);
  std::string partition_path(std::string_view topic, PartitionId partition) const;

  // --- checkpoints: an absent file is an empty one; a damaged one is `corrupt` ---
  Result<OffsetCheckpoint> read_checkpoint(std::string_view name);
  Status write_checkpoint(std::string_view name, const OffsetCheckpoint& checkpoint);
  /// Which topics the numbers of the checkpoints are of; nullopt: nobody said (no file, or a damaged one).
  /// Written after them: one that still names the topic before costs a longer recovery, nothing else.
  Result<std::optional<TopicIdCheckpoint>> read_topic_ids();
  Status write_topic_ids(const TopicIdCheckpoint& ids);

 private:
  DataDirectory(io::Disk& disk, Params params, Trace trace);
  Status load(const Params& params);

  io::Disk& disk_;
  Trace trace_;
  std::string path_;
  MetaProperties meta_;
  bool is_new_ = false;
  bool was_clean_ = false;
  std::optional<BrokerEpoch> last_broker_epoch_;
  std::unique_ptr<io::DirectoryLock> lock_;
};

}  // namespace millrace::log
