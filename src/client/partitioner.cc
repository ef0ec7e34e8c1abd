#include "client/partitioner.h"

#include <vector>

namespace millrace::client {
namespace {

constexpr uint32_t kMurmurSeed = 0x9747b28c;
constexpr uint32_t kMurmurFactor = 0x5bd1e995;
constexpr int kMurmurShift = 24;

}  // namespace

uint32_t murmur2(ByteView data) {
  uint32_t hash = kMurmurSeed ^ static_cast<uint32_t>(data.size());
  size_t at = 0;
  for (; data.size() - at >= 4; at += 4) {
    uint32_t word = static_cast<uint32_t>(data[at]) | static_cast<uint32_t>(data[at + 1]) << 8 |
                    static_cast<uint32_t>(data[at + 2]) << 16 | static_cast<uint32_t>(data[at + 3]) << 24;
    word *= kMurmurFactor;
    word ^= word >> kMurmurShift;
    word *= kMurmurFactor;
    hash = hash * kMurmurFactor ^ word;
  }
  if (at < data.size()) {
    uint32_t rest = 0;
    for (size_t i = data.size(); i-- > at;) rest = rest << 8 | data[i];
    hash = (hash ^ rest) * kMurmurFactor;
  }
  hash ^= hash >> 13;
  hash *= kMurmurFactor;
  hash ^= hash >> 15;
  return hash;
}

int32_t partition_of_key(ByteView key, int32_t partitions) {
  ASSERT(partitions > 0);
  return static_cast<int32_t>((murmur2(key) & 0x7fffffffu) % static_cast<uint32_t>(partitions));
}

uint64_t StickyPartitions::next_random() {
  // splitmix64: spread, not secrecy.
  state_ += 0x9e3779b97f4a7c15ULL;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

int32_t StickyPartitions::current(const TopicInfo& topic) {
  ASSERT(!topic.partitions.empty());
  if (const auto found = chosen_.find(topic.name);
      found != chosen_.end() && topic.partition(found->second) != nullptr) {
    return found->second;
  }
  const auto last = last_.find(topic.name);
  std::vector<int32_t> open;
  for (const bool with_leader : {true, false}) {
    for (const PartitionInfo& p : topic.partitions) {
      if (with_leader && p.leader < 0) continue;
      if (topic.partitions.size() > 1 && last != last_.end() && last->second == p.id) continue;
      open.push_back(p.id);
    }
    if (!open.empty()) break;
  }
  const int32_t pick = open[next_random() % open.size()];
  chosen_[topic.name] = pick;
  last_[topic.name] = pick;
  return pick;
}

}  // namespace millrace::client
