// What brokers ask the controller for themselves, and what operators ask about brokers, features and the
// cluster.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/uuid.h"
#include "control/partition_index.h"
#include "control/requests.h"
#include "meta/records.h"

namespace millrace::control {

struct RegisterBroker {
  BrokerId id = kNoBroker;
  Uuid cluster_id;
  Uuid incarnation;
  std::vector<meta::Endpoint> endpoints;  // of clients and of the internal listener
  std::map<std::string, meta::FeatureRange> features;
  std::optional<std::string> rack;
  std::vector<Uuid> log_dirs;
  /// The broker epoch found in the clean-shutdown marker; absent: there was none in some directory.
  std::optional<BrokerEpoch> clean_epoch = {};
  /// Replicas that came back below their recorded durable end.
  std::vector<PartitionKey> damaged = {};
  /// Replicas of topics that are durability=fsync now but were not all through the last incarnation.
  std::vector<PartitionKey> unsynced = {};
  /// min.insync.replicas of the broker's properties file; must be the cluster's. Absent: not compared.
  std::optional<int32_t> min_insync_replicas = {};
  /// Asked by the very process this controller runs in: an older incarnation cannot be alive.
  bool own = false;
  /// As `own`, on a node that is a cluster by itself: no sessions, unfenced at once, keeps what it leads.
  bool alone = false;
};

struct RegisterBrokerReply {
  Outcome outcome;
  BrokerEpoch epoch{-1};
};

/// A replica that was found damaged while it served, in the leader epoch in which its broker takes part.
struct DamagedReplica {
  PartitionKey partition;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  bool operator==(const DamagedReplica&) const = default;
};

struct BrokerHeartbeat {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  LogIndex applied{0};  // the last entry of the metadata log that this broker has published to itself
  bool want_fence = false;
  bool want_shutdown = false;
  std::vector<Uuid> offline_log_dirs = {};
  /// To be copied anew, where enough others are in sync.
  std::vector<DamagedReplica> damaged = {};
};

struct BrokerHeartbeatReply {
  Outcome outcome;
  bool caught_up = false;  // with its own registration
  bool fenced = true;
  bool should_shutdown = false;
};

/// A connection to `broker` was refused: its process is gone.
struct BrokerUnreachable {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  BrokerId reporter = kNoBroker;  // kNoBroker: the controller itself
  BrokerEpoch reporter_epoch{-1};
};

struct BrokerUnreachableReply {
  Outcome outcome;
  bool fenced = false;  // by this report
};

/// Which directory holds which replica of the broker that asks.
struct AssignDirectories {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  std::map<Uuid, std::vector<PartitionKey>> directories;
};

struct AssignedReplica {
  PartitionKey partition;
  Outcome outcome;
};

struct AssignDirectoriesReply {
  Outcome outcome;
  std::vector<AssignedReplica> replicas;
};

struct UnregisterBroker {
  BrokerId broker = kNoBroker;
};

struct UnregisterBrokerReply {
  Outcome outcome;
};

/// Empties a broker: no new replicas, and those it has move away, some at a time, with every tick.
struct DecommissionBroker {
  BrokerId broker = kNoBroker;
  bool cancel = false;  // what has moved stays where it is
};

struct DecommissionBrokerReply {
  Outcome outcome;
};

struct AllocateProducerIds {
  BrokerId broker = kNoBroker;
  BrokerEpoch broker_epoch{-1};
};

struct AllocateProducerIdsReply {
  Outcome outcome;
  ProducerId first{-1};
  int32_t count = 0;
};

/// What a new cluster writes first.
struct FoundCluster {
  Uuid cluster_id;
  std::map<std::string, int16_t> features;  // levels it starts with
};

struct FoundClusterReply {
  Outcome outcome;
};

/// Kafka's numbers (UpdateFeatures).
enum class FeatureUpgrade : int8_t { upgrade = 1, safe_downgrade = 2, unsafe_downgrade = 3 };

struct FeatureUpdate {
  std::string name;
  int16_t level = 0;  // 0: the feature is switched off
  FeatureUpgrade type = FeatureUpgrade::upgrade;
};

struct UpdateFeatures {
  std::vector<FeatureUpdate> updates;
  bool validate_only = false;
};

/// All or nothing: if one cannot be, `outcome` says so and nothing changes.
struct UpdateFeaturesReply {
  Outcome outcome;
  std::vector<NamedOutcome> features;
};

}  // namespace millrace::control
