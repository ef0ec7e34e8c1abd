// A follower's fetches of a leader: what its session costs, and that nothing is missed by looking at less.
#include <deque>

#include "broker_rig.h"
#include "support/partition_rig.h"

namespace millrace::broker {
namespace {

using test_rig::BrokerRig;

constexpr int16_t kReplicaVersion = 17;
constexpr int kQuiet = 60;

struct FollowedRig : BrokerRig {
  std::deque<partition::rig::Rig> doors;
  int32_t session = 0;
  int32_t epoch = 0;
  int32_t partition_bytes_max = 1 << 20;

  FollowedRig() {
    connection->listener = test_rig::kInternal;
    auto hosted = std::make_shared<HostedTopic>();
    hosted->id = topic;
    for (int i = 0; i < kQuiet; ++i) {
      add_partition(1);
      partition::rig::Rig& door = doors.emplace_back();
      door.config.min_insync_replicas = 2;
      lead(door);
      hosted->partitions.push_back(door.partition);
    }
    auto v = view();
    v->hosted.insert_or_assign(topic, std::move(hosted));
    show(v);
  }
  static void lead(partition::rig::Rig& door) {
    door.open();
    partition::Partition::Leadership l;
    l.epoch = LeaderEpoch(1);
    l.isr = {BrokerId(1), BrokerId(2)};
    l.replicas = 3;
    for (const int n : {1, 2, 3}) l.brokers.push_back({BrokerId(n), BrokerEpoch(10 + n), true});
    REQUIRE(door.partition->lead(l).ok());
  }
  /// A new life: what lies there was written by another process, and is read through the pool.
  void reopen(int i) {
    partition::rig::Rig& d = door(i);
    d.run_all();
    d.loop.in_tick([&] { d.partition->stop(ErrorCode::not_leader_or_follower); });
    REQUIRE(d.partition->close().ok());
    d.partition.reset();
    lead(d);
    auto hosted = std::make_shared<HostedTopic>();
    hosted->id = topic;
    for (const partition::rig::Rig& one : doors) hosted->partitions.push_back(one.partition);
    auto v = view();
    v->hosted.insert_or_assign(topic, std::move(hosted));
    show(v);
  }
  struct Asked {
    int32_t partition = 0;
    int64_t from = 0;
    int64_t durable = 0;
  };
  auto fetch(const std::vector<Asked>& asked) {
    wire::FetchRequest r;
    r.replica_state.replica_id = 2;
    r.replica_state.replica_epoch = 12;
    r.max_wait_ms = 500;
    r.min_bytes = 1;
    r.max_bytes = 10 << 20;
    r.session_id = session;
    r.session_epoch = epoch;
    if (!asked.empty()) r.topics.emplace_back().topic_id = topic;
    for (const Asked& a : asked) {
      auto& p = r.topics.front().partitions.emplace_back();
      p.partition = a.partition;
      p.fetch_offset = a.from;
      p.durable_end_offset = a.durable;
      p.current_leader_epoch = 1;
      p.last_fetched_epoch = a.from > 0 ? 1 : -1;
      p.partition_max_bytes = partition_bytes_max;
    }
    ++epoch;
    return ask(std::move(r), kReplicaVersion);
  }
  /// All partitions, from the beginning.
  void begin() {
    std::vector<Asked> all;
    for (int i = 0; i < kQuiet; ++i) all.push_back({i, 0, 0});
    const auto first = fetch(all);
    REQUIRE(*first);
    CHECK(named(**first).size() == kQuiet);
    session = (*first)->session_id;
    REQUIRE(session != 0);
  }
  static std::vector<int32_t> named(const wire::FetchResponse& r) {
    CHECK(r.error_code == 0);
    std::vector<int32_t> out;
    for (const auto& t : r.responses)
      for (const auto& p : t.partitions) out.push_back(p.partition_index);
    return out;
  }
  uint64_t looks() { return broker.shard(0).fetch_sessions.looks(session); }
  partition::rig::Rig& door(int i) { return doors[static_cast<size_t>(i)]; }
};

}  // namespace

TEST_CASE("a fetch looks at what has changed, not at everything that is followed", "[fetch]") {
  FollowedRig rig;
  rig.begin();
  CHECK(rig.looks() == kQuiet);
  // A quiet round: it waits, is over, and nothing was looked at.
  for (int round = 0; round < 3; ++round) {
    const auto quiet = rig.fetch({});
    CHECK_FALSE(*quiet);
    rig.loop.advance(500);
    REQUIRE(*quiet);
    CHECK(rig.named(**quiet).empty());
  }
  CHECK(rig.looks() == kQuiet);

  // An append while it waits.
  const auto woken = rig.fetch({});
  CHECK_FALSE(*woken);
  (void)rig.door(5).append();
  rig.loop.settle();
  REQUIRE(*woken);
  CHECK(rig.named(**woken) == std::vector<int32_t>{5});
  CHECK_FALSE((*woken)->responses.front().partitions.front().records.null);
  CHECK(rig.looks() == kQuiet + 1);

  // An append while none waits is found by the next.
  (void)rig.door(9).append();
  rig.door(9).run_all();
  rig.door(5).run_all();
  rig.loop.settle();
  const auto next = rig.fetch({{5, 1, 0}});
  REQUIRE(*next);
  CHECK(rig.named(**next) == std::vector<int32_t>{9});
  CHECK(rig.looks() == kQuiet + 3);

  // The mark that its word moves is told at once.
  const auto durable = rig.fetch({{5, 1, 1}, {9, 1, 1}});
  REQUIRE(*durable);
  CHECK(rig.named(**durable) == std::vector<int32_t>{5, 9});
  CHECK((*durable)->responses.front().partitions.front().high_watermark == 1);
  CHECK(rig.looks() == kQuiet + 5);
  // The mark that moved is looked at once more; then there is quiet.
  for (int round = 0; round < 3; ++round) {
    const auto after = rig.fetch({});
    rig.loop.advance(500);
    REQUIRE(*after);
    CHECK(rig.named(**after).empty());
    CHECK(rig.looks() == kQuiet + 7);
  }
}

TEST_CASE("what moves a log's start, or ends a reign, is told like records", "[fetch]") {
  FollowedRig rig;
  rig.begin();
  (void)rig.door(3).append({.count = 4});
  rig.door(3).run_all();
  rig.loop.settle();
  REQUIRE(*rig.fetch({}));
  REQUIRE(*rig.fetch({{3, 4, 4}}));
  const auto deleted = rig.fetch({});
  CHECK_FALSE(*deleted);
  REQUIRE(rig.door(3).partition->delete_records(Offset(2)).ok());
  rig.loop.settle();
  REQUIRE(*deleted);
  CHECK(rig.named(**deleted) == std::vector<int32_t>{3});
  CHECK((*deleted)->responses.front().partitions.front().log_start_offset == 2);

  const auto ended = rig.fetch({});
  CHECK_FALSE(*ended);
  rig.door(7).partition->stop(ErrorCode::not_leader_or_follower);
  rig.loop.settle();
  REQUIRE(*ended);
  CHECK(rig.named(**ended) == std::vector<int32_t>{7});
  CHECK((*ended)->responses.front().partitions.front().error_code ==
        static_cast<int16_t>(ErrorCode::not_leader_or_follower));
  // It is said until the follower has forgotten it.
  const auto again = rig.fetch({});
  REQUIRE(*again);
  CHECK(rig.named(**again) == std::vector<int32_t>{7});
}

TEST_CASE("a cold batch larger than the limit comes with what is warm behind it", "[fetch]") {
  FollowedRig rig;
  rig.partition_bytes_max = 1'000;
  (void)rig.door(0).append({.value_bytes = 5'000});
  rig.reopen(0);
  (void)rig.door(1).append();
  rig.epoch = -1;  // without a session
  const auto both = rig.fetch({{0, 0, 0}, {1, 0, 0}});
  rig.loop.settle();
  REQUIRE(*both);
  CHECK(rig.named(**both) == std::vector<int32_t>{0, 1});
  const auto& cold = (*both)->responses.front().partitions.front();
  CHECK(cold.error_code == 0);
  CHECK_FALSE(cold.records.null);
}

TEST_CASE("a fetch of a replica is heard", "[fetch]") {
  FollowedRig rig;
  rig.broker.standing().hold_until(rig.clock.now().mono_ms, 3'000);
  CHECK_FALSE(rig.broker.standing().hears(BrokerId(2), rig.clock.now().mono_ms));
  rig.begin();
  rig.clock.advance(600);
  CHECK(rig.broker.standing().hears(BrokerId(2), rig.clock.now().mono_ms));
  CHECK_FALSE(rig.broker.standing().hears(BrokerId(3), rig.clock.now().mono_ms));
}

}  // namespace millrace::broker
