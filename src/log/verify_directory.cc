// The files of a data directory beside its partitions.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "log/data_directory.h"
#include "log/file_names.h"
#include "log/manifest.h"
#include "log/partition_metadata.h"
#include "log/verify.h"

namespace millrace::log {

namespace {

constexpr size_t kDirectoryFileBytesMax = 256u << 20;

/// The content, or nothing if the file is not there; what cannot be read is a finding.
std::optional<Bytes> content_of(io::Disk& disk, const std::string& path, Findings& findings) {
  Result<Bytes> content = disk.read_file(path, kDirectoryFileBytesMax);
  if (content) return std::move(*content);
  if (content.code() != ErrorCode::not_found) {
    findings.add({Severity::damage, path, {}, kNoOffset, content.error().message});
  }
  return std::nullopt;
}

/// The same, parsed; what does not parse is a finding.
template <class Parse>
auto parsed_file(io::Disk& disk, const std::string& path, Findings& findings, Parse parse)
    -> std::optional<std::remove_cvref_t<decltype(*parse(ByteView()))>> {
  const std::optional<Bytes> content = content_of(disk, path, findings);
  if (!content) return std::nullopt;
  auto parsed = parse(ByteView(*content));
  if (parsed) return std::move(*parsed);
  findings.add({Severity::damage, path, {}, kNoOffset, parsed.error().message});
  return std::nullopt;
}

OffsetCheckpoint checkpoint_of(io::Disk& disk, const std::string& path, Findings& findings) {
  const auto parse = [](ByteView content) { return parse_checkpoint(as_text(content)); };
  return parsed_file(disk, path, findings, parse).value_or(OffsetCheckpoint());
}

/// What was closed cleanly lies in files that the manifest names; a start does not open them to see. A
/// manifest of an older stop than `closed` says nothing.
void check_manifest(io::Disk& disk, std::optional<BrokerEpoch> closed, DirectoryVerdict& out) {
  const std::string path = io::join_path(out.path, kManifestName);
  const std::optional<Manifest> manifest = parsed_file(disk, path, out.findings, parse_manifest);
  if (!manifest || manifest->broker_epoch != closed) return;
  std::set<std::pair<Uuid, PartitionId>> here;
  for (const PartitionDirectory& d : out.partitions) {
    if (d.topic_id) here.emplace(*d.topic_id, d.partition);
  }
  for (const Manifest::Topic& topic : manifest->topics) {
    for (const Manifest::Entry& e : topic.partitions) {
      if (!e.log.on_disk() || here.contains({topic.id, e.partition})) continue;
      out.findings.add({Severity::damage,
                        path,
                        {},
                        e.log.log_end,
                        fmt::format("{}-{} was closed with records up to here and has no directory",
                                    topic.name, e.partition.v)});
    }
  }
}

void check_agreement(DirectoryVerdict& out) {
  const auto known = [&](const TopicPartition& key) {
    return std::any_of(out.partitions.begin(), out.partitions.end(), [&](const PartitionDirectory& d) {
      return d.topic == key.topic && d.partition == key.partition;
    });
  };
  const std::string points = io::join_path(out.path, kRecoveryPointCheckpoint);
  for (const auto& [key, point] : out.recovery_points) {
    if (point > Offset(0) && !known(key)) {
      out.findings.add({Severity::note,
                        points,
                        {},
                        point,
                        fmt::format("{}-{} has no directory here", key.topic, key.partition.v)});
    }
    const auto start = out.log_starts.find(key);
    if (start != out.log_starts.end() && start->second > point && out.clean) {
      out.findings.add({Severity::damage,
                        points,
                        {},
                        point,
                        fmt::format("{}-{} begins at offset {}, beyond its recovery point", key.topic,
                                    key.partition.v, start->second.v)});
    }
  }
}

}  // namespace

Result<DirectoryVerdict> verify_directory(io::Disk& disk, const std::string& path) {
  DirectoryVerdict out;
  out.path = path;
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, disk.list(path));
  const auto add = [&](Severity severity, std::string where, std::string what) {
    out.findings.add({severity, std::move(where), {}, kNoOffset, std::move(what)});
  };
  const std::string meta_path = io::join_path(path, "meta.properties");
  if (const std::optional<Bytes> content = content_of(disk, meta_path, out.findings)) {
    Result<MetaProperties> meta = parse_meta_properties(as_text(*content));
    if (meta) {
      out.meta = *meta;
    } else {
      add(Severity::damage, meta_path, meta.error().message);
    }
  } else {
    add(Severity::damage, meta_path, "is missing: this is no data directory, or not a whole one");
  }
  const std::optional<Bytes> marker = content_of(disk, io::join_path(path, kCleanMarkerName), out.findings);
  out.clean = marker.has_value();
  if (!out.clean) add(Severity::note, path, "was not closed cleanly: the next start recovers its logs");
  out.recovery_points = checkpoint_of(disk, io::join_path(path, kRecoveryPointCheckpoint), out.findings);
  out.log_starts = checkpoint_of(disk, io::join_path(path, kLogStartCheckpoint), out.findings);
  out.high_watermarks = checkpoint_of(disk, io::join_path(path, kHighWatermarkCheckpoint), out.findings);
  out.cleaned_ends = checkpoint_of(disk, io::join_path(path, kCleanerCheckpoint), out.findings);
  out.topic_ids = parsed_file(disk, io::join_path(path, kTopicIdCheckpoint), out.findings,
                              [](ByteView content) { return parse_topic_ids(as_text(content)); });
  const std::string commit_path = io::join_path(path, kCommitFileName);
  if (const std::optional<Bytes> content = content_of(disk, commit_path, out.findings)) {
    CommitFile::Replayed known = CommitFile::replay(*content);
    const size_t sound = known.bytes;
    out.durable_ends = std::move(known.ends);
    out.recovery_caps = std::move(known.caps);
    out.recorded_starts = std::move(known.starts);
    if (known.damaged) add(Severity::damage, commit_path, "a frame in the middle does not verify");
    // Room that was reserved for appends is no frame.
    const bool zeros = std::all_of(content->begin() + static_cast<std::ptrdiff_t>(sound), content->end(),
                                   [](uint8_t b) { return b == 0; });
    if (sound < content->size() && !zeros) {
      out.findings.add(
          {Severity::note, commit_path, sound, kNoOffset,
           fmt::format("{} bytes at the end are no frame (a torn tail)", content->size() - sound)});
    }
  }
  for (const io::DirectoryEntry& entry : entries) {
    const std::string where = io::join_path(path, entry.name);
    if (!entry.is_directory) {
      if (entry.name.ends_with(".tmp")) add(Severity::note, where, "left by an interrupted replacement");
      continue;
    }
    const std::optional<PartitionName> name = parse_partition_directory(entry.name);
    if (!name) {
      add(Severity::note, where, "is no partition");
      continue;
    }
    if (name->being_deleted) {
      add(Severity::note, where, "a deleted partition; removed at the next start");
      continue;
    }
    PartitionDirectory partition{where, name->topic, name->partition, std::nullopt};
    const Result<std::optional<PartitionMetadata>> metadata = read_partition_metadata(disk, where);
    if (metadata && *metadata) partition.topic_id = (*metadata)->topic_id;
    out.partitions.push_back(std::move(partition));
  }
  check_agreement(out);
  if (marker) check_manifest(disk, marker_broker_epoch(as_text(*marker)), out);
  return out;
}

