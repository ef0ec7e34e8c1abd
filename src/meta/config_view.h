// Which value of a configuration key is in force, where it comes from, and what would be in force without it:
// topic override, then this broker's dynamic value, the cluster-wide dynamic default, the properties file,
// the built-in default.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "meta/image.h"
#include "meta/options.h"

namespace millrace::meta {

/// Kafka's numbers, as DescribeConfigs carries them.
enum class ConfigSource : int8_t {
  unknown = 0,
  dynamic_topic = 1,
  dynamic_broker = 2,
  dynamic_default_broker = 3,
  static_broker = 4,
  default_config = 5,
  dynamic_group = 8,
};

struct ConfigSynonym {
  std::string name;
  std::optional<std::string> value;  // in its own unit (log.retention.hours: hours)
  ConfigSource source = ConfigSource::unknown;
};

struct EffectiveConfig {
  std::optional<std::string> value;  // unset: the key has no value
  ConfigSource source = ConfigSource::default_config;
  std::vector<ConfigSynonym> synonyms;  // strongest first; the first is the value in force
};

/// Borrows the image and the static settings for the time of a question or two.
class ConfigView {
 public:
  /// `settings`: the properties file of broker `self`.
  ConfigView(const Image& image, BrokerId self, const ConfigValues& settings)
      : image_(image), self_(self), settings_(settings) {}

  EffectiveConfig topic(std::string_view topic, const OptionDef& option) const;
  /// As this broker has it.
  EffectiveConfig broker(const OptionDef& option) const;
  /// The cluster-wide dynamic default alone (DescribeConfigs of broker "").
  EffectiveConfig broker_default(const OptionDef& option) const;

  /// The value in force, without the list; keys that are not in the table have none.
  std::optional<std::string> topic_value(std::string_view topic, std::string_view key) const;
  std::optional<std::string> broker_value(std::string_view key) const;

 private:
  void add_broker_values(std::string_view key, int64_t scale, EffectiveConfig& out) const;
  void add_default(const OptionDef& option, EffectiveConfig& out) const;

  const Image& image_;
  BrokerId self_;
  const ConfigValues& settings_;
};

}  // namespace millrace::meta
