#include "meta/config_view.h"

#include <algorithm>

#include "base/assert.h"

namespace millrace::meta {
namespace {

/// A value given in the synonym's unit, in the key's own. Negative values (-1: for ever) have no unit.
std::string scaled(std::string_view value, int64_t scale) {
  if (scale == 1) return std::string(value);
  const Result<int64_t> n = parse_config_int(value);
  if (!n.ok() || *n < 0) return std::string(value);
  int64_t product = 0;
  if (__builtin_mul_overflow(*n, scale, &product)) product = std::numeric_limits<int64_t>::max();
  return std::to_string(product);
}

// Takes what sets a key, strongest first: the first is in force. Synonyms keep their own unit.
void add_value(std::string_view key, std::string_view value, int64_t scale, ConfigSource source,
               EffectiveConfig& out) {
  if (out.synonyms.empty()) {
    out.value = scaled(value, scale);
    out.source = source;
  }
  out.synonyms.push_back({std::string(key), std::string(value), source});
}

void add_override(const ConfigValues* values, std::string_view key, int64_t scale, ConfigSource source,
                  EffectiveConfig& out) {
  if (values == nullptr) return;
  const auto at = values->find(key);
  if (at != values->end()) add_value(key, at->second, scale, source, out);
}

}  // namespace

// Everything that sets broker key `key`, its default excepted.
void ConfigView::add_broker_values(std::string_view key, int64_t scale, EffectiveConfig& out) const {
  add_override(image_.config({ResourceType::broker, std::to_string(self_.v)}), key, scale,
               ConfigSource::dynamic_broker, out);
  add_override(image_.config({ResourceType::broker, ""}), key, scale, ConfigSource::dynamic_default_broker,
               out);
  add_override(&settings_, key, scale, ConfigSource::static_broker, out);
}

// The default of the key, under the name of the synonym that carries it (retention.ms: log.retention.hours).
void ConfigView::add_default(const OptionDef& option, EffectiveConfig& out) const {
  for (const OptionSynonym& s : option.synonyms) {
    const OptionDef* broker = find_broker_option(s.name);
    if (broker == nullptr || !broker->default_value) continue;
    if (option.scope == OptionScope::broker && option.default_value) break;
    add_value(s.name, *broker->default_value, s.scale, ConfigSource::default_config, out);
    return;
  }
  if (option.default_value)
    add_value(option.name, *option.default_value, 1, ConfigSource::default_config, out);
}

EffectiveConfig ConfigView::topic(std::string_view topic, const OptionDef& option) const {
  ASSERT(option.scope == OptionScope::topic);
  EffectiveConfig out;
  add_override(image_.topic_config(topic), option.name, 1, ConfigSource::dynamic_topic, out);
  for (const OptionSynonym& s : option.synonyms) add_broker_values(s.name, s.scale, out);
  add_default(option, out);
  return out;
}

EffectiveConfig ConfigView::broker(const OptionDef& option) const {
  ASSERT(option.scope == OptionScope::broker);
  EffectiveConfig out;
  add_broker_values(option.name, 1, out);
  for (const OptionSynonym& s : option.synonyms) add_broker_values(s.name, s.scale, out);
  add_default(option, out);
  return out;
}

EffectiveConfig ConfigView::broker_default(const OptionDef& option) const {
  EffectiveConfig out;
  add_override(image_.config({ResourceType::broker, ""}), option.name, 1,
               ConfigSource::dynamic_default_broker, out);
  return out;
}

std::optional<std::string> ConfigView::topic_value(std::string_view topic, std::string_view key) const {
  const OptionDef* option = find_topic_option(key);
  return option == nullptr ? std::nullopt : this->topic(topic, *option).value;
}

std::optional<std::string> ConfigView::broker_value(std::string_view key) const {
  const OptionDef* option = find_broker_option(key);
  return option == nullptr ? std::nullopt : broker(*option).value;
}

}  // namespace millrace::meta
