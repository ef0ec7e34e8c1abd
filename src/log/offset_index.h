// The sparse offset index of one segment: one entry about every index.interval.bytes, naming a batch by its
// last offset and its position. Kept as the file's own bytes per entry, in memory; written whole or in part
// by the segment's owner (the partition log). File: entries back to back, big-endian, ascending, no header:
//
//   0 last offset of the batch, relative to the segment's base offset i32 | 4 position of the batch i32
//
// Never checksummed: an index that does not fit its segment is rebuilt from it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace millrace::log {

class OffsetIndex {
 public:
  static constexpr size_t kEntrySize = 8;
  struct Entry {
    int32_t relative_offset = 0;
    int32_t position = 0;
    bool operator==(const Entry&) const = default;
  };

  /// Entries of an index file for a segment of `segment_bytes` bytes. Errors: corrupt (size no multiple of an
  /// entry, not ascending, a position outside the segment).
  static Result<OffsetIndex> parse(ByteView file, uint64_t segment_bytes);
  /// The entries before the first that parse() would refuse: what a crash left of a file.
  static OffsetIndex sound_prefix(ByteView file, uint64_t segment_bytes);
  /// Entries from number `first` on, in file order.
  Bytes encode(size_t first = 0) const;

  void append(int32_t relative_offset, int32_t position) { entries_.push_back({relative_offset, position}); }
  /// The last entry with an offset <= `relative_offset`; nullopt: begin at position 0.
  std::optional<Entry> floor_offset(int64_t relative_offset) const;
  /// The last entry with a position <= `position`.
  std::optional<Entry> floor_position(uint64_t position) const;
  /// Drops entries at or beyond `position`.
  void truncate_to_position(uint64_t position);
  /// Drops entries whose offset is at or beyond `relative_offset`.
  void truncate_to_offset(int64_t relative_offset);

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  void shrink() { entries_.shrink_to_fit(); }

 private:
  std::vector<Entry> entries_;
};

}  // namespace millrace::log
