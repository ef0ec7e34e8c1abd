#include "log/data_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "log/partition_metadata.h"
#include "log/text_lines.h"

namespace millrace::log {

namespace {

constexpr std::string_view kMetaPropertiesName = "meta.properties";
constexpr std::string_view kMetadataTopicName = "__cluster_metadata";
constexpr size_t kSmallFileBytesMax = 64 * 1024;
constexpr size_t kCheckpointBytesMax = 256u << 20;

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\f");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\f") - first + 1);
}

}  // namespace

std::optional<BrokerEpoch> marker_broker_epoch(std::string_view json) {
  constexpr std::string_view kKey = "\"brokerEpoch\"";
  const size_t key = json.find(kKey);
  if (key == std::string_view::npos) return std::nullopt;
  std::string_view rest = json.substr(key + kKey.size());
  const size_t digits = rest.find_first_of("-0123456789");
  if (digits == std::string_view::npos || trimmed(rest.substr(0, digits)) != ":") return std::nullopt;
  rest.remove_prefix(digits);
  const std::optional<int64_t> value = parse_decimal(rest.substr(0, rest.find_first_not_of("-0123456789")));
  if (!value) return std::nullopt;
  return BrokerEpoch(*value);
}

std::string encode_meta_properties(const MetaProperties& meta) {
  const std::string cluster =
      meta.cluster_id.empty() ? std::string() : fmt::format("cluster.id={}\n", meta.cluster_id);
  return fmt::format("#\n{}directory.id={}\nnode.id={}\nversion=1\n", cluster, meta.directory_id.to_string(),
                     meta.node_id.v);
}

Result<MetaProperties> parse_meta_properties(std::string_view text) {
  std::map<std::string_view, std::string_view> properties;
  TextLines lines(text);
  while (const std::optional<std::string_view> raw = lines.next()) {
    const std::string_view line = trimmed(*raw);
    if (line.empty() || line[0] == '#' || line[0] == '!') continue;
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) {
      return Error(ErrorCode::parse_error, fmt::format("no '=' in line {}", lines.number()));
    }
    properties[trimmed(line.substr(0, equals))] = trimmed(line.substr(equals + 1));
  }
  if (properties["version"] != "1") return Error(ErrorCode::parse_error, "version is not 1");
  MetaProperties meta;
  meta.cluster_id = std::string(properties["cluster.id"]);
  const std::optional<int64_t> node = parse_decimal(properties["node.id"]);
  if (!node || *node < 0 || *node > INT32_MAX)
    return Error(ErrorCode::parse_error, "node.id is missing or no id");
  meta.node_id = BrokerId(static_cast<int32_t>(*node));
  Result<Uuid> id = Uuid::parse(properties["directory.id"]);
  if (!id) return Error(ErrorCode::parse_error, "directory.id is missing or no id");
  meta.directory_id = *id;
  return meta;
}

DataDirectory::DataDirectory(io::Disk& disk, Params params, Trace trace)
    : disk_(disk), trace_(std::move(trace)), path_(std::move(params.path)) {}

Result<std::unique_ptr<DataDirectory>> DataDirectory::open(io::Disk& disk, Params params, Trace trace) {
  std::unique_ptr<DataDirectory> out(new DataDirectory(disk, params, std::move(trace)));
  TRY(out->load(params));
  return out;
}

