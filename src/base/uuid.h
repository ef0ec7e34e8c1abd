// 128-bit ids as Kafka uses them: 16 raw bytes on the wire, 22 characters of unpadded URL-safe base64 in
// text.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace millrace {

struct Uuid {
  std::array<uint8_t, 16> bytes{};

  constexpr auto operator<=>(const Uuid&) const = default;
  bool is_zero() const { return *this == Uuid{}; }

  /// 22 characters, e.g. "4L6g3nShT-eMCtK--X86sw".
  std::string to_string() const;
  static Result<Uuid> parse(std::string_view text);
  /// Version 4 from 16 random bytes; like Kafka, never one whose text begins with '-'.
  static Uuid from_random(std::array<uint8_t, 16> random);
};

}  // namespace millrace

template <>
struct std::hash<millrace::Uuid> {
  size_t operator()(const millrace::Uuid& u) const noexcept;
};
