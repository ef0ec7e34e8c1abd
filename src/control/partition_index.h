// Where partitions are, by broker and by what is the matter with them: so that losing one broker costs what
// that broker held. Kept beside the image by the controller; derived, never recorded.
#pragma once

#include <map>
#include <vector>

#include "meta/image.h"

namespace millrace::control {

struct PartitionKey {
  Uuid topic;
  PartitionId partition;

  auto operator<=>(const PartitionKey&) const = default;
};

/// Partitions of many topics, in order; some four bytes each.
class PartitionSet {
 public:
  void insert(const PartitionKey& key);
  void erase(const PartitionKey& key);
  bool contains(const PartitionKey& key) const;
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// f(const PartitionKey&), in order.
  template <class F>
  void for_each(F&& f) const {
    for (const auto& [topic, numbers] : topics_) {
      for (const int32_t n : numbers) f(PartitionKey{topic, PartitionId(n)});
    }
  }
  /// f(const PartitionKey&) -> whether to go on.
  template <class F>
  void scan(F&& f) const {
    for (const auto& [topic, numbers] : topics_) {
      for (const int32_t n : numbers) {
        if (!f(PartitionKey{topic, PartitionId(n)})) return;
      }
    }
  }

 private:
  std::map<Uuid, std::vector<int32_t>> topics_;  // numbers ascending
  size_t size_ = 0;
};

class PartitionIndex {
 public:
  PartitionIndex() = default;
  /// Costs O(everything).
  explicit PartitionIndex(const meta::Image& image);

  /// `before` or `after` may be nullptr: it did not, does not exist.
  void change(const PartitionKey& key, const meta::Partition* before, const meta::Partition* after);

  const PartitionSet& replicas_on(BrokerId broker) const;
  size_t led_by(BrokerId broker) const;
  /// Partitions whose first replica is `broker`.
  size_t preferring(BrokerId broker) const;
  const PartitionSet& leaderless() const { return leaderless_; }
  const PartitionSet& reassigning() const { return reassigning_; }
  /// Led, but not by their first replica.
  const PartitionSet& not_preferred() const { return not_preferred_; }
  /// With eligible or last known leaders outside the ISR.
  const PartitionSet& with_elr() const { return with_elr_; }

 private:
  struct Holdings {
    PartitionSet replicas;
    size_t led = 0;
    size_t preferring = 0;
  };
  void add(const PartitionKey& key, const meta::Partition& p);
  void remove(const PartitionKey& key, const meta::Partition& p);

  std::map<BrokerId, Holdings> brokers_;
  PartitionSet leaderless_;
  PartitionSet reassigning_;
  PartitionSet not_preferred_;
  PartitionSet with_elr_;
};

}  // namespace millrace::control
