// What brokers ask for themselves: a cluster, a registration, producer ids.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "control/controller.h"
#include "control/draft.h"

namespace millrace::control {
namespace {

Outcome check_registration(const meta::Image& image, const RegisterBroker& request) {
  if (image.cluster_id().is_zero())
    return {ErrorCode::invalid_request, "The cluster has not been founded yet"};
  if (request.cluster_id != image.cluster_id()) {
    return {ErrorCode::inconsistent_cluster_id,
            fmt::format("Expected cluster ID {}, but got cluster ID {}", image.cluster_id().to_string(),
                        request.cluster_id.to_string())};
  }
  if (request.id.v < 0) return {ErrorCode::invalid_registration, "A broker id is not negative"};
  if (request.incarnation.is_zero()) return {ErrorCode::invalid_registration, "No incarnation id was given"};
  if (request.endpoints.empty()) return {ErrorCode::invalid_registration, "No listeners were given"};
  std::set<std::string_view> names;
  for (const meta::Endpoint& e : request.endpoints) {
    if (!names.insert(e.name).second) {
      return {ErrorCode::invalid_registration, fmt::format("Listener {} is given twice", e.name)};
    }
  }
  return {};
}

// Every incarnation leads in an epoch of its own: followers and clients of the one before are fenced.
void take_leadership(Draft& draft, BrokerId broker) {
  const meta::Image before = draft.image();
  before.topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
    int32_t number = 0;
    for (const meta::Partition& p : topic->partitions) {
      const PartitionId partition(number++);
      const bool in_sync = std::find(p.isr.begin(), p.isr.end(), broker) != p.isr.end();
      if (p.leader != broker && !(p.leader == kNoBroker && in_sync)) continue;
      meta::PartitionChangeRecord change;
      change.topic_id = topic->id;
      change.partition = partition;
      change.leader = broker;
      draft.add(std::move(change));
    }
  });
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

Decision<RegisterBrokerReply> Controller::handle(const RegisterBroker& request, Now) {
  Decision<RegisterBrokerReply> decision;
  decision.reply.outcome = check_registration(image_, request);
  if (!decision.reply.outcome.ok()) return decision;

  meta::Broker broker;
  broker.id = request.id;
  broker.incarnation = request.incarnation;
  broker.endpoints = request.endpoints;
  broker.features = request.features;
  broker.rack = request.rack;
  broker.log_dirs = request.log_dirs;
  broker.fenced = false;

  // The same incarnation asks again (its first answer was lost): the same epoch, and no new leader epochs.
  const meta::Broker* known = image_.broker(request.id);
  const bool again = known != nullptr && known->incarnation == request.incarnation;
  broker.epoch = again ? known->epoch : image_.next_broker_epoch();
  decision.reply.epoch = broker.epoch;
  if (again && *known == broker) return decision;

  Draft draft(image_);
  draft.add(meta::RegisterBrokerRecord{std::move(broker)});
  if (!again) take_leadership(draft, request.id);
  decision.records = draft.take();
  return decision;
}

Decision<AllocateProducerIdsReply> Controller::handle(const AllocateProducerIds& request, Now) {
  Decision<AllocateProducerIdsReply> decision;
  const meta::Broker* broker = image_.broker(request.broker);
  if (broker == nullptr) {
    decision.reply.outcome = {ErrorCode::broker_id_not_registered,
                              fmt::format("No broker with id {}", request.broker.v)};
    return decision;
  }
  if (broker->epoch != request.broker_epoch) {
    decision.reply.outcome = {ErrorCode::stale_broker_epoch,
                              fmt::format("Broker {} is registered in epoch {}, not {}", request.broker.v,
                                          broker->epoch.v, request.broker_epoch.v)};
    return decision;
  }
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

}  // namespace millrace::control
