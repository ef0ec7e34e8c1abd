#include "broker/topic_settings.h"

#include <algorithm>

#include "broker/broker.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

record::TopicCompression compression_of(meta::TopicCompression c) {
  switch (c) {
    case meta::TopicCompression::producer:
      return std::nullopt;
    case meta::TopicCompression::none:
      return record::Codec::none;
    case meta::TopicCompression::gzip:
      return record::Codec::gzip;
    case meta::TopicCompression::snappy:
      return record::Codec::snappy;
    case meta::TopicCompression::lz4:
      return record::Codec::lz4;
    case meta::TopicCompression::zstd:
      return record::Codec::zstd;
  }
  return std::nullopt;
}

}  // namespace

partition::ThrottledPartitions throttled_partitions(const std::vector<std::string>& replicas, BrokerId self) {
  partition::ThrottledPartitions out;
  for (const std::string& item : replicas) {
    const size_t colon = item.find(':');
    if (item == "*") {
      out.all = true;
    } else if (colon != std::string::npos) {
      const auto partition = meta::parse_config_int(std::string_view(item).substr(0, colon));
      const auto broker = meta::parse_config_int(std::string_view(item).substr(colon + 1));
      if (partition.ok() && broker.ok() && *broker == self.v && *partition >= 0 && *partition <= INT32_MAX)
        out.numbers.push_back(static_cast<int32_t>(*partition));
    }
  }
  std::sort(out.numbers.begin(), out.numbers.end());
  return out;
}

partition::PartitionConfig partition_config_of(const meta::TopicConfig& c, BrokerId self) {
  partition::PartitionConfig out;
  out.log.segment_bytes = c.log.segment_bytes;
  out.log.segment_ms = c.log.segment_ms;
  out.log.segment_jitter_ms = c.log.segment_jitter_ms;
  out.log.index_interval_bytes = c.log.index_interval_bytes;
  out.log.segment_index_bytes = c.log.segment_index_bytes;
  out.log.retention_ms = c.log.retention_ms;
  out.log.retention_bytes = c.log.retention_bytes;
  out.log.delete_policy = c.log.delete_policy;
  out.log.compact_policy = c.log.compact_policy;
  out.log.delete_retention_ms = c.compaction.delete_retention_ms;
  out.log.min_compaction_lag_ms = c.compaction.min_lag_ms;
  out.log.max_compaction_lag_ms = c.compaction.max_lag_ms;
  out.log.min_cleanable_dirty_ratio = c.compaction.min_dirty_ratio;
  out.log.file_delete_delay_ms = c.log.file_delete_delay_ms;
  out.log.producer_id_expiration_ms = c.log.producer_id_expiration_ms;
  out.log.preallocate = c.log.preallocate;
  out.validation.max_message_bytes = static_cast<size_t>(c.validation.max_message_bytes);
  out.validation.timestamp_type =
      c.log_append_time ? record::TimestampType::log_append_time : record::TimestampType::create_time;
  out.validation.timestamp_before_max_ms = c.validation.timestamp_before_max_ms;
  out.validation.timestamp_after_max_ms = c.validation.timestamp_after_max_ms;
  out.validation.compacted = c.log.compact_policy;
  out.validation.compression = compression_of(c.validation.compression);
  if (out.validation.compression) {
    const record::LevelRange levels = record::level_range(*out.validation.compression);
    if (levels.min != levels.max) out.validation.compression_level = c.validation.compression_level;
  }
  out.validation.strict = c.validation.strict;
  out.fsync = c.fsync;
  out.flush_messages = c.flush_messages;
  out.flush_ms = c.flush_ms;
  out.min_insync_replicas = static_cast<size_t>(std::max<int32_t>(c.min_insync_replicas, 1));
  out.throttled_as_leader = throttled_partitions(c.leader_throttled_replicas, self);
  out.throttled_as_follower = throttled_partitions(c.follower_throttled_replicas, self);
  return out;
}

control::NewTopic automatic_topic(const Broker& broker, const meta::Image& image, const std::string& name) {
  control::NewTopic t;
  t.name = name;
  if (name == kOffsetsTopic) {
    t.partitions = static_cast<int32_t>(broker.setting_int(image, "offsets.topic.num.partitions"));
    // As many replicas as configured; one is enough only while the cluster has one broker.
    t.replication_factor =
        static_cast<int16_t>(broker.setting_int(image, "offsets.topic.replication.factor"));
    t.fit_single_broker = true;
    t.configs.push_back({"cleanup.policy", "compact"});
    t.configs.push_back({"compression.type", "producer"});
    t.configs.push_back({"segment.bytes", broker.setting(image, "offsets.topic.segment.bytes")});
  }
  return t;
}

bool is_internal_topic(std::string_view name) {
  return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state";
}

}  // namespace millrace::broker
