// The one door to chance.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/uuid.h"

namespace millrace::io {

class Random {
 public:
  virtual ~Random() = default;
  /// Fills `out` with bytes fit for ids and secrets. Thread-safe.
  virtual void fill(MutableByteView out) = 0;

  uint64_t next_u64() {
    std::array<uint8_t, 8> b{};
    fill(b);
    uint64_t u = 0;
    for (const uint8_t byte : b) u = (u << 8) | byte;
    return u;
  }
  Uuid uuid() {
    std::array<uint8_t, 16> b{};
    fill(b);
    return Uuid::from_random(b);
  }
};

}  // namespace millrace::io
