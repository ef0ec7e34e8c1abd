#include "server/config.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "meta/options.h"

namespace millrace::server {
namespace {

/// Edits (insert, drop, replace, swap two neighbours) that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

constexpr size_t kKeyBytesMax = 256;  // longer than any key: not worth comparing

}  // namespace

std::string_view config_source_name(ConfigSource source) {
  switch (source) {
    case ConfigSource::default_value:
      return "default";
    case ConfigSource::file:
      return "file";
    case ConfigSource::environment:
      return "environment";
    case ConfigSource::command_line:
      return "command line";
  }
  return "?";
}

const ConfigValue& ServerConfig::value(std::string_view key) const {
  const auto at = values_.find(key);
  ASSERT(at != values_.end());
  return at->second;
}

const ConfigValue& ServerConfig::effective(std::string_view key) const {
  const ConfigValue& own = value(key);
  if (own.source != ConfigSource::default_value) return own;
  const meta::OptionDef* option = meta::find_broker_option(key);
  ASSERT(option != nullptr);
  for (const meta::OptionSynonym& other : option->synonyms) {
    const ConfigValue& v = value(other.name);
    if (v.source != ConfigSource::default_value) return v;
  }
  if (own.text) return own;
  for (const meta::OptionSynonym& other : option->synonyms) {
    const ConfigValue& v = value(other.name);
    if (v.text) return v;
  }
  return own;
}

int64_t ServerConfig::number(std::string_view key) const {
  return *meta::parse_config_int(text(key));
}

double ServerConfig::real(std::string_view key) const {
  return *meta::parse_config_double(text(key));
}

bool ServerConfig::flag(std::string_view key) const {
  return *meta::parse_config_bool(text(key));
}

std::string ServerConfig::text(std::string_view key) const {
  const ConfigValue& v = effective(key);
  ASSERT(v.text.has_value());
  return *v.text;
}

std::vector<std::string> ServerConfig::list(std::string_view key) const {
  return meta::parse_config_list(text(key));
}

std::optional<std::string> ServerConfig::listener_value(std::string_view listener,
                                                        std::string_view key) const {
  std::string prefixed = fmt::format("listener.name.{}.{}", listener, key);
  for (char& c : prefixed) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (const auto at = given_.find(prefixed); at != given_.end()) return at->second;
  return effective(key).text;
}

std::string nearest_key(std::string_view key) {
  if (key.empty() || key.size() > kKeyBytesMax) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, key.size() / 5) + 1;
  const auto consider = [&](std::string_view candidate) {
    const size_t lengths =
        candidate.size() > key.size() ? candidate.size() - key.size() : key.size() - candidate.size();
    if (lengths >= best_distance) return;
    const size_t distance = edit_distance(key, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  };
  for (const meta::OptionDef& option : meta::broker_options()) consider(option.name);
  for (const std::string_view known : meta::kafka_known_keys()) consider(known);
  return std::string(best);
}

}  // namespace millrace::server
