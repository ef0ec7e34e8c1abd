// What the controller is asked about partitions: by their leaders (ISR changes) and by operators (elections,
// moves).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/uuid.h"
#include "control/partition_index.h"
#include "control/requests.h"

namespace millrace::control {

// --- the leader's ISR ---

struct IsrMember {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};  // -1 only for members that the ISR has already
};

struct AlterPartitionItem {
  PartitionId partition;
  LeaderEpoch leader_epoch{-1};
  int32_t partition_epoch = -1;
  std::vector<IsrMember> isr;  // the whole new one, the leader included
  bool leader_recovering = false;
};

struct AlterPartitionTopic {
  Uuid id;
  std::vector<AlterPartitionItem> partitions;
};

struct AlterPartition {
  BrokerId broker = kNoBroker;
  BrokerEpoch broker_epoch{-1};
  std::vector<AlterPartitionTopic> topics;
};

/// The partition as it is afterwards; on an error, only the error counts.
struct AlteredPartition {
  PartitionKey partition;
  Outcome outcome;
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch{-1};
  int32_t partition_epoch = -1;
  std::vector<BrokerId> isr;
  bool leader_recovering = false;
};

struct AlterPartitionReply {
  Outcome outcome;  // stale_broker_epoch, broker_id_not_registered: nothing else was looked at
  std::vector<AlteredPartition> partitions;
};

// --- elections ---

struct NamedPartition {
  std::string topic;
  PartitionId partition;
};

/// Kafka's numbers.
enum class ElectionType : int8_t { preferred = 0, unclean = 1 };

struct ElectLeaders {
  ElectionType type = ElectionType::preferred;
  std::optional<std::vector<NamedPartition>> partitions;  // absent: all that need one
};

struct ElectedPartition {
  NamedPartition partition;
  Outcome outcome;
};

struct ElectLeadersReply {
  std::vector<ElectedPartition> partitions;
};

// --- moves ---

struct Reassignment {
  NamedPartition partition;
  std::optional<std::vector<BrokerId>> replicas;  // absent: cancel
};

struct AlterReassignments {
  std::vector<Reassignment> partitions;
  bool allow_replication_factor_change = true;
};

struct ReassignedPartition {
  NamedPartition partition;
  Outcome outcome;
};

struct AlterReassignmentsReply {
  Outcome outcome;  // of the request as a whole
  std::vector<ReassignedPartition> partitions;
};

/// Spreads replicas and preferred leaders evenly over the brokers that can take them.
struct Rebalance {
  bool plan_only = false;
  size_t moves_max = 100;
};

struct PlannedMove {
  NamedPartition partition;
  std::vector<BrokerId> from;
  std::vector<BrokerId> to;
  std::string reason;
};

struct RebalanceReply {
  Outcome outcome;
  std::vector<PlannedMove> moves;  // begun, unless plan_only
};

}  // namespace millrace::control
