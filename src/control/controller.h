// The active controller as a pure machine: what is asked becomes a reply and the records that make it true.
//
// handle() and tick() change nothing but volatile state (sessions). Their owner (the runner of the metadata
// log) appends the records, calls apply() for each in order and set_applied() after each entry, sends the
// reply once they are committed, and discards the machine if the append fails. Requests are handled one after
// the other, each seeing what the ones before it recorded.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "control/broker_requests.h"
#include "control/partition_change.h"
#include "control/partition_index.h"
#include "control/partition_requests.h"
#include "control/requests.h"
#include "meta/image.h"

namespace millrace::control {

class Draft;

struct Limits {
  size_t topics_per_request = 10'000;
  size_t partitions_per_request = 10'000;  // created, altered, elected or moved by one request
  size_t partitions_per_topic = 100'000;
  size_t partitions_total = 1'000'000;
  size_t resources_per_request = 10'000;
  size_t config_value_bytes = 32'767;
  size_t brokers_total = 10'000;
  size_t endpoints_per_broker = 64;
  size_t log_dirs_per_broker = 1'000;
  size_t features_per_broker = 1'000;
  size_t listed_partitions_per_broker = 1'000'000;  // damaged or unsynced, at registration
  size_t text_bytes = 255;                          // names of listeners, hosts, racks, features
  size_t elections_per_tick = 1'000;
  size_t drain_moves_in_flight = 50;  // of one broker that is being emptied
};

/// What is asked for, and the records that make it so (none if nothing changes).
template <class Reply>
struct Decision {
  Reply reply;
  std::vector<meta::Record> records;
  /// Whether the records must be one entry. If not they may be many: they may be cut anywhere into entries
  /// that are appended in order, and what a cut leaves undone is done by a repetition or a later tick.
  bool atomic = true;
};

struct Ticked {
  std::vector<BrokerId> fenced;  // their sessions have ended
  size_t elections = 0;
  size_t moves = 0;
  int64_t next_mono_ms = 0;  // when there may be something to do again
};

class Controller {
 public:
  /// Ids given to one broker at a time.
  static constexpr int32_t kProducerIdBlock = 1000;

  /// Fresh uuids; the machine draws none itself.
  using UuidSource = std::function<Uuid()>;

  /// `self` and `settings`: this broker and its properties, for the defaults of new topics. Costs O(image).
  Controller(BrokerId self, std::shared_ptr<const meta::ConfigValues> settings, meta::Image image = {},
             Limits limits = {});

  const meta::Image& image() const { return image_; }
  const PartitionIndex& index() const { return index_; }

  // --- topics and configurations ---

  Decision<CreateTopicsReply> handle(const CreateTopics& request, const UuidSource& uuids, Now now);
  Decision<DeleteTopicsReply> handle(const DeleteTopics& request, Now now);
  Decision<CreatePartitionsReply> handle(const CreatePartitions& request, Now now);
  Decision<AlterConfigsReply> handle(const IncrementalAlterConfigs& request, Now now);
  Decision<AlterConfigsReply> handle(const ReplaceConfigs& request, Now now);

  // --- brokers ---

  /// Grants a new epoch to a new incarnation, fenced until it has caught up (BrokerHeartbeat). What it can no
  /// longer vouch for it loses its eligibility for: after an unclean stop, replicas that were not fsynced all
  /// along or came back damaged; always, replicas whose directory is not there any more. Errors:
  /// invalid_request, inconsistent_cluster_id, invalid_registration, duplicate_broker_registration,
  /// unsupported_version.
  Decision<RegisterBrokerReply> handle(const RegisterBroker& request, Now now);
  /// Renews the session; unfences, fences, shuts down step by step, gives up replicas of offline directories
  /// and damaged ones that others can stand in for.
  /// Errors: broker_id_not_registered, stale_broker_epoch.
  Decision<BrokerHeartbeatReply> handle(const BrokerHeartbeat& request, Now now);
  /// Fences at once and ends the session. Errors as above, for the broker or for the reporter.
  Decision<BrokerUnreachableReply> handle(const BrokerUnreachable& request, Now now);
  Decision<AssignDirectoriesReply> handle(const AssignDirectories& request, Now now);
  Decision<UnregisterBrokerReply> handle(const UnregisterBroker& request, Now now);
  Decision<DecommissionBrokerReply> handle(const DecommissionBroker& request, Now now);
  /// broker_id_not_registered, stale_broker_epoch.
  Decision<AllocateProducerIdsReply> handle(const AllocateProducerIds& request, Now now);

