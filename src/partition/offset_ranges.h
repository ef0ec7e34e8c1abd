// A few disjoint ranges of offsets: what of a log has been read and verified since it was opened.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/ids.h"

namespace millrace::partition {

class OffsetRanges {
 public:
  /// More are not kept: the shortest is forgotten.
  static constexpr size_t kRangesMax = 64;

  /// Adds [from, to).
  void add(Offset from, Offset to) {
    if (to <= from) return;
    auto first = std::lower_bound(ranges_.begin(), ranges_.end(), from,
                                  [](const Range& r, Offset at) { return r.to < at; });
    auto last = first;
    for (; last != ranges_.end() && last->from <= to; ++last) {
      from = std::min(from, last->from);
      to = std::max(to, last->to);
    }
    first = ranges_.erase(first, last);
    ranges_.insert(first, {from, to});
    if (ranges_.size() <= kRangesMax) return;
    ranges_.erase(std::min_element(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) {
      return a.to - a.from < b.to - b.from;
    }));
  }
  bool covers(Offset from, Offset to) const {
    const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), to,
                                     [](const Range& r, Offset end) { return r.to < end; });
    return at != ranges_.end() && at->from <= from;
  }
  /// Forgets everything at or beyond `from`.
  void forget_from(Offset from) {
    while (!ranges_.empty() && ranges_.back().from >= from) ranges_.pop_back();
    if (!ranges_.empty()) ranges_.back().to = std::min(ranges_.back().to, from);
  }

 private:
  struct Range {
    Offset from;
    Offset to;
  };
  std::vector<Range> ranges_;  // ascending, disjoint, not touching
};

}  // namespace millrace::partition
