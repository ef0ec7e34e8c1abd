// The machine's clocks.
#pragma once

#include "io/clock.h"

namespace millrace::io {

class PosixClock final : public Clock {
 public:
  Now now() const override;
  int64_t mono_ns() const override;
};

}  // namespace millrace::io
