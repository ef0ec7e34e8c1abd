#include "log/cleaned_batch.h"

#include <algorithm>

#include "record/builder.h"
#include "record/control_batch.h"
#include "record/opened_batch.h"

namespace millrace::log {

namespace {

bool is_last_of_producer(const CleaningRules& rules, const record::BatchView& batch) {
  if (!batch.has_producer()) return false;
  const auto it = rules.producers->find(batch.producer_id());
  if (it == rules.producers->end()) return false;
  const LastOfProducer& last = it->second;
  if (last.data_offset != kNoOffset) return batch.last_offset() >= last.data_offset;
  return batch.is_control() && batch.producer_epoch() == last.epoch;
}

/// Whether the record is the last of its key and not a tombstone past its time.
bool stays(const CleaningRules& rules, const record::Record& record, Offset offset, bool tombstones_expired) {
  if (offset < rules.log_start) return false;
  if (offset >= rules.map_end) return true;
  if (!record.key) return false;
  if (offset < rules.map->get(*record.key)) return false;
  return record.value.has_value() || !tombstones_expired;
}

record::BatchOptions options_like(const record::BatchView& batch) {
  record::BatchOptions o;
  o.codec = batch.codec();
  o.base_offset = batch.base_offset();
  o.leader_epoch = batch.leader_epoch();
  o.producer_id = batch.producer_id();
  o.producer_epoch = batch.producer_epoch();
  o.base_sequence = batch.base_sequence();
  o.transactional = batch.is_transactional();
  o.control = batch.is_control();
  o.timestamp_type = batch.timestamp_type();
  o.base_timestamp = batch.base_timestamp();
  if (batch.has_delete_horizon()) o.delete_horizon_ms = batch.base_timestamp();
  if (batch.timestamp_type() == record::TimestampType::log_append_time)
    o.max_timestamp = batch.max_timestamp();
  o.last_offset_delta = batch.last_offset_delta();
  return o;
}

Bytes emptied(const record::BatchView& batch) {
  record::BatchOptions o = options_like(batch);
  o.codec = record::Codec::none;
  o.max_timestamp = batch.max_timestamp();
  return record::BatchBuilder(o).build();
}

}  // namespace

// --- transactions ---

PassingTransactions::PassingTransactions(std::vector<AbortedTxn> aborted, Offset from)
    : aborted_(std::move(aborted)) {
  std::erase_if(aborted_, [from](const AbortedTxn& txn) { return txn.last_offset < from; });
  std::sort(aborted_.begin(), aborted_.end(),
            [](const AbortedTxn& a, const AbortedTxn& b) { return a.first_offset < b.first_offset; });
}

Result<bool> PassingTransactions::needless(const record::BatchView& batch) {
  while (next_ < aborted_.size() && aborted_[next_].first_offset <= batch.last_offset()) {
    open_aborted_[aborted_[next_].producer_id] = {aborted_[next_], false};
    ++next_;
  }
  const ProducerId id = batch.producer_id();
  if (batch.is_control()) {
    if (batch.record_count() == 0) return true;
    TRY_ASSIGN(const record::ControlType type, record::control_type(batch));
    if (type == record::ControlType::commit) return open_committed_.erase(id) == 0;
    if (type != record::ControlType::abort) return false;
    const auto it = open_aborted_.find(id);
    if (it == open_aborted_.end()) return true;
    const Open open = it->second;
    open_aborted_.erase(it);
    if (open.data_seen) entries_.push_back(open.txn);
    return !open.data_seen;
  }
  if (!batch.is_transactional()) return false;
  const auto it = open_aborted_.find(id);
  // Beyond the marker: that one went with an earlier compaction.
  if (it != open_aborted_.end() && it->second.txn.last_offset < batch.base_offset()) {
    open_aborted_.erase(it);
  } else if (it != open_aborted_.end()) {
    it->second.data_seen = true;
    return true;
  }
  open_committed_[id] = true;
  return false;
}

std::vector<AbortedTxn> PassingTransactions::take_index_entries() {
  return std::exchange(entries_, {});
}

// --- batches ---

Result<CleanedBatch> clean_batch(const CleaningRules& rules, const record::BatchView& batch, bool needless,
                                 record::Codecs& codecs) {
  CleanedBatch out;
  const auto count = static_cast<uint32_t>(batch.record_count());
  const bool past_horizon = batch.has_delete_horizon() && batch.base_timestamp() <= rules.now_wall_ms;
  const int64_t new_horizon = rules.now_wall_ms > INT64_MAX - rules.delete_retention_ms
                                  ? INT64_MAX
                                  : rules.now_wall_ms + rules.delete_retention_ms;
  const auto without_records = [&] {
    out.records_dropped = count;
    if (!is_last_of_producer(rules, batch)) {
      out.fate = BatchFate::drop;
    } else if (count == 0) {
      out.fate = BatchFate::keep;
    } else {
      out.fate = BatchFate::rebuild;
      out.rebuilt = emptied(batch);
    }
    return std::move(out);
  };
  if (count == 0) return without_records();
  if (batch.is_control()) {
    if (needless && past_horizon) return without_records();
    out.records_kept = count;
    if (!needless || batch.has_delete_horizon()) return out;
  } else if (needless) {
    return without_records();
  }

