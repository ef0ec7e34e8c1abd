#include "client/api_ranges.h"

#include <algorithm>

namespace millrace::client {

ApiRanges::ApiRanges(const wire::ApiVersionsResponse& response) {
  for (const auto& api : response.api_keys) {
    if (api.min_version > api.max_version) continue;
    ranges_[static_cast<wire::ApiKey>(api.api_key)] = {api.min_version, api.max_version};
  }
}

Result<int16_t> ApiRanges::choose(wire::ApiKey key, int16_t min, int16_t max, const std::string& peer) const {
  const std::string name(wire::api_name(key));
  const auto found = ranges_.find(key);
  if (found == ranges_.end()) {
    return Error(ErrorCode::unsupported_version, "the broker at " + peer + " does not offer " + name);
  }
  const Range theirs = found->second;
  const int16_t version = std::min(max, theirs.max);
  if (version >= std::max(min, theirs.min)) return version;
  const bool broker_is_old = theirs.max < min;
  return Error(ErrorCode::unsupported_version,
               "the broker at " + peer + " speaks " + name + " " + std::to_string(theirs.min) + "-" +
                   std::to_string(theirs.max) + ", this client " + std::to_string(min) + "-" +
                   std::to_string(max) + ": the " + (broker_is_old ? "broker" : "client") + " is too old");
}

}  // namespace millrace::client
