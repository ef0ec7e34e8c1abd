// Small batches that producers sent to one loop during one tick, gathered by partition: each partition gets
// one write for all of its own, in the order in which they came. A system call costs more than copying a
// small batch, and with many producers, or one that does not wait, a tick brings several for a partition.
//
// Owned by a loop's Shard, used on that loop. Nothing that is gathered outlives the tick.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "base/uuid.h"
#include "broker/view.h"
#include "io/loop.h"

namespace millrace::broker {

class TickAppends {
 public:
  /// What is larger is written from where it lies: it would gain less than the copy costs.
  static constexpr size_t kBatchBytesMax = 4096;
  /// Memory that a loop keeps once a tick has brought so much.
  static constexpr size_t kBytesMax = size_t{2} << 20;
  static constexpr size_t kGroupsMax = 1024;

  struct Batch {
    ByteView bytes;  // validated; copied
    int32_t partition = 0;
    int32_t last_offset_delta = 0;
    int64_t log_append_time_ms = -1;
    bool acks_all = false;
    uint64_t ticket = 0;
  };

  bool empty() const { return groups_.empty(); }
  /// Whether there is room for one more batch of so many bytes, of any partition.
  bool has_room(size_t bytes) const {
    return bytes_.size() + bytes <= kBytesMax && groups_.size() < kGroupsMax;
  }
  bool holds(const Uuid& topic, int32_t partition) const {
    return !groups_.empty() && find(topic, partition) != nullptr;
  }
  /// Only with has_room().
  void add(const PartitionRef& door, const Uuid& topic, const Batch& batch);

  /// Appends everything. `told(ticket, partition, result)` for each batch, in order within a partition; it
  /// must not add.
  template <class Told>
  void run(io::Loop& loop, Now now, Told told) {
    for (Group& g : groups_) {
      for (uint32_t i = g.first; i != kNone;) i = run_some(g, i, loop, now, told);
    }
    clear();
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kSlots = 4 * kGroupsMax;

  struct Entry {
    size_t at = 0;  // in bytes_
    size_t size = 0;
    int64_t log_append_time_ms = -1;
    uint64_t ticket = 0;
    int32_t last_offset_delta = 0;
    uint32_t next = kNone;
    bool acks_all = false;
  };
  struct Group {
    PartitionRef partition;
    Uuid topic;
    int32_t number = 0;
    uint32_t slot = 0;
    uint32_t first = kNone;
    uint32_t last = kNone;
  };

  // Batches from entry `i` on that may be appended together; returns the entry after them.
  template <class Told>
  uint32_t run_some(Group& g, uint32_t i, io::Loop& loop, Now now, Told& told) {
    const uint32_t begin = i;
    const bool acks_all = entries_[i].acks_all;
    pieces_.clear();
    for (; i != kNone && entries_[i].acks_all == acks_all; i = entries_[i].next)
      pieces_.push_back(bytes_of(i));
    Result<partition::Appended> all = g.partition->append(pieces_, acks_all, loop, now);
    if (pieces_.size() == 1) {
      told(entries_[begin].ticket, g.partition, all);
      return i;
    }
    for (uint32_t e = begin; e != i; e = entries_[e].next) {
      if (!all.ok()) {
        // Nothing was appended. By itself each hears what is true of it.
        told(entries_[e].ticket, g.partition, g.partition->append(bytes_of(e), acks_all, loop, now));
        continue;
      }
      Result<partition::Appended> own = *all;
      own->last_offset = own->base_offset + entries_[e].last_offset_delta;
      own->log_append_time_ms = entries_[e].log_append_time_ms;
      all->base_offset = own->last_offset + 1;
      told(entries_[e].ticket, g.partition, own);
    }
    ASSERT(!all.ok() || all->base_offset == all->last_offset + 1);
    return i;
  }

  MutableByteView bytes_of(uint32_t entry) {
    return MutableByteView(bytes_).subspan(entries_[entry].at, entries_[entry].size);
  }
  /// The slot that holds this partition's group, or the free one where it belongs.
  size_t slot_of(const Uuid& topic, int32_t partition) const;
  const Group* find(const Uuid& topic, int32_t partition) const;
  void clear();

  Bytes bytes_;  // never beyond kBytesMax, so that it does not move
  std::vector<Entry> entries_;
  std::vector<Group> groups_;    // as their first batches came
  std::vector<uint32_t> slots_;  // open addressing: an index into groups_, or kNone
  std::vector<MutableByteView> pieces_;
};

}  // namespace millrace::broker
