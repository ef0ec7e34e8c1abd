#include "sim/partition_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

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

void PartitionModel::cut_to(int64_t start, int64_t end) {
  while (!batches_.empty() && batches_.back().last >= end) batches_.pop_back();
  maybe_.clear();
  log_start = start;
  end_ = end;
  promised = std::min(promised, end);
}

const ModelBatch* PartitionModel::batch_at(int64_t base) const {
  const auto it = std::lower_bound(batches_.begin(), batches_.end(), base,
                                   [](const ModelBatch& b, int64_t at) { return b.base < at; });
  return it == batches_.end() || it->base != base ? nullptr : &*it;
}

std::string PartitionModel::judge(const record::BatchView& batch, bool adopt) {
  const int64_t base = batch.base_offset().v;
  const ModelBatch* known = batch_at(base);
  if (known == nullptr && adopt && base == end_) {
    for (const ModelBatch& m : maybe_) {
      if (!same_bytes(m.bytes, batch.bytes())) continue;
      ModelBatch adopted = m;
      adopted.base = base;
      adopted.last = batch.last_offset().v;
      adopted.epoch = batch.leader_epoch().v;
      append(std::move(adopted));
      return {};
    }
  }
  if (known == nullptr) {
    if (damaged && !batch.crc_matches()) return {};
    return fmt::format("a batch at offset {} that was never appended", base);
  }
  if (!same_bytes(known->bytes, batch.bytes())) {
    if (damaged && !batch.crc_matches()) return {};
    return fmt::format("the batch at offset {} is not what was appended", base);
  }
  if (known->epoch != batch.leader_epoch().v && !damaged) {
    return fmt::format("the batch at offset {} has epoch {}, it was appended in {}", base,
                       batch.leader_epoch().v, known->epoch);
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

int64_t PartitionModel::last_stable(int64_t high_watermark) const {
  std::map<int64_t, int64_t> open;  // producer -> first offset
  int64_t unstable = high_watermark;
  for (const ModelBatch& b : batches_) {
    if (!b.transactional) continue;
    if (!b.control) {
      open.emplace(b.producer, b.base);
    } else if (const auto it = open.find(b.producer); it != open.end()) {
      if (b.base >= high_watermark) unstable = std::min(unstable, it->second);
      open.erase(it);
    }
  }
  for (const auto& [producer, first] : open) unstable = std::min(unstable, first);
  return unstable;
}

int64_t PartitionModel::offset_for_timestamp(int64_t timestamp, int64_t bound) const {
  for (const ModelBatch& b : batches_) {
    if (b.last < log_start) continue;
    for (size_t i = 0; i < b.timestamps.size(); ++i) {
      const int64_t offset = b.base + static_cast<int64_t>(i);
      if (offset >= bound) return -1;
      if (offset >= log_start && b.timestamps[i] >= timestamp) return offset;
    }
  }
  return -1;
}

}  // namespace millrace::sim
