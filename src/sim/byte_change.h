// One change to the bytes of a file in memory: what the disks of tests and simulations are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace millrace::sim {

struct ByteChange {
  uint64_t position = 0;
  Bytes bytes;
  bool is_truncate = false;  // to `position`
};

inline void apply(Bytes& data, const ByteChange& change) {
  if (change.is_truncate) {
    data.resize(static_cast<size_t>(change.position));
    return;
  }
  if (change.bytes.empty()) return;
  const auto from = static_cast<size_t>(change.position);
  if (data.size() < from + change.bytes.size()) data.resize(from + change.bytes.size());
  std::copy(change.bytes.begin(), change.bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(from));
}

}  // namespace millrace::sim
