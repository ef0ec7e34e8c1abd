#include "log/offset_map.h"

#include <algorithm>
#include <bit>

namespace millrace::log {

namespace {

uint64_t load_little(const uint8_t* p, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value |= uint64_t{p[i]} << (8 * i);
  return value;
}

struct SipState {
  uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void take(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  uint64_t give() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

KeyHash hash_key(const HashSecret& secret, ByteView key) {
  SipState s{secret.low ^ 0x736f6d6570736575u, secret.high ^ 0x646f72616e646f6du ^ 0xee,
             secret.low ^ 0x6c7967656e657261u, secret.high ^ 0x7465646279746573u};
  size_t at = 0;
  for (; at + 8 <= key.size(); at += 8) s.take(load_little(key.data() + at, 8));
  s.take(load_little(key.data() + at, key.size() - at) | uint64_t{key.size() & 0xff} << 56);
  s.v2 ^= 0xee;
  KeyHash out;
  out.low = s.give();
  s.v1 ^= 0xdd;
  out.high = s.give();
  return out;
}

OffsetMap::OffsetMap(const HashSecret& secret, size_t bytes_max, double load_factor, uint64_t keys_expected)
    : secret_(secret) {
  const double load = std::clamp(load_factor, 0.01, 0.99);
  const size_t most = std::max<size_t>(bytes_max / kSlotBytes, 2);
  const double wanted = static_cast<double>(keys_expected) / load + 2;
  slot_count_ = wanted < static_cast<double>(most) ? static_cast<size_t>(wanted) : most;
  // One slot stays free: a search ends there.
  capacity_ =
      std::clamp<size_t>(static_cast<size_t>(static_cast<double>(slot_count_) * load), 1, slot_count_ - 1);
  slots_ = std::make_unique<Slot[]>(slot_count_);
}

size_t OffsetMap::find(const KeyHash& hash) const {
  size_t i = static_cast<size_t>(hash.low % slot_count_);
  while (slots_[i].next_offset != 0 && slots_[i].hash != hash) i = i + 1 == slot_count_ ? 0 : i + 1;
  return i;
}

bool OffsetMap::put(ByteView key, Offset offset) {
  ASSERT(offset.v >= 0 && offset.v < INT64_MAX);
  const KeyHash hash = hash_key(secret_, key);
  Slot& slot = slots_[find(hash)];
  if (slot.next_offset == 0) {
    if (size_ == capacity_) return false;
    ++size_;
    slot.hash = hash;
  }
  slot.next_offset = std::max(slot.next_offset, offset.v + 1);
  return true;
}

Offset OffsetMap::get(ByteView key) const {
  const Slot& slot = slots_[find(hash_key(secret_, key))];
  return Offset(slot.next_offset - 1);
}

}  // namespace millrace::log
