// Compaction's part under the partition's lock: what may be compacted, and the exchange of segments.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "log/file_names.h"
#include "log/log.h"

namespace millrace::log {

namespace {

constexpr std::array kIndexKinds{FileKind::offset_index, FileKind::time_index, FileKind::txn_index};

int64_t ms_before(int64_t wall_ms, int64_t lag_ms) {
  return wall_ms < INT64_MIN + lag_ms ? INT64_MIN : wall_ms - lag_ms;
}

}  // namespace

void Log::set_cleaned_end(Offset end) {
  cleaned_end_ = std::clamp(end, segments_.front()->base_offset(), active().base_offset());
}

// Whole closed segments that cannot change any more: replicated, decided, on disk with their indexes (so that
// the leader epochs of what goes are known after a crash, too) and old enough.
Result<Offset> Log::cleanable_end(Now now, Offset high_watermark) {
  const Offset settled = std::min({recovery_point_, high_watermark, last_stable_offset(high_watermark)});
  Offset end = std::max(cleaned_end_, segments_.front()->base_offset());
  for (size_t i = segment_index_of(end); i + 1 < segments_.size(); ++i) {
    Segment& segment = *segments_[i];
    if (segment.dirty || segment.next_offset() > settled) break;
    if (config_.min_compaction_lag_ms > 0) {
      TRY_ASSIGN(const int64_t newest, segment.max_timestamp(scratch_, config_.index_interval_bytes));
      if (segment.indexes_loaded()) note_index_use(segment);
      if (newest > ms_before(now.wall_ms, config_.min_compaction_lag_ms)) break;
    }
    end = segment.next_offset();
  }
  return end;
}

Result<CompactionNeed> Log::compaction_need(Now now, Offset high_watermark) {
  const ScratchLease lease(scratch_);
  TRY(usable());
  CompactionNeed need;
  const int64_t overdue_before = ms_before(now.wall_ms, config_.max_compaction_lag_ms);
  const bool has_lag = config_.max_compaction_lag_ms < INT64_MAX;
  if (has_lag && !active().empty() && active().first_append_wall_ms.value_or(now.wall_ms) < overdue_before) {
    TRY(roll_at(log_end_offset_, now));
  }
  TRY_ASSIGN(const Offset end, cleanable_end(now, high_watermark));
  bool first_dirty = true;
  for (const auto& segment : segments_) {
    if (segment->base_offset() >= end) break;
    if (segment->next_offset() <= cleaned_end_) {
      need.clean_bytes += segment->size_bytes();
      continue;
    }
    need.dirty_bytes += segment->size_bytes();
    if (first_dirty && has_lag) {
      TRY_ASSIGN(const std::optional<BatchHeader> header, segment->first_header(scratch_));
      need.overdue = header && header->max_timestamp >= 0 && header->max_timestamp < overdue_before;
    }
    first_dirty = false;
  }
  return need;
}

Result<CompactionPlan> Log::plan_compaction(Now now, Offset high_watermark) {
  const ScratchLease lease(scratch_);
  TRY(usable());
  CompactionPlan plan;
  plan.directory = directory_;
  plan.config = config_;
  plan.now_wall_ms = now.wall_ms;
  plan.generation = generation_;
  plan.log_start = log_start_offset_;
  plan.first_dirty = std::max(cleaned_end_, segments_.front()->base_offset());
  TRY_ASSIGN(const Offset end, cleanable_end(now, high_watermark));
  if (end <= plan.first_dirty) return plan;
  for (const auto& segment : segments_) {
    if (segment->base_offset() >= end) break;
    plan.sources.push_back(
        {segment->base_offset(), segment->next_offset(), segment->size_bytes(), segment->file()});
  }
  const Offset begin = plan.sources.front().base_offset;
  TRY_ASSIGN(plan.aborted, aborted_transactions(begin, end));
  producers_.for_each([&](const ProducerEntry& p) {
    if (p.batch_count == 0) plan.producers[p.id] = {kNoOffset, p.epoch};
    // Of those in the plan: what lies beyond may still be truncated, and then this one speaks for it.
    for (size_t i = p.batch_count; i-- > 0;) {
      if (p.batches[i].last_offset >= end) continue;
      plan.producers[p.id] = {p.batches[i].last_offset, p.epoch};
      return;
    }
    // The batches in the plan, if there are any, are older than what is remembered: the walk shows the last
    // of them, and of what is clean already nothing goes.
    if (p.batch_count > 0) plan.producers[p.id] = {Offset(0), p.epoch};
  });
  return plan;
}

// Where the sources stand among the segments, all of them, the same files.
std::optional<size_t> Log::find_sources(const CleanedGroup& group) const {
  const size_t first = segment_index_of(group.base_offset);
  if (group.sources.empty() || first + group.sources.size() >= segments_.size()) return std::nullopt;
  for (size_t i = 0; i < group.sources.size(); ++i) {
    if (segments_[first + i]->file() != group.sources[i]) return std::nullopt;
  }
  return first;
}

Status Log::begin_swap(const CleanedGroup& group) {
  TRY(usable());
  if (swap_base_ != kNoOffset || group.generation != generation_ || !find_sources(group)) {
    return Error(ErrorCode::cancelled, fmt::format("{}: the log changed under compaction", directory_));
  }
  TRY(disk_.rename(
      io::join_path(directory_, cleaned_name(group.base_offset, FileKind::log)),
      io::join_path(directory_, file_name(group.base_offset, FileKind::log)) + std::string(kSwapSuffix)));
  swap_base_ = group.base_offset;
  return {};
}

Status Log::finish_swap(const CleanedGroup& group, const Status& synced, Now now) {
  TRY(usable());
  if (!synced) {
    failed_ = true;
    trace_.error("{}: sync failed, nothing more is written: {}", directory_, synced.error().message);
    return synced;
  }
  if (swap_base_ != group.base_offset) {
    return Error(ErrorCode::cancelled, fmt::format("{}: truncated under compaction", directory_));
  }
  const std::optional<size_t> first = find_sources(group);
  ASSERT(first.has_value());  // nothing else takes segments away while swap_base_ is set
  swap_base_ = kNoOffset;
  Status replaced = replace_sources(group, *first, now);
  if (!replaced) {
    failed_ = true;
    trace_.error("{}: compacted segment {} could not take its place: {}", directory_, group.base_offset.v,
                 replaced.error().message);
  }
  return replaced;
}

Status Log::replace_sources(const CleanedGroup& group, size_t first, Now now) {
  const size_t count = group.sources.size();
  // A name that is gone may not bring the old content back: the .swap file is on disk before this.
  for (size_t i = first; i < first + count; ++i) TRY(retire(*segments_[i], now));
  for (const FileKind kind : kIndexKinds) {
    const Status renamed = disk_.rename(io::join_path(directory_, cleaned_name(group.base_offset, kind)),
                                        io::join_path(directory_, file_name(group.base_offset, kind)));
    if (!renamed && renamed.code() != ErrorCode::not_found) return renamed;
  }
  const std::string path = io::join_path(directory_, file_name(group.base_offset, FileKind::log));
  TRY(disk_.rename(path + std::string(kSwapSuffix), path));
  TRY_ASSIGN(std::shared_ptr<io::File> file, disk_.open(path, io::OpenMode::write));
  auto segment =
      std::make_unique<Segment>(disk_, directory_, group.base_offset, std::move(file), group.size_bytes);
  segment->set_closed(group.next_offset);
  for (size_t i = first; i < first + count; ++i) size_bytes_ -= segments_[i]->size_bytes();
  size_bytes_ += segment->size_bytes();
  segments_[first] = std::move(segment);
  segments_.erase(segments_.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                  segments_.begin() + static_cast<std::ptrdiff_t>(first + count));
  ++names_version_;
  // Snapshots at bases that are gone serve nobody: the one at the segment's own base covers them.
  remove_snapshots(group.base_offset + 1, group.next_offset);
  return {};
}

Status Log::cancel_swap() {
  if (swap_base_ == kNoOffset) return {};
  const Status removed = disk_.remove(io::join_path(directory_, file_name(swap_base_, FileKind::log)) +
                                      std::string(kSwapSuffix));
  if (!removed && removed.code() != ErrorCode::not_found) return removed;
  TRY(disk_.sync_directory(directory_));
  swap_base_ = kNoOffset;
  return {};
}

}  // namespace millrace::log
