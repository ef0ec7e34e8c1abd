// What is to be read off the state of the cluster: for DescribeCluster, ListPartitionReassignments, the state
// of a broker being emptied, and for metrics. Pure functions of what they are given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/partition_index.h"
#include "control/partition_requests.h"
#include "meta/config_view.h"

namespace millrace::control {

struct ClusterBroker {
  BrokerId id;
  BrokerEpoch epoch;
  std::vector<meta::Endpoint> endpoints;
  std::optional<std::string> rack;
  bool fenced = false;
  bool in_controlled_shutdown = false;
  bool decommissioning = false;
};

/// By id; fenced ones only if asked for (DescribeCluster v2).
std::vector<ClusterBroker> describe_brokers(const meta::Image& image, bool with_fenced);

struct OngoingReassignment {
  NamedPartition partition;
  std::vector<BrokerId> replicas;
  std::vector<BrokerId> adding;
  std::vector<BrokerId> removing;
};

/// Moves that are under way, by topic id: of `asked`, or all if absent. Partitions that do not exist or do
/// not move are left out, as in Kafka. Costs O(asked), or O(moves).
std::vector<OngoingReassignment> list_reassignments(const meta::Image& image, const PartitionIndex& index,
                                                    const std::optional<std::vector<NamedPartition>>& asked);

struct DrainState {
  bool decommissioning = false;
  size_t replicas_left = 0;
  size_t moving = 0;  // of them
  size_t led = 0;

  bool done() const { return decommissioning && replicas_left == 0; }
};

DrainState drain_state(const meta::Image& image, const PartitionIndex& index, BrokerId broker);

struct PartitionCounts {
  size_t topics = 0;
  size_t partitions = 0;
  size_t offline = 0;           // without a leader
  size_t under_replicated = 0;  // ISR smaller than the replicas it should have
  size_t under_min_isr = 0;     // acks=all is refused
  size_t at_min_isr = 0;
  size_t not_preferred = 0;  // led by another than the first replica
  size_t reassigning = 0;
  size_t recovering = 0;  // led uncleanly
  size_t with_elr = 0;

  bool operator==(const PartitionCounts&) const = default;
};

/// Costs O(everything): for metrics, now and then.
PartitionCounts count_partitions(const meta::Image& image, const meta::ConfigView& view);

struct BrokerCounts {
  size_t active = 0;
  size_t fenced = 0;
  size_t in_controlled_shutdown = 0;
};

BrokerCounts count_brokers(const meta::Image& image);

}  // namespace millrace::control
