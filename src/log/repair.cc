#include "log/repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "log/commit_file.h"
#include "log/epoch_cache.h"
#include "log/file_names.h"
#include "log/lost_ranges.h"
#include "log/manifest.h"
#include "log/partition_metadata.h"

namespace millrace::log {

namespace {

constexpr size_t kCopyPiece = 1 << 20;
constexpr size_t kRepairFileBytesMax = 256u << 20;
constexpr size_t kEpochPosition = 12;  // of the leader epoch in a batch

struct Names {
  std::vector<Offset> segments;
  std::vector<Offset> snapshots;
};

Result<Names> names_in(io::Disk& disk, const std::string& directory) {
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, disk.list(directory));
  Names out;
  for (const io::DirectoryEntry& entry : entries) {
    const std::optional<FileName> name = parse_file_name(entry.name);
    if (!name || name->stage != FileStage::live) continue;
    if (name->kind == FileKind::log) out.segments.push_back(name->offset);
    if (name->kind == FileKind::snapshot) out.snapshots.push_back(name->offset);
  }
  std::sort(out.segments.begin(), out.segments.end());
  std::sort(out.snapshots.begin(), out.snapshots.end());
  return out;
}

/// Copies bytes [from, to) of `source` to `target` at `at`.
Status copy_bytes(const io::File& source, uint64_t from, uint64_t to, io::File& target, uint64_t at) {
  Bytes piece;
  while (from < to) {
    piece.resize(static_cast<size_t>(std::min<uint64_t>(kCopyPiece, to - from)));
    TRY_ASSIGN(const size_t got, source.read_at(from, piece));
    if (got == 0) return Error(ErrorCode::io_error, source.path() + ": shorter than it was");
    TRY(target.write_at(at, ByteView(piece).first(got)));
    from += got;
    at += got;
  }
  return {};
}

Status remove_if_there(io::Disk& disk, const std::string& path) {
  Status removed = disk.remove(path);
  if (!removed && removed.code() == ErrorCode::not_found) return {};
  return removed;
}

Status remove_indexes(io::Disk& disk, const std::string& directory, Offset base, bool txns) {
  TRY(remove_if_there(disk, io::join_path(directory, file_name(base, FileKind::offset_index))));
  TRY(remove_if_there(disk, io::join_path(directory, file_name(base, FileKind::time_index))));
  if (txns) TRY(remove_if_there(disk, io::join_path(directory, file_name(base, FileKind::txn_index))));
  return {};
}

/// The damaged bytes, aside.
Status keep_aside(io::Disk& disk, const std::string& directory, const Loss& loss) {
  const std::string path = io::join_path(directory, lost_name({loss.from, loss.to, loss.position}));
  TRY_ASSIGN(const std::shared_ptr<io::File> source, disk.open(loss.path, io::OpenMode::read));
  TRY_ASSIGN(const std::shared_ptr<io::File> target, disk.open(path, io::OpenMode::create));
  TRY(target->truncate(0));
  TRY(copy_bytes(*source, loss.position, loss.position + loss.bytes, *target, 0));
  return target->sync();
}

/// The segment without the bytes of `losses`, in one step.
Status rewrite_without(io::Disk& disk, const std::string& path, const std::vector<Loss>& losses) {
  const std::string fresh = path + ".tmp";
  TRY_ASSIGN(const std::shared_ptr<io::File> source, disk.open(path, io::OpenMode::read));
  TRY_ASSIGN(const uint64_t size, source->size());
  TRY_ASSIGN(const std::shared_ptr<io::File> target, disk.open(fresh, io::OpenMode::create));
  TRY(target->truncate(0));
  uint64_t from = 0;
  uint64_t at = 0;
  for (const Loss& loss : losses) {
    TRY(copy_bytes(*source, from, loss.position, *target, at));
    at += loss.position - from;
    from = loss.position + loss.bytes;
  }
  TRY(copy_bytes(*source, from, size, *target, at));
  TRY(target->sync());
  return disk.rename(fresh, path);
}

Status cut_epochs(io::Disk& disk, const std::string& directory, Offset end) {
  const std::string path = io::join_path(directory, kEpochCheckpointName);
  const Result<Bytes> content = disk.read_file(path, kRepairFileBytesMax);
  if (!content) return content.code() == ErrorCode::not_found ? Status() : Status(content.error());
  Result<EpochCache> epochs = EpochCache::parse(as_text(*content));
  if (!epochs) return remove_if_there(disk, path);  // made anew at the next start
  if (!epochs->truncate_from_end(end)) return {};
  return disk.replace_file(path, as_bytes(epochs->encode()));
}

}  // namespace

