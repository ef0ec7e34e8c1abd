// The kernel's random numbers (getrandom): fit for ids and secrets, no state to share or to fork.
#pragma once

#include "io/random.h"

namespace millrace::io {

class PosixRandom final : public Random {
 public:
  void fill(MutableByteView out) override;
};

}  // namespace millrace::io
