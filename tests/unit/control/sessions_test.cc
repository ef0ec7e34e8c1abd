#include "unit/control/cluster_fixture.h"

using namespace millrace;
using namespace millrace::control;

TEST_CASE("a broker starts fenced and is unfenced when it has caught up with its registration") {
  Cluster c(0);
  REQUIRE(c.run(c.registration(1)).outcome.ok());
  CHECK(c.broker(1).fenced);
  BrokerHeartbeat h = c.beat(1);
  h.applied = c.applied() - 1;
  BrokerHeartbeatReply reply = c.run(h);
  CHECK(reply.outcome.ok());
  CHECK_FALSE(reply.caught_up);
  CHECK(reply.fenced);
  CHECK(c.broker(1).fenced);
  h.want_fence = true;
  h.applied = c.applied();
  reply = c.run(h);
  CHECK(reply.caught_up);
  CHECK(c.broker(1).fenced);
  reply = c.heartbeat(1);
  CHECK_FALSE(reply.fenced);
  CHECK_FALSE(reply.should_shutdown);
  CHECK_FALSE(c.broker(1).fenced);
  CHECK(c.broker(1).endpoints.size() == 2);
  (void)c.heartbeat(1);
  CHECK(c.last().empty());
}

TEST_CASE("heartbeats of the wrong registration are refused") {
  Cluster c(1);
  BrokerHeartbeat h = c.beat(1);
  h.epoch = h.epoch - 1;
  CHECK(c.run(h).outcome.error == ErrorCode::stale_broker_epoch);
  h.epoch = h.epoch + 2;
  CHECK(c.run(h).outcome.error == ErrorCode::stale_broker_epoch);
  h.broker = BrokerId(7);
  CHECK(c.run(h).outcome.error == ErrorCode::broker_id_not_registered);
  CHECK(c.last().empty());
}

namespace {

BrokerHeartbeat damaged_beat(Cluster& c, int32_t broker, LeaderEpoch epoch) {
  BrokerHeartbeat h = c.beat(broker);
  h.damaged = {{c.key("t"), epoch}};
  return h;
}

}  // namespace

TEST_CASE("a damaged follower leaves the ISR and the leader begins a new epoch") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.run(damaged_beat(c, 3, LeaderEpoch(0))).outcome.ok());
  const meta::Partition& p = c.partition("t");
  CHECK(p.leader == BrokerId(1));
  CHECK(p.leader_epoch == LeaderEpoch(1));
  CHECK(p.isr == ids({1, 2}));
  CHECK(p.elr.empty());
  // What the leader of the epoch before still believes of it is refused.
  AlterPartition late{BrokerId(1), c.broker(1).epoch, {}};
  late.topics = {{c.key("t").topic, {{PartitionId(0), LeaderEpoch(0), 0, {}, false}}}};
  for (const int32_t b : {1, 2, 3})
    late.topics.front().partitions.front().isr.push_back({BrokerId(b), c.broker(b).epoch});
  const AlterPartitionReply reply = c.run(late);
  REQUIRE(reply.partitions.size() == 1);
  CHECK(reply.partitions.front().outcome.error == ErrorCode::fenced_leader_epoch);
  // Told again, in the epoch that is over: nothing.
  REQUIRE(c.run(damaged_beat(c, 3, LeaderEpoch(0))).outcome.ok());
  CHECK(c.last().empty());
  // It has heard of the new epoch and says so before it was begun anew: once more an epoch of its own.
  REQUIRE(c.run(damaged_beat(c, 3, LeaderEpoch(1))).outcome.ok());
  CHECK(c.partition("t").leader_epoch == LeaderEpoch(2));
  CHECK(c.partition("t").isr == ids({1, 2}));
}

TEST_CASE("a damaged leader hands over") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.run(damaged_beat(c, 1, LeaderEpoch(0))).outcome.ok());
  CHECK(c.partition("t").leader == BrokerId(2));
  CHECK(c.partition("t").leader_epoch == LeaderEpoch(1));
  CHECK(c.partition("t").isr == ids({2, 3}));
  CHECK(c.partition("t").elr.empty());
}

TEST_CASE("one of three is whole: it leads, and the others are given up one after the other") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  REQUIRE(c.run(damaged_beat(c, 2, LeaderEpoch(0))).outcome.ok());
  CHECK(c.partition("t").isr == ids({1, 3}));
  CHECK(c.partition("t").leader == BrokerId(1));
  REQUIRE(c.run(damaged_beat(c, 1, c.partition("t").leader_epoch)).outcome.ok());
  CHECK(c.partition("t").leader == BrokerId(3));
  CHECK(c.partition("t").isr == ids({1, 3}));  // until 2 has been copied
}

