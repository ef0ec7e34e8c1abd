// The table of every configuration key: topic keys, broker keys and the keys of Kafka's that Millrace knows
// but does not use. The server's properties file, AlterConfigs and DescribeConfigs validate and describe from
// here.
//
// A topic key's value comes from, in this order: the topic's own override; for each broker key named in its
// `synonyms`: this broker's dynamic value, the cluster-wide dynamic value, the properties file; the default.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace millrace::meta {

/// Kafka's numbers, as DescribeConfigs carries them.
enum class ConfigType : int8_t {
  boolean = 1,
  string = 2,
  int32 = 3,
  int16 = 4,
  int64 = 5,
  float64 = 6,
  list = 7,
  class_name = 8,
  password = 9,
};

enum class OptionScope : uint8_t { topic, broker };

/// Whether AlterConfigs may change a broker key, and for whom. Topic keys are all alterable.
enum class OptionMode : uint8_t { read_only, per_broker, cluster_wide };

enum class Importance : uint8_t { high, medium, low };

/// A broker key that gives a topic key its value, times `scale` (hours to ms: 3,600,000).
struct OptionSynonym {
  std::string_view name;
  int64_t scale = 1;
};

/// A further check of a value that is already of the right type and in range. Empty message: fine.
using OptionCheck = std::string (*)(std::string_view value);

struct OptionDef {
  std::string_view name = {};
  ConfigType type = ConfigType::string;
  /// Unset: the key has no value until somebody gives it one (Kafka's null).
  std::optional<std::string_view> default_value = {};
  std::string_view doc = {};
  /// Bounds of a number, both included.
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
  /// Comma-separated: what a string, or each item of a list, may be. Empty: anything.
  std::string_view allowed = {};
  OptionCheck check = nullptr;
  OptionScope scope = OptionScope::broker;
  OptionMode mode = OptionMode::read_only;
  Importance importance = Importance::medium;
  /// Topic keys: the broker keys that set it, strongest first. Broker keys: the other spellings, strongest
  /// first, that count when the key itself is not set (log.retention.ms: log.retention.minutes, ...).
  std::span<const OptionSynonym> synonyms = {};
  bool sensitive = false;
  /// Whether Millrace acts on it. A key that is only understood is accepted with a warning.
  bool used = true;
};

/// All keys of a scope, sorted by name.
std::span<const OptionDef> topic_options();
std::span<const OptionDef> broker_options();

/// nullptr if there is no such key.
const OptionDef* find_topic_option(std::string_view name);
const OptionDef* find_broker_option(std::string_view name);

/// Keys that a Kafka 4.x broker accepts and Millrace ignores, sorted: worth a warning, not an error.
std::span<const std::string_view> kafka_known_keys();
bool is_kafka_known_key(std::string_view name);

/// Whether `value` is of the key's type, in range and passes its check. Error: invalid_config, with a message
/// that names key and value (sensitive values are not repeated).
Status check_option_value(const OptionDef& option, std::string_view value);

/// Parsing as Kafka does it: surrounding blanks are ignored, booleans in any case. Errors: invalid_config.
Result<bool> parse_config_bool(std::string_view text);
Result<int64_t> parse_config_int(std::string_view text);
Result<double> parse_config_double(std::string_view text);
/// Items between commas, trimmed; an empty text is an empty list.
std::vector<std::string> parse_config_list(std::string_view text);

/// "BOOLEAN", "INT", ...: for documentation and messages.
std::string_view config_type_name(ConfigType type);

}  // namespace millrace::meta
