// The state of the cluster: what the records of the metadata log add up to. A value whose copies are O(1) and
// share structure, so that a changed image is published beside the old one at the cost of what changed:
//
//   Image next = *current;
//   Status s = next.apply(record, &delta);
//   publish(std::make_shared<const Image>(std::move(next)));
//
// Whoever applies owns its copy; a published image is const and read by every loop without a lock.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/persistent_map.h"
#include "meta/partition_list.h"
#include "meta/records.h"

namespace millrace::meta {

struct Topic {
  Uuid id;
  std::string name;
  PartitionList partitions;
};

using TopicRef = std::shared_ptr<const Topic>;
using BrokerRef = std::shared_ptr<const Broker>;

/// Overrides of one resource, by key.
using ConfigValues = std::map<std::string, std::string, std::less<>>;

struct HashConfigResource {
  size_t operator()(const ConfigResource& r) const noexcept {
    return std::hash<std::string>()(r.name) * 31 + static_cast<size_t>(r.type);
  }
};

/// What a run of records touched. A topic in `topics` was created, changed or (if the image no longer has it)
/// removed.
struct Delta {
  std::set<Uuid> topics;
  std::map<Uuid, std::set<PartitionId>> partitions;  // of `topics`: the added and changed ones
  std::set<BrokerId> brokers;
  std::set<ConfigResource> configs;
  bool features = false;
  bool producer_ids = false;
  bool cluster = false;
};

class Image {
 public:
  /// nullptr if unknown. Pointers stay valid while this image or any copy that holds the topic lives.
  const Topic* topic(std::string_view name) const;
  const Topic* topic(const Uuid& id) const;
  const Partition* partition(const Uuid& topic_id, PartitionId partition) const;
  const PersistentMap<std::string, TopicRef>& topics() const { return topics_; }
  const PersistentMap<Uuid, TopicRef>& topics_by_id() const { return topics_by_id_; }
  size_t partition_count() const { return partition_count_; }
  /// Existing topics whose names differ from `name` at most in '.' and '_' (their metric names would
  /// collide).
  std::vector<std::string> colliding_topics(std::string_view name) const;

  const Broker* broker(BrokerId id) const;
  const PersistentMap<BrokerId, BrokerRef>& brokers() const { return brokers_; }

  /// nullptr: nothing is overridden.
  const ConfigValues* config(const ConfigResource& resource) const;
  const ConfigValues* topic_config(std::string_view name) const {
    return config({ResourceType::topic, std::string(name)});
  }
  const PersistentMap<ConfigResource, std::shared_ptr<const ConfigValues>, HashConfigResource>& configs()
      const {
    return configs_;
  }

  /// 0: not enabled.
  int16_t feature_level(std::string_view name) const;
  const PersistentMap<std::string, int16_t>& features() const { return features_; }

  /// Zero until the first ClusterRecord.
  const Uuid& cluster_id() const { return cluster_id_; }
  ProducerId next_producer_id() const { return next_producer_id_; }
  BrokerEpoch next_broker_epoch() const { return next_broker_epoch_; }

  /// The log entry this image has seen last; kept by whoever applies.
  LogIndex applied_index() const { return applied_index_; }
  Term applied_term() const { return applied_term_; }
  void set_applied(LogIndex index, Term term) {
    applied_index_ = index;
    applied_term_ = term;
  }

  /// Adds `record`, and what it touched to `delta` if given. Error: corrupt, if the record does not fit the
  /// state (an unknown topic, a gap in the partitions, ...); the image is then unchanged.
  Status apply(const Record& record, Delta* delta = nullptr);
  Status apply(std::span<const Record> records, Delta* delta = nullptr);

 private:
  struct Applier;

  PersistentMap<std::string, TopicRef> topics_;
  PersistentMap<Uuid, TopicRef> topics_by_id_;
  PersistentMap<std::string, std::vector<std::string>> collisions_;  // names with '.' as '_' -> real names
  PersistentMap<BrokerId, BrokerRef> brokers_;
  PersistentMap<ConfigResource, std::shared_ptr<const ConfigValues>, HashConfigResource> configs_;
  PersistentMap<std::string, int16_t> features_;
  Uuid cluster_id_;
  ProducerId next_producer_id_{0};
  BrokerEpoch next_broker_epoch_{1};
  size_t partition_count_ = 0;
  LogIndex applied_index_{0};
  Term applied_term_{0};
};

/// Whether both hold the same state (the applied position is not compared). Costs O(everything).
bool same_state(const Image& a, const Image& b);

/// Calls `out` with records that, applied to an empty image, give this state.
void for_each_record(const Image& image, const std::function<void(Record)>& out);

/// The image and its applied position as a snapshot, and back. Error: corrupt.
Bytes encode_snapshot(const Image& image);
Result<Image> decode_snapshot(ByteView bytes);

/// The same bytes piece by piece: `out` gets pieces of about kSnapshotPiece bytes (one record more at most)
/// in order and may end it with an error, which is returned.
inline constexpr size_t kSnapshotPiece = 256 * 1024;
Status write_snapshot(const Image& image, const std::function<Status(ByteView)>& out);

/// Reads a snapshot that arrives in pieces, cut anywhere. Holds one frame at most beside the image.
class SnapshotReader {
 public:
  /// Error: corrupt; the reader is of no use then.
  Status add(ByteView piece);
  /// Error: corrupt, if something is missing.
  Result<Image> finish();

 private:
  Status take_frames();
  Status take_message(ByteView message);

  Bytes pending_;
  Image image_;
  uint64_t expected_ = 0;
  uint64_t count_ = 0;
  LogIndex last_index_{0};
  Term last_term_{0};
  bool magic_seen_ = false;
  bool header_seen_ = false;
};

}  // namespace millrace::meta
