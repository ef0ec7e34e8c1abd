// A broker's life as its controller sees it: catching up, registering, heartbeats, being forgotten, leaving.
#include "broker/lifecycle.h"

#include <deque>

#include "support/catch.h"
#include "support/manual_loop.h"

namespace millrace::broker {
namespace {

using HeartbeatDone = std::function<void(Result<control::BrokerHeartbeatReply>)>;
using RegisterDone = std::function<void(Result<control::RegisterBrokerReply>)>;

struct LifeRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  std::deque<std::pair<control::BrokerHeartbeat, HeartbeatDone>> beats;
  std::deque<std::pair<control::RegisterBroker, RegisterDone>> registrations;
  std::vector<BrokerEpoch> registered;
  std::vector<Error> refused;
  std::vector<int64_t> heard;  // since the rig began
  int serving = 0;
  LogIndex published{5};
  const int64_t begun = clock.now().mono_ms;
  Lifecycle life{loop, clock, Trace(), BrokerId(3), links()};

  Lifecycle::Links links() {
    Lifecycle::Links l;
    l.register_broker = [this](control::RegisterBroker r, RegisterDone d) {
      registrations.emplace_back(std::move(r), std::move(d));
    };
    l.heartbeat = [this](control::BrokerHeartbeat h, HeartbeatDone d) {
      beats.emplace_back(std::move(h), std::move(d));
    };
    l.registration = [] {
      control::RegisterBroker r;
      r.id = BrokerId(3);
      return r;
    };
    l.published = [this] { return published; };
    l.offline_log_dirs = [] { return std::vector<Uuid>(); };
    l.damaged = [] {
      return std::vector<control::DamagedReplica>{{{Uuid{{5}}, PartitionId(2)}, LeaderEpoch(4)}};
    };
    l.interval_ms = [] { return int64_t{500}; };
    l.on_heard = [this](int64_t asked) { heard.push_back(asked - begun); };
    l.on_registered = [this](BrokerEpoch e) { registered.push_back(e); };
    l.on_serving = [this] { ++serving; };
    l.on_refused = [this](const Error& e) { refused.push_back(e); };
    return l;
  }
  void pass(int64_t ms) { loop.advance(ms); }
  control::BrokerHeartbeat beat(Result<control::BrokerHeartbeatReply> answer) {
    REQUIRE(!beats.empty());
    auto [request, done] = std::move(beats.front());
    beats.pop_front();
    done(std::move(answer));
    return request;
  }
  control::RegisterBroker enroll(Result<control::RegisterBrokerReply> answer) {
    REQUIRE(!registrations.empty());
    auto [request, done] = std::move(registrations.front());
    registrations.pop_front();
    done(std::move(answer));
    return request;
  }
  void serve() {
    life.begin();
    life.on_controller_changed(true);
    (void)beat(control::BrokerHeartbeatReply{{ErrorCode::broker_id_not_registered, ""}, false, true, false});
    (void)enroll(control::RegisterBrokerReply{{}, BrokerEpoch(7)});
    (void)beat(control::BrokerHeartbeatReply{{}, true, false, false});
    REQUIRE(serving == 1);
  }
};

}  // namespace

TEST_CASE("a broker registers after it has caught up and serves when it is unfenced", "[lifecycle]") {
  LifeRig rig;
  rig.life.begin();
  rig.pass(1000);
  CHECK(rig.beats.empty());  // there is nobody to ask
  rig.life.on_controller_changed(true);
  REQUIRE(rig.beats.size() == 1);
  CHECK(rig.beats.front().first.epoch.v < 0);
  CHECK(rig.registrations.empty());
  (void)rig.beat(
      control::BrokerHeartbeatReply{{ErrorCode::broker_id_not_registered, ""}, false, true, false});
  (void)rig.enroll(control::RegisterBrokerReply{{}, BrokerEpoch(7)});
  CHECK(rig.registered == std::vector<BrokerEpoch>{BrokerEpoch(7)});
  CHECK(rig.life.epoch() == BrokerEpoch(7));
  const control::BrokerHeartbeat first = rig.beat(control::BrokerHeartbeatReply{{}, false, true, false});
  CHECK(first.epoch == BrokerEpoch(7));
  CHECK(first.applied == LogIndex(5));
  CHECK(first.damaged.size() == 1);
  CHECK(rig.serving == 0);
  CHECK(!rig.life.waiting_for().empty());
  rig.pass(100);
  (void)rig.beat(control::BrokerHeartbeatReply{{}, true, false, false});
  CHECK(rig.serving == 1);
  CHECK(rig.life.waiting_for().empty());
  rig.pass(490);
  CHECK(rig.beats.empty());
  rig.pass(10);
  CHECK(rig.beats.size() == 1);
}

