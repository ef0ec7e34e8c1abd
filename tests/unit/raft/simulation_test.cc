#include <cstdlib>
#include <functional>

#include "support/catch.h"
#include "unit/raft/cluster_sim.h"

using namespace millrace;
using namespace millrace::raft;

namespace {

/// More with MILLRACE_RAFT_SEEDS=n.
uint32_t seeds(uint32_t usual) {
  const char* text = std::getenv("MILLRACE_RAFT_SEEDS");
  return text == nullptr ? usual : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}

void for_seeds(uint32_t count, const std::function<void(uint32_t)>& body) {
  for (uint32_t seed = 1; seed <= count; ++seed) {
    std::string failure;
    try {
      body(seed);
    } catch (const SimFailure& f) {
      failure = f.what();
    }
    INFO("seed " << seed);
    REQUIRE(failure == "");
  }
}

// One random calamity, then some peace and some proposals.
void calamity(ClusterSim& sim) {
  const std::vector<NodeId> ids = sim.ids();
  const NodeId victim = ids[sim.below(ids.size())];
  switch (sim.below(7)) {
    case 0:
      sim.crash(victim);
      if (sim.chance(0.5)) sim.say_gone(victim);
      break;
    case 1:
      for (const NodeId id : ids) {
        if (sim.chance(0.5)) sim.crash(id);
      }
      break;
    case 2: {
      std::map<NodeId, int> groups;
      for (const NodeId id : ids) groups[id] = static_cast<int>(sim.below(2));
      sim.partition(groups);
      break;
    }
    case 3: {
      std::map<NodeId, int> groups;
      for (const NodeId id : ids) groups[id] = id == victim ? 1 : 0;
      sim.partition(groups);
      break;
    }
    case 4:
      if (const NodeId l = sim.leader(); l != kNobody && sim.chance(0.5)) sim.say_gone(l);
      if (const NodeId l = sim.leader(); l != kNobody) (void)sim.transfer(l, victim);
      break;
    default:
      sim.heal();
      for (const NodeId id : ids) sim.restart(id);
  }
  for (int i = 0; i < 10; ++i) {
    sim.run(static_cast<int64_t>(50 + sim.below(400)));
    const std::vector<NodeId> now = sim.ids();
    (void)sim.propose(now[sim.below(now.size())]);
    if (const NodeId l = sim.leader(); l != kNobody) (void)sim.propose(l);
  }
}

void recover(ClusterSim& sim) {
  sim.heal();
  sim.set_faults(0, 0);
  for (const NodeId id : sim.ids()) sim.restart(id);
  sim.converge(120'000);
}

}  // namespace

TEST_CASE("a quiet cluster elects once and stays") {
  for_seeds(seeds(20), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 5, .drop = 0, .duplicate = 0, .raft = {}});
    sim.run(20'000);
    const NodeId leader = sim.leader();
    REQUIRE(leader != kNobody);
    const size_t elections = sim.elections();
    for (int i = 0; i < 50; ++i) {
      sim.run(200);
      REQUIRE(sim.propose(leader));
    }
    sim.run(2000);
    CHECK(sim.elections() == elections);
    CHECK(sim.leader() == leader);
    for (const NodeId id : sim.ids()) CHECK(sim.state(id) == sim.state(leader));
  });
}

TEST_CASE("a leader that is known to be gone is mostly replaced before the least election timeout") {
  size_t replaced = 0;
  for_seeds(100, [&](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = seed % 2 == 0 ? 3 : 5, .drop = 0, .duplicate = 0, .raft = {}});
    sim.run(10'000);
    const NodeId leader = sim.leader();
    REQUIRE(leader != kNobody);
    sim.crash(leader);
    sim.say_gone(leader);
    sim.run(900);
    const NodeId next = sim.leader();
    if (next != kNobody && next != leader) ++replaced;
    sim.restart(leader);
    sim.converge(60'000);
  });
  CHECK(replaced >= 80);  // messages and writes take long here
}

