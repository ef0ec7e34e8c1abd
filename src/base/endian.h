// Big-endian loads and stores (network and file order of everything Kafka).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace millrace {

/// The value with its bytes in network order, or back. Said outright: a loop over the bytes is not always
/// seen to be one instruction.
template <class U>
constexpr U swapped_be(U u) {
  static_assert(std::is_unsigned_v<U>);
  if constexpr (std::endian::native == std::endian::big || sizeof(U) == 1) {
    return u;
  } else if constexpr (sizeof(U) == 2) {
    return __builtin_bswap16(u);
  } else if constexpr (sizeof(U) == 4) {
    return __builtin_bswap32(u);
  } else {
    static_assert(sizeof(U) == 8);
    return __builtin_bswap64(u);
  }
}

template <class T>
T load_be(const uint8_t* p) {
  static_assert(std::is_integral_v<T>);
  std::make_unsigned_t<T> u;
  std::memcpy(&u, p, sizeof(u));
  return static_cast<T>(swapped_be(u));
}

template <class T>
void store_be(uint8_t* p, T value) {
  static_assert(std::is_integral_v<T>);
  const auto u = swapped_be(static_cast<std::make_unsigned_t<T>>(value));
  std::memcpy(p, &u, sizeof(u));
}

}  // namespace millrace
