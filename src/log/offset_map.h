// Which offset is the last of each key: what a compaction run knows about the dirty part of a log. Bounded
// memory: a key is kept as a keyed 128-bit hash (SipHash-2-4, Aumasson and Bernstein 2012), so that no client
// can choose keys that collide, beside its offset. Owned by one run, no threads.
#pragma once

#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/ids.h"

namespace millrace::log {

/// The secret of the hash: random numbers, given by the caller, new for each run.
struct HashSecret {
  uint64_t low = 0;
  uint64_t high = 0;
};

struct KeyHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const KeyHash&) const = default;
};

/// SipHash-2-4 with 128 bits of output.
KeyHash hash_key(const HashSecret& secret, ByteView key);

class OffsetMap {
 public:
  static constexpr size_t kSlotBytes = 24;

  /// At most `bytes_max` bytes, filled to `load_factor` (0..1]; no more than `keys_expected` need. Holds at
  /// least one key.
  OffsetMap(const HashSecret& secret, size_t bytes_max, double load_factor, uint64_t keys_expected);

  /// `offset` is the last of `key` so far. False: the key is new and the map is full.
  bool put(ByteView key, Offset offset);
  /// kNoOffset: the key is not in the map.
  Offset get(ByteView key) const;

  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  size_t bytes() const { return slot_count_ * kSlotBytes; }

 private:
  struct Slot {
    KeyHash hash;
    int64_t next_offset;  // the offset + 1; 0: free
  };
  static_assert(sizeof(Slot) == kSlotBytes);
  /// The slot of the key, or the free one where it would go.
  size_t find(const KeyHash& hash) const;

  HashSecret secret_;
  size_t slot_count_ = 0;
  size_t capacity_ = 0;
  size_t size_ = 0;
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace millrace::log