  // --- the cluster ---

  /// The identity of a cluster that has none; a no-op if it has this one, inconsistent_cluster_id otherwise.
  Decision<FoundClusterReply> handle(const FoundCluster& request, Now now);
  /// invalid_update_version, invalid_request.
  Decision<UpdateFeaturesReply> handle(const UpdateFeatures& request, Now now);

  // --- partitions ---

  /// Per partition: unknown_topic_id, unknown_topic_or_partition, not_controller (epochs this controller has
  /// not heard of), fenced_leader_epoch, invalid_update_version, invalid_request, ineligible_replica,
  /// new_leader_elected (done, and the leader is another now), operation_not_attempted (too many at once).
  Decision<AlterPartitionReply> handle(const AlterPartition& request, Now now);
  Decision<ElectLeadersReply> handle(const ElectLeaders& request, Now now);
  Decision<AlterReassignmentsReply> handle(const AlterReassignments& request, Now now);
  Decision<RebalanceReply> handle(const Rebalance& request, Now now);

  /// What time brings: sessions end, leaders return to their preferred brokers, brokers are emptied.
  Decision<Ticked> tick(Now now);

  /// The only change of replicated state. Error: corrupt (the record does not fit; the machine must go).
  Status apply(const meta::Record& record, meta::Delta* delta = nullptr);
  /// After the records of one entry.
  void set_applied(LogIndex index, Term term);

 private:
  struct Session {
    int64_t heard_mono_ms = 0;
    LogIndex applied{0};
    bool told_damage = false;  // in a heartbeat
    std::set<PartitionKey> damaged = {};
  };
  /// Where in the log a broker's registration and the start of its shutdown are.
  struct Milestones {
    LogIndex registered{0};
    LogIndex shutting_down{0};
  };

  meta::ConfigView view(const meta::Image& image) const { return {image, self_, *settings_}; }
  int64_t setting(std::string_view key) const;
  bool setting_is_true(std::string_view key) const;

  // Sessions (sessions.cc). A broker that this machine has not heard of yet gets a whole one.
  bool has_session(BrokerId broker, Now now);
  Outcome check_registration(const RegisterBroker& request, Now now);
  void expire_sessions(Draft& draft, TopicRules& rules, Now now, Ticked& out);
  void elect_in_time(Draft& draft, TopicRules& rules, Now now, Ticked& out);
  void drain_brokers(Draft& draft, TopicRules& rules, Now now, Ticked& out);

  void leave(Draft& draft, TopicRules& rules, BrokerId broker) const;
  void fence(Draft& draft, TopicRules& rules, BrokerId broker);
  void unfence(Draft& draft, TopicRules& rules, BrokerId broker) const;
  void lose_directories(Draft& draft, TopicRules& rules, BrokerId broker,
                        const std::vector<Uuid>& gone) const;
  bool is_healthy(BrokerId broker, const PartitionKey& key) const;
  void give_up_damaged(Draft& draft, TopicRules& rules, BrokerId broker,
                       const std::vector<DamagedReplica>& damaged) const;
  void step_shutdown(Draft& draft, TopicRules& rules, const meta::Broker& broker,
                     BrokerHeartbeatReply& reply);
  void settle_min_isr(Draft& draft, const meta::ConfigResource& resource) const;
  AlteredPartition alter_partition(Draft& draft, TopicRules& rules, const AlterPartition& request,
                                   const PartitionKey& key, const AlterPartitionItem& item) const;
  Outcome reassign(Draft& draft, TopicRules& rules, const Reassignment& item, bool factor_may_change) const;
  std::vector<PlannedMove> plan_rebalance(size_t moves_max) const;

  BrokerId self_;
  std::shared_ptr<const meta::ConfigValues> settings_;
  meta::Image image_;
  Limits limits_;
  PartitionIndex index_;

  // Volatile: a new machine begins without.
  std::map<BrokerId, Session> sessions_;
  std::map<BrokerId, Milestones> milestones_;  // of what this machine has applied itself
  std::vector<BrokerId> registering_;          // in the entry being applied
  std::vector<BrokerId> shutting_down_;        // in the entry being applied
  std::set<BrokerId> alone_;                   // without sessions
  LogIndex began_at_{0};
  bool ticked_ = false;
  bool rebalance_pending_ = false;
  int64_t next_rebalance_mono_ms_ = 0;
  int64_t next_unclean_mono_ms_ = 0;
  int64_t next_drain_mono_ms_ = 0;
};

}  // namespace millrace::control
