#include "broker/group_settings.h"

#include "base/assert.h"

namespace millrace::broker {
namespace {

int64_t group_setting(const meta::ConfigView& view, std::string_view key) {
  const std::optional<std::string> text = view.broker_value(key);
  ASSERT(text.has_value());
  const Result<int64_t> value = meta::parse_config_int(*text);
  ASSERT(value.ok());  // checked when it was set
  return *value;
}

}  // namespace

group::GroupLimits group_limits(const meta::ConfigView& view) {
  group::GroupLimits l;
  l.session_timeout_ms_min = static_cast<int32_t>(group_setting(view, "group.min.session.timeout.ms"));
  l.session_timeout_ms_max = static_cast<int32_t>(group_setting(view, "group.max.session.timeout.ms"));
  l.initial_rebalance_delay_ms =
      static_cast<int32_t>(group_setting(view, "group.initial.rebalance.delay.ms"));
  l.group_size_max = static_cast<int32_t>(group_setting(view, "group.max.size"));
  l.offset_metadata_bytes_max = static_cast<size_t>(group_setting(view, "offset.metadata.max.bytes"));
  l.offsets_retention_ms = group_setting(view, "offsets.retention.minutes") * 60'000;
  l.offsets_retention_check_interval_ms = group_setting(view, "offsets.retention.check.interval.ms");
  return l;
}

}  // namespace millrace::broker