TEST_CASE("a session is counted from when the controller was asked, not from its answer", "[lifecycle]") {
  LifeRig rig;
  rig.serve();
  CHECK(rig.heard == std::vector<int64_t>{0, 0});  // the registration and the first heartbeat
  rig.pass(500);
  rig.pass(200);
  (void)rig.beat(control::BrokerHeartbeatReply{{}, true, false, false});
  CHECK(rig.heard.back() == 500);
  rig.pass(500);
  // Lost: nothing is known of it.
  (void)rig.beat(Error(ErrorCode::timed_out, ""));
  CHECK(rig.heard.size() == 3);
  rig.pass(100);
  // Told that it is not known any more is not heard.
  (void)rig.beat(control::BrokerHeartbeatReply{{ErrorCode::stale_broker_epoch, ""}, false, true, false});
  CHECK(rig.heard.size() == 3);
  rig.pass(100);
  (void)rig.enroll(control::RegisterBrokerReply{{}, BrokerEpoch(9)});
  CHECK(rig.heard.back() == 1'400);
}

TEST_CASE("whoever was the whole cluster has a session from when another leads it", "[lifecycle]") {
  LifeRig rig;
  rig.life.adopt(BrokerEpoch(4));
  rig.pass(5'000);
  CHECK(rig.heard.empty());
  rig.life.on_controller_changed(true, true);
  CHECK(rig.heard.empty());
  rig.life.on_controller_changed(true, false);
  CHECK(rig.heard == std::vector<int64_t>{5'000});
}

TEST_CASE("a registration is repeated while another broker has the id", "[lifecycle]") {
  LifeRig rig;
  rig.life.begin();
  rig.life.on_controller_changed(true);
  (void)rig.beat(
      control::BrokerHeartbeatReply{{ErrorCode::broker_id_not_registered, ""}, false, true, false});
  (void)rig.enroll(
      control::RegisterBrokerReply{{ErrorCode::duplicate_broker_registration, "taken"}, BrokerEpoch(-1)});
  CHECK(rig.refused.empty());
  rig.pass(200);
  (void)rig.enroll(Error(ErrorCode::closed, "lost"));
  rig.pass(200);
  (void)rig.enroll(
      control::RegisterBrokerReply{{ErrorCode::unsupported_version, "features"}, BrokerEpoch(-1)});
  REQUIRE(rig.refused.size() == 1);
  CHECK(rig.refused.front().code == ErrorCode::unsupported_version);
}

TEST_CASE("a broker that the controller forgot registers again", "[lifecycle]") {
  LifeRig rig;
  rig.serve();
  rig.pass(500);
  (void)rig.beat(control::BrokerHeartbeatReply{{ErrorCode::stale_broker_epoch, ""}, false, true, false});
  rig.pass(100);
  (void)rig.enroll(control::RegisterBrokerReply{{}, BrokerEpoch(9)});
  CHECK(rig.beat(control::BrokerHeartbeatReply{{}, true, false, false}).epoch == BrokerEpoch(9));
  CHECK(rig.serving == 1);  // it began but once
}

TEST_CASE("a question to a controller that is no more is asked of the next", "[lifecycle]") {
  LifeRig rig;
  rig.serve();
  rig.pass(500);
  REQUIRE(rig.beats.size() == 1);
  rig.life.on_controller_changed(false);
  rig.life.on_controller_changed(true);
  REQUIRE(rig.beats.size() == 2);
  // The late answer of the first counts for nothing.
  (void)rig.beat(control::BrokerHeartbeatReply{{ErrorCode::stale_broker_epoch, ""}, false, true, false});
  rig.pass(300);
  CHECK(rig.registrations.empty());
  (void)rig.beat(control::BrokerHeartbeatReply{{}, true, false, false});
  rig.pass(500);
  CHECK(rig.beats.size() == 1);
}

TEST_CASE("the only broker sends heartbeats when the controller is elsewhere", "[lifecycle]") {
  LifeRig rig;
  rig.life.adopt(BrokerEpoch(4));
  rig.life.on_controller_changed(true, true);
  rig.pass(2'000);
  CHECK(rig.beats.empty());
  rig.life.on_controller_changed(true, false);
  CHECK(rig.beat(control::BrokerHeartbeatReply{{}, true, false, false}).epoch == BrokerEpoch(4));
  rig.pass(500);
  CHECK(rig.beats.size() == 1);
}

TEST_CASE("a broker leaves when the controller lets it", "[lifecycle]") {
  LifeRig rig;
  rig.serve();
  bool left = false;
  rig.life.leave(10'000, [&] { left = true; });
  CHECK(rig.beat(control::BrokerHeartbeatReply{{}, true, false, false}).want_shutdown);
  CHECK(!left);
  rig.pass(50);
  CHECK(rig.beat(control::BrokerHeartbeatReply{{}, true, true, true}).want_shutdown);
  CHECK(left);
  rig.pass(2000);
  CHECK(rig.beats.empty());
}

TEST_CASE("a broker leaves without a controller's word after a while", "[lifecycle]") {
  LifeRig rig;
  rig.serve();
  bool left = false;
  rig.life.leave(10'000, [&] { left = true; });
  rig.pass(1500);
  CHECK(!left);
  rig.pass(1000);
  CHECK(left);
}

TEST_CASE("a broker that was never registered leaves at once", "[lifecycle]") {
  LifeRig rig;
  bool left = false;
  rig.life.leave(10'000, [&] { left = true; });
  CHECK(left);
}

}  // namespace millrace::broker
