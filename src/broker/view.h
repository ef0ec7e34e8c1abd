// What a loop sees of the cluster and of this broker's partitions at one moment. Immutable and shared; the
// control loop publishes a new one by posting it to every loop, so that a reader takes no lock.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/persistent_map.h"
#include "base/uuid.h"
#include "meta/image.h"
#include "partition/partition.h"

namespace millrace::broker {

using PartitionRef = std::shared_ptr<partition::Partition>;

/// The replicas of one topic that this broker hosts; null where it hosts none (or its directory is offline).
struct HostedTopic {
  Uuid id;
  std::vector<PartitionRef> partitions;  // by partition number
};

struct GroupShards;

struct View {
  std::shared_ptr<const meta::Image> image;
  std::shared_ptr<const GroupShards> groups;  // null until __consumer_offsets is there
  PersistentMap<Uuid, std::shared_ptr<const HostedTopic>> hosted;

  const HostedTopic* hosted_topic(const Uuid& id) const {
    const std::shared_ptr<const HostedTopic>* t = hosted.find(id);
    return t == nullptr ? nullptr : t->get();
  }
  /// The hosted partition, or nullptr.
  const PartitionRef* partition(const Uuid& topic, int32_t number) const {
    const HostedTopic* t = hosted_topic(topic);
    if (t == nullptr || number < 0 || static_cast<size_t>(number) >= t->partitions.size()) return nullptr;
    const PartitionRef& p = t->partitions[static_cast<size_t>(number)];
    return p ? &p : nullptr;
  }
};

/// What a request gets for a partition that is not hosted here. One that this broker should lead lies in a
/// directory that is offline: nothing was written, ask again.
inline ErrorCode absence(const meta::Topic* topic, int32_t number, BrokerId self) {
  if (topic == nullptr || number < 0 || static_cast<size_t>(number) >= topic->partitions.size())
    return ErrorCode::unknown_topic_or_partition;
  return topic->partitions[static_cast<size_t>(number)].leader == self ? ErrorCode::kafka_storage_error
                                                                       : ErrorCode::not_leader_or_follower;
}

/// Broker ids as replies carry them.
inline std::vector<int32_t> broker_numbers(const std::vector<BrokerId>& ids) {
  std::vector<int32_t> out;
  out.reserve(ids.size());
  for (const BrokerId id : ids) out.push_back(id.v);
  return out;
}

}  // namespace millrace::broker
