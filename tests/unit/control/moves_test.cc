#include <set>

#include "unit/control/cluster_fixture.h"

using namespace millrace;
using namespace millrace::control;

TEST_CASE("a reassignment is done when all of its target is in sync") {
  Cluster c(5);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.reassign("t", {{4, 5, 3}}).ok());
  const meta::Partition moving = c.partition("t");
  CHECK(moving.replicas == ids({4, 5, 3, 1, 2}));
  CHECK(moving.adding_replicas == ids({4, 5}));
  CHECK(moving.removing_replicas == ids({1, 2}));
  CHECK(moving.leader == BrokerId(1));
  CHECK(moving.directories.size() == 5);
  CHECK(moving.directories[0] == Cluster::directory(4));
  CHECK(moving.directories[3] == Cluster::directory(1));
  auto listed = list_reassignments(c.image(), c.controller().index(), std::nullopt);
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].adding == ids({4, 5}));
  CHECK(
      list_reassignments(c.image(), c.controller().index(), {{{"t", PartitionId(0)}, {"x", PartitionId(0)}}})
          .size() == 1);

  REQUIRE(c.alter("t", 0, {1, 2, 3, 4}).outcome.ok());
  CHECK(c.partition("t").adding_replicas == ids({4, 5}));
  const AlteredPartition last = c.alter("t", 0, {1, 2, 3, 4, 5});
  CHECK(last.outcome.error == ErrorCode::new_leader_elected);
  const meta::Partition done = c.partition("t");
  CHECK(done.replicas == ids({4, 5, 3}));
  CHECK(done.isr == ids({4, 5, 3}));
  CHECK(done.leader == BrokerId(4));
  CHECK(done.leader_epoch == moving.leader_epoch + 1);
  CHECK(done.adding_replicas.empty());
  CHECK(done.removing_replicas.empty());
  CHECK(done.directories.size() == 3);
  CHECK(list_reassignments(c.image(), c.controller().index(), std::nullopt).empty());
  CHECK(c.controller().index().replicas_on(BrokerId(1)).empty());
}

TEST_CASE("replicas that are only taken away go at once, and followers learn it by the leader epoch") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.reassign("t", {{1, 2}}).ok());
  CHECK(c.partition("t").replicas == ids({1, 2}));
  CHECK(c.partition("t").isr == ids({1, 2}));
  CHECK(c.partition("t").leader_epoch == LeaderEpoch(1));
  // Another order is another preferred leader, nothing else.
  REQUIRE(c.reassign("t", {{2, 1}}).ok());
  CHECK(c.partition("t").replicas == ids({2, 1}));
  CHECK(c.partition("t").leader == BrokerId(1));
  CHECK(c.partition("t").leader_epoch == LeaderEpoch(1));
  REQUIRE(c.reassign("t", {{2, 1}}).ok());
  CHECK(c.last().empty());
}

TEST_CASE("a dead broker is replaced while it is dead") {
  Cluster c(4);
  c.create("t", {{1, 2, 3}});
  c.crash(3);
  REQUIRE(c.reassign("t", {{1, 2, 4}}).ok());
  REQUIRE(c.alter("t", 0, {1, 2, 4}).outcome.ok());
  CHECK(c.partition("t").replicas == ids({1, 2, 4}));
}

TEST_CASE("a dead replica that stays holds a move up only if too few are in sync without it") {
  Cluster c(5);
  c.create("t", {{1, 2, 3}, {1, 2, 3}, {1, 2, 3}});
  c.crash(2);
  REQUIRE(c.reassign("t", {{4, 2, 3}}, 0).ok());
  (void)c.alter("t", 0, {1, 3, 4});
  CHECK(c.partition("t", 0).replicas == ids({4, 2, 3}));
  CHECK(c.partition("t", 0).isr == ids({4, 3}));
  // Taken away at once, 3 would leave one replica of the two that are needed.
  REQUIRE(c.reassign("t", {{1, 2}}, 1).ok());
  CHECK(c.partition("t", 1).removing_replicas == ids({3}));
  CHECK(c.partition("t", 1).isr == ids({1, 3}));
  (void)c.restart(2);
  REQUIRE(c.alter("t", 1, {1, 2, 3}).outcome.ok());
  CHECK(c.partition("t", 1).replicas == ids({1, 2}));
}

