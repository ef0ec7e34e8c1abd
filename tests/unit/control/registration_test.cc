#include "unit/control/cluster_fixture.h"

using namespace millrace;
using namespace millrace::control;

namespace {

// Three replicas of which the last one in sync is 1, the others eligible: the state after a whole rack fell.
void all_down(Cluster& c, const std::vector<NamedValue>& configs = {}) {
  c.create("t", {{1, 2, 3}}, configs);
  c.crash(3);
  c.crash(2);
  c.crash(1);
  REQUIRE(c.partition("t").leader == kNoBroker);
  REQUIRE(c.partition("t").isr.empty());
  REQUIRE(c.partition("t").elr == ids({2, 1}));
  REQUIRE(c.partition("t").last_known_elr == ids({1}));
}

}  // namespace

TEST_CASE("after a crash an fsynced replica stays eligible") {
  Cluster c(3);
  all_down(c);
  (void)c.restart(3);
  CHECK(c.partition("t").leader == kNoBroker);  // it left an ISR that was large enough without it
  (void)c.restart(2);
  CHECK(c.partition("t").leader == BrokerId(2));
  CHECK(c.partition("t").isr == ids({2}));
  CHECK(c.partition("t").elr == ids({1}));
  CHECK_FALSE(c.partition("t").leader_recovering);
}

TEST_CASE("after a crash a replica that was not fsynced is not eligible, after a clean stop it is") {
  Cluster c(3);
  all_down(c, {{"durability", "replicated"}});
  SECTION("unclean") {
    (void)c.restart(2);
    CHECK(c.partition("t").leader == kNoBroker);
    CHECK(c.partition("t").elr == ids({1}));
    // The last leader leads again when nobody else is known to have more; it says so.
    (void)c.restart(1);
    CHECK(c.partition("t").leader == BrokerId(1));
    CHECK(c.partition("t").isr == ids({1}));
    CHECK(c.partition("t").leader_recovering);
  }
  SECTION("clean") {
    (void)c.restart(2, true);
    CHECK(c.partition("t").leader == BrokerId(2));
    CHECK_FALSE(c.partition("t").leader_recovering);
  }
  SECTION("a marker of another epoch is none") {
    RegisterBroker r = c.registration(2);
    r.clean_epoch = c.broker(2).epoch - 1;
    REQUIRE(c.run(r).outcome.ok());
    CHECK(c.partition("t").elr == ids({1}));
  }
}

TEST_CASE("what the broker says was not fsynced all along is dropped too") {
  Cluster c(3);
  all_down(c);
  RegisterBroker r = c.registration(2);
  r.unsynced = {c.key("t")};
  REQUIRE(c.run(r).outcome.ok());
  CHECK(c.partition("t").elr == ids({1}));
}

TEST_CASE("a replica below its durable end is never trusted by itself") {
  Cluster c(3);
  all_down(c);
  (void)c.restart(2, true, {c.key("t")});
  CHECK(c.partition("t").elr == ids({1}));
  (void)c.restart(1, false, {c.key("t")});
  CHECK(c.partition("t").elr.empty());
  CHECK(c.partition("t").last_known_elr.empty());
  CHECK(c.partition("t").leader == kNoBroker);
  // Only an operator may decide to go on with it.
  const ElectLeadersReply r = c.run(ElectLeaders{ElectionType::unclean, {{{"t", PartitionId(0)}}}});
  CHECK(r.partitions[0].outcome.ok());
  CHECK(c.partition("t").leader == BrokerId(1));
  CHECK(c.partition("t").leader_recovering);
}

TEST_CASE("a replica whose directory is new is not eligible") {
  Cluster c(3);
  all_down(c);
  RegisterBroker r = c.registration(2);
  r.clean_epoch = c.broker(2).epoch;
  r.log_dirs = {Cluster::uuid(4711)};
  REQUIRE(c.run(r).outcome.ok());
  CHECK(c.partition("t").elr == ids({1}));
  (void)c.heartbeat(2);
  CHECK(c.partition("t").leader == kNoBroker);
  // Filled again, it is in sync like any other.
  (void)c.restart(1);
  CHECK(c.alter("t", 0, {1, 2}).outcome.ok());
}

TEST_CASE("with several directories, one that is missing may be the replica's") {
  Cluster c(0);
  RegisterBroker r = c.registration(1);
  r.log_dirs = {Cluster::uuid(71), Cluster::uuid(72)};
  REQUIRE(c.run(r).outcome.ok());
  (void)c.heartbeat(1);
  c.join(2);
  c.create("t", {{1}});
  CHECK(c.partition("t").directories.empty());
  c.crash(1);
  r = c.registration(1);
  r.log_dirs = {Cluster::uuid(71)};
  REQUIRE(c.run(r).outcome.ok());
  CHECK(c.partition("t").elr.empty());
}

TEST_CASE("a new incarnation that was not noticed to be gone is fenced first, and leads in a new epoch") {
  Cluster c(2);
  c.create("one", {{1}});
  c.create("two", {{1, 2}});
  const LeaderEpoch before = c.partition("one").leader_epoch;
  RegisterBroker r = c.registration(1);
  r.own = true;
  REQUIRE(c.run(r).outcome.ok());
  CHECK(c.partition("one").leader == kNoBroker);
  CHECK(c.partition("one").elr == ids({1}));
  CHECK(c.partition("two").leader == BrokerId(2));
  (void)c.heartbeat(1);
  CHECK(c.partition("one").leader == BrokerId(1));
  CHECK(c.partition("one").leader_epoch > before);
  CHECK(c.partition("one").isr == ids({1}));
}

