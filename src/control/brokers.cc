// What brokers ask for themselves: a cluster, a registration, producer ids.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/contains.h"
#include "base/plants.h"
#include "control/broker_epoch.h"
#include "control/controller.h"
#include "control/draft.h"
#include "control/features.h"

namespace millrace::control {
namespace {

// Whether `broker` still has the directory its replica lies in.
bool has_directory(const meta::Partition& p, BrokerId broker, const meta::Broker* before,
                   const std::vector<Uuid>& now) {
  const auto among_now = [&now](const Uuid& d) { return contains(now, d); };
  const auto at = std::find(p.replicas.begin(), p.replicas.end(), broker);
  const auto i = static_cast<size_t>(at - p.replicas.begin());
  if (i < p.directories.size() && !p.directories[i].is_zero()) return among_now(p.directories[i]);
  // Nobody has said where it lies: in one of those there were.
  if (before == nullptr || before->log_dirs.empty()) return before != nullptr && now.empty();
  return std::all_of(before->log_dirs.begin(), before->log_dirs.end(), among_now);
}

bool too_long(const std::string& text, const Limits& limits) {
  return text.size() > limits.text_bytes;
}

}  // namespace

Decision<FoundClusterReply> Controller::handle(const FoundCluster& request, Now) {
  Decision<FoundClusterReply> decision;
  if (request.cluster_id.is_zero()) {
    decision.reply.outcome = {ErrorCode::invalid_request, "A cluster id is not zero"};
    return decision;
  }
  if (!image_.cluster_id().is_zero()) {
    if (image_.cluster_id() != request.cluster_id) {
      decision.reply.outcome = {ErrorCode::inconsistent_cluster_id,
                                fmt::format("This is cluster {}, not {}", image_.cluster_id().to_string(),
                                            request.cluster_id.to_string())};
    }
    return decision;
  }
  Draft draft(image_);
  draft.add(meta::ClusterRecord{request.cluster_id, image_.next_broker_epoch()});
  for (const auto& [name, level] : request.features) draft.add(meta::FeatureLevelRecord{name, level});
  decision.records = draft.take();
  return decision;
}

Outcome Controller::check_registration(const RegisterBroker& request, Now now) {
  const auto bad = [](std::string why) { return Outcome{ErrorCode::invalid_registration, std::move(why)}; };
  if (image_.cluster_id().is_zero())
    return {ErrorCode::invalid_request, "The cluster has not been founded yet"};
  if (request.cluster_id != image_.cluster_id()) {
    return {ErrorCode::inconsistent_cluster_id,
            fmt::format("Expected cluster ID {}, but got cluster ID {}", image_.cluster_id().to_string(),
                        request.cluster_id.to_string())};
  }
  if (request.id.v < 0) return bad("A broker id is not negative");
  if (request.incarnation.is_zero()) return bad("No incarnation id was given");
  if (request.endpoints.empty()) return bad("No listeners were given");
  if (request.endpoints.size() > limits_.endpoints_per_broker ||
      request.log_dirs.size() > limits_.log_dirs_per_broker ||
      request.features.size() > limits_.features_per_broker ||
      request.damaged.size() > limits_.listed_partitions_per_broker ||
      request.unsynced.size() > limits_.listed_partitions_per_broker) {
    return bad("A registration may not list so much");
  }
  std::set<std::string_view> names;
  for (const meta::Endpoint& e : request.endpoints) {
    if (!names.insert(e.name).second) return bad(fmt::format("Listener {} is given twice", e.name));
    if (too_long(e.name, limits_) || too_long(e.host, limits_)) return bad("A listener's name is too long");
  }
  if (request.rack && too_long(*request.rack, limits_)) return bad("The rack's name is too long");
  const std::set<Uuid> dirs(request.log_dirs.begin(), request.log_dirs.end());
  if (dirs.size() != request.log_dirs.size()) return bad("A log directory is given twice");
  if (dirs.contains(Uuid{})) return bad("A log directory's id is zero");
  if (const std::string why = misfit_of_features(image_, request.features); !why.empty()) {
    return {ErrorCode::unsupported_version, why};
  }
  if (request.min_insync_replicas &&
      std::to_string(*request.min_insync_replicas) != view(image_).broker_value("min.insync.replicas")) {
    return bad(
        fmt::format("min.insync.replicas is {} in the cluster and {} at broker {}: elections need the "
                    "same everywhere",
                    view(image_).broker_value("min.insync.replicas").value_or(""),
                    *request.min_insync_replicas, request.id.v));
  }
  const meta::Broker* known = image_.broker(request.id);
  if (known == nullptr) {
    if (image_.brokers().size() >= limits_.brokers_total) return bad("The cluster has too many brokers");
    return {};
  }
  if (known->incarnation == request.incarnation || known->in_controlled_shutdown) return {};
  if (!request.own && !request.alone && has_session(request.id, now)) {
    return {ErrorCode::duplicate_broker_registration,
            fmt::format("Another broker is registered with id {}", request.id.v)};
  }
  return {};
}

Decision<RegisterBrokerReply> Controller::handle(const RegisterBroker& request, Now now) {
  Decision<RegisterBrokerReply> decision;
  decision.reply.outcome = check_registration(request, now);
  if (!decision.reply.outcome.ok()) return decision;
  decision.atomic = false;

  meta::Broker broker;
  broker.id = request.id;
  broker.incarnation = request.incarnation;
  broker.endpoints = request.endpoints;
  broker.features = request.features;
  broker.rack = request.rack;
  broker.log_dirs = request.log_dirs;
  broker.fenced = !request.alone;

  // The same incarnation asks again (its first answer was lost): the same epoch, and no new leader epochs.
  const meta::Broker* known = image_.broker(request.id);
  const bool again = known != nullptr && known->incarnation == request.incarnation;
  broker.epoch = again ? known->epoch : image_.next_broker_epoch();
  if (known != nullptr) broker.decommissioning = known->decommissioning;
  if (again) {
    broker.fenced = known->fenced && !request.alone;
    broker.in_controlled_shutdown = known->in_controlled_shutdown;
  }
  decision.reply.epoch = broker.epoch;
  if (request.alone) {
    alone_.insert(request.id);
  } else {
    alone_.erase(request.id);
    sessions_[request.id] = {now.mono_ms, LogIndex(0)};
  }
  if (again && *known == broker) return decision;

  Draft draft(image_);
  if (again || request.alone) draft.add(meta::RegisterBrokerRecord{broker});
  if (!again) {
    TopicRules rules(view(image_));
    const bool clean = known != nullptr && request.clean_epoch == known->epoch;
    const std::set<PartitionKey> damaged(request.damaged.begin(), request.damaged.end());
    const std::set<PartitionKey> unsynced(request.unsynced.begin(), request.unsynced.end());
    index_.replicas_on(request.id).for_each([&](const PartitionKey& key) {
      const meta::Topic& topic = *image_.topic(key.topic);
      const meta::Partition& p = *image_.partition(key.topic, key.partition);
      PartitionChange change(draft.image(), key.topic, key.partition, rules.of(topic));
      if (request.alone) {
        // There is no other copy. Its new incarnation leads in an epoch of its own.
        if (p.leader == request.id || p.leader == kNoBroker) change.lead_anew();
      } else {
        change.without(request.id);
        if (!has_directory(p, request.id, known, request.log_dirs)) {
          change.distrust(request.id);
          change.set_directory(request.id, request.log_dirs.size() == 1 ? request.log_dirs.front() : Uuid{});
        } else if (damaged.contains(key)) {
          change.distrust(request.id);
        } else if (!clean && (unsynced.contains(key) || !rules.of(topic).fsync)) {
          if (!planted(Plant::trust_lossy_restart)) change.drop(request.id);
        }
      }
      if (auto record = change.build()) draft.add(std::move(*record));
    });
    if (!request.alone) draft.add(meta::RegisterBrokerRecord{std::move(broker)});
  }
  decision.records = draft.take();
  return decision;
}

Decision<AllocateProducerIdsReply> Controller::handle(const AllocateProducerIds& request, Now) {
  Decision<AllocateProducerIdsReply> decision;
  decision.reply.outcome = check_broker_epoch(image_, request.broker, request.broker_epoch);
  if (!decision.reply.outcome.ok()) return decision;
  const ProducerId first = image_.next_producer_id();
  if (first.v > INT64_MAX - kProducerIdBlock) {
    decision.reply.outcome = {ErrorCode::unknown_server_error, "All producer ids have been given away"};
    return decision;
  }
  decision.reply.first = first;
  decision.reply.count = kProducerIdBlock;
  decision.records.push_back(
      meta::ProducerIdsRecord{request.broker, request.broker_epoch, first + kProducerIdBlock});
  return decision;
}

Decision<AssignDirectoriesReply> Controller::handle(const AssignDirectories& request, Now) {
  Decision<AssignDirectoriesReply> decision;
  decision.atomic = false;
  decision.reply.outcome = check_broker_epoch(image_, request.broker, request.epoch);
  if (!decision.reply.outcome.ok()) return decision;
  const std::vector<Uuid>& dirs = image_.broker(request.broker)->log_dirs;
  Draft draft(image_);
  size_t seen = 0;
  for (const auto& [directory, partitions] : request.directories) {
    const bool known = contains(dirs, directory);
    for (const PartitionKey& key : partitions) {
      const auto decide = [&]() -> Outcome {
        if (++seen > limits_.partitions_per_request)
          return {ErrorCode::operation_not_attempted, "Too many at once"};
        if (!known) return {ErrorCode::log_dir_not_found, "The broker has registered no such directory"};
        if (image_.topic(key.topic) == nullptr) return {ErrorCode::unknown_topic_id, "No such topic"};
        const meta::Partition* p = draft.image().partition(key.topic, key.partition);
        if (p == nullptr) return {ErrorCode::unknown_topic_or_partition, "No such partition"};
        const auto at = std::find(p->replicas.begin(), p->replicas.end(), request.broker);
        if (at == p->replicas.end())
          return {ErrorCode::not_leader_or_follower, "The broker has no replica of it"};
        const auto i = static_cast<size_t>(at - p->replicas.begin());
        std::vector<Uuid> directories = p->directories;
        directories.resize(p->replicas.size());
        if (directories[i] == directory) return {};
        directories[i] = directory;
        meta::PartitionChangeRecord change;
        change.topic_id = key.topic;
        change.partition = key.partition;
        change.directories = std::move(directories);
        draft.add(std::move(change));
        return {};
      };
      Outcome outcome = decide();
      decision.reply.replicas.push_back({key, std::move(outcome)});
    }
  }
  decision.records = draft.take();
  return decision;
}

Decision<UnregisterBrokerReply> Controller::handle(const UnregisterBroker& request, Now) {
  Decision<UnregisterBrokerReply> decision;
  const meta::Broker* broker = image_.broker(request.broker);
  if (broker == nullptr) {
    decision.reply.outcome = {ErrorCode::broker_id_not_registered,
                              fmt::format("No broker with id {}", request.broker.v)};
    return decision;
  }
  decision.atomic = false;
  Draft draft(image_);
  TopicRules rules(view(image_));
  if (!broker->fenced) leave(draft, rules, request.broker);
  draft.add(meta::UnregisterBrokerRecord{request.broker, broker->epoch});
  sessions_.erase(request.broker);
  alone_.erase(request.broker);
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