TEST_CASE("a reassignment can be cancelled or replaced") {
  Cluster c(6);
  c.create("t", {{1, 2, 3}});
  CHECK(c.reassign("t", std::nullopt).error == ErrorCode::no_reassignment_in_progress);
  REQUIRE(c.reassign("t", {{4, 5, 3}}).ok());
  REQUIRE(c.alter("t", 0, {1, 2, 3, 4}).outcome.ok());
  SECTION("cancelled") {
    REQUIRE(c.reassign("t", std::nullopt).ok());
    CHECK(c.partition("t").isr == ids({3, 1, 2}));
    CHECK(c.partition("t").adding_replicas.empty());
    CHECK(c.partition("t").removing_replicas.empty());
    CHECK(c.partition("t").replicas.size() == 3);
    CHECK(c.controller().index().replicas_on(BrokerId(4)).empty());
  }
  SECTION("replaced") {
    REQUIRE(c.reassign("t", {{6, 2, 3}}).ok());
    CHECK(c.partition("t").adding_replicas == ids({6}));
    CHECK(c.partition("t").removing_replicas == ids({1}));
    CHECK(c.partition("t").isr == ids({3, 1, 2}));
    (void)c.alter("t", 0, {1, 2, 3, 6});
    CHECK(c.partition("t").replicas == ids({6, 2, 3}));
  }
  SECTION("not cancelled into nothing") {
    c.crash(1);
    c.crash(2);
    c.crash(3);
    REQUIRE(c.partition("t").leader == BrokerId(4));
    REQUIRE(c.partition("t").isr == ids({4}));
    // 3 left last, from an ISR that was not larger than the minimum: it has all there is.
    CHECK(c.partition("t").elr == ids({3}));
    REQUIRE(c.reassign("t", std::nullopt).ok());
    CHECK(c.partition("t").leader == kNoBroker);
    (void)c.restart(3);
    CHECK(c.partition("t").leader == BrokerId(3));
  }
}

TEST_CASE("reassignments are refused, with the code that is true") {
  Limits limits;
  limits.partitions_per_request = 1;
  Cluster c(4, {}, limits);
  c.create("t", {{1, 2, 3}});
  CHECK(c.reassign("none", {{1}}).error == ErrorCode::unknown_topic_or_partition);
  CHECK(c.reassign("t", {{1}}, 1).error == ErrorCode::unknown_topic_or_partition);
  CHECK(c.reassign("t", std::vector<int32_t>{}).error == ErrorCode::invalid_replica_assignment);
  CHECK(c.reassign("t", {{1, 1}}).error == ErrorCode::invalid_replica_assignment);
  CHECK(c.reassign("t", {{1, 9}}).error == ErrorCode::invalid_replica_assignment);
  Reassignment narrow{{"t", PartitionId(0)}, ids({1, 2})};
  CHECK(c.run(AlterReassignments{{narrow}, false}).partitions[0].outcome.error ==
        ErrorCode::invalid_replication_factor);
  CHECK(c.last().empty());
  const auto many = c.run(AlterReassignments{{narrow, narrow}, true});
  CHECK(many.partitions[0].outcome.error == ErrorCode::policy_violation);
  Cluster d(2);
  d.create("t", {{1, 2}});
  narrow.replicas = ids({2, 1});
  const auto twice = d.run(AlterReassignments{{narrow, narrow}, true});
  CHECK(twice.partitions[0].outcome.ok());
  CHECK(twice.partitions[1].outcome.error == ErrorCode::invalid_request);
}

TEST_CASE("a broker is emptied some partitions at a time") {
  Limits limits;
  limits.drain_moves_in_flight = 3;
  Cluster c(0, {}, limits);
  const char* racks[] = {"a", "a", "b", "b"};
  for (int32_t b = 1; b <= 4; ++b) c.join(b, racks[b - 1]);
  c.create("t", std::vector<std::vector<int32_t>>(7, {1, 3}));
  CHECK(c.run(DecommissionBroker{BrokerId(9)}).outcome.error == ErrorCode::broker_id_not_registered);
  REQUIRE(c.run(DecommissionBroker{BrokerId(1)}).outcome.ok());
  CHECK(c.broker(1).decommissioning);
  REQUIRE(c.run(DecommissionBroker{BrokerId(1)}).outcome.ok());
  CHECK(c.last().empty());
  for (int round = 0; round < 20 && !drain_state(c.image(), c.controller().index(), BrokerId(1)).done();
       ++round) {
    c.live(1000, {1, 2, 3, 4});
    const auto moving = list_reassignments(c.image(), c.controller().index(), std::nullopt);
    CHECK(moving.size() <= 3);
    const DrainState state = drain_state(c.image(), c.controller().index(), BrokerId(1));
    CHECK(state.moving == moving.size());
    for (const OngoingReassignment& m : moving) {
      CHECK(m.adding == ids({2}));  // the rack of 1
      (void)c.alter("t", m.partition.partition.v, {1, 2, 3});
    }
  }
  const DrainState state = drain_state(c.image(), c.controller().index(), BrokerId(1));
  CHECK(state.done());
  CHECK(state.led == 0);
  for (const meta::Partition& p : c.image().topic("t")->partitions) CHECK(p.replicas == ids({2, 3}));

  // It gets nothing new, and stays marked through a restart.
  NewTopic t;
  t.name = "new";
  t.partitions = 8;
  t.replication_factor = 3;
  REQUIRE(c.run(CreateTopics{{t}, false}).topics[0].outcome.ok());
  CHECK(c.controller().index().replicas_on(BrokerId(1)).empty());
  t.name = "wide";
  t.replication_factor = 4;
  CHECK(c.run(CreateTopics{{t}, false}).topics[0].outcome.error == ErrorCode::invalid_replication_factor);
  CHECK(c.reassign("t", {{1, 3}}).error == ErrorCode::invalid_replica_assignment);
  c.crash(1);
  (void)c.restart(1);
  CHECK(c.broker(1).decommissioning);
  REQUIRE(c.run(DecommissionBroker{BrokerId(1), true}).outcome.ok());
  CHECK_FALSE(c.broker(1).decommissioning);
}

