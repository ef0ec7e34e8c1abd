// What opening a log found and did.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"

namespace millrace::log {

struct RecoveryStats {
  uint32_t segments = 0;
  uint32_t segments_scanned = 0;  // read from the recovery point on, checksums verified
  uint64_t bytes_scanned = 0;
  uint64_t bytes_cut = 0;         // torn tail
  uint32_t segments_removed = 0;  // beyond a torn tail
  uint32_t indexes_rebuilt = 0;
  uint32_t leftovers_removed = 0;  // .deleted, .cleaned, orphans
  Offset snapshot_used = kNoOffset;
  uint64_t batches_replayed = 0;  // into the producer state
  std::string cut_reason;         // empty: nothing cut
};

}  // namespace millrace::log
