// Metadata while leaders are in doubt: what waits, for what, and how long; what a broker that is cut off says
// of itself.
#include "broker_rig.h"
#include "support/partition_rig.h"

namespace millrace::broker {
namespace {

using test_rig::BrokerRig;

constexpr int16_t kMetadataVersion = 12;

struct MetadataRig : BrokerRig {
  auto metadata() {
    wire::MetadataRequest request;
    request.topics.emplace();
    request.topics->emplace_back().name = "orders";
    return ask(std::move(request), kMetadataVersion);
  }
  auto everything() {
    wire::MetadataRequest request;
    request.topics.reset();
    return ask(std::move(request), kMetadataVersion);
  }
  static const auto& partition(const wire::MetadataResponse& r) {
    REQUIRE(r.topics.size() == 1);
    REQUIRE(r.topics.front().partitions.size() == 1);
    return r.topics.front().partitions.front();
  }
  std::shared_ptr<View> doubting(int leader, int64_t ms) {
    auto v = view();
    v->gone.push_back({BrokerId(leader), BrokerEpoch(10 + leader), clock.now().mono_ms + ms});
    return v;
  }
};

}  // namespace

TEST_CASE("a first question for topics is answered at once, a second waits for news", "[metadata]") {
  MetadataRig rig;
  rig.add_partition(2);
  rig.show(rig.view());
  const auto first = rig.metadata();
  REQUIRE(*first);
  CHECK(rig.partition(**first).leader_id == 2);
  CHECK((*first)->brokers.size() == 3);
  const auto second = rig.metadata();
  CHECK_FALSE(*second);
  rig.loop.advance(4);
  CHECK_FALSE(*second);
  rig.loop.advance(1);
  REQUIRE(*second);
  CHECK(rig.broker.shard(0).view_waits.size() == 0);
  // Of all topics, nobody asks because of a death.
  CHECK(*rig.everything());
}

TEST_CASE("news that come in time are in the answer", "[metadata]") {
  MetadataRig rig;
  rig.add_partition(2);
  rig.show(rig.view());
  (void)rig.metadata();
  const auto answer = rig.metadata();
  rig.loop.advance(2);
  rig.show(rig.doubting(2, 500));
  CHECK_FALSE(*answer);
  rig.loop.advance(20);
  CHECK_FALSE(*answer);
  // The controller has decided.
  rig.records.emplace_back(
      meta::PartitionChangeRecord{.topic_id = rig.topic, .partition = PartitionId(0), .leader = BrokerId(3)});
  rig.show(rig.view());
  REQUIRE(*answer);  // without another tick of any timer
  CHECK(rig.partition(**answer).leader_id == 3);
  CHECK(rig.partition(**answer).error_code == 0);
}

TEST_CASE("who waits for a leader that nobody decides about is told that there is none", "[metadata]") {
  MetadataRig rig;
  rig.add_partition(2);
  rig.show(rig.doubting(2, 300));
  const auto answer = rig.metadata();
  CHECK_FALSE(*answer);
  rig.loop.advance(200);
  rig.show(rig.doubting(2, 200));  // another view, the same doubt, longer
  CHECK_FALSE(*answer);
  rig.loop.advance(150);
  CHECK_FALSE(*answer);
  rig.loop.advance(60);
  REQUIRE(*answer);
  CHECK(rig.partition(**answer).leader_id == -1);
  CHECK(rig.partition(**answer).error_code == static_cast<int16_t>(ErrorCode::leader_not_available));
  CHECK(rig.broker.shard(0).view_waits.size() == 0);
  // Later questions do not wait for what was not decided in time.
  CHECK(*rig.everything());
}

TEST_CASE("a controller that does not answer is not named to clients", "[metadata]") {
  MetadataRig rig;
  rig.add_partition(3);
  rig.show(rig.view());
  const auto calm = rig.everything();
  REQUIRE(*calm);
  CHECK((*calm)->controller_id == 2);
  rig.show(rig.doubting(2, 500));
  const auto answer = rig.everything();
  REQUIRE(*answer);
  CHECK((*answer)->controller_id == 1);
}

TEST_CASE("a leader that is cut off names neither its partitions' leader nor itself", "[metadata]") {
  MetadataRig rig;
  rig.add_partition(1);
  partition::rig::Rig door;
  door.config.min_insync_replicas = 2;
  door.open();
  partition::Partition::Leadership l;
  l.epoch = LeaderEpoch(1);
  l.isr = {BrokerId(1), BrokerId(2), BrokerId(3)};
  l.replicas = 3;
  REQUIRE(door.partition->lead(l).ok());
  auto v = rig.view();
  auto hosted = std::make_shared<HostedTopic>();
  hosted->id = rig.topic;
  hosted->partitions = {door.partition};
  v->hosted.insert_or_assign(rig.topic, std::move(hosted));
  v->controller = kNoBroker;
  rig.show(v);
  const auto calm = rig.everything();
  REQUIRE(*calm);
  CHECK(rig.partition(**calm).leader_id == 1);
  CHECK((*calm)->controller_id == 1);

  door.standing->hold_until(rig.clock.now().mono_ms - 1, 3'000);
  const auto doubted = rig.everything();
  REQUIRE(*doubted);
  CHECK(rig.partition(**doubted).leader_id == -1);
  CHECK(rig.partition(**doubted).error_code == static_cast<int16_t>(ErrorCode::leader_not_available));
  CHECK((*doubted)->brokers.size() == 3);

  rig.broker.standing().set_aside(true);
  const auto aside = rig.everything();
  REQUIRE(*aside);
  CHECK((*aside)->brokers.size() == 2);
  CHECK((*aside)->controller_id == -1);
}

}  // namespace millrace::broker
