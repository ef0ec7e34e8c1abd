// Which leader epoch began where: the ground for truncation by epoch (KIP-101, KIP-279, KIP-320). Small: one
// entry per leadership. Kept durable as the text file leader-epoch-checkpoint ("0\n", count, "epoch offset"
// lines).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace millrace::log {

struct EpochStart {
  LeaderEpoch epoch = kNoLeaderEpoch;
  Offset start_offset = kNoOffset;
  bool operator==(const EpochStart&) const = default;
};

/// Answer of OffsetForLeaderEpoch; both -1: unknown.
struct EpochEnd {
  LeaderEpoch epoch = kNoLeaderEpoch;
  Offset end_offset = kNoOffset;
  bool operator==(const EpochEnd&) const = default;
};

class EpochCache {
 public:
  static Result<EpochCache> parse(std::string_view file);
  std::string encode() const;

  /// Epoch `epoch` begins at `start`. Ignored if it is already the latest; otherwise entries that contradict
  /// it (same or later epoch, same or later start) give way. True if anything changed.
  bool assign(LeaderEpoch epoch, Offset start);
  /// The log now ends at `end`: drops entries that begin at or after it. True if anything changed.
  bool truncate_from_end(Offset end);
  /// The log now starts at `start`: drops epochs that ended before it; the one that spans it begins there.
  bool truncate_from_start(Offset start);
  void clear() { entries_.clear(); }

  std::optional<EpochStart> latest() const;
  LeaderEpoch latest_epoch() const { return entries_.empty() ? kNoLeaderEpoch : entries_.back().epoch; }
  /// Epoch of the record at `offset`; kNoLeaderEpoch if before the first entry.
  LeaderEpoch epoch_of(Offset offset) const;
  /// Where `requested` ended: the latest epoch ends at `log_end`; below the first known: (requested, first
  /// start); else (greatest epoch <= requested, start of the next); above all known: unknown.
  EpochEnd end_offset_for(LeaderEpoch requested, Offset log_end) const;

  const std::vector<EpochStart>& entries() const { return entries_; }

 private:
  std::vector<EpochStart> entries_;  // epochs and starts ascending
};

}  // namespace millrace::log
