// Chance of a simulation: a small generator with a seed. Every component has dice of its own, split off by
// name, so that a draw added in one place does not reshuffle the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"

namespace millrace::sim {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  /// Dice for one component of the run with this seed.
  Dice(uint64_t seed, std::string_view component) : state_(seed * 0x9E3779B97F4A7C15U + 1) {
    for (const char c : component) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001B3U;
    (void)next();
  }

  /// splitmix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  /// 0 .. bound-1.
  uint64_t below(uint64_t bound) {
    ASSERT(bound > 0);
    return next() % bound;
  }
  size_t index(size_t bound) { return static_cast<size_t>(below(bound)); }
  /// `low` .. `high`, both included.
  int64_t between(int64_t low, int64_t high) {
    ASSERT(low <= high);
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low) + 1));
  }
  /// Many small values, few large ones: uniform in the number of bits.
  int64_t skewed(int64_t low, int64_t high) {
    int64_t top = high;
    for (uint64_t halvings = below(8); halvings > 0 && top / 2 > low; --halvings) top /= 2;
    return between(low, top);
  }
  bool percent(uint64_t chance) { return below(100) < chance; }
  bool per_million(uint64_t chance) { return chance > 0 && below(1'000'000) < chance; }

 private:
  uint64_t state_;
};

}  // namespace millrace::sim