Result<RepairPlan> plan_repair(io::Disk& disk, const std::string& directory, RepairMode mode,
                               const PartitionCheck& check) {
  TRY_ASSIGN(const Names names, names_in(disk, directory));
  RepairPlan plan;
  plan.directory = directory;
  plan.mode = mode;
  plan.segments = names.segments;
  plan.start = std::max(check.log_start.value_or(Offset(0)),
                        names.segments.empty() ? Offset(0) : names.segments.front());
  Offset end = names.segments.empty() ? plan.start : names.segments.front();
  bool dropping = false;
  for (size_t i = 0; i < names.segments.size(); ++i) {
    const std::string path = io::join_path(directory, file_name(names.segments[i], FileKind::log));
    const bool last = i + 1 == names.segments.size();
    const Offset limit = last ? Offset(INT64_MAX) : names.segments[i + 1];
    if (dropping) {  // the whole segment goes
      TRY_ASSIGN(const SegmentWalk walk, walk_segment(disk, path, names.segments[i], limit, nullptr));
      plan.losses.push_back({path, 0, walk.file_bytes, names.segments[i],
                             std::max(walk.end, names.segments[i]), "lies behind the damage"});
      continue;
    }
    TRY_ASSIGN(const SegmentWalk walk, walk_segment(disk, path, names.segments[i], limit, nullptr));
    if (walk.damaged.empty()) {
      end = walk.end;
      continue;
    }
    if (mode == RepairMode::drop_from_damage) {
      const DamagedSpan& first = walk.damaged.front();
      plan.losses.push_back({path, first.position, walk.file_bytes - first.position, first.expected,
                             std::max(walk.end, first.expected), first.what});
      end = first.expected;
      dropping = true;
      continue;
    }
    for (const DamagedSpan& span : walk.damaged) {
      Offset to = span.next != kNoOffset ? span.next : limit;
      if (to == Offset(INT64_MAX)) to = span.expected;
      plan.losses.push_back(
          {path, span.position, span.bytes, span.expected, std::max(to, span.expected), span.what});
    }
    end = walk.end;
  }
  // What was durable once and is nowhere any more.
  Offset reached = std::max(check.recovery_point, check.durable_end);
  if (dropping) {
    for (const Loss& loss : plan.losses) reached = std::max(reached, loss.to);
    Offset covered = plan.losses.front().from;
    for (Loss& loss : plan.losses) covered = std::max(covered, loss.to);
    if (reached > covered)
      plan.losses.push_back({"", 0, 0, covered, reached, "was durable and is not there"});
  } else if (reached > end) {
    plan.losses.push_back({"", 0, 0, end, reached, "was durable and is not there"});
  }
  plan.end = end;
  return plan;
}

Status carry_out(io::Disk& disk, const RepairPlan& plan) {
  for (const Loss& loss : plan.losses) {
    if (!loss.path.empty() && loss.bytes > 0) TRY(keep_aside(disk, plan.directory, loss));
  }
  TRY(disk.sync_directory(plan.directory));
  // Last segments first: an interrupted drop leaves a log that ends at a segment.
  for (auto base = plan.segments.rbegin(); base != plan.segments.rend(); ++base) {
    const std::string path = io::join_path(plan.directory, file_name(*base, FileKind::log));
    std::vector<Loss> here;
    for (const Loss& loss : plan.losses) {
      if (loss.path == path) here.push_back(loss);
    }
    if (here.empty()) continue;
    const bool drop = plan.mode == RepairMode::drop_from_damage;
    TRY(remove_indexes(disk, plan.directory, *base, true));
    if (drop && here.front().position == 0 && *base != plan.segments.front()) {
      TRY(disk.remove(path));
    } else if (drop) {
      TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::write));
      TRY(file->truncate(here.front().position));
      TRY(file->sync());
    } else {
      TRY(rewrite_without(disk, path, here));
    }
    TRY(disk.sync_directory(plan.directory));
  }
  TRY_ASSIGN(const Names names, names_in(disk, plan.directory));
  for (const Offset snapshot : names.snapshots) {
    if (snapshot > plan.end)
      TRY(disk.remove(io::join_path(plan.directory, file_name(snapshot, FileKind::snapshot))));
  }
  for (const Offset base : names.segments) {
    const std::string path = io::join_path(plan.directory, file_name(base, FileKind::log));
    TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::write));
    TRY(file->sync());  // the end is about to be called durable
  }
  TRY(cut_epochs(disk, plan.directory, plan.end));
  return disk.sync_directory(plan.directory);
}