TEST_CASE("a registration may be repeated until its answer arrives") {
  Cluster c(1);
  RegisterBroker r = c.registration(2);
  const RegisterBrokerReply first = c.run(r);
  const RegisterBrokerReply second = c.run(r);
  CHECK(first.epoch == second.epoch);
  CHECK(c.last().empty());
  CHECK(c.broker(2).fenced);
}

TEST_CASE("registrations have limits, and must fit the cluster") {
  Limits limits;
  limits.endpoints_per_broker = 2;
  limits.log_dirs_per_broker = 1;
  limits.text_bytes = 10;
  limits.brokers_total = 2;
  Cluster c(1, {}, limits);
  const auto code = [&c](const RegisterBroker& r) {
    const auto reply = c.run(r);
    CHECK_FALSE(reply.outcome.message.empty());
    CHECK(c.last().empty());
    return reply.outcome.error;
  };
  RegisterBroker r = c.registration(2);
  r.endpoints.push_back({"X", "h", 1, {}});
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = c.registration(2);
  r.log_dirs.push_back(Cluster::uuid(3));
  CHECK(code(r) == ErrorCode::invalid_registration);
  r.log_dirs = {Uuid{}};
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = c.registration(2);
  r.rack = std::string(11, 'r');
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = c.registration(2);
  r.endpoints[0].host = std::string(11, 'h');
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = c.registration(2);
  r.min_insync_replicas = 1;  // the cluster's is 2
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = c.registration(2);
  r.features = {{"f", {3, 2}}};
  CHECK(code(r) == ErrorCode::unsupported_version);
  c.join(2);
  CHECK(code(c.registration(3)) == ErrorCode::invalid_registration);
}

TEST_CASE("an unregistered broker is out of everything, and trusted no more when it comes back elsewhere") {
  Cluster c(3);
  c.create("t", {{1, 2, 3}});
  c.create("one", {{1}});
  CHECK(c.run(UnregisterBroker{BrokerId(9)}).outcome.error == ErrorCode::broker_id_not_registered);
  const BrokerEpoch epoch = c.broker(1).epoch;
  REQUIRE(c.run(UnregisterBroker{BrokerId(1)}).outcome.ok());
  CHECK(c.image().broker(BrokerId(1)) == nullptr);
  CHECK(c.partition("t").isr == ids({2, 3}));
  CHECK(c.partition("one").leader == kNoBroker);
  CHECK(c.run(UnregisterBroker{BrokerId(1)}).outcome.error == ErrorCode::broker_id_not_registered);
  BrokerHeartbeat h;
  h.broker = BrokerId(1);
  h.epoch = epoch;
  CHECK(c.run(h).outcome.error == ErrorCode::broker_id_not_registered);
  RegisterBroker r = c.registration(1);
  SECTION("the same disk") {
    REQUIRE(c.run(r).outcome.ok());
    (void)c.heartbeat(1);
    CHECK(c.partition("one").leader == BrokerId(1));
  }
  SECTION("another disk") {
    r.log_dirs = {Cluster::uuid(1234)};
    REQUIRE(c.run(r).outcome.ok());
    (void)c.heartbeat(1);
    CHECK(c.partition("one").leader == kNoBroker);
  }
}

TEST_CASE("features are updated together or not at all") {
  Cluster c(0);
  RegisterBroker r = c.registration(1);
  r.features = {{"group.version", {0, 1}}, {"transaction.version", {0, 1}}};
  REQUIRE(c.run(r).outcome.ok());
  const auto update = [&c](std::vector<FeatureUpdate> updates, bool dry = false) {
    return c.run(UpdateFeatures{std::move(updates), dry}).outcome.error;
  };
  CHECK(update({{"group.version", 1}}, true) == ErrorCode::none);
  CHECK(c.image().feature_level("group.version") == 0);
  CHECK(update({{"group.version", 1}}) == ErrorCode::none);
  CHECK(c.image().feature_level("group.version") == 1);
  CHECK(update({{"group.version", 1}}) == ErrorCode::none);
  CHECK(c.last().empty());
  CHECK(update({{"nonsense", 1}}) == ErrorCode::invalid_update_version);
  CHECK(update({{"group.version", 2}}) == ErrorCode::invalid_update_version);
  CHECK(update({{"group.version", -1}}) == ErrorCode::invalid_update_version);
  CHECK(update({{"group.version", 0}}) == ErrorCode::invalid_update_version);        // not called a downgrade
  CHECK(update({{"transaction.version", 2}}) == ErrorCode::invalid_update_version);  // broker 1 cannot
  CHECK(update({{"transaction.version", 1, FeatureUpgrade::safe_downgrade}}) ==
        ErrorCode::invalid_update_version);
  CHECK(update({{"group.version", 0, static_cast<FeatureUpgrade>(9)}}) == ErrorCode::invalid_update_version);
  CHECK(update({{"share.version", 1}, {"share.version", 1}}) == ErrorCode::invalid_request);
  CHECK(update({{"share.version", 1}, {"nonsense", 1}}) == ErrorCode::invalid_update_version);
  CHECK(c.image().feature_level("share.version") == 0);
  CHECK(update({{"group.version", 0, FeatureUpgrade::safe_downgrade}}) == ErrorCode::none);
  CHECK(c.image().feature_level("group.version") == 0);
  CHECK(update({{"metadata.version", 25}}) == ErrorCode::none);
  CHECK(update({{"metadata.version", 20, FeatureUpgrade::unsafe_downgrade}}) ==
        ErrorCode::invalid_update_version);
  // A broker that cannot do what is in force stays out.
  r = c.registration(2);
  r.features = {{"metadata.version", {1, 24}}};
  CHECK(c.run(r).outcome.error == ErrorCode::unsupported_version);
}
