// Unsigned LEB128 and zig-zag varints, as in Kafka's flexible encodings and record format.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace millrace {

inline constexpr size_t kMaxVarint32 = 5;
inline constexpr size_t kMaxVarint64 = 10;

constexpr uint64_t zigzag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
constexpr int64_t unzigzag(uint64_t u) {
  return static_cast<int64_t>(u >> 1) ^ -static_cast<int64_t>(u & 1);
}

/// Bytes that encode_varint would write.
constexpr size_t varint_size(uint64_t u) {
  size_t n = 1;
  while (u >= 0x80) {
    u >>= 7;
    ++n;
  }
  return n;
}

/// Writes at most kMaxVarint64 bytes at `out`; returns the count.
inline size_t encode_varint(uint64_t u, uint8_t* out) {
  size_t n = 0;
  while (u >= 0x80) {
    out[n++] = static_cast<uint8_t>(u | 0x80);
    u >>= 7;
  }
  out[n++] = static_cast<uint8_t>(u);
  return n;
}

/// Reads a varint of at most `max_bytes`; returns the bytes used, 0 if truncated, overlong or out of range of
/// 32 bits (max_bytes == kMaxVarint32) or 64 bits.
inline size_t decode_varint(ByteView in, size_t max_bytes, uint64_t& out) {
  uint64_t u = 0;
  for (size_t i = 0; i < max_bytes && i < in.size(); ++i) {
    const uint8_t b = in[i];
    u |= static_cast<uint64_t>(b & 0x7f) << (7 * i);
    if ((b & 0x80) == 0) {
      if (max_bytes == kMaxVarint32 && u > UINT32_MAX) return 0;
      if (i == kMaxVarint64 - 1 && b > 1) return 0;
      out = u;
      return i + 1;
    }
  }
  return 0;
}

}  // namespace millrace