Status DataDirectory::load(const Params& params) {
  if (!disk_.exists(path_)) {
    if (!params.create)
      return Error(ErrorCode::not_found, fmt::format("data directory {} does not exist", path_));
    TRY(disk_.make_directories(path_));
    TRY(disk_.sync_directory(io::parent_path(path_)));
  }
  Result<std::unique_ptr<io::DirectoryLock>> lock = disk_.lock_directory(path_);
  if (!lock) {
    if (lock.code() != ErrorCode::already_exists) return std::move(lock).error();
    return Error(ErrorCode::already_exists,
                 fmt::format("data directory {} is in use by another process", path_));
  }
  lock_ = std::move(*lock);

  const std::string meta_path = io::join_path(path_, kMetaPropertiesName);
  Result<Bytes> content = disk_.read_file(meta_path, kSmallFileBytesMax);
  if (!content && content.code() == ErrorCode::not_found) {
    if (!params.create) return Error(ErrorCode::not_found, fmt::format("{} does not exist", meta_path));
    // Partitions without an identity are somebody's data: not to be adopted silently.
    TRY_ASSIGN(const DirectoryListing listing, list());
    if (!listing.partitions.empty()) {
      return Error(ErrorCode::corrupt,
                   fmt::format("{} holds partitions but no {}", path_, kMetaPropertiesName));
    }
    meta_ = {params.cluster_id, params.node_id, params.new_directory_id};
    TRY(disk_.replace_file(meta_path, as_bytes(encode_meta_properties(meta_))));
    is_new_ = true;
    return {};
  }
  if (!content) return std::move(content).error();
  Result<MetaProperties> meta = parse_meta_properties(as_text(*content));
  if (!meta) return Error(ErrorCode::corrupt, fmt::format("{}: {}", meta_path, meta.error().message));
  meta_ = *meta;
  if (meta_.cluster_id.empty()) {
    // Only a directory whose cluster was never known may lack it: it holds no partition yet.
    TRY_ASSIGN(const DirectoryListing listing, list());
    for (const PartitionDirectory& d : listing.partitions) {
      if (d.topic == kMetadataTopicName) continue;
      return Error(ErrorCode::corrupt, fmt::format("{}: cluster.id is missing", meta_path));
    }
  }
  if (params.cluster_id.empty()) {
    // Whoever opened it learns the cluster from here, or claims it.
  } else if (meta_.cluster_id.empty()) {
    TRY(claim(params.cluster_id));
  } else if (meta_.cluster_id != params.cluster_id) {
    return Error(ErrorCode::inconsistent_cluster_id,
                 fmt::format("data directory {} belongs to cluster {}, this node to cluster {}", path_,
                             meta_.cluster_id, params.cluster_id));
  }
  if (meta_.node_id != params.node_id) {
    return Error(ErrorCode::invalid_config,
                 fmt::format("data directory {} belongs to node {}, this is node {}", path_, meta_.node_id.v,
                             params.node_id.v));
  }
  Result<Bytes> marker = disk_.read_file(io::join_path(path_, kCleanMarkerName), kSmallFileBytesMax);
  if (marker) {
    was_clean_ = true;
    last_broker_epoch_ = marker_broker_epoch(as_text(*marker));
  } else if (marker.code() != ErrorCode::not_found) {
    return std::move(marker).error();
  }
  return {};
}

Status DataDirectory::claim(const std::string& cluster_id) {
  if (meta_.cluster_id == cluster_id) return {};
  if (!meta_.cluster_id.empty()) {
    return Error(ErrorCode::inconsistent_cluster_id,
                 fmt::format("data directory {} belongs to cluster {}, not to {}", path_, meta_.cluster_id,
                             cluster_id));
  }
  MetaProperties claimed = meta_;
  claimed.cluster_id = cluster_id;
  TRY(disk_.replace_file(io::join_path(path_, kMetaPropertiesName),
                         as_bytes(encode_meta_properties(claimed))));
  meta_ = std::move(claimed);
  return {};
}

Status DataDirectory::remove_clean_marker() {
  Status removed = disk_.remove(io::join_path(path_, kCleanMarkerName));
  if (!removed && removed.code() != ErrorCode::not_found) return removed;
  return disk_.sync_directory(path_);
}

Status DataDirectory::write_clean_marker(BrokerEpoch epoch) {
  return disk_.replace_file(io::join_path(path_, kCleanMarkerName),
                            as_bytes(fmt::format("{{\"version\":0,\"brokerEpoch\":{}}}", epoch.v)));
}

