#include "log/producer_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/plants.h"

namespace millrace::log {

namespace {

constexpr int16_t kSnapshotVersion = 1;
constexpr size_t kSnapshotCrcEnd = 6;
constexpr size_t kSnapshotHead = 10;
constexpr size_t kSnapshotEntry = 46;

bool follows(int32_t last_sequence, int32_t next) {
  return next == (last_sequence == INT32_MAX ? 0 : last_sequence + 1);
}

}  // namespace

int32_t ProducerBatch::first_sequence() const {
  return last_sequence < 0 ? -1 : retreat_sequence(last_sequence, offset_delta);
}

void ProducerEntry::add(const ProducerBatch& batch) {
  if (batch_count == kProducerBatchesKept) {
    std::move(batches.begin() + 1, batches.end(), batches.begin());
    --batch_count;
  }
  batches[batch_count++] = batch;
}

ProducerVerdict ProducerState::judge(const BatchHeader& batch, const ProducerEntry* known) {
  ProducerVerdict verdict;
  if (known == nullptr || known->epoch == kNoProducerEpoch || planted(Plant::ignore_sequence)) return verdict;
  const int32_t last_sequence = batch.last_sequence();
  const ProducerEpoch epoch = planted(Plant::ignore_producer_epoch) ? known->epoch : batch.producer_epoch;
  if (known->epoch == epoch && batch.base_sequence >= 0) {
    for (size_t i = 0; i < known->batch_count; ++i) {
      const ProducerBatch& b = known->batches[i];
      if (b.last_sequence == last_sequence && b.first_sequence() == batch.base_sequence) {
        verdict.duplicate_of = b;
        return verdict;
      }
    }
  }
  if (epoch < known->epoch) {
    verdict.error = ErrorCode::invalid_producer_epoch;
    verdict.message = fmt::format("producer {} has epoch {}, the batch says {}", known->id.v, known->epoch.v,
                                  batch.producer_epoch.v);
    return verdict;
  }
  // What a coordinator writes for a producer carries no sequence.
  if (batch.base_sequence >= 0) {
    const bool in_order = epoch > known->epoch ? batch.base_sequence == 0
                                               : follows(known->last_sequence(), batch.base_sequence);
    if (!in_order) {
      verdict.error = ErrorCode::out_of_order_sequence_number;
      verdict.message =
          fmt::format("producer {} epoch {}: sequence {} does not follow {} of epoch {}", known->id.v,
                      batch.producer_epoch.v, batch.base_sequence, known->last_sequence(), known->epoch.v);
      return verdict;
    }
  }
  if (known->in_transaction() && !batch.is_transactional()) {
    verdict.error = ErrorCode::invalid_txn_state;
    verdict.message = fmt::format("producer {} has a transaction open since offset {}", known->id.v,
                                  known->txn_first_offset.v);
  }
  return verdict;
}

ProducerVerdict ProducerState::check(const BatchHeader& batch) const {
  return judge(batch, find(batch.producer_id));
}

void ProducerState::fold(ProducerEntry& entry, const BatchHeader& batch, int64_t mono_ms) {
  entry.id = batch.producer_id;
  if (entry.epoch != batch.producer_epoch) {
    entry.batch_count = 0;
    entry.epoch = batch.producer_epoch;
  }
  entry.add({.last_sequence = batch.last_sequence(),
             .offset_delta = batch.last_offset_delta,
             .last_offset = batch.last_offset(),
             .timestamp = batch.max_timestamp});
  entry.last_timestamp = batch.max_timestamp;
  entry.touched_mono_ms = mono_ms;
  if (batch.is_transactional() && !entry.in_transaction()) entry.txn_first_offset = batch.base_offset;
}

void ProducerState::apply_data(const BatchHeader& batch, int64_t mono_ms) {
  if (!batch.has_producer()) return;
  ASSERT(!batch.is_control());
  ProducerEntry& entry = entries_[batch.producer_id];
  const bool was_open = entry.in_transaction();
  fold(entry, batch, mono_ms);
  if (!was_open && entry.in_transaction()) open_txns_[entry.txn_first_offset] = entry.id;
  if (entries_.size() > entries_max_) make_room();
}

std::optional<CompletedTxn> ProducerState::apply_marker(const BatchHeader& batch, bool aborted,
                                                        int32_t coordinator_epoch, int64_t mono_ms) {
  if (!batch.has_producer()) return std::nullopt;
  ProducerEntry& entry = entries_[batch.producer_id];
  entry.id = batch.producer_id;
  if (entry.epoch != batch.producer_epoch) {
    entry.batch_count = 0;
    entry.epoch = batch.producer_epoch;
  }
  entry.coordinator_epoch = coordinator_epoch;
  entry.last_timestamp = batch.max_timestamp;
  entry.touched_mono_ms = mono_ms;
  std::optional<CompletedTxn> completed;
  if (entry.in_transaction()) {
    completed = CompletedTxn{batch.producer_id, entry.txn_first_offset, batch.last_offset(), aborted};
    open_txns_.erase(entry.txn_first_offset);
    completed_txns_[entry.txn_first_offset] = *completed;
    entry.txn_first_offset = kNoOffset;
  }
  if (entries_.size() > entries_max_) make_room();
  return completed;
}

std::optional<Offset> ProducerState::first_unstable_offset(Offset high_watermark) const {
  std::optional<Offset> first;
  if (!open_txns_.empty()) first = open_txns_.begin()->first;
  for (const auto& [offset, txn] : completed_txns_) {
    if (first && offset >= *first) break;
    if (txn.last_offset >= high_watermark) {
      first = offset;
      break;
    }
  }
  return first;
}

Offset ProducerState::last_stable_offset_after(const CompletedTxn& txn) const {
  for (const auto& [offset, id] : open_txns_) {
    if (id != txn.producer_id) return offset;
  }
  return txn.last_offset + 1;
}

void ProducerState::on_high_watermark(Offset high_watermark) {
  for (auto it = completed_txns_.begin(); it != completed_txns_.end() && it->first < high_watermark;) {
    it = it->second.last_offset < high_watermark ? completed_txns_.erase(it) : std::next(it);
  }
}

std::vector<CompletedTxn> ProducerState::completed_below(Offset end) const {
  std::vector<CompletedTxn> out;
  for (const auto& [offset, txn] : completed_txns_) {
    if (txn.last_offset < end) out.push_back(txn);
  }
  return out;
}

void ProducerState::restore_completed(const std::vector<CompletedTxn>& txns) {
  for (const CompletedTxn& txn : txns) completed_txns_.emplace(txn.first_offset, txn);
}

size_t ProducerState::expire(int64_t mono_ms, int64_t expiration_ms) {
  return std::erase_if(entries_, [&](const auto& item) {
    return !item.second.in_transaction() && mono_ms - item.second.touched_mono_ms >= expiration_ms;
  });
}

void ProducerState::make_room() {
  // A whole slice at once, so that a flood of producers does not search on every append.
  std::vector<std::pair<int64_t, ProducerId>> oldest;
  oldest.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) {
    if (!entry.in_transaction()) oldest.emplace_back(entry.touched_mono_ms, id);
  }
  const size_t excess = entries_.size() - entries_max_ + entries_max_ / 16;
  const size_t count = std::min(oldest.size(), excess);
  std::partial_sort(oldest.begin(), oldest.begin() + static_cast<std::ptrdiff_t>(count), oldest.end());
  for (size_t i = 0; i < count; ++i) entries_.erase(oldest[i].second);
}

