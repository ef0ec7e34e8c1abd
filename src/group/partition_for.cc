#include "group/partition_for.h"

#include <cstddef>

#include "base/assert.h"

namespace millrace::group {
namespace {

/// One code point from the front of `s`; malformed input gives U+FFFD for the longest prefix of a well-formed
/// sequence, at least one byte.
uint32_t take_code_point(std::string_view& s) {
  constexpr uint32_t kReplacement = 0xFFFD;
  const auto at = [&s](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t first = at(0);
  size_t more = 0;
  uint32_t code = first;
  uint8_t low = 0x80;  // bounds of the second byte: no overlong forms, no surrogates, nothing above U+10FFFF
  uint8_t high = 0xBF;
  if (first < 0x80) {
    s.remove_prefix(1);
    return code;
  }
  if (first >= 0xC2 && first <= 0xDF) {
    more = 1;
    code = first & 0x1Fu;
  } else if (first >= 0xE0 && first <= 0xEF) {
    more = 2;
    code = first & 0x0Fu;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    more = 3;
    code = first & 0x07u;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    s.remove_prefix(1);
    return kReplacement;
  }
  for (size_t i = 1; i <= more; ++i) {
    if (i >= s.size() || at(i) < low || at(i) > high) {
      s.remove_prefix(i);
      return kReplacement;
    }
    code = (code << 6) | (at(i) & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  s.remove_prefix(more + 1);
  return code;
}

}  // namespace

int32_t java_string_hash(std::string_view utf8) {
  uint32_t hash = 0;
  while (!utf8.empty()) {
    const uint32_t code = take_code_point(utf8);
    if (code < 0x10000) {
      hash = hash * 31 + code;
    } else {
      hash = hash * 31 + (0xD800 + ((code - 0x10000) >> 10));
      hash = hash * 31 + (0xDC00 + ((code - 0x10000) & 0x3FF));
    }
  }
  return static_cast<int32_t>(hash);
}

int32_t partition_for(std::string_view group_id, int32_t partitions) {
  ASSERT(partitions > 0);
  const int32_t hash = java_string_hash(group_id);
  if (hash == INT32_MIN) return 0;
  return (hash < 0 ? -hash : hash) % partitions;
}

}  // namespace millrace::group
