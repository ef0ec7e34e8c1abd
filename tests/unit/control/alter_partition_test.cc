#include "unit/control/cluster_fixture.h"

using namespace millrace;
using namespace millrace::control;

TEST_CASE("an ISR shrinks and grows as its leader says, and eligibility follows") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  AlteredPartition done = c.alter("t", 0, {1, 2});
  REQUIRE(done.outcome.ok());
  CHECK(done.isr == ids({1, 2}));
  CHECK(done.partition_epoch == 1);
  CHECK(done.leader_epoch == LeaderEpoch(0));  // a plain ISR change keeps it
  CHECK(c.partition("t").elr.empty());
  REQUIRE(c.alter("t", 0, {1}).outcome.ok());
  CHECK(c.partition("t").elr == ids({2}));  // below the minimum of two: it has all that is committed
  REQUIRE(c.alter("t", 0, {3, 1}).outcome.ok());
  CHECK(c.partition("t").isr == ids({1, 3}));  // as the replicas are
  CHECK(c.partition("t").elr.empty());
  REQUIRE(c.alter("t", 0, {1, 2, 3}).outcome.ok());
  CHECK(c.partition("t").partition_epoch == 4);
  done = c.alter("t", 0, {3, 2, 1});
  CHECK(done.outcome.ok());
  CHECK(c.last().empty());
  CHECK(done.partition_epoch == 4);
}

TEST_CASE("two that leave at once while the ISR falls below the minimum are both eligible") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.alter("t", 0, {1}).outcome.ok());
  CHECK(c.partition("t").elr == ids({2, 3}));
}

TEST_CASE("AlterPartition refuses, with the code that is true") {
  Cluster c(4);
  c.create("t", {{1, 2, 3}, {2, 1, 3}});
  const auto code = [&c](const AlterPartition& a) {
    const AlterPartitionReply r = c.run(a);
    REQUIRE(r.outcome.ok());
    REQUIRE(r.partitions.size() == 1);
    CHECK_FALSE(r.partitions[0].outcome.message.empty());
    CHECK(c.last().empty());
    return r.partitions[0].outcome.error;
  };
  const auto item = [](AlterPartition& a) -> AlterPartitionItem& { return a.topics[0].partitions[0]; };
  AlterPartition a = c.proposal("t", 0, {1, 2});
  a.broker_epoch = a.broker_epoch + 1;
  CHECK(c.run(a).outcome.error == ErrorCode::stale_broker_epoch);
  a.broker = BrokerId(9);
  CHECK(c.run(a).outcome.error == ErrorCode::broker_id_not_registered);

  a = c.proposal("t", 0, {1, 2});
  a.topics[0].id = Cluster::uuid(1);
  a.topics[0].id.bytes[0] = 9;
  CHECK(code(a) == ErrorCode::unknown_topic_id);
  a = c.proposal("t", 0, {1, 2});
  item(a).partition = PartitionId(2);
  CHECK(code(a) == ErrorCode::unknown_topic_or_partition);
  item(a).partition = PartitionId(-1);
  CHECK(code(a) == ErrorCode::unknown_topic_or_partition);
  a = c.proposal("t", 0, {1, 2});
  ++item(a).leader_epoch;
  CHECK(code(a) == ErrorCode::not_controller);
  a = c.proposal("t", 0, {1, 2});
  ++item(a).partition_epoch;
  CHECK(code(a) == ErrorCode::not_controller);
  a = c.proposal("t", 0, {1, 2});
  item(a).leader_epoch = LeaderEpoch(-1);
  CHECK(code(a) == ErrorCode::fenced_leader_epoch);
  a = c.proposal("t", 0, {1, 2});
  item(a).partition_epoch = -1;
  CHECK(code(a) == ErrorCode::invalid_update_version);
  a = c.proposal("t", 0, {1, 2});
  a.broker = BrokerId(2);
  a.broker_epoch = c.broker(2).epoch;
  CHECK(code(a) == ErrorCode::invalid_request);  // not the leader
  CHECK(code(c.proposal("t", 0, {2, 3})) == ErrorCode::invalid_request);
  CHECK(code(c.proposal("t", 0, {})) == ErrorCode::invalid_request);
  CHECK(code(c.proposal("t", 0, {1, 4})) == ErrorCode::invalid_request);  // no replica
  CHECK(code(c.proposal("t", 0, {1, 2, 2})) == ErrorCode::invalid_request);
  a = c.proposal("t", 0, {1});
  item(a).leader_recovering = true;
  CHECK(code(a) == ErrorCode::invalid_request);
  a = c.proposal("t", 0, {1, 2});
  item(a).leader_recovering = true;
  CHECK(code(a) == ErrorCode::invalid_request);

  REQUIRE(c.alter("t", 0, {1, 2}).outcome.ok());
  a = c.proposal("t", 0, {1, 2, 3});
  item(a).isr[2].epoch = c.broker(3).epoch - 1;  // fetched before its last restart
  CHECK(code(a) == ErrorCode::ineligible_replica);
  item(a).isr[2].epoch = BrokerEpoch(-1);
  CHECK(code(a) == ErrorCode::ineligible_replica);
  item(a).isr[2].epoch = c.broker(3).epoch;
  item(a).isr[1].epoch = BrokerEpoch(-1);  // a member already: nothing to prove
  AlterPartition fenced = a;
  c.crash(3);
  CHECK(code(fenced) == ErrorCode::ineligible_replica);
}

