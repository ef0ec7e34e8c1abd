// What a topic's configuration means to its partitions: derived once when it changes, shared by all of them.
#pragma once

#include <cstddef>

#include "log/log_config.h"
#include "record/validate.h"

namespace millrace::partition {

struct PartitionConfig {
  log::LogConfig log;
  record::ValidationRules validation;
  /// durability=fsync: acks=all and readers wait for fdatasync. Otherwise `replicated`, Kafka's own bargain.
  bool fsync = true;
  size_t min_insync_replicas = 1;
};

}  // namespace millrace::partition
