// What a topic's configuration means to its partitions: derived once when it changes, shared by all of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "log/log_config.h"
#include "record/validate.h"

namespace millrace::partition {

/// The partitions of a topic whose replica here is throttled (KIP-73).
struct ThrottledPartitions {
  bool all = false;
  std::vector<int32_t> numbers;  // ascending

  bool contains(int32_t partition) const {
    return all || std::binary_search(numbers.begin(), numbers.end(), partition);
  }
};

struct PartitionConfig {
  log::LogConfig log;
  record::ValidationRules validation;
  /// durability=fsync: acks=all and readers wait for fdatasync. Otherwise `replicated`, Kafka's own bargain.
  bool fsync = true;
  /// flush.messages: an append that leaves this many records unsynced is answered when they are synced.
  int64_t flush_messages = INT64_MAX;
  /// flush.ms: unsynced records get no older than this. INT64_MAX: the checkpoint syncs them.
  int64_t flush_ms = INT64_MAX;
  size_t min_insync_replicas = 1;
  ThrottledPartitions throttled_as_leader;    // leader.replication.throttled.replicas
  ThrottledPartitions throttled_as_follower;  // follower.replication.throttled.replicas
};

}  // namespace millrace::partition