TEST_CASE("what exceeds the limit of a request is not attempted") {
  Limits limits;
  limits.partitions_per_request = 2;
  Cluster c(3, {}, limits);
  c.create("t", {{1, 2, 3}, {1, 2, 3}});
  AlterPartition a = c.proposal("t", 0, {1, 2});
  a.topics[0].partitions.push_back(c.proposal("t", 1, {1, 2}).topics[0].partitions[0]);
  a.topics[0].partitions.push_back(a.topics[0].partitions[0]);
  const AlterPartitionReply r = c.run(a);
  CHECK(r.partitions[0].outcome.ok());
  CHECK(r.partitions[1].outcome.ok());
  CHECK(r.partitions[2].outcome.error == ErrorCode::operation_not_attempted);
}

TEST_CASE("a lower minimum takes eligibility away, a higher one gives none") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  c.create("other", {{1, 2, 3}});
  REQUIRE(c.alter("t", 0, {1}).outcome.ok());
  REQUIRE(c.alter("other", 0, {1}).outcome.ok());
  REQUIRE(c.set_config({meta::ResourceType::topic, "t"}, "min.insync.replicas", "1").ok());
  CHECK(c.last().size() == 2);  // the value and the partition in one entry
  CHECK(c.partition("t").elr.empty());
  CHECK(c.partition("other").elr == ids({2, 3}));
  REQUIRE(c.set_config({meta::ResourceType::topic, "t"}, "min.insync.replicas", "3").ok());
  CHECK(c.partition("t").elr.empty());
  CHECK(c.set_config({meta::ResourceType::broker, "1"}, "min.insync.replicas", "1").error ==
        ErrorCode::invalid_config);
  REQUIRE(c.set_config({meta::ResourceType::broker, ""}, "min.insync.replicas", "1").ok());
  CHECK(c.partition("other").elr.empty());
}

