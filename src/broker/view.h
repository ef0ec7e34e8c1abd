// What a loop sees of the cluster and of this broker's partitions at one moment. Immutable and shared; the
// control loop publishes a new one by posting it to every loop, so that a reader takes no lock.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/contains.h"
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
  BrokerId controller = kNoBroker;            // who leads the metadata log, as far as is known here
  struct Gone {
    BrokerId id = kNoBroker;
    BrokerEpoch epoch{-1};        // of the registration it had
    int64_t settled_mono_ms = 0;  // by then the controller should have said what it is to be
  };
  struct Departed {
    BrokerId id = kNoBroker;
    BrokerEpoch epoch{-1};
    int64_t named_until_mono_ms = 0;
  };
  std::vector<Departed> departed;  // fenced a moment ago
  std::vector<Gone> gone;  // refuse connections or have lost them, though nothing is committed about it yet
  PersistentMap<Uuid, std::shared_ptr<const HostedTopic>> hosted;

  /// The broker, if it is alive as far as is known here.
  const meta::Broker* live_broker(BrokerId id) const {
    const meta::Broker* b = id == kNoBroker ? nullptr : image->broker(id);
    if (b == nullptr || b->fenced) return nullptr;
    return in_doubt(*b) != nullptr ? nullptr : b;
  }
  /// Whether clients are told of the broker's address. One that was fenced a moment ago is still named: some
  /// clients (librdkafka since 2.10) forget a broker that is not named, and what they move away from it at
  /// the same time loses its leader and waits a second for it.
  bool names(const meta::Broker& b, int64_t now_mono_ms) const {
    return !b.fenced || std::any_of(departed.begin(), departed.end(), [&](const Departed& d) {
      return d.id == b.id && d.epoch == b.epoch && now_mono_ms < d.named_until_mono_ms;
    });
  }
  /// What is known of a broker that does not answer, if it does not.
  const Gone* in_doubt(const meta::Broker& b) const {
    for (const Gone& g : gone) {
      if (g.id == b.id && g.epoch == b.epoch) return &g;
    }
    return nullptr;
  }
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

/// Where `broker` is reached through the listener of this name; nullptr if it is not registered or has none.
inline const meta::Endpoint* endpoint_of(const meta::Image& image, BrokerId broker,
                                         std::string_view listener) {
  const meta::Broker* b = broker == kNoBroker ? nullptr : image.broker(broker);
  if (b == nullptr) return nullptr;
  for (const meta::Endpoint& e : b->endpoints) {
    if (e.name == listener) return &e;
  }
  return nullptr;
}

/// Whether the replica at this position is known to be out of reach: its broker is fenced or gone, or the
/// directory it lies in is offline.
inline bool replica_is_offline(const meta::Image& image, const meta::Partition& p, size_t position) {
  const meta::Broker* b = image.broker(p.replicas[position]);
  if (b == nullptr || b->fenced) return true;
  if (position >= p.directories.size() || p.directories[position].is_zero()) return false;
  return !contains(b->log_dirs, p.directories[position]);
}

/// The node that clients are told is the controller: any live broker would do, as requests are passed on. One
/// that does not answer would keep them until they ask again.
inline BrokerId controller_for_clients(const View& view, BrokerId self) {
  return view.live_broker(view.controller) == nullptr ? self : view.controller;
}

/// Broker ids as replies carry them.
inline std::vector<int32_t> broker_numbers(const std::vector<BrokerId>& ids) {
  std::vector<int32_t> out;
  out.reserve(ids.size());
  for (const BrokerId id : ids) out.push_back(id.v);
  return out;
}

}  // namespace millrace::broker
