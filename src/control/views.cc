#include "control/views.h"

#include <algorithm>

#include "base/contains.h"
#include "control/partition_change.h"

namespace millrace::control {
namespace {

OngoingReassignment ongoing(const meta::Topic& topic, PartitionId number, const meta::Partition& p) {
  return {{topic.name, number}, p.replicas, p.adding_replicas, p.removing_replicas};
}

}  // namespace

std::vector<ClusterBroker> describe_brokers(const meta::Image& image, bool with_fenced) {
  std::vector<ClusterBroker> out;
  image.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (b->fenced && !with_fenced) return;
    out.push_back(
        {id, b->epoch, b->endpoints, b->rack, b->fenced, b->in_controlled_shutdown, b->decommissioning});
  });
  return out;
}

std::vector<OngoingReassignment> list_reassignments(const meta::Image& image, const PartitionIndex& index,
                                                    const std::optional<std::vector<NamedPartition>>& asked) {
  std::vector<OngoingReassignment> out;
  if (!asked) {
    index.reassigning().for_each([&](const PartitionKey& key) {
      const meta::Topic& topic = *image.topic(key.topic);
      out.push_back(ongoing(topic, key.partition, *topic.partitions.find(key.partition)));
    });
    return out;
  }
  for (const NamedPartition& named : *asked) {
    const meta::Topic* topic = image.topic(named.topic);
    if (topic == nullptr || !index.reassigning().contains({topic->id, named.partition})) continue;
    out.push_back(ongoing(*topic, named.partition, *topic->partitions.find(named.partition)));
  }
  return out;
}

DrainState drain_state(const meta::Image& image, const PartitionIndex& index, BrokerId broker) {
  DrainState s;
  if (const meta::Broker* b = image.broker(broker)) s.decommissioning = b->decommissioning;
  const PartitionSet& here = index.replicas_on(broker);
  s.replicas_left = here.size();
  s.led = index.led_by(broker);
  index.reassigning().for_each([&](const PartitionKey& key) {
    if (!here.contains(key)) return;
    const std::vector<BrokerId>& removing = image.partition(key.topic, key.partition)->removing_replicas;
    if (contains(removing, broker)) ++s.moving;
  });
  return s;
}

PartitionCounts count_partitions(const meta::Image& image, const meta::ConfigView& view) {
  PartitionCounts c;
  TopicRules rules(view);
  image.topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
    ++c.topics;
    const size_t min_isr = rules.of(*topic).min_isr;
    for (const meta::Partition& p : topic->partitions) {
      const size_t least = std::min(min_isr, p.replicas.size());
      const bool moving = !p.adding_replicas.empty() || !p.removing_replicas.empty();
      ++c.partitions;
      if (p.leader == kNoBroker) ++c.offline;
      if (p.isr.size() < p.replicas.size() - p.adding_replicas.size()) ++c.under_replicated;
      if (p.isr.size() < least) ++c.under_min_isr;
      if (p.isr.size() == least) ++c.at_min_isr;
      if (p.leader != kNoBroker && !p.replicas.empty() && p.leader != p.replicas.front()) ++c.not_preferred;
      if (moving) ++c.reassigning;
      if (p.leader_recovering) ++c.recovering;
      if (!p.elr.empty()) ++c.with_elr;
    }
  });
  return c;
}

BrokerCounts count_brokers(const meta::Image& image) {
  BrokerCounts c;
  image.brokers().for_each([&c](BrokerId, const meta::BrokerRef& b) {
    if (b->fenced) {
      ++c.fenced;
    } else if (b->in_controlled_shutdown) {
      ++c.in_controlled_shutdown;
    } else {
      ++c.active;
    }
  });
  return c;
}

}  // namespace millrace::control
