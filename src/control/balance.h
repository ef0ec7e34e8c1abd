// Which brokers should take a replica: those with the fewest, in racks the partition is not in yet.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "control/partition_index.h"
#include "meta/image.h"

namespace millrace::control {

class Balance {
 public:
  /// Counts the replicas of every broker that is there.
  Balance(const meta::Image& image, const PartitionIndex& index);

  size_t load(BrokerId broker) const;
  /// Brokers that may be given replicas, ascending.
  const std::vector<BrokerId>& takers() const { return takers_; }
  /// Who should stand in for `leaving` among `replicas`; nothing if nobody can.
  std::optional<BrokerId> stand_in(const std::vector<BrokerId>& replicas, BrokerId leaving) const;
  /// Whether `replicas` are in no fewer racks with `joining` for `leaving`.
  bool keeps_racks(const std::vector<BrokerId>& replicas, BrokerId leaving, BrokerId joining) const;
  void move(BrokerId from, BrokerId to);

 private:
  std::string rack(BrokerId broker) const;

  const meta::Image& image_;
  std::map<BrokerId, size_t> load_;
  std::vector<BrokerId> takers_;
};

}  // namespace millrace::control
