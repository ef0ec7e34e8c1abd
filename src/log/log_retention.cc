// What leaves the log: retention, DeleteRecords, truncation, removal.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/plants.h"
#include "log/file_names.h"
#include "log/log.h"

namespace millrace::log {

namespace {

constexpr size_t kKeptSnapshotBytesMax = 512u << 20;

}  // namespace

// Renames a segment's files: gone from the log at once (also for a later open), removed when readers that
// hold regions of it have had time to finish. The indexes go first: a segment without them can be repaired.
Status Log::retire(Segment& segment, Now now) {
  constexpr std::array kKinds{FileKind::offset_index, FileKind::time_index, FileKind::txn_index,
                              FileKind::log};
  PendingRemoval removal;
  removal.due_mono_ms = now.mono_ms + config_.file_delete_delay_ms;
  for (const FileKind kind : kKinds) {
    const std::string path = segment.path_of(kind);
    const std::string to = path + std::string(kDeletedSuffix);
    Status renamed = disk_.rename(path, to);
    if (!renamed) {
      if (renamed.code() == ErrorCode::not_found && kind != FileKind::log) continue;
      return renamed;
    }
    removal.paths.push_back(to);
  }
  ++names_version_;
  std::erase(loaded_, segment.base_offset());
  pending_.push_back(std::move(removal));
  return {};
}

Result<Retention> Log::plan_retention(Now now, Offset high_watermark) {
  const ScratchLease lease(scratch_);
  TRY(usable());
  Retention out;
  const auto expired = [&](Segment& segment) -> Result<bool> {
    if (!config_.delete_policy || config_.retention_ms < 0 || segment.empty()) return false;
    TRY_ASSIGN(int64_t latest, segment.max_timestamp(scratch_, config_.index_interval_bytes));
    if (latest < 0 && segment.next_offset() <= cleaned_end_) return true;  // compaction left no record in it
    if (latest < 0) latest = segment.first_append_wall_ms.value_or(now.wall_ms);
    return now.wall_ms - latest > config_.retention_ms;
  };
  // Bytes that may still go before the log would be smaller than retention.bytes.
  uint64_t excess = 0;
  if (config_.delete_policy && config_.retention_bytes >= 0 &&
      size_bytes_ > static_cast<uint64_t>(config_.retention_bytes)) {
    excess = size_bytes_ - static_cast<uint64_t>(config_.retention_bytes);
  }
  size_t count = 0;
  for (; count < segments_.size(); ++count) {
    Segment& segment = *segments_[count];
    const bool is_active = count + 1 == segments_.size();
    if (segment.dirty || segment.next_offset() > high_watermark) break;
    if (swap_base_ != kNoOffset && segment.next_offset() > swap_base_) break;  // next time
    TRY_ASSIGN(const bool too_old, expired(segment));
    if (is_active) {
      if (!too_old) break;
      TRY(roll_at(log_end_offset_, now));
    }
    // roll_at() above moved segments_: `segment` itself stays where it is.
    if (segment.next_offset() <= log_start_offset_ && !is_active) {
      out.reason = "log start offset";
    } else if (too_old) {
      out.reason = "retention.ms";
    } else if (excess >= segment.size_bytes() && !segment.empty()) {
      out.reason = "retention.bytes";
    } else {
      break;
    }
    excess -= std::min(excess, segment.size_bytes());
  }
  if (count == 0) return out;
  ASSERT(count < segments_.size());
  const Offset front = segments_[count]->base_offset();
  TRY(keep_snapshot_at(front, now.mono_ms));
  out.log_start = std::max(log_start_offset_, front);
  out.generation = generation_;
  TRY(advance_log_start(out.log_start));
  return out;
}

// What the producers were at `at`, where the log will begin: the batches that tell it are about to go.
Status Log::keep_snapshot_at(Offset at, int64_t mono_ms) {
  if (std::binary_search(snapshots_.begin(), snapshots_.end(), at)) return {};
  ProducerState state(config_.producer_ids_max);
  Offset from = segments_.front()->base_offset();
  for (auto known = snapshots_.rbegin(); known != snapshots_.rend(); ++known) {
    if (*known > at || *known < from) continue;
    const Result<Bytes> content = disk_.read_file(
        io::join_path(directory_, file_name(*known, FileKind::snapshot)), kKeptSnapshotBytesMax);
    if (!content || !state.load_snapshot(*content, mono_ms)) continue;
    from = *known;
    break;
  }
  const auto ignore = [](Segment&, const AbortedTxn&) { return Status(); };
  TRY(replay(state, from, at, mono_ms, ignore, nullptr));
  return write_snapshot_of(state, at);
}

Result<DeletedSegments> Log::retire_below(const Retention& retention, Now now) {
  TRY(usable());
  DeletedSegments out;
  out.log_start_offset = log_start_offset_;
  out.reason = retention.reason;
  if (retention.empty() || retention.generation != generation_) return out;
  while (segments_.size() > 1 && segments_.front()->next_offset() <= retention.log_start) {
    Segment& segment = *segments_.front();
    if (swap_base_ != kNoOffset && segment.next_offset() > swap_base_) break;  // next time
    TRY(retire(segment, now));
    out.base_offsets.push_back(segment.base_offset());
    out.bytes += segment.size_bytes();
    size_bytes_ -= segment.size_bytes();
    segments_.erase(segments_.begin());
  }
  if (out.empty()) return out;
  remove_snapshots(Offset(0), segments_.front()->base_offset());
  trace_.info("{}: {} segments, {} bytes deleted ({}), log starts at {}", directory_, out.base_offsets.size(),
              out.bytes, out.reason, log_start_offset_.v);
  return out;
}

Result<DeletedSegments> Log::delete_old_segments(Now now, Offset high_watermark) {
  TRY_ASSIGN(const Retention retention, plan_retention(now, high_watermark));
  return retire_below(retention, now);
}

size_t Log::remove_pending(Now now, bool all) {
  size_t removed = 0;
  std::erase_if(pending_, [&](const PendingRemoval& removal) {
    if (!all && removal.due_mono_ms > now.mono_ms) return false;
    for (const std::string& path : removal.paths) {
      const Status status = disk_.remove(path);
      if (status) {
        ++removed;
      } else if (status.code() != ErrorCode::not_found) {
        trace_.warn("{}: not removed, next open will: {}", path, status.error().message);
      }
    }
    return true;
  });
  return removed;
}

Status Log::advance_log_start(Offset offset) {
  if (offset > log_end_offset_) {
    return Error(ErrorCode::offset_out_of_range,
                 fmt::format("log start {} would be beyond the log end {}", offset.v, log_end_offset_.v));
  }
  if (offset <= log_start_offset_) return {};
  log_start_offset_ = offset;
  if (epochs_.truncate_from_start(offset)) ++epochs_version_;
  return {};
}

void Log::lower_ends(Offset end) {
  log_end_offset_ = end;
  log_start_offset_ = std::min(log_start_offset_, end);
  durable_end_ = std::min(durable_end_, end);
  recovery_point_ = std::min(recovery_point_, end);
  cleaned_end_ = std::min(cleaned_end_, active().base_offset());
  ++generation_;
  reserved_until_ = 0;
  landmarks_.clear();
  next_landmark_ = 0;
  last_bound_ = {};
  size_bytes_ = 0;
  for (const auto& segment : segments_) size_bytes_ += segment->size_bytes();
}

// Before anything is appended: after a power cut what was cut must not be found again in front of it.
Status Log::sync_cut() {
  TRY(active().file()->sync());
  return disk_.sync_directory(directory_);
}

Status Log::truncate_to(Offset offset, Now now) {
  const ScratchLease lease(scratch_);
  TRY(usable());
  if (offset >= log_end_offset_) return {};
  if (offset < segments_.front()->base_offset()) return truncate_fully_and_start_at(offset, now);
  const auto cut = [&]() -> Status {
    TRY(cancel_swap());
    // From the end, so that a crash in between leaves a log without holes.
    while (segments_.size() > 1 && active().base_offset() >= offset) {
      TRY(retire(active(), now));
      segments_.pop_back();
    }
    TRY(active().load_indexes(scratch_, config_.index_interval_bytes, nullptr));
    (void)txn_index_of(segments_.size() - 1);  // if it cannot be had, truncate_to() says so
    std::erase(loaded_, active().base_offset());
    TRY(active().truncate_to(offset, scratch_));
    return sync_cut();
  };
  Status status = cut();
  if (status) {
    const Offset end = active().next_offset();
    lower_ends(end);
    if (!planted(Plant::keep_epochs_on_truncate) && epochs_.truncate_from_end(end)) ++epochs_version_;
    remove_snapshots(end + 1, Offset(INT64_MAX));
    const std::vector<CompletedTxn> completed = producers_.completed_below(end);
    if (!planted(Plant::keep_producers_on_truncate)) status = rebuild_producers(end, now.mono_ms, nullptr);
    producers_.restore_completed(completed);
  }
  if (!status) {
    failed_ = true;
    trace_.error("{}: truncation to {} failed: {}", directory_, offset.v, status.error().message);
    return status;
  }
  trace_.info("{}: truncated to {}, log ends at {}", directory_, offset.v, log_end_offset_.v);
  return {};
}

Status Log::truncate_fully_and_start_at(Offset offset, Now now) {
  TRY(usable());
  const auto restart = [&]() -> Status {
    TRY(cancel_swap());
    remove_snapshots(Offset(0), Offset(INT64_MAX));  // first: none may come back beside the new segment
    while (!segments_.empty()) {
      TRY(retire(active(), now));
      segments_.pop_back();
    }
    TRY_ASSIGN(std::unique_ptr<Segment> fresh, Segment::create(disk_, directory_, offset));
    segments_.push_back(std::move(fresh));
    return sync_cut();
  };
  Status status = restart();
  if (!status) {
    failed_ = true;
    trace_.error("{}: starting anew at {} failed: {}", directory_, offset.v, status.error().message);
    // Whatever is left, the object stays whole.
    if (segments_.empty()) closed_ = true;
    return status;
  }
  producers_.clear();
  epochs_.clear();
  ++epochs_version_;
  ++names_version_;
  // What lay beside the segments went with them; partition.metadata did not.
  std::erase_if(unsynced_, [](const auto& file) { return !file->path().ends_with(kPartitionMetadataName); });
  lower_ends(offset);
  log_start_offset_ = durable_end_ = recovery_point_ = offset;
  active().dirty = true;
  trace_.info("{}: emptied, log starts at {}", directory_, offset.v);
  return {};
}

Status Log::close(bool clean) {
  if (closed_) return {};
  if (clean) {
    TRY(usable());
    (void)remove_pending({}, true);
    TRY(prepare_close());
    if (!settled()) TRY(flush());
    if (reserved_until_ > 0) TRY(active().trim_reserved());
  }
  closed_ = true;
  return {};
}

Status Log::prepare_close() {
  if (settled() && !snapshots_.empty() && snapshots_.back() == log_end_offset_) return {};
  active().finish_time_index();
  return write_snapshot();
}

Result<RestingLog> Log::at_rest() {
  const ScratchLease lease(scratch_);
  Segment& oldest = *segments_.front();
  RestingLog out;
  out.log_start = log_start_offset_;
  out.log_end = log_end_offset_;
  out.last_stable = std::max(last_stable_offset(log_end_offset_), log_start_offset_);
  out.first_epoch = epochs_.epoch_of(log_start_offset_);
  for (const EpochStart& e : epochs_.entries()) {
    if (e.start_offset >= log_end_offset_) continue;
    out.last_epoch = e.epoch;
    out.last_epoch_start = e.start_offset;
  }
  out.cleaned_end = cleaned_end_;
  out.bytes = size_bytes_;
  out.segments = static_cast<uint32_t>(segments_.size());
  TRY_ASSIGN(out.oldest_timestamp, oldest.max_timestamp(scratch_, config_.index_interval_bytes));
  if (out.oldest_timestamp < 0) out.oldest_timestamp = oldest.first_append_wall_ms.value_or(-1);
  out.oldest_bytes = oldest.size_bytes();
  out.oldest_end = oldest.next_offset();
  return out;
}

Status Log::rename_for_removal(const std::string& new_directory) {
  TRY(disk_.rename(directory_, new_directory));
  closed_ = true;
  ++generation_;
  pending_.clear();  // they go with the tree
  directory_ = new_directory;
  return disk_.sync_directory(io::parent_path(new_directory));
}

}  // namespace millrace::log
