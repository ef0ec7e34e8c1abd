#include "server/listeners.h"

#include <fmt/format.h>

#include <algorithm>

#include "meta/options.h"

namespace millrace::server {
namespace {

struct ProtocolName {
  SecurityProtocol protocol;
  std::string_view name;
};

constexpr ProtocolName kProtocolNames[] = {
    {SecurityProtocol::plaintext, "PLAINTEXT"},
    {SecurityProtocol::ssl, "SSL"},
    {SecurityProtocol::sasl_plaintext, "SASL_PLAINTEXT"},
    {SecurityProtocol::sasl_ssl, "SASL_SSL"},
};

constexpr size_t kHostBytesMax = 255;

std::string upper_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

bool is_listener_name(std::string_view name) {
  return !name.empty() && name.size() <= 249 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

bool is_host(std::string_view host) {
  return host.size() <= kHostBytesMax && std::none_of(host.begin(), host.end(), [](char c) {
           return c <= ' ' || c == '/' || c == '[' || c == ']' || c == '@' || c == '\x7f';
         });
}

Error bad(std::string_view what, std::string_view why) {
  return Error(ErrorCode::invalid_config, fmt::format("{}: {}", what, why));
}

}  // namespace

std::string_view security_protocol_name(SecurityProtocol protocol) {
  for (const ProtocolName& p : kProtocolNames) {
    if (p.protocol == protocol) return p.name;
  }
  return "?";
}

std::string HostPort::to_string() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Result<HostPort> parse_host_port(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad(text, "expected host:port");
  std::string_view host = text.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return bad(text, "only an IPv6 address stands in brackets");
  } else if (host.find(':') != std::string_view::npos) {
    return bad(text, "an IPv6 address is written in brackets, as in [::1]:9092");
  }
  if (!is_host(host)) return bad(text, "not a host name or address");
  const std::string_view digits = text.substr(colon + 1);
  const bool number = !digits.empty() && digits.size() <= 5 &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  const Result<int64_t> port = meta::parse_config_int(digits);
  if (!number || !port.ok() || *port > 65535) return bad(text, "a port is a number from 0 to 65535");
  return HostPort{std::string(host), static_cast<uint16_t>(*port)};
}

Result<std::vector<ListenerAddress>> parse_listeners(std::string_view key, std::string_view value) {
  std::vector<ListenerAddress> listeners;
  for (const std::string& item : meta::parse_config_list(value)) {
    const size_t scheme = item.find("://");
    if (scheme == std::string::npos) {
      return bad(
          key, fmt::format("{} is not of the form NAME://host:port", item.empty() ? "an empty item" : item));
    }
    std::string name = upper_case(item.substr(0, scheme));
    if (!is_listener_name(name)) return bad(key, fmt::format("'{}' is not a listener name", name));
    Result<HostPort> address = parse_host_port(std::string_view(item).substr(scheme + 3));
    if (!address.ok()) return bad(key, address.error().message);
    for (const ListenerAddress& other : listeners) {
      if (other.name == name) return bad(key, fmt::format("the listener name {} is there twice", name));
      if (key == "listeners" && address->port != 0 && other.address == *address) {
        return bad(key,
                   fmt::format("{} and {} share the address {}", other.name, name, address->to_string()));
      }
    }
    if (listeners.size() == kListenersMax)
      return bad(key, fmt::format("more than {} listeners", kListenersMax));
    listeners.push_back({std::move(name), std::move(*address)});
  }
  return listeners;
}

Result<std::map<std::string, SecurityProtocol, std::less<>>> parse_protocol_map(std::string_view value) {
  constexpr std::string_view kKey = "listener.security.protocol.map";
  std::map<std::string, SecurityProtocol, std::less<>> map;
  for (const std::string& item : meta::parse_config_list(value)) {
    const size_t colon = item.find(':');
    if (colon == std::string::npos)
      return bad(kKey, fmt::format("{} is not of the form NAME:PROTOCOL", item));
    const std::string protocol = upper_case(item.substr(colon + 1));
    const auto known = std::find_if(std::begin(kProtocolNames), std::end(kProtocolNames),
                                    [&](const ProtocolName& p) { return p.name == protocol; });
    if (known == std::end(kProtocolNames)) {
      return bad(kKey,
                 fmt::format("there is no protocol {}; PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL exist",
                             protocol));
    }
    const auto [at, fresh] = map.emplace(upper_case(item.substr(0, colon)), known->protocol);
    if (!fresh) return bad(kKey, fmt::format("the listener name {} is there twice", at->first));
  }
  return map;
}

bool is_wildcard(std::string_view host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

}  // namespace millrace::server