Result<std::optional<Manifest>> DataDirectory::read_manifest() {
  if (!was_clean_ || !last_broker_epoch_) return std::optional<Manifest>();
  const std::string path = io::join_path(path_, kManifestName);
  Result<Bytes> content = disk_.read_file(path, kManifestBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return std::optional<Manifest>();
  if (!content) return std::move(content).error();
  Result<Manifest> parsed = parse_manifest(*content);
  if (!parsed) {
    trace_.warn("{}: {}; every log is opened", path, parsed.error().message);
    return std::optional<Manifest>();
  }
  if (parsed->broker_epoch != *last_broker_epoch_) {
    trace_.info("{} is of broker epoch {}, the last stop of {}: every log is opened", path,
                parsed->broker_epoch.v, last_broker_epoch_->v);
    return std::optional<Manifest>();
  }
  return std::optional<Manifest>(std::move(*parsed));
}

Status DataDirectory::write_manifest(const Manifest& manifest) {
  return disk_.replace_file(io::join_path(path_, kManifestName), encode_manifest(manifest));
}

Result<DirectoryListing> DataDirectory::list(const Manifest* known) {
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, disk_.list(path_));
  DirectoryListing out;
  for (const io::DirectoryEntry& entry : entries) {
    if (!entry.is_directory) continue;
    const std::string path = io::join_path(path_, entry.name);
    const std::optional<PartitionName> name = parse_partition_directory(entry.name);
    if (!name) {
      out.unknown.push_back(path);
      continue;
    }
    if (name->being_deleted) {
      out.being_deleted.push_back(path);
      continue;
    }
    PartitionDirectory partition{path, name->topic, name->partition, std::nullopt};
    const Manifest::Topic* topic = known == nullptr ? nullptr : known->find(name->topic);
    if (topic != nullptr && Manifest::find(*topic, name->partition) != nullptr) {
      partition.topic_id = topic->id;
      out.partitions.push_back(std::move(partition));
      continue;
    }
    Result<std::optional<PartitionMetadata>> metadata = read_partition_metadata(disk_, path);
    if (metadata && *metadata) {
      partition.topic_id = (*metadata)->topic_id;
    } else if (!metadata) {
      trace_.warn("{}: {}", path, metadata.error().message);
      partition.metadata_torn = metadata.code() == ErrorCode::parse_error;
    }
    out.partitions.push_back(std::move(partition));
  }
  std::sort(out.partitions.begin(), out.partitions.end(), [](const auto& a, const auto& b) {
    return a.topic != b.topic ? a.topic < b.topic : a.partition < b.partition;
  });
  return out;
}

std::string DataDirectory::partition_path(std::string_view topic, PartitionId partition) const {
  return io::join_path(path_, partition_directory_name(topic, partition));
}

Result<OffsetCheckpoint> DataDirectory::read_checkpoint(std::string_view name) {
  const std::string path = io::join_path(path_, name);
  Result<Bytes> content = disk_.read_file(path, kCheckpointBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return OffsetCheckpoint();
  if (!content) return std::move(content).error();
  Result<OffsetCheckpoint> parsed = parse_checkpoint(as_text(*content));
  if (!parsed) return Error(ErrorCode::corrupt, fmt::format("{}: {}", path, parsed.error().message));
  return parsed;
}

Status DataDirectory::write_checkpoint(std::string_view name, const OffsetCheckpoint& checkpoint) {
  return disk_.replace_file(io::join_path(path_, name), as_bytes(encode_checkpoint(checkpoint)));
}

Result<std::optional<TopicIdCheckpoint>> DataDirectory::read_topic_ids() {
  const std::string path = io::join_path(path_, kTopicIdCheckpoint);
  Result<Bytes> content = disk_.read_file(path, kCheckpointBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return std::optional<TopicIdCheckpoint>();
  if (!content) return std::move(content).error();
  Result<TopicIdCheckpoint> parsed = parse_topic_ids(as_text(*content));
  if (!parsed) {
    trace_.warn("{}: {}, the checkpoints are taken for what they are called", path, parsed.error().message);
    return std::optional<TopicIdCheckpoint>();
  }
  return std::optional<TopicIdCheckpoint>(std::move(*parsed));
}

Status DataDirectory::write_topic_ids(const TopicIdCheckpoint& ids) {
  return disk_.replace_file(io::join_path(path_, kTopicIdCheckpoint), as_bytes(encode_topic_ids(ids)));
}

}  // namespace millrace::log
