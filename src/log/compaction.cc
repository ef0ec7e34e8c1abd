#include "log/compaction.h"

#include <fmt/format.h>

#include <algorithm>

#include "log/batch_header.h"
#include "log/offset_index.h"
#include "log/time_index.h"
#include "record/opened_batch.h"

namespace millrace::log {

namespace {

/// No more keys than offsets in the dirty part.
uint64_t keys_expected(const CompactionPlan& plan) {
  const Offset end = plan.end();
  return end > plan.first_dirty ? static_cast<uint64_t>(end - plan.first_dirty) : 0;
}

/// What an index of so many bytes of log can take, at most about.
uint64_t index_bytes_of(const LogConfig& config, uint64_t log_bytes) {
  const uint64_t interval = std::max<uint64_t>(static_cast<uint64_t>(config.index_interval_bytes), 64);
  return (log_bytes / interval + 1) * TimeIndex::kEntrySize;
}

}  // namespace

Compaction::Compaction(io::Disk& disk, CompactionPlan plan, CompactionLimits limits)
    : disk_(disk),
      plan_(std::move(plan)),
      limits_(limits),
      map_(limits.secret, limits.map_bytes, limits.map_load_factor, keys_expected(plan_)),
      map_end_(plan_.first_dirty),
      transactions_(plan_.aborted, plan_.first_dirty) {
  size_t first = 0;
  while (first < plan_.sources.size() && plan_.sources[first].next_offset <= plan_.first_dirty) ++first;
  if (first == plan_.sources.size()) {
    phase_ = Phase::done;
  } else {
    read_from(first);
  }
}

void Compaction::read_from(size_t source) {
  source_ = source;
  const CompactionPlan::Source& s = plan_.sources[source];
  scanner_.emplace(*s.file, uint64_t{0}, s.size_bytes, scratch_, limits_.read_bytes);
  next_offset_ = s.base_offset;
}

Error Compaction::damage(const std::string& what) const {
  return Error(ErrorCode::corrupt, fmt::format("{}: {} at position {}", plan_.sources[source_].file->path(),
                                               what, scanner_->position()));
}

Error Compaction::located(const Error& error) const {
  return Error(error.code, damage(error.message).message);
}

Result<Compaction::State> Compaction::step(uint64_t bytes) {
  ASSERT(phase_ != Phase::swapping);
  uint64_t budget = std::max<uint64_t>(bytes, 1);
  while (budget > 0) {
    if (phase_ == Phase::mapping) {
      TRY(map_some(budget));
    } else if (phase_ == Phase::cleaning) {
      TRY(clean_some(budget));
    } else {
      break;
    }
  }
  if (phase_ == Phase::done) return State::done;
  return phase_ == Phase::swapping ? State::group_ready : State::working;
}

Result<std::optional<record::BatchView>> Compaction::next_batch(uint64_t& budget) {
  using Next = std::optional<record::BatchView>;
  const CompactionPlan::Source& source = plan_.sources[source_];
  TRY_ASSIGN(const bool more, scanner_->next());
  if (!more) return Next();
  TRY_ASSIGN(const ByteView bytes, scanner_->bytes());
  const Result<record::BatchView> parsed = record::BatchView::parse(bytes);
  if (!parsed) return located(parsed.error());
  const record::BatchView& batch = *parsed;
  if (!batch.crc_matches()) return damage("checksum does not match");
  if (batch.base_offset() < next_offset_ || batch.next_offset() > source.next_offset) {
    return damage("a batch that does not belong here");
  }
  next_offset_ = batch.next_offset();
  stats_.bytes_read += batch.size();
  budget -= std::min<uint64_t>(budget, batch.size());
  return Next(batch);
}

// --- the map ---

Status Compaction::map_some(uint64_t& budget) {
  while (budget > 0) {
    TRY_ASSIGN(const std::optional<record::BatchView> batch, next_batch(budget));
    if (batch) {
      if (batch->last_offset() < plan_.first_dirty) continue;
      const Result<bool> fits = map_batch(*batch);
      if (!fits) return located(fits.error());
      if (*fits) continue;
    } else {
      map_end_ = plan_.sources[source_].next_offset;
      if (source_ + 1 < plan_.sources.size()) {
        read_from(source_ + 1);
        continue;
      }
    }
    stats_.keys = map_.size();
    phase_ = Phase::cleaning;
    transactions_ = PassingTransactions(plan_.aborted, plan_.sources.front().base_offset);
    group_end_ = 0;
    begin_group();
    return {};
  }
  return {};
}

// False: the map is full; it then knows everything below map_end_.
Result<bool> Compaction::map_batch(const record::BatchView& batch) {
  TRY_ASSIGN(const bool needless, transactions_.needless(batch));
  if (batch.has_producer() && !batch.is_control()) {
    const auto it = plan_.producers.find(batch.producer_id());
    if (it != plan_.producers.end() && it->second.data_offset != kNoOffset)
      it->second.data_offset = std::max(it->second.data_offset, batch.last_offset());
  }
  if (!needless && !batch.is_control() && batch.record_count() > 0) {
    TRY_ASSIGN(const record::OpenedBatch opened,
               record::OpenedBatch::open(batch, codecs_, kBatchInflatedMax));
    record::RecordReader reader = opened.reader();
    record::Record record;
    while (true) {
      TRY_ASSIGN(const bool more, reader.next(record));
      if (!more) break;
      const Offset offset = opened.offset_of(record);
      if (offset < batch.base_offset() || offset > batch.last_offset()) {
        return Error(ErrorCode::corrupt, "a record's offset lies outside its batch");
      }
      if (!record.key || offset < plan_.first_dirty || offset < plan_.log_start) continue;
      if (!map_.put(*record.key, offset)) {
        map_end_ = offset;
        return false;
      }
    }
  }
  map_end_ = batch.next_offset();
  return true;
}

// --- cleaning ---

// The next sources that together fit a segment.
void Compaction::begin_group() {
  group_first_ = group_end_;
  const std::vector<CompactionPlan::Source>& sources = plan_.sources;
  if (group_first_ == sources.size() || sources[group_first_].base_offset >= map_end_) {
    phase_ = Phase::done;
    return;
  }
  const LogConfig& config = plan_.config;
  uint64_t bytes = 0;
  while (group_end_ < sources.size() && sources[group_end_].base_offset < map_end_) {
    const CompactionPlan::Source& s = sources[group_end_];
    const bool fits =
        bytes + s.size_bytes <= static_cast<uint64_t>(config.segment_bytes) &&
        index_bytes_of(config, bytes + s.size_bytes) <= static_cast<uint64_t>(config.segment_index_bytes) &&
        s.next_offset - 1 - sources[group_first_].base_offset <= int64_t{INT32_MAX};
    if (group_end_ > group_first_ && !fits) break;
    bytes += s.size_bytes;
    ++group_end_;
  }
  read_from(group_first_);
  looking_ = group_end_ - group_first_ == 1;
  transactions_before_ = transactions_;
}

Status Compaction::clean_some(uint64_t& budget) {
  while (budget > 0) {
    if (!looking_ && !output_) {
      Result<std::unique_ptr<CleanedSegment>> made = CleanedSegment::create(
          disk_, plan_.directory, plan_.sources[group_first_].base_offset, plan_.config);
      if (!made) return written(std::move(made).error());
      output_ = std::move(*made);
    }
    TRY_ASSIGN(const std::optional<record::BatchView> batch, next_batch(budget));
    if (batch) {
      bool differs = false;
      const uint64_t before = stats_.bytes_written;
      TRY(clean_one(*batch, differs));
      budget -= std::min(budget, stats_.bytes_written - before);
      if (differs) {
        // From the beginning again, this time with an output.
        looking_ = false;
        read_from(group_first_);
        transactions_ = transactions_before_;
      }
      continue;
    }
    if (source_ + 1 == group_end_) return finish_group();
    read_from(source_ + 1);
  }
  return {};
}

Status Compaction::clean_one(const record::BatchView& batch, bool& differs) {
  const CleaningRules rules{.log_start = plan_.log_start,
                            .now_wall_ms = plan_.now_wall_ms,
                            .delete_retention_ms = plan_.config.delete_retention_ms,
                            .map = &map_,
                            .map_end = map_end_,
                            .producers = &plan_.producers};
  const Result<bool> needless = transactions_.needless(batch);
  if (!needless) return located(needless.error());
  const Result<CleanedBatch> judged = clean_batch(rules, batch, *needless, codecs_);
  if (!judged) return located(judged.error());
  const CleanedBatch& cleaned = *judged;
  last_epoch_ = batch.leader_epoch();
  last_base_ = batch.base_offset();
  last_timestamp_ = batch.max_timestamp();
  if (looking_) {
    // The filler that joins a segment to the next stays where it is.
    const bool filler = batch.record_count() == 0 && !batch.has_producer() &&
                        batch.next_offset() == plan_.sources[source_].next_offset;
    differs = cleaned.fate != BatchFate::keep && !filler;
    return {};
  }
  stats_.records_dropped += cleaned.records_dropped;
  if (cleaned.fate == BatchFate::drop) {
    ++stats_.batches_dropped;
    return {};
  }
  if (cleaned.fate == BatchFate::keep) {
    stats_.bytes_written += batch.size();
    return written(output_->append(batch.bytes(), BatchHeader::of(batch)));
  }
  TRY_ASSIGN(const record::BatchView rebuilt, record::BatchView::parse(cleaned.rebuilt));
  stats_.bytes_written += rebuilt.size();
  return written(output_->append(rebuilt.bytes(), BatchHeader::of(rebuilt)));
}

Status Compaction::written(Status status) {
  write_failed_ = status.code() == ErrorCode::io_error;
  return status;
}

Status Compaction::finish_group() {
  const std::vector<AbortedTxn> aborted = transactions_.take_index_entries();
  if (looking_) {
    begin_group();
    return {};
  }
  const Offset end = plan_.sources[group_end_ - 1].next_offset;
  if (output_->next_offset() < end) {
    const Offset base = std::max({last_base_, output_->next_offset(), end - INT32_MAX});
    const Bytes filler = filler_batch(base, end, last_epoch_, last_timestamp_);
    TRY_ASSIGN(const record::BatchView view, record::BatchView::parse(filler));
    stats_.bytes_written += view.size();
    TRY(written(output_->append(filler, BatchHeader::of(view))));
  }
  TRY(written(output_->finish(aborted)));
  ready_ = {.base_offset = output_->base_offset(),
            .next_offset = end,
            .size_bytes = output_->size_bytes(),
            .sources = {},
            .generation = plan_.generation};
  for (size_t i = group_first_; i < group_end_; ++i) ready_.sources.push_back(plan_.sources[i].file);
  phase_ = Phase::swapping;
  return {};
}

const CleanedGroup& Compaction::ready() const {
  ASSERT(phase_ == Phase::swapping);
  return ready_;
}

void Compaction::group_swapped() {
  ASSERT(phase_ == Phase::swapping);
  for (size_t i = group_first_; i < group_end_; ++i) {
    stats_.bytes_before += plan_.sources[i].size_bytes;
    if (i == source_) scanner_.reset();
    plan_.sources[i].file.reset();  // its blocks go when the last reader is done
  }
  stats_.segments_before += static_cast<uint32_t>(group_end_ - group_first_);
  stats_.bytes_after += ready_.size_bytes;
  ++stats_.segments_after;
  output_.reset();
  ready_ = {};
  phase_ = Phase::cleaning;
  begin_group();
}

void Compaction::abandon() {
  if (output_) output_->remove();
  output_.reset();
  phase_ = Phase::done;
}

}  // namespace millrace::log