TEST_CASE("leaders are elected from the ISR, then from those eligible, then as the topic allows") {
  Cluster c(3);
  SECTION("from the ISR in the order of the replicas") {
    c.create("t", {{2, 3, 1}});
    c.crash(2);
    CHECK(c.partition("t").leader == BrokerId(3));
  }
  SECTION("a replica outside both has to wait") {
    c.create("t", {{1, 2, 3}});
    REQUIRE(c.alter("t", 0, {1, 2}).outcome.ok());
    c.crash(2);
    c.crash(1);
    CHECK(c.partition("t").leader == kNoBroker);
    CHECK(c.partition("t").elr == ids({2, 1}));
    CHECK(c.partition("t").leader_epoch == LeaderEpoch(1));
    const auto electing = [&c](ElectionType type) {
      return c.run(ElectLeaders{type, {{{"t", PartitionId(0)}}}}).partitions[0].outcome.error;
    };
    CHECK(electing(ElectionType::preferred) == ErrorCode::preferred_leader_not_available);
    CHECK(electing(ElectionType::unclean) == ErrorCode::none);
    CHECK(c.partition("t").leader == BrokerId(3));
    CHECK(c.partition("t").isr == ids({3}));
    CHECK(c.partition("t").elr.empty());  // its history is the partition's now
    CHECK(c.partition("t").leader_recovering);
    CHECK(electing(ElectionType::unclean) == ErrorCode::election_not_needed);
    // Until it has recovered it is alone.
    (void)c.restart(1);
    AlterPartition a = c.proposal("t", 0, {3, 1});
    a.topics[0].partitions[0].leader_recovering = true;
    CHECK(c.run(a).partitions[0].outcome.error == ErrorCode::invalid_request);
    const AlteredPartition recovered = c.alter("t", 0, {3});
    CHECK(recovered.outcome.ok());
    CHECK_FALSE(recovered.leader_recovering);
    CHECK(c.alter("t", 0, {3, 1}).outcome.ok());
  }
  SECTION("unclean, where the topic allows it") {
    c.create("t", {{1, 2, 3}}, {{"unclean.leader.election.enable", "true"}});
    REQUIRE(c.alter("t", 0, {1, 2}).outcome.ok());
    c.crash(2);
    c.crash(1);
    CHECK(c.partition("t").leader == BrokerId(3));
    CHECK(c.partition("t").leader_recovering);
  }
  SECTION("unclean, once the topic allows it") {
    c.create("t", {{1, 2, 3}});
    REQUIRE(c.alter("t", 0, {1, 2}).outcome.ok());
    c.crash(2);
    c.crash(1);
    (void)c.pass(0);
    REQUIRE(c.set_config({meta::ResourceType::topic, "t"}, "unclean.leader.election.enable", "true").ok());
    c.live(299'000, {3});
    CHECK(c.partition("t").leader == kNoBroker);
    c.live(1000, {3});
    CHECK(c.partition("t").leader == BrokerId(3));
  }
  SECTION("an only replica comes back as it was") {
    c.create("t", {{1}});
    c.crash(1);
    CHECK(c.partition("t").leader == kNoBroker);
    CHECK(c.partition("t").isr.empty());
    (void)c.restart(1);
    CHECK(c.partition("t").leader == BrokerId(1));
    CHECK(c.partition("t").leader_epoch == LeaderEpoch(2));
    CHECK_FALSE(c.partition("t").leader_recovering);
  }
}

TEST_CASE("ElectLeaders for preferred leaders") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}, {2, 3, 1}, {1, 3, 2}});
  const auto electing = [&c](int32_t p) {
    return c.run(ElectLeaders{ElectionType::preferred, {{{"t", PartitionId(p)}}}})
        .partitions[0]
        .outcome.error;
  };
  CHECK(electing(0) == ErrorCode::election_not_needed);
  CHECK(electing(7) == ErrorCode::unknown_topic_or_partition);
  c.crash(1);
  CHECK(electing(0) == ErrorCode::preferred_leader_not_available);
  (void)c.restart(1);
  CHECK(electing(0) == ErrorCode::preferred_leader_not_available);  // alive, not in sync
  REQUIRE(c.alter("t", 0, {1, 2, 3}).outcome.ok());
  const LeaderEpoch before = c.partition("t").leader_epoch;
  CHECK(electing(0) == ErrorCode::none);
  CHECK(c.partition("t").leader == BrokerId(1));
  CHECK(c.partition("t").leader_epoch == before + 1);
  REQUIRE(c.alter("t", 2, {1, 2, 3}).outcome.ok());
  const ElectLeadersReply all = c.run(ElectLeaders{ElectionType::preferred, std::nullopt});
  REQUIRE(all.partitions.size() == 1);
  CHECK(all.partitions[0].partition.partition == PartitionId(2));
  CHECK(all.partitions[0].outcome.ok());
  CHECK(c.run(ElectLeaders{static_cast<ElectionType>(5), {{{"t", PartitionId(0)}}}})
            .partitions[0]
            .outcome.error == ErrorCode::invalid_request);
}

TEST_CASE("leaders return to their preferred brokers by themselves, some at a time") {
  Limits limits;
  limits.elections_per_tick = 3;
  const auto scene = [](Cluster& c) {
    std::vector<std::vector<int32_t>> places(8, {1, 2});
    c.create("t", places);
    (void)c.pass(0);
    c.crash(1);
    (void)c.restart(1);
    for (int32_t p = 0; p < 8; ++p) REQUIRE(c.alter("t", p, {1, 2}).outcome.ok());
    REQUIRE(count_partitions(c.image(), {c.image(), BrokerId(1), {}}).not_preferred == 8);
    c.live(299'999, {1, 2});
    CHECK(c.controller().index().led_by(BrokerId(1)) == 0);
    c.live(1, {1, 2});
  };
  SECTION("in batches") {
    Cluster c(2, {}, limits);
    scene(c);
    CHECK(c.controller().index().led_by(BrokerId(1)) == 3);
    (void)c.pass(1);
    CHECK(c.controller().index().led_by(BrokerId(1)) == 6);
    (void)c.pass(1);
    CHECK(c.controller().index().led_by(BrokerId(1)) == 8);
  }
  SECTION("unless it is switched off") {
    Cluster c(2, {{"auto.leader.rebalance.enable", "false"}}, limits);
    scene(c);
    CHECK(c.controller().index().led_by(BrokerId(1)) == 0);
  }
  SECTION("unless the imbalance is tolerated") {
    Cluster c(2, {{"leader.imbalance.per.broker.percentage", "100"}}, limits);
    scene(c);
    CHECK(c.controller().index().led_by(BrokerId(1)) == 0);
  }
}
