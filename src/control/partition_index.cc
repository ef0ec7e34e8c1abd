#include "control/partition_index.h"

#include <algorithm>

#include "base/assert.h"

namespace millrace::control {
namespace {

const PartitionSet kNothing;

bool is_reassigning(const meta::Partition& p) {
  return !p.adding_replicas.empty() || !p.removing_replicas.empty();
}

bool is_misled(const meta::Partition& p) {
  return p.leader != kNoBroker && !p.replicas.empty() && p.leader != p.replicas.front();
}

bool remembers_leaders(const meta::Partition& p) {
  return !p.elr.empty() || !p.last_known_elr.empty();
}

void put(PartitionSet& set, const PartitionKey& key, bool in) {
  if (in) {
    set.insert(key);
  } else {
    set.erase(key);
  }
}

}  // namespace

void PartitionSet::insert(const PartitionKey& key) {
  std::vector<int32_t>& numbers = topics_[key.topic];
  const auto at = std::lower_bound(numbers.begin(), numbers.end(), key.partition.v);
  if (at != numbers.end() && *at == key.partition.v) return;
  numbers.insert(at, key.partition.v);
  ++size_;
}

void PartitionSet::erase(const PartitionKey& key) {
  const auto topic = topics_.find(key.topic);
  if (topic == topics_.end()) return;
  std::vector<int32_t>& numbers = topic->second;
  const auto at = std::lower_bound(numbers.begin(), numbers.end(), key.partition.v);
  if (at == numbers.end() || *at != key.partition.v) return;
  numbers.erase(at);
  if (numbers.empty()) topics_.erase(topic);
  --size_;
}

bool PartitionSet::contains(const PartitionKey& key) const {
  const auto topic = topics_.find(key.topic);
  return topic != topics_.end() &&
         std::binary_search(topic->second.begin(), topic->second.end(), key.partition.v);
}

PartitionIndex::PartitionIndex(const meta::Image& image) {
  image.topics_by_id().for_each([this](const Uuid& id, const meta::TopicRef& topic) {
    int32_t number = 0;
    for (const meta::Partition& p : topic->partitions) add({id, PartitionId(number++)}, p);
  });
}

void PartitionIndex::change(const PartitionKey& key, const meta::Partition* before,
                            const meta::Partition* after) {
  if (before != nullptr && after != nullptr) {
    // Most changes leave the replicas where they are.
    if (before->replicas == after->replicas) {
      if (before->leader != after->leader) {
        if (before->leader != kNoBroker) --brokers_[before->leader].led;
        if (after->leader != kNoBroker) ++brokers_[after->leader].led;
        put(leaderless_, key, after->leader == kNoBroker);
        put(not_preferred_, key, is_misled(*after));
      }
      put(reassigning_, key, is_reassigning(*after));
      put(with_elr_, key, remembers_leaders(*after));
      return;
    }
  }
  if (before != nullptr) remove(key, *before);
  if (after != nullptr) add(key, *after);
}

const PartitionSet& PartitionIndex::replicas_on(BrokerId broker) const {
  const auto at = brokers_.find(broker);
  return at == brokers_.end() ? kNothing : at->second.replicas;
}

size_t PartitionIndex::led_by(BrokerId broker) const {
  const auto at = brokers_.find(broker);
  return at == brokers_.end() ? 0 : at->second.led;
}

size_t PartitionIndex::preferring(BrokerId broker) const {
  const auto at = brokers_.find(broker);
  return at == brokers_.end() ? 0 : at->second.preferring;
}

void PartitionIndex::add(const PartitionKey& key, const meta::Partition& p) {
  for (const BrokerId b : p.replicas) brokers_[b].replicas.insert(key);
  if (!p.replicas.empty()) ++brokers_[p.replicas.front()].preferring;
  if (p.leader != kNoBroker) ++brokers_[p.leader].led;
  put(leaderless_, key, p.leader == kNoBroker);
  put(reassigning_, key, is_reassigning(p));
  put(not_preferred_, key, is_misled(p));
  put(with_elr_, key, remembers_leaders(p));
}

void PartitionIndex::remove(const PartitionKey& key, const meta::Partition& p) {
  for (const BrokerId b : p.replicas) brokers_[b].replicas.erase(key);
  if (!p.replicas.empty()) --brokers_[p.replicas.front()].preferring;
  if (p.leader != kNoBroker) --brokers_[p.leader].led;
  for (PartitionSet* set : {&leaderless_, &reassigning_, &not_preferred_, &with_elr_}) set->erase(key);
}

}  // namespace millrace::control