namespace {

/// What the manifest says of the log is over: the next start opens it and looks.
Status leave_manifest(io::Disk& disk, const std::string& data_directory, const TopicPartition& name) {
  const std::string path = io::join_path(data_directory, kManifestName);
  const Result<Bytes> content = disk.read_file(path, kManifestBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return {};
  if (!content) return content.error();
  Result<Manifest> manifest = parse_manifest(*content);
  if (!manifest) return disk.remove(path);
  for (Manifest::Topic& topic : manifest->topics) {
    if (topic.name != name.topic) continue;
    std::erase_if(topic.partitions, [&](const Manifest::Entry& e) { return e.partition == name.partition; });
  }
  return disk.replace_file(path, encode_manifest(*manifest));
}

}  // namespace

Status record_end(io::Disk& disk, const std::string& data_directory, const PartitionKey& key,
                  std::optional<Offset> end) {
  TRY(leave_manifest(disk, data_directory, key.name));
  const std::string commit_path = io::join_path(data_directory, kCommitFileName);
  std::optional<CommitFile::Replayed> known;
  std::optional<Offset> start;
  if (key.topic_id) {
    const Result<Bytes> content = disk.read_file(commit_path, kRepairFileBytesMax);
    if (!content && content.code() != ErrorCode::not_found) return content.error();
    if (content) known = CommitFile::replay(*content);  // a torn tail is no entry
  }
  if (known) {
    const CommitKey commit_key{*key.topic_id, key.name.partition};
    known->caps.erase(commit_key);  // the recovery point that is written below holds
    if (end) {
      known->ends[commit_key] = *end;
    } else {
      known->ends.erase(commit_key);
    }
    // Segments at the beginning may be gone for good: from now on the checkpoint alone says where it begins.
    if (const auto it = known->starts.find(commit_key); it != known->starts.end()) {
      start = it->second;
      known->starts.erase(it);
    }
  }
  for (const std::string_view name :
       {kRecoveryPointCheckpoint, kHighWatermarkCheckpoint, kLogStartCheckpoint, kCleanerCheckpoint}) {
    const std::string path = io::join_path(data_directory, name);
    const Result<Bytes> content = disk.read_file(path, kRepairFileBytesMax);
    if (!content && content.code() == ErrorCode::not_found) continue;
    if (!content) return content.error();
    Result<OffsetCheckpoint> checkpoint = parse_checkpoint(as_text(*content));
    if (!checkpoint) return Error(ErrorCode::corrupt, path + ": " + checkpoint.error().message);
    const auto it = checkpoint->find(key.name);
    if (!end) {
      if (it == checkpoint->end()) continue;
      checkpoint->erase(it);
    } else if (name == kRecoveryPointCheckpoint) {
      (*checkpoint)[key.name] = *end;
    } else if (name == kLogStartCheckpoint && start) {
      (*checkpoint)[key.name] = std::min(*end, *start);
    } else {
      if (it == checkpoint->end() || it->second <= *end) continue;
      it->second = *end;
    }
    TRY(disk.replace_file(path, as_bytes(encode_checkpoint(*checkpoint))));
  }
  return known ? disk.replace_file(commit_path, CommitFile::encode_all(*known)) : Status();
}

Status vouch(io::Disk& disk, const std::string& data_directory, const CommitKey& key, Offset end) {
  const std::string path = io::join_path(data_directory, kCommitFileName);
  const Result<Bytes> content = disk.read_file(path, kRepairFileBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return {};
  if (!content) return content.error();
  CommitFile::Replayed known = CommitFile::replay(*content);
  known.ends[key] = end;
  return disk.replace_file(path, CommitFile::encode_all(known));
}

Result<Adopted> adopt(io::Disk& disk, const std::string& directory, const Adoption& adoption) {
  TRY_ASSIGN(const Names names, names_in(disk, directory));
  Adopted out;
  if (!names.segments.empty()) out.start = out.end = names.segments.front();
  // Nothing is changed before everything has been read.
  std::vector<std::vector<uint64_t>> to_patch(names.segments.size());
  std::optional<Offset> first;
  for (size_t i = 0; i < names.segments.size(); ++i) {
    const std::string path = io::join_path(directory, file_name(names.segments[i], FileKind::log));
    const bool last = i + 1 == names.segments.size();
    TRY_ASSIGN(const SegmentWalk walk,
               walk_segment(disk, path, names.segments[i], last ? Offset(INT64_MAX) : names.segments[i + 1],
                            [&](const WalkedBatch& b) {
                              ++out.batches;
                              if (!first) first = b.header.base_offset;
                              if (b.header.leader_epoch != adoption.leader_epoch)
                                to_patch[i].push_back(b.position);
                            }));
    out.end = walk.end;
    for (const DamagedSpan& span : walk.damaged) {
      if (last && span.next == kNoOffset) continue;  // a torn tail: cut at the next start
      return Error(ErrorCode::corrupt,
                   fmt::format("{}: {} at position {}, offset {}: repair it first (`millrace disk repair`)",
                               path, span.what, span.position, span.expected.v));
    }
  }
  Bytes epoch(4);
  store_be(epoch.data(), adoption.leader_epoch.v);
  for (size_t i = 0; i < names.segments.size(); ++i) {
    const std::string path = io::join_path(directory, file_name(names.segments[i], FileKind::log));
    TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::write));
    for (const uint64_t position : to_patch[i]) TRY(file->write_at(position + kEpochPosition, epoch));
    TRY(file->sync());
    out.rewritten += to_patch[i].size();
  }
  EpochCache epochs;
  if (first) (void)epochs.assign(adoption.leader_epoch, *first);
  TRY(disk.replace_file(io::join_path(directory, kEpochCheckpointName), as_bytes(epochs.encode())));
  TRY(write_partition_metadata(disk, directory, adoption.topic_id));
  return out;
}

}  // namespace millrace::log
