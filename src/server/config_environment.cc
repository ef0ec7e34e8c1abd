// The machine's side of the configuration: environment variables and the file.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "server/config.h"
#include "server/properties.h"

namespace millrace::server {
namespace {

// Variables of Kafka's images (Apache's and Confluent's) that are about the JVM or the image itself.
constexpr std::string_view kImageVariables[] = {
    "DEBUG", "GC_LOG_OPTS", "HEAP_OPTS", "HOME", "JVM_PERFORMANCE_OPTS", "OPTS", "VERSION",
};
constexpr std::string_view kImagePrefixes[] = {"JMX_", "LOG4J_", "TOOLS_LOG4J_"};
// Ours, read by the command line tool or the image.
constexpr std::string_view kMillraceVariables[] = {"BOOTSTRAP", "BOOTSTRAP_SERVERS", "CONFIG", "DATA", "HOME",
                                                   "VERSION"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// What Kubernetes and old container links put into the environment for a service called kafka or millrace:
/// SERVICE_HOST, SERVICE_PORT[_NAME], PORT, PORT_<n>_TCP[_ADDR|_PORT|_PROTO].
bool is_service_link(std::string_view rest) {
  if (rest == "PORT" || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")) return true;
  if (!rest.starts_with("PORT_")) return false;
  rest.remove_prefix(5);
  const size_t digits =
      static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), is_digit) - rest.begin());
  rest.remove_prefix(digits);
  return digits > 0 && (rest.starts_with("_TCP") || rest.starts_with("_UDP"));
}

template <size_t N>
bool contains(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

std::optional<std::string> property_of_variable(std::string_view variable) {
  std::string_view rest = variable;
  if (rest.starts_with("KAFKA_")) {
    rest.remove_prefix(6);
    if (contains(kImageVariables, rest)) return std::nullopt;
    for (const std::string_view prefix : kImagePrefixes) {
      if (rest.starts_with(prefix)) return std::nullopt;
    }
  } else if (rest.starts_with("MILLRACE_")) {
    rest.remove_prefix(9);
    if (contains(kMillraceVariables, rest)) return std::nullopt;
  } else {
    return std::nullopt;
  }
  if (rest.empty() || is_service_link(rest)) return std::nullopt;
  std::string key;
  for (size_t i = 0; i < rest.size();) {
    if (rest[i] != '_') {
      const char c = rest[i++];
      key.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
      continue;
    }
    size_t run = 1;
    while (run < 3 && i + run < rest.size() && rest[i + run] == '_') ++run;
    key.push_back(run == 1 ? '.' : run == 2 ? '_' : '-');
    i += run;
  }
  return key;
}

Result<std::string> read_config_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const int why = errno;
    return Error(why == ENOENT ? ErrorCode::not_found : ErrorCode::io_error,
                 fmt::format("cannot open {}: {}", path, std::strerror(why)));
  }
  std::string text(kPropertiesBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return Error(ErrorCode::io_error, fmt::format("cannot read {}", path));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kPropertiesBytesMax) {
    return Error(ErrorCode::limit_exceeded,
                 fmt::format("{} is larger than {} bytes", path, kPropertiesBytesMax));
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  std::sort(environment.begin(), environment.end());
  return environment;
}

}  // namespace millrace::server
