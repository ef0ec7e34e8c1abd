// Looks at the nodes, as Invariants does, and notes which rare states the cluster is in: what changed between
// the images of the metadata, in the members of the quorum, and what each node holds itself to be.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "meta/image.h"
#include "sim/client_process.h"
#include "sim/node.h"
#include "sim/sim_member.h"

namespace millrace::sim {

/// What changed between two states of a partition, as rare states. `is_down`: whether a broker is fenced.
void note_partition_change(World& world, const meta::Image& was, const meta::Image& is,
                           const meta::Partition& before, const meta::Partition& now, int32_t min_insync);
/// What changed about the brokers.
/// `fenced`: those that were fenced in the epoch they have; kept by the caller.
void note_broker_changes(World& world, const meta::Image& was, const meta::Image& is,
                         std::set<int32_t>& fenced);

class StateWatch {
 public:
  StateWatch(World& world, std::vector<std::unique_ptr<SimNode>>& nodes, std::vector<SimMember*> members)
      : world_(world), nodes_(nodes), members_(std::move(members)) {}

  void look();

 private:
  struct Quorum {
    uint64_t life = 0;
    int64_t term = 0;
    raft::Role role = raft::Role::follower;
    raft::NodeId leader = raft::kNobody;
    int64_t base = 0, last = 0;
    bool taking_snapshot = false;
  };
  using Place = std::tuple<int32_t, std::string, int32_t>;  // node, topic, partition

  void look_at_image();
  void look_at_quorum(SimNode& node);
  void look_at_partitions(SimNode& node);
  void note_membership(const raft::Membership& now, int64_t index);
  void note_drain(const meta::Image& image);
  void note_coordinator(const meta::Image& was, const meta::Image& is);

  World& world_;
  std::vector<std::unique_ptr<SimNode>>& nodes_;
  const std::vector<SimMember*> members_;
  std::shared_ptr<const meta::Image> image_;  // the newest seen
  std::set<int32_t> fenced_;
  std::map<int32_t, Quorum> quorums_;
  raft::Membership members_of_quorum_;
  int64_t membership_at_ = -1;
  raft::NodeId controller_ = raft::kNobody;
  int64_t controller_term_ = 0;
  std::set<Place> following_;  // at the last look
  std::set<Place> held_, zombies_;
  std::set<std::string> offline_;  // directories
};

}  // namespace millrace::sim
