// Bootstrap lists as people write them: "host:port,host2,[::1]:9092". The port defaults to 9092.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/network.h"

namespace millrace::client {

inline constexpr uint16_t kDefaultPort = 9092;
inline constexpr size_t kBootstrapMax = 100;

/// Errors: invalid_argument (empty list, empty host, a port that is none, more than kBootstrapMax).
Result<std::vector<io::Endpoint>> parse_bootstrap(std::string_view text);

/// "host:port", IPv6 in brackets.
std::string to_string(const io::Endpoint& endpoint);

}  // namespace millrace::client
