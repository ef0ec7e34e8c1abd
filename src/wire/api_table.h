// The APIs: key, name, versions. Generated from proto/kafka (api_key.h and the table's rows); this is how it
// is asked.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "wire/api_key.h"

namespace millrace::wire {

struct ApiInfo {
  ApiKey key{};
  std::string_view name;  // Kafka's, e.g. "OffsetCommit"
  int16_t min = 0;        // versions the codec knows
  int16_t max = 0;
  int16_t served_min = -1;  // versions we answer; -1 if none
  int16_t served_max = -1;
  int16_t advertised_min =
      -1;  // what ApiVersions says; below served_min where clients look for versions long refused
  int16_t flexible_from = 0;     // kNeverFlexible if never
  bool latest_unstable = false;  // Kafka does not advertise `max` yet

  constexpr bool served() const { return served_max >= 0; }
  constexpr bool serves(int16_t version) const {
    return served() && version >= served_min && version <= served_max;
  }
  constexpr bool flexible(int16_t version) const { return version >= flexible_from; }
};

/// Ascending by key.
std::span<const ApiInfo> all_apis();
/// nullptr for a key that is not in the table (private keys included).
const ApiInfo* find_api(ApiKey key);
inline const ApiInfo* find_api(int16_t key) {
  return find_api(static_cast<ApiKey>(key));
}
/// By Kafka's name; nullptr if there is none.
const ApiInfo* find_api(std::string_view name);
/// Kafka's name, "Private" for private keys, "Unknown" otherwise.
std::string_view api_name(ApiKey key);

// Our own RPC on the internal listener: the same framing, protobuf bodies, always flexible headers.
inline constexpr int16_t kFirstPrivateApi = 20000;
inline constexpr int16_t kLastPrivateApi = 20099;
constexpr bool is_private_api(ApiKey key) {
  const auto k = static_cast<int16_t>(key);
  return k >= kFirstPrivateApi && k <= kLastPrivateApi;
}

}  // namespace millrace::wire