TEST_CASE("a damaged leader does not hold up who is to replace it") {
  Cluster c(3);
  c.create("t", {{1, 2}});
  (void)c.run(AlterReassignments{{Reassignment{{"t", PartitionId(0)}, ids({3, 2})}}, true});
  REQUIRE(c.partition("t").adding_replicas == ids({3}));
  REQUIRE(c.run(damaged_beat(c, 1, c.partition("t").leader_epoch)).outcome.ok());
  CHECK(c.partition("t").leader == BrokerId(2));
  CHECK(c.partition("t").isr == ids({2}));
}

TEST_CASE("a damaged replica is given up where all others are in sync, though they are too few") {
  Cluster c(3);
  c.create("t", {{1, 2}});  // min.insync.replicas 2
  REQUIRE(c.run(damaged_beat(c, 1, LeaderEpoch(0))).outcome.ok());
  CHECK(c.partition("t").leader == BrokerId(2));
  CHECK(c.partition("t").isr == ids({2}));
  CHECK(c.partition("t").elr.empty());
  // The last one stays.
  REQUIRE(c.run(damaged_beat(c, 2, c.partition("t").leader_epoch)).outcome.ok());
  CHECK(c.last().empty());
}

TEST_CASE("a damaged replica counts where without it too few are in sync") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  SECTION("no topic, no replica, not its epoch") {
    BrokerHeartbeat h = c.beat(3);
    h.damaged = {{{Uuid{{9}}, PartitionId(0)}, LeaderEpoch(0)},
                 {{c.key("t").topic, PartitionId(7)}, LeaderEpoch(0)},
                 {c.key("t"), LeaderEpoch(1)},
                 {c.key("t"), kNoLeaderEpoch}};
    REQUIRE(c.run(h).outcome.ok());
    CHECK(c.last().empty());
  }
  SECTION("one other in sync, two are asked for") {
    c.live(3001, {1, 3});  // 2 is gone
    REQUIRE(c.partition("t").isr == ids({1, 3}));
    REQUIRE(c.partition("t").leader == BrokerId(1));
    REQUIRE(c.run(damaged_beat(c, 3, c.partition("t").leader_epoch)).outcome.ok());
    CHECK(c.last().empty());
    c.heartbeat(3);
    // The leader hands over, so that 2 can copy from one that is whole.
    REQUIRE(c.run(damaged_beat(c, 1, c.partition("t").leader_epoch)).outcome.ok());
    CHECK(c.partition("t").leader == BrokerId(3));
    CHECK(c.partition("t").isr == ids({1, 3}));
    REQUIRE(c.run(damaged_beat(c, 1, c.partition("t").leader_epoch)).outcome.ok());
    CHECK(c.last().empty());
  }
  SECTION("all in sync are damaged") {
    for (int round = 0; round < 2; ++round) {
      for (const int32_t b : {1, 2, 3}) {
        const LeaderEpoch epoch = c.partition("t").leader_epoch;
        REQUIRE(c.run(damaged_beat(c, b, epoch)).outcome.ok());
        if (round > 0) CHECK(c.last().empty());
      }
    }
  }
  SECTION("the last one in sync, and who may lead after it") {
    c.live(3001, {2});
    REQUIRE(c.partition("t").isr == ids({2}));
    REQUIRE(c.partition("t").elr.size() == 1);
    const BrokerId eligible = c.partition("t").elr.front();
    REQUIRE(c.run(damaged_beat(c, 2, c.partition("t").leader_epoch)).outcome.ok());
    CHECK(c.last().empty());
    CHECK_FALSE(c.heartbeat(eligible.v).fenced);
    REQUIRE(c.run(damaged_beat(c, eligible.v, c.partition("t").leader_epoch)).outcome.ok());
    CHECK(c.last().empty());
    CHECK(c.partition("t").elr == std::vector<BrokerId>{eligible});
  }
  SECTION("a broker that goes") {
    BrokerHeartbeat h = damaged_beat(c, 3, LeaderEpoch(0));
    h.want_fence = true;
    REQUIRE(c.run(h).outcome.ok());
    CHECK(c.broker(3).fenced);
    REQUIRE(c.run(damaged_beat(c, 3, LeaderEpoch(0))).outcome.ok());  // unfences it, no more
    CHECK(c.partition("t").leader_epoch == LeaderEpoch(0));
  }
}

TEST_CASE("a broker that is not heard is fenced when its session ends, not before") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  c.live(2000, {2, 3});
  c.live(999, {2, 3});
  CHECK_FALSE(c.broker(1).fenced);
  const Ticked done = c.pass(1);
  CHECK(done.fenced == ids({1}));
  CHECK(c.broker(1).fenced);
  const meta::Partition& p = c.partition("t");
  CHECK(p.leader == BrokerId(2));
  CHECK(p.isr == ids({2, 3}));
  CHECK(p.elr.empty());  // the ISR is still large enough
  CHECK(p.leader_epoch == LeaderEpoch(1));
  CHECK(p.partition_epoch == 1);
  // It was only away: the same registration comes back, but not into the ISR.
  CHECK_FALSE(c.heartbeat(1).fenced);
  CHECK(c.partition("t").isr == ids({2, 3}));
}