TEST_CASE("the last broker cannot be emptied, and nobody takes a second replica of a partition") {
  Cluster c(2);
  c.create("t", {{1, 2}});
  REQUIRE(c.run(DecommissionBroker{BrokerId(1)}).outcome.ok());
  CHECK(c.run(DecommissionBroker{BrokerId(2)}).outcome.error == ErrorCode::invalid_request);
  c.live(1000, {1, 2});
  CHECK(c.partition("t").replicas == ids({1, 2}));
  CHECK_FALSE(drain_state(c.image(), c.controller().index(), BrokerId(1)).done());
}

TEST_CASE("a rebalance says what it would do, does it, and then has nothing to do") {
  Cluster c(0);
  for (int32_t b = 1; b <= 3; ++b) c.join(b, "rack-" + std::to_string(b));
  c.create("t", std::vector<std::vector<int32_t>>(30, {1, 2}));
  const RebalanceReply plan = c.run(Rebalance{true, 1000});
  CHECK(c.last().empty());
  CHECK_FALSE(plan.moves.empty());
  const RebalanceReply first = c.run(Rebalance{false, 4});
  CHECK(first.moves.size() == 4);
  for (const PlannedMove& m : first.moves) CHECK_FALSE(m.reason.empty());
  for (int round = 0; round < 10; ++round) {
    (void)c.run(Rebalance{false, 1000});
    for (const OngoingReassignment& m : list_reassignments(c.image(), c.controller().index(), std::nullopt)) {
      std::vector<int32_t> all;
      for (const BrokerId b : m.replicas) all.push_back(b.v);
      (void)c.alter("t", m.partition.partition.v, all);
    }
  }
  CHECK(c.run(Rebalance{true, 1000}).moves.empty());
  for (int32_t b = 1; b <= 3; ++b) {
    INFO(b);
    CHECK(c.controller().index().replicas_on(BrokerId(b)).size() == 20);
    CHECK(c.controller().index().preferring(BrokerId(b)) >= 9);
    CHECK(c.controller().index().preferring(BrokerId(b)) <= 11);
  }
}

TEST_CASE("what is wrong with the cluster is counted") {
  Cluster c(4);
  c.create("t", {{1, 2, 3}, {1, 2, 3}, {2, 3, 1}});
  c.create("one", {{1}});
  REQUIRE(c.alter("t", 1, {1}).outcome.ok());
  c.crash(1);
  REQUIRE(c.reassign("t", {{2, 3, 4}}, 2).ok());
  const PartitionCounts n = count_partitions(c.image(), {c.image(), BrokerId(1), {}});
  CHECK(n.topics == 2);
  CHECK(n.partitions == 4);
  CHECK(n.offline == 1);  // one-0; t-1 is led by one that was eligible
  CHECK(c.partition("t", 1).leader == BrokerId(2));
  CHECK(n.under_min_isr == 2);
  CHECK(n.under_replicated == 4);
  CHECK(n.not_preferred == 2);
  CHECK(n.reassigning == 1);
  CHECK(n.with_elr == 2);
  const BrokerCounts b = count_brokers(c.image());
  CHECK(b.active == 3);
  CHECK(b.fenced == 1);
  CHECK(describe_brokers(c.image(), false).size() == 3);
  CHECK(describe_brokers(c.image(), true).size() == 4);
}

TEST_CASE("topics are created beside dead brokers, and deleted with replicas on them") {
  Cluster c(3);
  c.crash(3);
  NewTopic t;
  t.name = "t";
  t.partitions = 3;
  t.replication_factor = 3;
  REQUIRE(c.run(CreateTopics{{t}, false}).topics[0].outcome.ok());
  for (const meta::Partition& p : c.image().topic("t")->partitions) {
    CHECK(p.isr.size() == 2);
    CHECK(p.leader != BrokerId(3));
    CHECK(p.elr.empty());
  }
  CHECK(c.controller().index().replicas_on(BrokerId(3)).size() == 3);
  REQUIRE(c.run(DeleteTopics{{{"t", {}}}}).topics[0].outcome.ok());
  CHECK(c.controller().index().replicas_on(BrokerId(3)).empty());
  CHECK(c.controller().index().led_by(BrokerId(1)) == 0);
  (void)c.restart(3);
}
