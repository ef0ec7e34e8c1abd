#include "client/addresses.h"

#include <charconv>

namespace millrace::client {
namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

Result<io::Endpoint> parse_address(std::string_view text) {
  const auto wrong = [&](const char* why) {
    return Error(ErrorCode::invalid_argument,
                 "\"" + std::string(text) + "\" is no broker address (host:port): " + why);
  };
  std::string_view host = text;
  std::string_view port;
  if (text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return wrong("']' is missing");
    host = text.substr(1, close - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty()) {
      if (rest.front() != ':') return wrong("':' expected after ']'");
      port = rest.substr(1);
      if (port.empty()) return wrong("the port is missing");
    }
  } else if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    if (text.find(':') != colon) return wrong("an IPv6 address belongs in brackets");
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return wrong("the port is missing");
  }
  if (host.empty()) return wrong("the host is missing");
  uint16_t number = kDefaultPort;
  if (!port.empty()) {
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), number);
    if (parsed.ec != std::errc() || parsed.ptr != port.data() + port.size() || number == 0) {
      return wrong("the port must be 1 to 65535");
    }
  }
  return io::Endpoint{std::string(host), number};
}

}  // namespace

Result<std::vector<io::Endpoint>> parse_bootstrap(std::string_view text) {
  std::vector<io::Endpoint> out;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view one = trimmed(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (one.empty()) continue;
    if (out.size() == kBootstrapMax) return Error(ErrorCode::invalid_argument, "too many broker addresses");
    TRY_ASSIGN(io::Endpoint endpoint, parse_address(one));
    out.push_back(std::move(endpoint));
  }
  if (out.empty()) return Error(ErrorCode::invalid_argument, "no broker address given (host:port)");
  return out;
}

std::string to_string(const io::Endpoint& endpoint) {
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return (v6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

}  // namespace millrace::client
