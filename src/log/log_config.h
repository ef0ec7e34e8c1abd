// What one partition log is told about sizes, ages and limits. Filled from topic and broker configuration by
// `partition`; every field carries Kafka's default.
#pragma once

#include <cstdint>

namespace millrace::log {

struct LogConfig {
  int32_t segment_bytes = 1 << 30;                       // segment.bytes: roll before it would be passed
  int64_t segment_ms = int64_t{7} * 24 * 3600 * 1000;    // segment.ms: roll when the first append is this old
  int64_t segment_jitter_ms = 0;                         // segment.jitter.ms: up to this much earlier
  int32_t index_interval_bytes = 4096;                   // index.interval.bytes: one sparse entry per so many
  int32_t segment_index_bytes = 10 << 20;                // segment.index.bytes: roll when an index is full
  int64_t retention_ms = int64_t{7} * 24 * 3600 * 1000;  // retention.ms; < 0: for ever
  int64_t retention_bytes = -1;                          // retention.bytes; < 0: no limit
  bool delete_policy = true;                             // cleanup.policy contains delete
  bool compact_policy = false;                           // cleanup.policy contains compact
  int64_t delete_retention_ms = 86'400'000;              // delete.retention.ms: tombstones after cleaning
  int64_t min_compaction_lag_ms = 0;                     // min.compaction.lag.ms: younger is not compacted
  int64_t max_compaction_lag_ms = INT64_MAX;       // max.compaction.lag.ms: older is, at any dirty ratio
  double min_cleanable_dirty_ratio = 0.5;          // min.cleanable.dirty.ratio
  int64_t file_delete_delay_ms = 60'000;           // file.delete.delay.ms: rename to removal
  int64_t producer_id_expiration_ms = 86'400'000;  // producer.id.expiration.ms
  uint32_t producer_ids_max = 100'000;             // idempotent producers remembered, oldest go first
  bool preallocate = false;                        // preallocate: reserve blocks ahead of the end
};

}  // namespace millrace::log
