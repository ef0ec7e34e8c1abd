// What is known of a log that is not open. A log at rest is durable to its end, so it has one end instead of
// three; a partition that was never written rests too, with nothing on disk.
#pragma once

#include <cstdint>

#include "base/ids.h"

namespace millrace::log {

struct RestingLog {
  Offset log_start{0};
  Offset last_stable{0};
  Offset log_end{0};                         // also durable end and recovery point
  LeaderEpoch first_epoch = kNoLeaderEpoch;  // of the record at the log start
  LeaderEpoch last_epoch = kNoLeaderEpoch;   // of the last record
  Offset last_epoch_start{0};
  Offset cleaned_end{0};  // below it the log is compacted
  uint64_t bytes = 0;
  uint32_t segments = 0;  // 0: nothing is on disk, not even the directory
  // What retention asks of the oldest segment.
  int64_t oldest_timestamp = -1;  // its greatest; without timestamps, of its first append; -1: unknown
  uint64_t oldest_bytes = 0;
  Offset oldest_end{0};  // after its last record

  bool on_disk() const { return segments > 0; }
  bool operator==(const RestingLog&) const = default;
};

}  // namespace millrace::log