  TRY_ASSIGN(const record::OpenedBatch opened, record::OpenedBatch::open(batch, codecs, kBatchInflatedMax));
  // First what stays, then, if that is not everything, the batch of it: most batches are kept whole.
  bool tombstone_kept = false;
  if (!batch.is_control()) {
    record::RecordReader reader = opened.reader();
    record::Record record;
    while (true) {
      TRY_ASSIGN(const bool more, reader.next(record));
      if (!more) break;
      const Offset offset = opened.offset_of(record);
      if (offset < batch.base_offset() || offset > batch.last_offset()) {
        return Error(ErrorCode::corrupt, "a record's offset lies outside its batch");
      }
      if (!stays(rules, record, offset, past_horizon)) continue;
      ++out.records_kept;
      tombstone_kept = tombstone_kept || (!record.value && offset < rules.map_end);
    }
    if (out.records_kept == 0) return without_records();
  }
  const bool horizon_comes = !batch.has_delete_horizon() && (batch.is_control() || tombstone_kept);
  out.records_dropped = count - out.records_kept;
  if (out.records_dropped == 0 && !horizon_comes) return out;

  record::BatchOptions options = options_like(batch);
  if (horizon_comes) options.delete_horizon_ms = new_horizon;
  record::BatchBuilder builder(options);
  record::RecordReader reader = opened.reader();
  record::Record record;
  int32_t last_delta = -1;
  while (true) {
    TRY_ASSIGN(const bool more, reader.next(record));
    if (!more) break;
    const Offset offset = opened.offset_of(record);
    if (!batch.is_control() && !stays(rules, record, offset, past_horizon)) continue;
    if (record.offset_delta <= last_delta || record.offset_delta > batch.last_offset_delta()) {
      return Error(ErrorCode::corrupt, "record offsets do not ascend");
    }
    last_delta = record.offset_delta;
    builder.append_copy(record, record.offset_delta, opened.timestamp_of(record));
  }
  TRY_ASSIGN(out.rebuilt, builder.build(codecs));
  out.fate = BatchFate::rebuild;
  return out;
}

Bytes filler_batch(Offset base, Offset next, LeaderEpoch epoch, int64_t max_timestamp) {
  ASSERT(base < next && next - base <= int64_t{INT32_MAX} + 1);
  record::BatchOptions o;
  o.base_offset = base;
  o.leader_epoch = epoch;
  o.max_timestamp = max_timestamp;
  o.last_offset_delta = static_cast<int32_t>(next - base - 1);
  return record::BatchBuilder(o).build();
}

}  // namespace millrace::log
