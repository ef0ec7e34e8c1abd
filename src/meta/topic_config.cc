#include "meta/topic_config.h"

#include <algorithm>

#include "base/assert.h"

namespace millrace::meta {
namespace {

// Values are checked when they are set; one that does not parse after all (an older version wrote it, a file
// was edited) counts as the default.
class ValueReader {
 public:
  ValueReader(const ConfigView& view, std::string_view topic) : view_(view), topic_(topic) {}

  std::string text(std::string_view key) const {
    const OptionDef* option = find_topic_option(key);
    ASSERT(option != nullptr && option->default_value.has_value());
    const std::optional<std::string> value = view_.topic(topic_, *option).value;
    return value && check_option_value(*option, *value).ok() ? *value : std::string(*option->default_value);
  }
  int64_t number(std::string_view key) const { return parse_config_int(text(key)).value(); }
  int32_t number32(std::string_view key) const { return static_cast<int32_t>(number(key)); }
  bool flag(std::string_view key) const { return parse_config_bool(text(key)).value(); }
  double real(std::string_view key) const { return parse_config_double(text(key)).value(); }
  std::vector<std::string> list(std::string_view key) const { return parse_config_list(text(key)); }
  bool is(std::string_view key, std::string_view word) const {
    const std::vector<std::string> words = list(key);  // trims
    return words.size() == 1 && words.front() == word;
  }

 private:
  const ConfigView& view_;
  std::string_view topic_;
};

TopicCompression compression_of(const ValueReader& read) {
  if (read.is("compression.type", "uncompressed")) return TopicCompression::none;
  if (read.is("compression.type", "gzip")) return TopicCompression::gzip;
  if (read.is("compression.type", "snappy")) return TopicCompression::snappy;
  if (read.is("compression.type", "lz4")) return TopicCompression::lz4;
  if (read.is("compression.type", "zstd")) return TopicCompression::zstd;
  return TopicCompression::producer;
}

int32_t level_of(TopicCompression compression, const ValueReader& read) {
  switch (compression) {
    case TopicCompression::gzip:
      return read.number32("compression.gzip.level");
    case TopicCompression::lz4:
      return read.number32("compression.lz4.level");
    case TopicCompression::zstd:
      return read.number32("compression.zstd.level");
    case TopicCompression::producer:
    case TopicCompression::none:
    case TopicCompression::snappy:
      break;
  }
  return 0;
}

int64_t producer_id_expiration(const ConfigView& view) {
  const OptionDef* option = find_broker_option("producer.id.expiration.ms");
  ASSERT(option != nullptr);
  const std::optional<std::string> value = view.broker(*option).value;
  const std::string text =
      value && check_option_value(*option, *value).ok() ? *value : std::string(*option->default_value);
  return parse_config_int(text).value();
}

}  // namespace

TopicConfig topic_config(const ConfigView& view, std::string_view topic) {
  const ValueReader read(view, topic);
  const std::vector<std::string> policy = read.list("cleanup.policy");
  const auto has = [&policy](std::string_view p) {
    return std::find(policy.begin(), policy.end(), p) != policy.end();
  };

  TopicConfig c;
  c.log.segment_bytes = read.number32("segment.bytes");
  c.log.segment_ms = read.number("segment.ms");
  c.log.segment_jitter_ms = read.number("segment.jitter.ms");
  c.log.index_interval_bytes = read.number32("index.interval.bytes");
  c.log.segment_index_bytes = read.number32("segment.index.bytes");
  c.log.retention_ms = read.number("retention.ms");
  c.log.retention_bytes = read.number("retention.bytes");
  c.log.delete_policy = has("delete");
  c.log.compact_policy = has("compact");
  c.log.file_delete_delay_ms = read.number("file.delete.delay.ms");
  c.log.producer_id_expiration_ms = producer_id_expiration(view);
  c.log.preallocate = read.flag("preallocate");

  c.validation.max_message_bytes = read.number32("max.message.bytes");
  c.validation.timestamp_before_max_ms = read.number("message.timestamp.before.max.ms");
  c.validation.timestamp_after_max_ms = read.number("message.timestamp.after.max.ms");
  c.validation.compression = compression_of(read);
  c.validation.compression_level = level_of(c.validation.compression, read);
  c.validation.strict = read.is("validation", "strict");

  c.compaction.delete_retention_ms = read.number("delete.retention.ms");
  c.compaction.min_lag_ms = read.number("min.compaction.lag.ms");
  c.compaction.max_lag_ms = read.number("max.compaction.lag.ms");
  c.compaction.min_dirty_ratio = read.real("min.cleanable.dirty.ratio");

  c.fsync = read.is("durability", "fsync");
  c.flush_messages = read.number("flush.messages");
  c.flush_ms = read.number("flush.ms");
  c.log_append_time = read.is("message.timestamp.type", "LogAppendTime");
  c.min_insync_replicas = read.number32("min.insync.replicas");
  c.unclean_leader_election = read.flag("unclean.leader.election.enable");
  c.leader_throttled_replicas = read.list("leader.replication.throttled.replicas");
  c.follower_throttled_replicas = read.list("follower.replication.throttled.replicas");
  return c;
}

}  // namespace millrace::meta
