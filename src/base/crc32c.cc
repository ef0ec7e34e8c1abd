#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace millrace {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

// kTables[k][b]: the crc of byte b followed by k zero bytes (slicing by 8).
constexpr std::array<std::array<uint32_t, 256>, 8> make_tables() {
  std::array<std::array<uint32_t, 256>, 8> t{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    t[0][b] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
  }
  return t;
}

constexpr auto kTables = make_tables();

#if defined(__x86_64__)

// crc after `bytes` zero bytes is linear in crc: four byte-indexed tables apply it. Used to join three lanes.
struct ShiftTable {
  std::array<std::array<uint32_t, 256>, 4> t{};
};

constexpr ShiftTable make_shift(size_t bytes) {
  ShiftTable s;
  std::array<uint32_t, 32> one_bit{};
  for (uint32_t bit = 0; bit < 32; ++bit) {
    uint32_t crc = 1u << bit;
    for (size_t i = 0; i < bytes; ++i) crc = (crc >> 8) ^ kTables[0][crc & 0xff];
    one_bit[bit] = crc;
  }
  for (uint32_t byte = 0; byte < 4; ++byte) {
    for (uint32_t v = 0; v < 256; ++v) {
      uint32_t crc = 0;
      for (uint32_t bit = 0; bit < 8; ++bit) {
        if ((v >> bit & 1) != 0) crc ^= one_bit[byte * 8 + bit];
      }
      s.t[byte][v] = crc;
    }
  }
  return s;
}

// Bytes a lane, three lanes a round: long ones first, then short ones for batches of a record or two.
constexpr size_t kLongLane = 1024;
constexpr size_t kShortLane = 128;
const ShiftTable kShiftLong = make_shift(kLongLane);
const ShiftTable kShiftShort = make_shift(kShortLane);

uint32_t shift(const ShiftTable& s, uint32_t crc) {
  return s.t[0][crc & 0xff] ^ s.t[1][(crc >> 8) & 0xff] ^ s.t[2][(crc >> 16) & 0xff] ^ s.t[3][crc >> 24];
}

uint64_t load_word(const uint8_t* p) {
  uint64_t w;
  std::memcpy(&w, p, sizeof(w));
  return w;
}

// Three independent streams hide the three-cycle latency of the instruction. Takes whole rounds off `p`, `n`.
template <size_t lane>
__attribute__((target("sse4.2"))) uint64_t three_lanes(const ShiftTable& by_lane, uint64_t a,
                                                       const uint8_t*& p, size_t& n) {
  while (n >= 3 * lane) {
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < lane; i += 8) {
      a = _mm_crc32_u64(a, load_word(p + i));
      b = _mm_crc32_u64(b, load_word(p + lane + i));
      c = _mm_crc32_u64(c, load_word(p + 2 * lane + i));
    }
    a = shift(by_lane, shift(by_lane, static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^
        static_cast<uint32_t>(c);
    p += 3 * lane;
    n -= 3 * lane;
  }
  return a;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(ByteView data, uint32_t crc) {
  const uint8_t* p = data.data();
  size_t n = data.size();
  uint64_t a = three_lanes<kLongLane>(kShiftLong, static_cast<uint32_t>(~crc), p, n);
  a = three_lanes<kShortLane>(kShiftShort, a, p, n);
  for (; n >= 8; p += 8, n -= 8) a = _mm_crc32_u64(a, load_word(p));
  auto tail = static_cast<uint32_t>(a);
  for (; n > 0; ++p, --n) tail = _mm_crc32_u8(tail, *p);
  return ~tail;
}

#endif

}  // namespace

uint32_t crc32c_table(ByteView data, uint32_t crc) {
  const uint8_t* p = data.data();
  size_t n = data.size();
  crc = ~crc;
  for (; n >= 8; p += 8, n -= 8) {
    crc ^= static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 |
           static_cast<uint32_t>(p[2]) << 16 | static_cast<uint32_t>(p[3]) << 24;
    crc = kTables[7][crc & 0xff] ^ kTables[6][(crc >> 8) & 0xff] ^ kTables[5][(crc >> 16) & 0xff] ^
          kTables[4][crc >> 24] ^ kTables[3][p[4]] ^ kTables[2][p[5]] ^ kTables[1][p[6]] ^ kTables[0][p[7]];
  }
  for (; n > 0; ++p, --n) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xff];
  return ~crc;
}

uint32_t crc32c(ByteView data, uint32_t crc) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(data, crc);
#endif
  return crc32c_table(data, crc);
}

}  // namespace millrace
