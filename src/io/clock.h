// The one door to time.
#pragma once

#include "base/time.h"

namespace millrace::io {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic milliseconds and wall milliseconds (UTC), read together. Thread-safe.
  virtual Now now() const = 0;
  /// Monotonic nanoseconds, for measuring only.
  virtual int64_t mono_ns() const = 0;
};

}  // namespace millrace::io
