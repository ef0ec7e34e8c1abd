#include "io/posix_clock.h"

#include <time.h>

#include "base/assert.h"

namespace millrace::io {
namespace {

int64_t clock_ns(clockid_t clock) {
  timespec t{};
  ASSERT(::clock_gettime(clock, &t) == 0);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

Now PosixClock::now() const {
  return Now{.mono_ms = clock_ns(CLOCK_MONOTONIC) / 1'000'000,
             .wall_ms = clock_ns(CLOCK_REALTIME) / 1'000'000};
}

int64_t PosixClock::mono_ns() const {
  return clock_ns(CLOCK_MONOTONIC);
}

}  // namespace millrace::io
