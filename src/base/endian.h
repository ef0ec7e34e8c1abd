// Big-endian loads and stores (network and file order of everything Kafka).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace millrace {

template <class T>
T load_be(const uint8_t* p) {
  static_assert(std::is_integral_v<T>);
  std::make_unsigned_t<T> u = 0;
  for (size_t i = 0; i < sizeof(T); ++i) u = static_cast<std::make_unsigned_t<T>>((u << 8) | p[i]);
  return static_cast<T>(u);
}

// One byte needs no shifting (and `u << 8` would be out of range for it).
template <>
inline uint8_t load_be<uint8_t>(const uint8_t* p) {
  return *p;
}
template <>
inline int8_t load_be<int8_t>(const uint8_t* p) {
  return static_cast<int8_t>(*p);
}

template <class T>
void store_be(uint8_t* p, T value) {
  static_assert(std::is_integral_v<T>);
  auto u = static_cast<uint64_t>(static_cast<std::make_unsigned_t<T>>(value));
  for (size_t i = sizeof(T); i-- > 0;) {
    p[i] = static_cast<uint8_t>(u);
    u >>= 8;
  }
}

}  // namespace millrace
