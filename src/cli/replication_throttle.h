// Bounds what moving replicas may take of the network while they are moved (KIP-73): a rate for the brokers
// that take part, and which replicas it is for.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/cluster_state.h"

namespace millrace::cli {

/// Newcomers fetch, and those that have the records send, at most `bytes_per_second` at each broker.
Status set_throttle(Session& session, const ClusterState& state, const std::vector<PartitionMove>& moves,
                    int64_t bytes_per_second);
/// Takes it back for the topics of `partitions`, and from the brokers once no topic has throttled replicas.
Status lift_throttle(Session& session, const std::vector<client::TopicPartition>& partitions);

}  // namespace millrace::cli