PartitionCheck check_of(const DirectoryVerdict& directory, const PartitionDirectory& partition) {
  PartitionCheck check;
  check.clean = directory.clean;
  const TopicPartition key{partition.topic, partition.partition};
  const auto id = directory.topic_ids ? directory.topic_ids->find(key) : TopicIdCheckpoint::const_iterator();
  if (directory.topic_ids && (id == directory.topic_ids->end() || id->second != partition.topic_id)) {
    check.clean = false;  // the numbers are of another topic of this name
  } else if (const auto it = directory.recovery_points.find(key); it != directory.recovery_points.end()) {
    check.recovery_point = it->second;
  } else {
    check.clean = false;  // moved in, or made after the last checkpoint: it is recovered as a whole
  }
  if (const auto it = directory.log_starts.find(key); it != directory.log_starts.end())
    check.log_start = it->second;
  if (partition.topic_id) {
    const auto it = directory.durable_ends.find({*partition.topic_id, partition.partition});
    if (it != directory.durable_ends.end()) check.durable_end = it->second;
    const auto cap = directory.recovery_caps.find({*partition.topic_id, partition.partition});
    if (cap != directory.recovery_caps.end() && cap->second >= Offset(0))
      check.recovery_point = std::min(check.recovery_point, cap->second);
    const auto start = directory.recorded_starts.find({*partition.topic_id, partition.partition});
    if (start != directory.recorded_starts.end()) check.log_start = start->second;
  }
  return check;
}

}  // namespace millrace::log
