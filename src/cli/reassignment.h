// Carrying out moves of partitions: some at a time, watched to their end. Everything is in the cluster: who
// is interrupted loses nothing, and finds what is left when it begins again.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/cluster_state.h"
#include "cli/exit_codes.h"
#include "cli/placement_plan.h"

namespace millrace::cli {

inline constexpr int32_t kMovesAtOnce = 20;

struct MoveLimits {
  size_t at_once = kMovesAtOnce;  // partitions
  int64_t deadline_mono_ms = 0;
};

struct MoveReport {
  size_t done = 0;
  size_t unfinished = 0;  // when the time was over
  std::vector<std::pair<client::TopicPartition, Error>> failed;

  bool whole() const { return unfinished == 0 && failed.empty(); }
};

/// Begins the moves in order and waits for them; progress is shown. A topic that is deleted meanwhile counts
/// as done. Errors: cancelled, and those that do not pass.
Result<MoveReport> carry_out(Session& session, const std::vector<PartitionMove>& moves,
                             const MoveLimits& limits);
/// Takes back moves that are under way. Per partition what was said, in the order given.
Result<std::vector<std::pair<client::TopicPartition, Error>>> cancel_moves(
    Session& session, const std::vector<client::TopicPartition>& partitions);

/// Per partition; election_not_needed is no failure.
struct Election {
  client::TopicPartition partition;
  ErrorCode error = ErrorCode::none;
  std::string message;
};
/// Of all partitions that need one, if none are named. Errors: as above.
Result<std::vector<Election>> elect_leaders(Session& session,
                                            const std::optional<std::vector<client::TopicPartition>>& which,
                                            bool unclean, int64_t deadline_mono_ms);

/// Says what did not go well; the exit code.
ExitCode complain_about(const MoveReport& report, int64_t timeout_ms);

}  // namespace millrace::cli
