#include "broker/tick_appends.h"

namespace millrace::broker {

size_t TickAppends::slot_of(const Uuid& topic, int32_t partition) const {
  uint64_t hash = 0;
  static_assert(sizeof(topic.bytes) >= sizeof(hash));
  std::memcpy(&hash, topic.bytes.data(), sizeof(hash));
  hash = (hash ^ static_cast<uint64_t>(static_cast<uint32_t>(partition))) * 0x9e3779b97f4a7c15ULL;
  size_t slot = (hash >> 32) % kSlots;
  while (slots_[slot] != kNone) {
    const Group& g = groups_[slots_[slot]];
    if (g.number == partition && g.topic == topic) break;
    slot = (slot + 1) % kSlots;
  }
  return slot;
}

const TickAppends::Group* TickAppends::find(const Uuid& topic, int32_t partition) const {
  const uint32_t found = slots_[slot_of(topic, partition)];
  return found == kNone ? nullptr : &groups_[found];
}

void TickAppends::add(const PartitionRef& door, const Uuid& topic, const Batch& batch) {
  ASSERT(has_room(batch.bytes.size()));
  if (slots_.empty()) {
    slots_.assign(kSlots, kNone);
    bytes_.reserve(kBytesMax);
  }
  const size_t slot = slot_of(topic, batch.partition);
  if (slots_[slot] == kNone) {
    slots_[slot] = static_cast<uint32_t>(groups_.size());
    groups_.push_back({door, topic, batch.partition, static_cast<uint32_t>(slot), kNone, kNone});
  }
  Group& group = groups_[slots_[slot]];
  const auto entry = static_cast<uint32_t>(entries_.size());
  (group.first == kNone ? group.first : entries_[group.last].next) = entry;
  group.last = entry;
  entries_.push_back({.at = bytes_.size(),
                      .size = batch.bytes.size(),
                      .log_append_time_ms = batch.log_append_time_ms,
                      .ticket = batch.ticket,
                      .last_offset_delta = batch.last_offset_delta,
                      .acks_all = batch.acks_all});
  bytes_.insert(bytes_.end(), batch.bytes.begin(), batch.bytes.end());
}

void TickAppends::clear() {
  for (const Group& g : groups_) slots_[g.slot] = kNone;
  groups_.clear();
  entries_.clear();
  bytes_.clear();
}

}  // namespace millrace::broker
