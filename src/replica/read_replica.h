// From which replica a consumer should read (KIP-392).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace millrace::replica {

struct ReadCandidate {
  BrokerId id = kNoBroker;
  std::string_view rack;
  bool in_sync = false;  // a confirmed member of the ISR
  bool alive = true;     // not fenced, not shutting down, has an endpoint for the consumer's listener
  Offset log_start{0};
  Offset log_end{0};
  int64_t behind_ms = 0;  // since it was last caught up
};

/// A follower in the consumer's rack whose log covers `fetch_offset`: the one that ends last, then the one
/// that was caught up most recently, then the smallest id. Nothing: the leader serves (no rack given, the
/// leader is in the rack itself, nobody fits).
std::optional<BrokerId> preferred_read_replica(std::string_view client_rack, BrokerId leader,
                                               Offset fetch_offset,
                                               const std::vector<ReadCandidate>& replicas);

}  // namespace millrace::replica
