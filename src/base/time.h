// Time as a parameter. Machines are handed a Now; only io::Clock reads clocks.
#pragma once

#include <cstdint>

namespace millrace {

/// Both clocks at one moment. `mono_ms` orders deadlines and never jumps; `wall_ms` (Unix epoch, UTC) stamps
/// records and ages segments.
struct Now {
  int64_t mono_ms = 0;
  int64_t wall_ms = 0;
};

inline constexpr int64_t kNoDeadline = INT64_MAX;

}  // namespace millrace