TEST_CASE("the session timeout is a setting") {
  Cluster c(2, {{"broker.session.timeout.ms", "500"}});
  CHECK(c.pass(499).fenced.empty());
  CHECK(c.pass(1).fenced.size() == 2);
  CHECK(c.pass(5000).fenced.empty());
}

TEST_CASE("a new controller gives every broker a whole session") {
  Cluster c(2);
  (void)c.pass(2900);
  c.fail_over();
  CHECK(c.pass(2900).fenced.empty());
  CHECK(c.pass(2999).fenced.empty());
  CHECK(c.pass(1).fenced.size() == 2);
}

TEST_CASE("a live broker keeps its id") {
  Cluster c(2);
  CHECK(c.run(c.registration(1)).outcome.error == ErrorCode::duplicate_broker_registration);
  CHECK(c.last().empty());
  (void)c.pass(2000);
  c.fail_over();
  CHECK(c.run(c.registration(1)).outcome.error == ErrorCode::duplicate_broker_registration);
  RegisterBroker own = c.registration(1);
  own.own = true;
  const BrokerEpoch before = c.broker(1).epoch;
  CHECK(c.run(own).outcome.ok());
  CHECK(c.broker(1).epoch > before);
  CHECK(c.broker(1).fenced);
  // Registered, fenced and alive is alive too.
  CHECK(c.run(c.registration(1)).outcome.error == ErrorCode::duplicate_broker_registration);
  (void)c.pass(3000);
  CHECK(c.run(c.registration(1)).outcome.ok());
}

TEST_CASE("a refused connection fences at once, if it was this registration's") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  BrokerUnreachable u{BrokerId(1), c.broker(1).epoch, BrokerId(2), c.broker(2).epoch};
  BrokerUnreachable wrong = u;
  wrong.epoch = u.epoch - 1;
  CHECK(c.run(wrong).outcome.error == ErrorCode::stale_broker_epoch);
  wrong = u;
  wrong.reporter_epoch = u.reporter_epoch - 1;
  CHECK(c.run(wrong).outcome.error == ErrorCode::stale_broker_epoch);
  wrong = u;
  wrong.reporter = u.broker;
  wrong.reporter_epoch = u.epoch;
  CHECK(c.run(wrong).outcome.error == ErrorCode::invalid_request);
  wrong.broker = BrokerId(9);
  wrong.reporter = kNoBroker;  // a controller's own word
  CHECK(c.run(wrong).outcome.error == ErrorCode::broker_id_not_registered);
  wrong.reporter = u.broker;
  CHECK(c.run(wrong).outcome.error == ErrorCode::broker_id_not_registered);
  CHECK_FALSE(c.broker(1).fenced);

  const BrokerUnreachableReply reply = c.run(u);
  CHECK(reply.fenced);
  CHECK(c.broker(1).fenced);
  CHECK(c.partition("t").leader == BrokerId(2));
  CHECK_FALSE(c.run(u).fenced);
  CHECK(c.run(c.registration(1)).outcome.ok());  // its next incarnation need not wait
}

TEST_CASE("a controlled shutdown moves the leaders first and ends when the others know") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}, {2, 1, 3}});
  c.create("only", {{1}});
  BrokerHeartbeat h = c.beat(1);
  h.want_shutdown = true;
  CHECK_FALSE(c.run(h).should_shutdown);
  CHECK(c.broker(1).in_controlled_shutdown);
  CHECK_FALSE(c.broker(1).fenced);
  CHECK(c.partition("t", 0).leader == BrokerId(2));
  CHECK(c.partition("t", 0).isr == ids({2, 3}));
  CHECK(c.partition("t", 1).isr == ids({2, 3}));
  CHECK(c.partition("only").leader == kNoBroker);
  CHECK(c.partition("only").elr == ids({1}));
  CHECK_FALSE(c.run(h).should_shutdown);  // nobody else has heard of it
  BrokerHeartbeat behind = c.beat(2);
  behind.applied = behind.applied - 1;
  (void)c.run(behind);
  (void)c.heartbeat(3);
  CHECK_FALSE(c.run(h).should_shutdown);
  (void)c.heartbeat(2);
  const BrokerHeartbeatReply done = c.run(h);
  CHECK(done.should_shutdown);
  CHECK(done.fenced);
  CHECK(c.broker(1).fenced);
  CHECK(c.run(h).should_shutdown);

  (void)c.restart(1, true);
  CHECK_FALSE(c.broker(1).in_controlled_shutdown);
  CHECK(c.partition("only").leader == BrokerId(1));
}

