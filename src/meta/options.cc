#include "meta/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace millrace::meta {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool equals_ignoring_case(std::string_view a, std::string_view lower) {
  if (a.size() != lower.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const char c = a[i] >= 'A' && a[i] <= 'Z' ? static_cast<char>(a[i] - 'A' + 'a') : a[i];
    if (c != lower[i]) return false;
  }
  return true;
}

bool is_allowed(std::string_view allowed, std::string_view item) {
  while (true) {
    const size_t comma = allowed.find(',');
    if (allowed.substr(0, comma) == item) return true;
    if (comma == std::string_view::npos) return false;
    allowed.remove_prefix(comma + 1);
  }
}

const OptionDef* find_option(std::span<const OptionDef> table, std::string_view name) {
  const auto at = std::lower_bound(table.begin(), table.end(), name,
                                   [](const OptionDef& d, std::string_view n) { return d.name < n; });
  return at != table.end() && at->name == name ? &*at : nullptr;
}

Error bad_value(const OptionDef& option, std::string_view value, std::string_view why) {
  return Error(ErrorCode::invalid_config,
               fmt::format("Invalid value {} for configuration {}: {}", option.sensitive ? "[hidden]" : value,
                           option.name, why));
}

int64_t type_min(ConfigType type) {
  if (type == ConfigType::int32) return std::numeric_limits<int32_t>::min();
  if (type == ConfigType::int16) return std::numeric_limits<int16_t>::min();
  return std::numeric_limits<int64_t>::min();
}

int64_t type_max(ConfigType type) {
  if (type == ConfigType::int32) return std::numeric_limits<int32_t>::max();
  if (type == ConfigType::int16) return std::numeric_limits<int16_t>::max();
  return std::numeric_limits<int64_t>::max();
}

Status check_number(const OptionDef& option, std::string_view value) {
  const Result<int64_t> n = parse_config_int(value);
  if (!n.ok()) {
    return bad_value(option, value, fmt::format("not a number of type {}", config_type_name(option.type)));
  }
  const int64_t low = std::max(option.min, type_min(option.type));
  const int64_t high = std::min(option.max, type_max(option.type));
  if (*n < low) return bad_value(option, value, fmt::format("must be at least {}", low));
  if (*n > high) return bad_value(option, value, fmt::format("must be at most {}", high));
  return {};
}

Status check_real(const OptionDef& option, std::string_view value) {
  const Result<double> d = parse_config_double(value);
  if (!d.ok()) return bad_value(option, value, "not a number of type DOUBLE");
  if (*d < static_cast<double>(option.min))
    return bad_value(option, value, fmt::format("must be at least {}", option.min));
  const bool limited = option.max != std::numeric_limits<int64_t>::max();
  if (limited && *d > static_cast<double>(option.max))
    return bad_value(option, value, fmt::format("must be at most {}", option.max));
  return {};
}

Status check_list(const OptionDef& option, std::string_view value) {
  std::vector<std::string> seen;
  for (const std::string& item : parse_config_list(value)) {
    if (item.empty()) return bad_value(option, value, "an item is empty");
    if (!option.allowed.empty() && !is_allowed(option.allowed, item)) {
      return bad_value(option, value, fmt::format("each item must be one of: {}", option.allowed));
    }
    if (std::find(seen.begin(), seen.end(), item) != seen.end()) {
      return bad_value(option, value, fmt::format("{} is there twice", item));
    }
    seen.push_back(item);
  }
  return {};
}

}  // namespace

const OptionDef* find_topic_option(std::string_view name) {
  return find_option(topic_options(), name);
}

const OptionDef* find_broker_option(std::string_view name) {
  return find_option(broker_options(), name);
}

bool is_kafka_known_key(std::string_view name) {
  const auto keys = kafka_known_keys();
  return std::binary_search(keys.begin(), keys.end(), name);
}

Status check_option_value(const OptionDef& option, std::string_view value) {
  switch (option.type) {
    case ConfigType::boolean:
      if (!parse_config_bool(value).ok()) return bad_value(option, value, "must be true or false");
      break;
    case ConfigType::int16:
    case ConfigType::int32:
    case ConfigType::int64:
      TRY(check_number(option, value));
      break;
    case ConfigType::float64:
      TRY(check_real(option, value));
      break;
    case ConfigType::list:
      TRY(check_list(option, value));
      break;
    case ConfigType::string:
    case ConfigType::class_name:
    case ConfigType::password:
      if (!option.allowed.empty() && !is_allowed(option.allowed, trimmed(value))) {
        return bad_value(option, value, fmt::format("must be one of: {}", option.allowed));
      }
      break;
  }
  if (option.check != nullptr) {
    const std::string why = option.check(trimmed(value));
    if (!why.empty()) return bad_value(option, value, why);
  }
  return {};
}

Result<bool> parse_config_bool(std::string_view text) {
  const std::string_view t = trimmed(text);
  if (equals_ignoring_case(t, "true")) return true;
  if (equals_ignoring_case(t, "false")) return false;
  return Error(ErrorCode::invalid_config, "must be true or false");
}

Result<int64_t> parse_config_int(std::string_view text) {
  std::string_view t = trimmed(text);
  if (t.size() > 1 && t.front() == '+' && t[1] != '-') t.remove_prefix(1);
  int64_t n = 0;
  const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), n);
  if (error != std::errc() || end != t.data() + t.size())
    return Error(ErrorCode::invalid_config, "not a whole number");
  return n;
}

Result<double> parse_config_double(std::string_view text) {
  const std::string_view t = trimmed(text);
  double d = 0;
  const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), d);
  if (error != std::errc() || end != t.data() + t.size() || !std::isfinite(d)) {
    return Error(ErrorCode::invalid_config, "not a number");
  }
  return d;
}

std::vector<std::string> parse_config_list(std::string_view text) {
  std::vector<std::string> items;
  std::string_view rest = trimmed(text);
  if (rest.empty()) return items;
  while (true) {
    const size_t comma = rest.find(',');
    items.emplace_back(trimmed(rest.substr(0, comma)));
    if (comma == std::string_view::npos) return items;
    rest.remove_prefix(comma + 1);
  }
}

std::string_view config_type_name(ConfigType type) {
  switch (type) {
    case ConfigType::boolean:
      return "BOOLEAN";
    case ConfigType::string:
      return "STRING";
    case ConfigType::int32:
      return "INT";
    case ConfigType::int16:
      return "SHORT";
    case ConfigType::int64:
      return "LONG";
    case ConfigType::float64:
      return "DOUBLE";
    case ConfigType::list:
      return "LIST";
    case ConfigType::class_name:
      return "CLASS";
    case ConfigType::password:
      return "PASSWORD";
  }
  return "STRING";
}

}  // namespace millrace::meta
