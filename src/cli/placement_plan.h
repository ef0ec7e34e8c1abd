// Where replicas should go when a broker is emptied or the load is spread: a pure function of who is there
// and what lies where. The same layout gives the same plan; a plan of which a part is done gives the rest.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace millrace::cli {

struct PlacementBroker {
  std::string rack;   // empty: none
  bool alive = true;  // may be given replicas
};

struct PlacedPartition {
  std::string topic;
  int32_t partition = 0;
  std::vector<int32_t> replicas;  // the first is preferred to lead; of one being moved: what it is moved to
  bool operator==(const PlacedPartition&) const = default;
};

struct Layout {
  std::map<int32_t, PlacementBroker> brokers;
  std::vector<PlacedPartition> partitions;
};

struct PartitionMove {
  std::string topic;
  int32_t partition = 0;
  std::vector<int32_t> from;
  std::vector<int32_t> to;

  /// Brokers that get a replica they have not: what is copied.
  size_t copies() const;
};

/// How many replicas a broker has, and for how many partitions it is preferred to lead.
struct BrokerLoad {
  int64_t replicas = 0;
  int64_t preferred = 0;
};

/// Of every broker, and of those that are named as replicas only.
std::map<int32_t, BrokerLoad> loads_of(const Layout& layout);
/// The layout once `plan` is done.
Layout after(Layout layout, const std::vector<PartitionMove>& plan);

/// Moves that take everything from `leaving`: to brokers in racks the partition is not in yet, then to those
/// with the fewest replicas. Error: invalid_replication_factor, if some partition has as many replicas as
/// brokers would be left.
Result<std::vector<PartitionMove>> plan_drain(const Layout& layout, int32_t leaving);

/// As few moves as it takes until replicas, and partitions that a broker is preferred for, differ by one at
/// most between living brokers. First avoidable meetings of replicas in one rack are ended; no move brings
/// replicas closer together than they were, so with unequal racks some difference may stay. Replicas on
/// brokers that are not alive stay where they are.
std::vector<PartitionMove> plan_rebalance(const Layout& layout);

}  // namespace millrace::cli
