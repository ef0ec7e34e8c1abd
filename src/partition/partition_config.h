// What a topic's configuration means to its partitions: derived once when it changes, shared by all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "log/log_config.h"
#include "record/validate.h"

namespace millrace::partition {

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
};

}  // namespace millrace::partition
