// Listeners as Kafka writes them: `NAME://host:port,...`, the protocol of each name from
// listener.security.protocol.map. Text to values only; binding is the composition root's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace millrace::server {

enum class SecurityProtocol : uint8_t { plaintext, ssl, sasl_plaintext, sasl_ssl };

/// "PLAINTEXT", "SASL_SSL", ...
std::string_view security_protocol_name(SecurityProtocol protocol);

struct HostPort {
  /// Without brackets; empty: every address of the machine, as Kafka means it.
  std::string host;
  uint16_t port = 0;

  bool operator==(const HostPort&) const = default;
  /// "host:port", an IPv6 address in brackets.
  std::string to_string() const;
};

struct ListenerAddress {
  std::string name;  // upper case
  HostPort address;

  bool operator==(const ListenerAddress&) const = default;
};

struct Listener {
  std::string name;
  HostPort address;
  SecurityProtocol protocol = SecurityProtocol::plaintext;
  /// What clients are told; an empty host stands for this machine's name, port 0 for the port really bound.
  HostPort advertised;
};

inline constexpr size_t kListenersMax = 64;

/// "host:port", "[::1]:port" or ":port"; port 0 lets the system choose. Error: invalid_config.
Result<HostPort> parse_host_port(std::string_view text);

/// The value of `listeners` or `advertised.listeners`. Refuses a name given twice and, but for port 0, an
/// address given twice. Error: invalid_config, naming `key`.
Result<std::vector<ListenerAddress>> parse_listeners(std::string_view key, std::string_view value);

/// "NAME:PROTOCOL,..." by upper-case name. Error: invalid_config.
Result<std::map<std::string, SecurityProtocol, std::less<>>> parse_protocol_map(std::string_view value);

/// True for the addresses that mean "every interface": "", "0.0.0.0", "::".
bool is_wildcard(std::string_view host);
/// True for localhost, 127/8 and ::1.
bool is_loopback(std::string_view host);

}  // namespace millrace::server
