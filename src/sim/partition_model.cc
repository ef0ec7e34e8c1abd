#include "sim/partition_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "record/opened_batch.h"

namespace millrace::sim {

namespace {

constexpr size_t kAfterEpoch = 16;  // base offset, length and leader epoch come before

bool same_bytes(ByteView a, ByteView b) {
  return a.size() == b.size() && a.size() >= kAfterEpoch &&
         std::equal(a.begin() + kAfterEpoch, a.end(), b.begin() + kAfterEpoch);
}

}  // namespace

void PartitionModel::append(ModelBatch batch) {
  end_ = batch.last + 1;
  batches_.push_back(std::move(batch));
}

void PartitionModel::drop_last() {
  const ModelBatch marker = std::move(batches_.back());
  batches_.pop_back();
  if (!marker.control) return;
  lost_marker = true;
  for (auto it = batches_.rbegin(); it != batches_.rend(); ++it) {
    if (it->producer != marker.producer || !it->transactional) continue;
    if (it->control) break;
    it->once = marker.commit;
  }
}

void PartitionModel::cut_to(int64_t start, int64_t end) {
  while (!batches_.empty() && batches_.back().last >= end) drop_last();
  deleted_below = std::max(deleted_below, std::max(log_start, start));
  log_start = start;
  end_ = end;
  promised = std::min(promised, end);
  promised_start = std::min(promised_start, end);
}

// Until the cut is synced, a power cut may undo it.
void PartitionModel::truncate(int64_t end) {
  std::vector<ModelBatch> undone;
  for (const ModelBatch& b : batches_) {
    if (b.last >= end) undone.push_back(b);
  }
  cut_to(std::min(log_start, end), end);
  deleted_below = std::min(deleted_below, end);
  maybe_.insert(maybe_.end(), undone.begin(), undone.end());
}

void PartitionModel::restart_at(int64_t offset) {
  truncate(0);
  cut_to(offset, offset);
}

ModelBatch* PartitionModel::find(int64_t base) {
  const auto it = std::lower_bound(batches_.begin(), batches_.end(), base,
                                   [](const ModelBatch& b, int64_t at) { return b.base < at; });
  return it == batches_.end() || it->base != base ? nullptr : &*it;
}

const ModelBatch* PartitionModel::batch_at(int64_t base) const {
  return const_cast<PartitionModel*>(this)->find(base);
}

std::string PartitionModel::judge(const record::BatchView& batch, bool adopt) {
  const int64_t base = batch.base_offset().v;
  ModelBatch* known = find(base);
  const bool other = known != nullptr && base >= promised && known->epoch != batch.leader_epoch().v;
  if (adopt && ((known == nullptr && (base == end_ || base >= promised)) || other)) {
    for (const ModelBatch& m : maybe_) {
      const bool was_here = m.base == base && m.epoch == batch.leader_epoch().v;
      if (!same_bytes(m.bytes, batch.bytes()) || (base != end_ && !was_here)) continue;
      ModelBatch adopted = m;
      adopted.base = base;
      adopted.last = batch.last_offset().v;
      adopted.epoch = batch.leader_epoch().v;
      while (!batches_.empty() && batches_.back().last >= base) drop_last();
      append(std::move(adopted));
      if (surveying_)
        for (ModelRecord& r : batches_.back().records) r.gone = false;
      return {};
    }
  }
  // What joins a compacted segment to the next one.
  if (compacted && batch.record_count() == 0 && !batch.has_producer()) return {};
  if (known == nullptr) return fmt::format("a batch at offset {} that was never appended", base);
  if (known->epoch != batch.leader_epoch().v && !loose_epochs && !damaged) {
    return fmt::format("the batch at offset {} has epoch {}, it was appended in {}", base,
                       batch.leader_epoch().v, known->epoch);
  }
  if (same_bytes(known->bytes, batch.bytes())) {
    if (surveying_)
      for (ModelRecord& r : known->records) r.gone = false;
    return {};
  }
  if (!compacted) return fmt::format("the batch at offset {} is not what was appended", base);
  return judge_rebuilt(*known, batch);
}

// A batch that compaction made anew: some of the records, everything else as it was.
std::string PartitionModel::judge_rebuilt(ModelBatch& known, const record::BatchView& batch) {
  const auto wrong = [&](std::string_view what) {
    return fmt::format("the compacted batch at offset {}: {}", known.base, what);
  };
  if (!batch.crc_matches()) return wrong("checksum");
  if (batch.last_offset().v != known.last) return wrong("another last offset");
  if (batch.producer_id().v != known.producer || batch.producer_epoch().v != known.producer_epoch ||
      batch.base_sequence() != known.sequence || batch.is_transactional() != known.transactional ||
      batch.is_control() != known.control) {
    return wrong("another producer");
  }
  const Result<record::BatchView> before = record::BatchView::parse(known.bytes);
  if (!before.ok()) return wrong("the model is broken");
  record::RecordReader was(before->records(), before->record_count());
  record::RecordReader is(batch.records(), batch.record_count());
  record::Record old, now;
  Result<bool> more = is.next(now);
  size_t met = 0;
  for (size_t i = 0; i < known.records.size(); ++i) {
    const Result<bool> next = was.next(old);
    if (!next.ok() || !*next) return wrong("the model is broken");
    if (!more.ok()) return wrong("records that cannot be read");
    const bool there = *more && now.offset_delta == old.offset_delta;
    if (there) {
      const auto same = [](const record::OptionalBytes& a, const record::OptionalBytes& b) {
        return a.has_value() == b.has_value() &&
               (!a || std::equal(a->begin(), a->end(), b->begin(), b->end()));
      };
      if (!same(old.key, now.key) || !same(old.value, now.value) ||
          record::OpenedBatch::record_timestamp(batch, now) !=
              record::OpenedBatch::record_timestamp(*before, old)) {
        return wrong(fmt::format("record {} is another", old.offset_delta));
      }
      ++met;
      more = is.next(now);
    }
    if (surveying_) known.records[i].gone = !there;
  }
  if (!more.ok() || *more || met != static_cast<size_t>(batch.record_count()))
    return wrong("records that were never appended");
  return {};
}

Fate PartitionModel::fate_of(size_t batch) const {
  const ModelBatch& b = batches_[batch];
  if (!b.transactional || b.control) return Fate::committed;
  for (size_t i = batch + 1; i < batches_.size(); ++i) {
    if (batches_[i].control && batches_[i].producer == b.producer)
      return batches_[i].commit ? Fate::committed : Fate::aborted;
  }
  return Fate::open;
}

void PartitionModel::begin_survey() {
  surveying_ = true;
  for (ModelBatch& b : batches_) {
    for (ModelRecord& r : b.records) {
      r.was_gone = r.gone;
      r.gone = true;
    }
  }
}

std::string PartitionModel::end_survey(int64_t end, bool complete, int64_t wall_ms) {
  surveying_ = false;
  stale = !complete;
  for (ModelBatch& b : batches_) {
    if (complete && b.last < end && b.last >= log_start) continue;
    for (ModelRecord& r : b.records) r.gone = r.was_gone;  // nobody looked
  }
  if (!complete || (damaged && compacted)) return {};  // of holes only a healthy log can be asked
  struct Last {
    int64_t offset = -1;
    bool tombstone = false;
    bool gone = false;
  };
  std::map<int32_t, Last> last;
  std::map<int32_t, int64_t> once_at;  // values that were committed by a marker that is lost
  std::vector<Fate> fates;
  for (size_t i = 0; i < batches_.size(); ++i) {
    const ModelBatch& b = batches_[i];
    fates.push_back(fate_of(i));
    if (fates.back() == Fate::open && b.once == true) {
      for (size_t r = 0; r < b.records.size(); ++r)
        once_at[b.records[r].key] = b.base + static_cast<int64_t>(r);
    }
    if (b.control || fates.back() != Fate::committed || b.base >= end) continue;
    for (size_t r = 0; r < b.records.size(); ++r) {
      const int64_t offset = b.base + static_cast<int64_t>(r);
      if (offset >= log_start) last[b.records[r].key] = {offset, b.records[r].tombstone, b.records[r].gone};
    }
  }
  for (size_t i = 0; i < batches_.size(); ++i) {
    const ModelBatch& b = batches_[i];
    for (size_t r = 0; r < b.records.size(); ++r) {
      const ModelRecord& record = b.records[r];
      const int64_t offset = b.base + static_cast<int64_t>(r);
      if (offset < log_start || offset >= end || b.last >= end) continue;
      const auto it = last.find(record.key);
      const bool counts = !b.control && fates[i] == Fate::committed;
      if (!record.gone) {
        if (counts && it->second.offset > offset && it->second.tombstone && it->second.gone)
          return fmt::format("key {} has its value of offset {} again, deleted at {}", record.key, offset,
                             it->second.offset);
        continue;
      }
      if (!compacted) return fmt::format("the record at offset {} is gone", offset);
      if (offset < deleted_below) continue;
      if (b.control || fates[i] == Fate::aborted || (fates[i] == Fate::open && b.once)) continue;
      if (counts && it->second.offset > offset) continue;
      if (counts && once_at[record.key] > offset) continue;
      // Where commits need no sync, compaction may have rested on a commit that a power cut took.
      if (relaxed && lost_marker) continue;
      if (counts && record.tombstone && wall_ms >= b.written_wall_ms + tombstones_kept_ms) continue;
      return fmt::format("the last value of key {}, at offset {}, is gone{}", record.key, offset,
                         record.tombstone ? " before its time" : "");
    }
  }
  return {};
}

std::string PartitionModel::judge_cleaned(int64_t end) const {
  std::map<int32_t, int64_t> values;
  for (size_t i = 0; i < batches_.size(); ++i) {
    const ModelBatch& b = batches_[i];
    if (b.control) continue;
    if (b.last >= end) break;
    const Fate fate = fate_of(i);
    for (size_t r = 0; r < b.records.size(); ++r) {
      const int64_t offset = b.base + static_cast<int64_t>(r);
      if (b.records[r].gone || offset < log_start) continue;
      if (fate == Fate::aborted) return fmt::format("aborted record at {} is still there", offset);
      const auto [it, first] = values.emplace(b.records[r].key, offset);
      if (!first)
        return fmt::format("key {} has values at {} and {}, compacted up to {}", b.records[r].key, it->second,
                           offset, end);
    }
  }
  return {};
}

bool PartitionModel::nothing_between(int64_t from, int64_t to) const {
  if (from >= to) return true;
  if (!compacted) return false;
  if (stale) return true;
  for (const ModelBatch& b : batches_) {
    for (size_t r = 0; r < b.records.size(); ++r) {
      const int64_t offset = b.base + static_cast<int64_t>(r);
      if (offset >= from && offset < to && !b.records[r].gone) return false;
    }
  }
  return true;
}

std::string PartitionModel::judge_committed(const std::vector<record::BatchView>& batches,
                                            const std::vector<log::AbortedTxn>& aborted) const {
  std::vector<bool> begun(aborted.size(), false);
  std::map<int64_t, bool> hidden;
  for (const record::BatchView& view : batches) {
    for (size_t i = 0; i < aborted.size(); ++i) {
      if (begun[i] || aborted[i].first_offset > view.last_offset()) continue;
      begun[i] = true;
      hidden[aborted[i].producer_id.v] = true;
    }
    const ModelBatch* known = batch_at(view.base_offset().v);
    if (known == nullptr || !known->transactional) continue;
    if (known->control) {
      if (!known->commit) hidden[known->producer] = false;
      continue;
    }
    if (view.record_count() == 0) continue;
    const Fate fate = fate_of(static_cast<size_t>(known - batches_.data()));
    const auto it = hidden.find(known->producer);
    const bool shown = it == hidden.end() || !it->second;
    if (shown != (fate == Fate::committed)) {
      return fmt::format("the {} batch at offset {} of producer {} is {}",
                         fate == Fate::committed ? "committed" : "aborted", known->base, known->producer,
                         shown ? "shown" : "hidden");
    }
  }
  return {};
}

Expect PartitionModel::expect(const ModelBatch& batch, const ModelBatch** original) const {
  *original = nullptr;
  if (batch.producer < 0 || batch.control) return Expect::append;
  const ModelBatch* last = nullptr;
  for (auto it = batches_.rbegin(); it != batches_.rend(); ++it) {
    if (it->producer != batch.producer || it->control) continue;
    const bool there = it->base >= log_start;  // what was deleted may be remembered or forgotten
    if (last == nullptr && there) last = &*it;
    if (it->producer_epoch != batch.producer_epoch) break;
    if (it->sequence == batch.sequence && same_bytes(it->bytes, batch.bytes)) {
      if (last == nullptr) return Expect::anything;
      // Forgotten, it may even follow: what came before it was sent again.
      if (!there && last->next_sequence() == batch.sequence) return Expect::anything;
      *original = &*it;
      return &*it == last ? Expect::duplicate : Expect::duplicate_or_refusal;
    }
  }
  if (last == nullptr) return Expect::anything;
  if (batch.producer_epoch < last->producer_epoch) return Expect::refusal;
  if (batch.producer_epoch > last->producer_epoch)
    return batch.sequence == 0 ? Expect::append : Expect::refusal;
  return last->next_sequence() == batch.sequence ? Expect::append : Expect::refusal;
}

std::optional<bool> PartitionModel::decided_before(int64_t producer) const {
  for (auto it = batches_.rbegin(); it != batches_.rend(); ++it) {
    if (it->producer != producer || !it->transactional) continue;
    if (it->control) break;
    if (it->once) return it->once;
  }
  return std::nullopt;
}

int64_t PartitionModel::last_stable(int64_t high_watermark, bool decided, bool cleaned) const {
  std::map<int64_t, int64_t> open;  // producer -> first offset
  int64_t unstable = high_watermark;
  for (const ModelBatch& b : batches_) {
    if (!b.transactional) continue;
    if (!b.control) {
      const auto is_gone = [](const ModelRecord& r) { return r.gone; };
      if (cleaned && compacted && std::all_of(b.records.begin(), b.records.end(), is_gone)) continue;
      open.emplace(b.producer, b.base);
    } else if (const auto it = open.find(b.producer); it != open.end()) {
      if (b.base >= high_watermark && !decided) unstable = std::min(unstable, it->second);
      open.erase(it);
    }
  }
  for (const auto& [producer, first] : open) unstable = std::min(unstable, first);
  return unstable;
}

int64_t PartitionModel::offset_for_timestamp(int64_t timestamp, int64_t bound) const {
  for (const ModelBatch& b : batches_) {
    if (b.last < log_start) continue;
    for (size_t i = 0; i < b.records.size(); ++i) {
      const int64_t offset = b.base + static_cast<int64_t>(i);
      if (offset >= bound) return -1;
      if (offset >= log_start && !b.records[i].gone && b.records[i].timestamp >= timestamp) return offset;
    }
  }
  return -1;
}

}  // namespace millrace::sim