TEST_CASE("a follower that returns from isolation does not disturb the leader") {
  for_seeds(seeds(20), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 3, .drop = 0, .duplicate = 0, .raft = {}});
    sim.run(10'000);
    const NodeId leader = sim.leader();
    REQUIRE(leader != kNobody);
    const size_t elections = sim.elections();
    const NodeId away(leader == NodeId(1) ? 2 : 1);
    std::map<NodeId, int> groups;
    for (const NodeId id : sim.ids()) groups[id] = id == away ? 1 : 0;
    sim.partition(groups);
    sim.run(60'000);
    sim.heal();
    sim.run(10'000);
    CHECK(sim.leader() == leader);
    CHECK(sim.elections() == elections);
  });
}

TEST_CASE("a leader that loses its majority steps down by itself") {
  for_seeds(seeds(20), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 3, .drop = 0, .duplicate = 0, .raft = {}});
    sim.run(10'000);
    const NodeId leader = sim.leader();
    REQUIRE(leader != kNobody);
    sim.partition({{leader, 1}});
    sim.run(5'000);
    CHECK_FALSE(sim.raft(leader).leads());
  });
}

TEST_CASE("three voters through crashes, partitions and a bad network") {
  for_seeds(seeds(80), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 3, .drop = 0.1, .duplicate = 0.1, .raft = {}});
    for (int i = 0; i < 15; ++i) calamity(sim);
    recover(sim);
  });
}

TEST_CASE("five voters and two learners with snapshots") {
  size_t installed = 0;
  for_seeds(seeds(40), [&installed](uint32_t seed) {
    Options o;
    o.trailing_entries = 5;
    o.append_bytes_max = 16;
    o.inflight_max = 3;
    o.snapshot_chunk_bytes = 37;
    ClusterSim sim({.seed = seed, .voters = 5, .learners = 2, .snapshot_every = 20, .raft = o});
    for (int i = 0; i < 12; ++i) calamity(sim);
    recover(sim);
    installed += sim.snapshots_installed();
  });
  CHECK(installed > 10);
}

TEST_CASE("membership changes under fire") {
  size_t changes = 0;
  for_seeds(seeds(60), [&changes](uint32_t seed) {
    Options o;
    o.trailing_entries = 10;
    ClusterSim sim({.seed = seed, .voters = 3, .snapshot_every = 30, .raft = o});
    int32_t next = 4;
    sim.run(5000);
    for (int i = 0; i < 14; ++i) {
      if (const NodeId l = sim.leader(); l != kNobody) {
        const Membership m = sim.raft(l).membership();
        bool done = false;
        if (!m.learners.empty() && sim.chance(0.6)) {
          done = sim.change(l, ChangeKind::promote_learner, m.learners.front()).ok();
        } else if (m.voters.size() + m.learners.size() < 6 && sim.chance(0.6)) {
          done = sim.change(l, ChangeKind::add_learner, NodeId(next)).ok();
          if (done) sim.add_node(NodeId(next++));
        } else if (m.voters.size() > 2) {
          done = sim.change(l, ChangeKind::remove, m.voters[sim.below(m.voters.size())]).ok();
        }
        changes += done ? 1u : 0u;
      }
      calamity(sim);
    }
    recover(sim);
  });
  CHECK(changes > 100);
}

TEST_CASE("a single voter commits what it has written, through crashes") {
  for_seeds(seeds(50), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 1, .snapshot_every = 15, .raft = {}});
    for (int i = 0; i < 10; ++i) {
      sim.run(1000);
      for (int k = 0; k < 10; ++k) {
        CHECK(sim.propose(NodeId(1)));
        sim.run(static_cast<int64_t>(sim.below(40)));
      }
      sim.crash(NodeId(1));
      sim.restart(NodeId(1));
    }
    sim.converge(10'000);
  });
}

TEST_CASE("learners follow a single voter that crashes") {
  for_seeds(seeds(40), [](uint32_t seed) {
    ClusterSim sim({.seed = seed, .voters = 1, .learners = 2, .delay_max_ms = 10, .raft = {}});
    for (int i = 0; i < 15; ++i) {
      sim.run(static_cast<int64_t>(sim.below(60)));
      (void)sim.propose(NodeId(1));
      sim.run(static_cast<int64_t>(sim.below(20)));
      sim.crash(NodeId(1));
      sim.restart(NodeId(1));
      if (i % 5 == 4) sim.run(3000);
    }
    recover(sim);
  });
}
