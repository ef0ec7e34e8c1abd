#include "wire/api_table.h"

#include <algorithm>

namespace millrace::wire {

const ApiInfo* find_api(ApiKey key) {
  const std::span<const ApiInfo> apis = all_apis();
  // Kafka's keys are dense but for those that were retired: the row is at the key or a little before.
  const auto k = static_cast<int16_t>(key);
  if (k < 0) return nullptr;
  for (size_t i = std::min(static_cast<size_t>(k), apis.size() - 1);; --i) {
    if (apis[i].key == key) return &apis[i];
    if (apis[i].key < key || i == 0) return nullptr;
  }
}

const ApiInfo* find_api(std::string_view name) {
  for (const ApiInfo& api : all_apis()) {
    if (api.name == name) return &api;
  }
  return nullptr;
}

std::string_view api_name(ApiKey key) {
  if (const ApiInfo* api = find_api(key)) return api->name;
  return is_private_api(key) ? "Private" : "Unknown";
}

}  // namespace millrace::wire
