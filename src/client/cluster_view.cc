#include "client/cluster_view.h"

#include <algorithm>

namespace millrace::client {

const PartitionInfo* TopicInfo::partition(int32_t index) const {
  const auto at = std::lower_bound(partitions.begin(), partitions.end(), index,
                                   [](const PartitionInfo& p, int32_t i) { return p.id < i; });
  return at != partitions.end() && at->id == index ? &*at : nullptr;
}

void ClusterView::update(const wire::MetadataResponse& response, bool all) {
  if (!response.brokers.empty()) brokers_.clear();
  for (const auto& b : response.brokers) {
    if (b.port <= 0 || b.port > UINT16_MAX) continue;  // no address of a broker
    brokers_[b.node_id] = {b.node_id, {b.host, static_cast<uint16_t>(b.port)}, b.rack};
  }
  controller_id_ = response.controller_id;
  if (response.cluster_id) cluster_id_ = *response.cluster_id;
  if (all) {
    topics_.clear();
    topic_errors_.clear();
  }
  for (const auto& t : response.topics) {
    if (!t.name) continue;
    if (t.error_code != 0) {
      topics_.erase(*t.name);
      topic_errors_[*t.name] = error_from_wire(t.error_code);
      continue;
    }
    topic_errors_.erase(*t.name);
    TopicInfo info;
    info.name = *t.name;
    info.id = t.topic_id;
    info.internal = t.is_internal;
    info.partitions.reserve(t.partitions.size());
    for (const auto& p : t.partitions) {
      if (p.partition_index < 0) continue;
      PartitionInfo out;
      out.id = p.partition_index;
      out.error = error_from_wire(p.error_code);
      out.leader = p.leader_id;
      out.leader_epoch = p.leader_epoch;
      out.replicas = p.replica_nodes;
      out.isr = p.isr_nodes;
      out.offline = p.offline_replicas;
      info.partitions.push_back(std::move(out));
    }
    std::sort(info.partitions.begin(), info.partitions.end(),
              [](const PartitionInfo& a, const PartitionInfo& b) { return a.id < b.id; });
    topics_[*t.name] = std::move(info);
  }
}

const TopicInfo* ClusterView::topic(const std::string& name) const {
  const auto found = topics_.find(name);
  return found == topics_.end() ? nullptr : &found->second;
}

const TopicInfo* ClusterView::topic(const Uuid& id) const {
  if (id.is_zero()) return nullptr;
  for (const auto& [name, topic] : topics_) {
    if (topic.id == id) return &topic;
  }
  return nullptr;
}

ErrorCode ClusterView::topic_error(const std::string& name) const {
  const auto found = topic_errors_.find(name);
  return found == topic_errors_.end() ? ErrorCode::none : found->second;
}

const BrokerInfo* ClusterView::broker(int32_t id) const {
  const auto found = brokers_.find(id);
  return found == brokers_.end() ? nullptr : &found->second;
}

}  // namespace millrace::client
