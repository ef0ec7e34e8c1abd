// Which partition a record goes to, as the Java client decides it: records with a key by murmur2 of the key,
// so that producers in all languages agree; records without one stick to a partition for the length of a
// batch (KIP-480).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/bytes.h"
#include "client/cluster_view.h"

namespace millrace::client {

/// The 32 bit murmur2 with Kafka's seed.
uint32_t murmur2(ByteView data);
/// 0 <= result < partitions. `partitions` > 0 (asserted).
int32_t partition_of_key(ByteView key, int32_t partitions);

/// The partition for records without a key, by topic.
class StickyPartitions {
 public:
  /// `seed` chooses where topics begin, so that producers do not all begin with the same partition.
  explicit StickyPartitions(uint64_t seed) : state_(seed) {}
  /// The current partition of a topic; prefers partitions that have a leader. The topic has partitions
  /// (asserted).
  int32_t current(const TopicInfo& topic);
  /// The batch is full or sent: the next record opens another partition.
  void advance(const std::string& topic) { chosen_.erase(topic); }

 private:
  uint64_t next_random();

  uint64_t state_;
  std::map<std::string, int32_t> chosen_;
  std::map<std::string, int32_t> last_;
};

}  // namespace millrace::client
