#include "cli/metadata_records.h"

#include "meta/records.h"
#include "raft/types.h"

namespace millrace::cli {
namespace {

Json ids_json(const std::vector<BrokerId>& ids) {
  Json out = Json::array();
  for (const BrokerId id : ids) out.push_back(id.v);
  return out;
}

Json uuids_json(const std::vector<Uuid>& ids) {
  Json out = Json::array();
  for (const Uuid& id : ids) out.push_back(id.to_string());
  return out;
}

struct MetadataRecordJson {
  Json operator()(const meta::NoOpRecord&) const { return {{"type", "no_op"}}; }
  Json operator()(const meta::ClusterRecord& r) const {
    return {{"type", "cluster"},
            {"cluster_id", r.cluster_id.to_string()},
            {"next_broker_epoch", r.next_broker_epoch.v}};
  }
  Json operator()(const meta::FeatureLevelRecord& r) const {
    return {{"type", "feature_level"}, {"name", r.name}, {"level", r.level}};
  }
  Json operator()(const meta::TopicRecord& r) const {
    return {{"type", "topic"}, {"name", r.name}, {"id", r.id.to_string()}};
  }
  Json operator()(const meta::PartitionRecord& r) const {
    return {{"type", "partition"},
            {"topic_id", r.topic_id.to_string()},
            {"partition", r.partition.v},
            {"leader", r.state.leader.v},
            {"leader_epoch", r.state.leader_epoch.v},
            {"partition_epoch", r.state.partition_epoch},
            {"replicas", ids_json(r.state.replicas)},
            {"isr", ids_json(r.state.isr)},
            {"directories", uuids_json(r.state.directories)}};
  }
  Json operator()(const meta::PartitionChangeRecord& r) const {
    Json j = {
        {"type", "partition_change"}, {"topic_id", r.topic_id.to_string()}, {"partition", r.partition.v}};
    if (r.leader) j["leader"] = r.leader->v;
    if (r.replicas) j["replicas"] = ids_json(*r.replicas);
    if (r.isr) j["isr"] = ids_json(*r.isr);
    if (r.elr) j["elr"] = ids_json(*r.elr);
    if (r.leader_recovering) j["leader_recovering"] = *r.leader_recovering;
    return j;
  }
  Json operator()(const meta::RemoveTopicRecord& r) const {
    return {{"type", "remove_topic"}, {"id", r.id.to_string()}};
  }
  Json operator()(const meta::ConfigRecord& r) const {
    return {{"type", "config"},
            {"resource_type", static_cast<int>(r.resource.type)},
            {"resource", r.resource.name},
            {"key", r.key},
            {"value", r.value ? Json(*r.value) : Json()}};
  }
  Json operator()(const meta::RegisterBrokerRecord& r) const {
    Json endpoints = Json::array();
    for (const meta::Endpoint& e : r.broker.endpoints)
      endpoints.push_back({{"name", e.name}, {"host", e.host}, {"port", e.port}});
    return {{"type", "register_broker"},
            {"id", r.broker.id.v},
            {"epoch", r.broker.epoch.v},
            {"incarnation", r.broker.incarnation.to_string()},
            {"endpoints", std::move(endpoints)},
            {"rack", r.broker.rack ? Json(*r.broker.rack) : Json()},
            {"log_dirs", uuids_json(r.broker.log_dirs)},
            {"fenced", r.broker.fenced}};
  }
  Json operator()(const meta::BrokerChangeRecord& r) const {
    Json j = {{"type", "broker_change"}, {"id", r.id.v}, {"epoch", r.epoch.v}};
    if (r.fenced) j["fenced"] = *r.fenced;
    if (r.in_controlled_shutdown) j["in_controlled_shutdown"] = *r.in_controlled_shutdown;
    if (r.log_dirs) j["log_dirs"] = uuids_json(*r.log_dirs);
    return j;
  }
  Json operator()(const meta::UnregisterBrokerRecord& r) const {
    return {{"type", "unregister_broker"}, {"id", r.id.v}, {"epoch", r.epoch.v}};
  }
  Json operator()(const meta::ProducerIdsRecord& r) const {
    return {{"type", "producer_ids"},
            {"broker", r.broker.v},
            {"broker_epoch", r.broker_epoch.v},
            {"next_producer_id", r.next_producer_id.v}};
  }
};

}  // namespace

Json decode_metadata_entry(const record::OptionalBytes& key, const record::OptionalBytes& value) {
  if (!key || key->size() != 1 || !value) return {{"kind", "unknown"}};
  switch (static_cast<raft::EntryKind>(key->front())) {
    case raft::EntryKind::no_op:
      return {{"kind", "no_op"}};
    case raft::EntryKind::membership: {
      const Result<raft::Membership> membership = raft::decode_membership(*value);
      if (!membership.ok()) return {{"kind", "membership"}, {"error", membership.error().message}};
      Json out{{"kind", "membership"},
               {"voters", ids_json(membership->voters)},
               {"learners", ids_json(membership->learners)}};
      for (const auto& [node, directory] : membership->directories)
        out["directories"][std::to_string(node.v)] = directory.to_string();
      return out;
    }
    case raft::EntryKind::payload: {
      const Result<std::vector<meta::Record>> records = meta::decode_entry(*value);
      if (!records.ok()) return {{"kind", "payload"}, {"error", records.error().message}};
      Json list = Json::array();
      for (const meta::Record& r : *records) list.push_back(std::visit(MetadataRecordJson{}, r));
      return {{"kind", "payload"}, {"records", std::move(list)}};
    }
  }
  return {{"kind", "unknown"}};
}

}  // namespace millrace::cli
