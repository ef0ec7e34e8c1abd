// What must be true of a running cluster at every moment, as far as its machines can be looked at: one leader
// of the metadata log in a term, terms and commitments that stand, one leader of a partition in an epoch,
// high watermarks that only rise, assignments that agree with each other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "sim/client_process.h"
#include "sim/node.h"
#include "sim/quorum_rules.h"

namespace millrace::sim {

class Invariants {
 public:
  Invariants(World& world, std::vector<std::unique_ptr<SimNode>>& nodes) : world_(world), nodes_(nodes) {}

  /// All of them, of all nodes that run.
  void look();
  /// Right after an event with which something of the metadata log was committed.
  void look_at_commit();

 private:
  void look_at_quorum(SimNode& node);
  void look_at_promises();
  void look_at_image(SimNode& node);
  void look_at_partitions(SimNode& node);
  void look_at_memory(SimNode& node, const Uuid& topic, size_t number,
                      const partition::Partition::Usage& usage);
  void forget_memories(SimNode& node);
  void look_at_disk(SimNode& node);
  void look_at_bytes(SimNode& node);

  struct Committed {
    int64_t term = 0;
    uint64_t digest = 0;
    int32_t seen_on = 0;
  };
  struct Quorum {
    uint64_t life = 0;
    int64_t checked = 0;  // committed entries up to here, in this life
    int64_t term = 0;     //
  };
  struct Reign {
    int32_t leader = 0;
    uint64_t life = 0;
    int64_t high_watermark = 0;
    int64_t log_end = 0;
    int64_t first_high_watermark = 0;
    int64_t since_us = 0;  // of virtual time, as far as was seen
  };
  void look_at_copies(const Reign& reign, const Uuid& topic, size_t number, const partition::Partition& led);

  struct Memory {
    uint64_t life = 0;
    int64_t kept = 0;  // committed and on disk
  };
  World& world_;
  std::vector<std::unique_ptr<SimNode>>& nodes_;
  /// Also of nodes that ended: one that starts may know an older one than it knew.
  std::shared_ptr<const meta::Image> newest_;
  std::map<int64_t, int32_t> term_leaders_;
  std::map<int64_t, Committed> committed_;
  VoteMemory votes_;
  std::map<int32_t, Quorum> quorums_;
  std::map<int32_t, uint64_t> read_;  // of which life the logs were read, by node
  std::map<std::tuple<int32_t, Uuid, int32_t>, Memory> memories_;      // node, topic id, partition
  std::map<int32_t, std::pair<uint64_t, LogIndex>> images_;            // looked at last: life, applied
  std::map<std::tuple<std::string, int32_t, int32_t>, Reign> reigns_;  // topic id, partition, epoch
  std::map<std::pair<std::string, int32_t>, std::pair<int32_t, int32_t>>
      epochs_;  // newest: leader, partition
};

}  // namespace millrace::sim
