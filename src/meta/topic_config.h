// A topic's configuration as typed values, derived once per change from the image and this broker's own
// settings. What `log` and `record` are told is grouped as they want it.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "meta/config_view.h"

namespace millrace::meta {

enum class TopicCompression : uint8_t { producer, none, gzip, snappy, lz4, zstd };

struct TopicConfig {
  struct Log {
    int32_t segment_bytes = 1 << 30;
    int64_t segment_ms = 604'800'000;
    int64_t segment_jitter_ms = 0;
    int32_t index_interval_bytes = 4096;
    int32_t segment_index_bytes = 10 << 20;
    int64_t retention_ms = 604'800'000;  // -1: for ever
    int64_t retention_bytes = -1;        // -1: no limit
    bool delete_policy = true;
    bool compact_policy = false;
    int64_t file_delete_delay_ms = 60'000;
    int64_t producer_id_expiration_ms = 86'400'000;
    bool preallocate = false;

    bool operator==(const Log&) const = default;
  };
  struct Validation {
    int32_t max_message_bytes = 1'048'588;
    int64_t timestamp_before_max_ms = std::numeric_limits<int64_t>::max();
    int64_t timestamp_after_max_ms = 3'600'000;
    TopicCompression compression = TopicCompression::producer;
    int32_t compression_level = 0;  // of `compression`; 0 where it has none
    bool strict = false;            // open every batch

    bool operator==(const Validation&) const = default;
  };
  struct Compaction {
    int64_t delete_retention_ms = 86'400'000;
    int64_t min_lag_ms = 0;
    int64_t max_lag_ms = std::numeric_limits<int64_t>::max();
    double min_dirty_ratio = 0.5;

    bool operator==(const Compaction&) const = default;
  };

  Log log;
  Validation validation;
  Compaction compaction;
  bool fsync = true;  // durability=fsync; false: replicated
  int64_t flush_messages = std::numeric_limits<int64_t>::max();
  int64_t flush_ms = std::numeric_limits<int64_t>::max();
  bool log_append_time = false;  // message.timestamp.type=LogAppendTime
  int32_t min_insync_replicas = 2;
  bool unclean_leader_election = false;
  std::vector<std::string> leader_throttled_replicas;    // "partition:broker", or "*" alone
  std::vector<std::string> follower_throttled_replicas;  // the same

  bool operator==(const TopicConfig&) const = default;
};

/// The configuration of `topic` (which need not exist) as `view` sees it.
TopicConfig topic_config(const ConfigView& view, std::string_view topic);

}  // namespace millrace::meta
