// Files that a repair leaves in a partition directory: the bytes that were given up, as they were. The name
// says which offsets went with them, so that a later check knows the hole.
//
//   <20 digits: first>-<20 digits: end>-<n>.lost     offsets [first, end); n: bytes' position in their
//   segment
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace millrace::log {

inline constexpr std::string_view kLostSuffix = ".lost";

struct LostRange {
  Offset from;
  Offset to;
  uint64_t position = 0;
};

std::string lost_name(const LostRange& range);
/// Whether a repair gave up everything in [from, to).
inline bool given_up(const std::vector<LostRange>& lost, Offset from, Offset to) {
  return std::any_of(lost.begin(), lost.end(),
                     [&](const LostRange& range) { return range.from <= from && to <= range.to; });
}
/// nullopt: no such name.
std::optional<LostRange> parse_lost_name(std::string_view name);

}  // namespace millrace::log