TEST_CASE("a broker in shutdown gets no replicas into an ISR and no leaders") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  BrokerHeartbeat h = c.beat(2);
  h.want_shutdown = true;
  (void)c.run(h);
  CHECK(c.alter("t", 0, {1, 2, 3}).outcome.error == ErrorCode::ineligible_replica);
  c.crash(3);
  c.crash(1);
  CHECK(c.partition("t").leader == kNoBroker);
}

TEST_CASE("a shutdown goes on under the next controller") {
  Cluster c(2);
  c.create("t", {{1, 2}});
  BrokerHeartbeat h = c.beat(1);
  h.want_shutdown = true;
  (void)c.run(h);
  c.fail_over();
  CHECK_FALSE(c.run(h).should_shutdown);
  (void)c.heartbeat(2);
  CHECK(c.run(h).should_shutdown);
}

TEST_CASE("the only copy leads again when its directory can be read again") {
  Cluster c(0);
  RegisterBroker one = c.registration(1);
  one.log_dirs.push_back(Cluster::uuid(77));
  REQUIRE(c.run(one).outcome.ok());
  (void)c.heartbeat(1);
  c.create("t", {{1}});
  AssignDirectories assign{BrokerId(1), c.broker(1).epoch, {{Cluster::uuid(77), {c.key("t")}}}};
  for (const AssignedReplica& r : c.run(assign).replicas) CHECK(r.outcome.ok());
  BrokerHeartbeat h = c.beat(1);
  h.offline_log_dirs = {Cluster::uuid(77)};
  (void)c.run(h);
  CHECK(c.partition("t").leader == kNoBroker);
  CHECK(c.partition("t").elr == ids({1}));
  (void)c.heartbeat(1);  // it lives, and cannot read it
  CHECK(c.partition("t").leader == kNoBroker);
  (void)c.run(ElectLeaders{ElectionType::unclean, std::nullopt});
  CHECK(c.partition("t").leader == kNoBroker);

  c.live(60'000, {});
  RegisterBroker again = c.registration(1);
  again.log_dirs = one.log_dirs;
  const bool damaged = GENERATE(false, true);
  if (damaged) again.damaged = {c.key("t")};
  REQUIRE(c.run(again).outcome.ok());
  (void)c.heartbeat(1);
  CHECK(c.partition("t").leader == (damaged ? kNoBroker : BrokerId(1)));
}

TEST_CASE("a directory that goes offline takes its replicas along") {
  Cluster c(0);
  RegisterBroker two = c.registration(1);
  two.log_dirs.push_back(Cluster::uuid(77));
  REQUIRE(c.run(two).outcome.ok());
  (void)c.heartbeat(1);
  c.join(2);
  c.create("a", {{1, 2}});
  c.create("b", {{1, 2}});
  AssignDirectories assign{BrokerId(1), c.broker(1).epoch, {{Cluster::uuid(77), {c.key("a")}}}};
  assign.directories[Cluster::directory(1)] = {c.key("b")};
  for (const AssignedReplica& r : c.run(assign).replicas) CHECK(r.outcome.ok());
  CHECK(c.partition("a").directories[0] == Cluster::uuid(77));
  CHECK(c.partition("a").directories[1] == Cluster::directory(2));  // it has one only
  CHECK(c.run(assign).replicas.size() == 2);
  CHECK(c.last().empty());

  BrokerHeartbeat h = c.beat(1);
  h.offline_log_dirs = {Cluster::uuid(77)};
  (void)c.run(h);
  CHECK(c.partition("a").leader == BrokerId(2));
  CHECK(c.partition("a").isr == ids({2}));
  CHECK(c.partition("a").elr == ids({1}));  // what is committed is there, once it can be read again
  CHECK(c.partition("b").leader == BrokerId(1));
  CHECK(c.broker(1).log_dirs.size() == 1);
  CHECK(c.alter("a", 0, {1, 2}).outcome.error == ErrorCode::ineligible_replica);

  assign.directories = {{Cluster::uuid(78), {c.key("b")}}};
  CHECK(c.run(assign).replicas[0].outcome.error == ErrorCode::log_dir_not_found);
  assign.directories = {
      {Cluster::directory(1), {{c.image().topic("a")->id, PartitionId(9)}, {Cluster::uuid(55), {}}}}};
  const AssignDirectoriesReply bad = c.run(assign);
  CHECK(bad.replicas[0].outcome.error == ErrorCode::unknown_topic_or_partition);
  CHECK(bad.replicas[1].outcome.error == ErrorCode::unknown_topic_id);
  assign.epoch = assign.epoch - 1;
  CHECK(c.run(assign).outcome.error == ErrorCode::stale_broker_epoch);
}
