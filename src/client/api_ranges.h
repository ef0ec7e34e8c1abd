// Which versions of which APIs a broker speaks (its ApiVersions answer), and the choice of one.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "wire/api_table.h"
#include "wire/messages/api_versions.h"

namespace millrace::client {

class ApiRanges {
 public:
  ApiRanges() = default;
  explicit ApiRanges(const wire::ApiVersionsResponse& response);

  /// The highest version that both know: ours are [min, max]. Errors: unsupported_version, saying which side
  /// is behind; `peer` names the broker.
  Result<int16_t> choose(wire::ApiKey key, int16_t min, int16_t max, const std::string& peer) const;
  bool knows(wire::ApiKey key) const { return ranges_.contains(key); }

 private:
  struct Range {
    int16_t min = 0;
    int16_t max = 0;
  };
  std::map<wire::ApiKey, Range> ranges_;
};

}  // namespace millrace::client