void ProducerState::clear() {
  entries_.clear();
  open_txns_.clear();
  completed_txns_.clear();
}

const ProducerEntry* ProducerState::find(ProducerId id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : &it->second;
}

std::vector<const ProducerEntry*> ProducerState::sorted() const {
  std::vector<const ProducerEntry*> all;
  all.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) all.push_back(&entry);
  std::sort(all.begin(), all.end(),
            [](const ProducerEntry* a, const ProducerEntry* b) { return a->id < b->id; });
  return all;
}

Bytes ProducerState::encode_snapshot() const {
  Bytes out(kSnapshotHead + entries_.size() * kSnapshotEntry);
  store_be(&out[0], kSnapshotVersion);
  store_be(&out[kSnapshotCrcEnd], static_cast<int32_t>(entries_.size()));
  uint8_t* p = out.data() + kSnapshotHead;
  for (const ProducerEntry* e : sorted()) {
    const bool any = e->batch_count > 0;
    const ProducerBatch last = any ? e->batches[e->batch_count - 1u] : ProducerBatch{};
    store_be(p, e->id.v);
    store_be(p + 8, e->epoch.v);
    store_be(p + 10, last.last_sequence);
    store_be(p + 14, last.last_offset.v);
    store_be(p + 22, last.offset_delta);
    store_be(p + 26, e->last_timestamp);
    store_be(p + 34, e->coordinator_epoch);
    store_be(p + 38, e->txn_first_offset.v);
    p += kSnapshotEntry;
  }
  store_be(&out[2], crc32c(ByteView(out).subspan(kSnapshotCrcEnd)));
  return out;
}

Result<std::vector<ProducerEntry>> ProducerState::decode_snapshot(ByteView file) {
  if (file.size() < kSnapshotHead) return Error(ErrorCode::corrupt, "producer snapshot: too short");
  if (load_be<int16_t>(&file[0]) != kSnapshotVersion) {
    return Error(ErrorCode::corrupt, "producer snapshot: unknown version");
  }
  if (load_be<uint32_t>(&file[2]) != crc32c(file.subspan(kSnapshotCrcEnd))) {
    return Error(ErrorCode::corrupt, "producer snapshot: checksum does not match");
  }
  const auto count = load_be<int32_t>(&file[kSnapshotCrcEnd]);
  if (count < 0 || file.size() - kSnapshotHead != static_cast<size_t>(count) * kSnapshotEntry) {
    return Error(ErrorCode::corrupt, "producer snapshot: count does not fit its size");
  }
  std::vector<ProducerEntry> entries(static_cast<size_t>(count));
  const uint8_t* p = file.data() + kSnapshotHead;
  for (ProducerEntry& e : entries) {
    e.id = ProducerId(load_be<int64_t>(p));
    e.epoch = ProducerEpoch(load_be<int16_t>(p + 8));
    const ProducerBatch last{.last_sequence = load_be<int32_t>(p + 10),
                             .offset_delta = load_be<int32_t>(p + 22),
                             .last_offset = Offset(load_be<int64_t>(p + 14)),
                             .timestamp = load_be<int64_t>(p + 26)};
    e.last_timestamp = last.timestamp;
    e.coordinator_epoch = load_be<int32_t>(p + 34);
    e.txn_first_offset = Offset(load_be<int64_t>(p + 38));
    if (last.last_offset.v >= 0 && last.offset_delta >= 0) e.add(last);
    p += kSnapshotEntry;
  }
  return entries;
}

Status ProducerState::load_snapshot(ByteView file, int64_t mono_ms) {
  TRY_ASSIGN(const std::vector<ProducerEntry> entries, decode_snapshot(file));
  clear();
  for (const ProducerEntry& e : entries) {
    ProducerEntry& entry = entries_[e.id] = e;
    entry.touched_mono_ms = mono_ms;
    if (entry.in_transaction()) open_txns_[entry.txn_first_offset] = entry.id;
  }
  return {};
}

}  // namespace millrace::log
