// The sparse time index of one segment: "up to here no batch had a later timestamp". File: entries back to
// back, big-endian, timestamps and offsets ascending:
//
//   0 greatest timestamp so far, ms i64 | 8 last offset of the first batch that has it, relative i32
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace millrace::log {

class TimeIndex {
 public:
  static constexpr size_t kEntrySize = 12;
  struct Entry {
    int64_t timestamp = 0;
    int32_t relative_offset = 0;
    bool operator==(const Entry&) const = default;
  };

  /// Errors: corrupt (size no multiple of an entry, not ascending, negative offset).
  static Result<TimeIndex> parse(ByteView file);
  /// The entries before the first that parse() would refuse; `whole` if there was none.
  static TimeIndex sound_prefix(ByteView file, bool& whole);
  Bytes encode(size_t first = 0) const;

  /// Adds an entry if its timestamp is later than the last one's; true if added.
  bool append_if_later(int64_t timestamp, int32_t relative_offset);
  /// The last entry with a timestamp <= `timestamp`.
  std::optional<Entry> floor(int64_t timestamp) const;
  /// Drops entries whose offset is at or beyond `relative_offset`.
  void truncate_to_offset(int64_t relative_offset);

  std::optional<Entry> last() const;
  size_t size() const { return timestamps_.size(); }
  bool empty() const { return timestamps_.empty(); }
  Entry entry(size_t i) const { return {timestamps_[i], offsets_[i]}; }
  void shrink();

 private:
  // Two arrays: 12 bytes an entry in memory too.
  std::vector<int64_t> timestamps_;
  std::vector<int32_t> offsets_;
};

}  // namespace millrace::log
