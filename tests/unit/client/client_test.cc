// Routing, repetition and deadlines against brokers made of functions.
#include "client/client.h"

#include "client/offsets.h"
#include "support/catch.h"
#include "unit/client/fake_cluster.h"
#include "wire/messages/create_topics.h"
#include "wire/messages/find_coordinator.h"
#include "wire/messages/list_offsets.h"
#include "wire/messages/offset_fetch.h"

namespace millrace::client::testing {
namespace {

struct ClientRig {
  VirtualLoop loop;
  FakeCluster cluster;
  Client client;
  explicit ClientRig(int brokers = 1, ClientOptions options = fake_options())
      : cluster(loop, brokers), client(loop, cluster, loop, std::move(options)) {}

  Status refresh(int64_t ms = 60'000) {
    Status out = Error(ErrorCode::internal, "not called");
    client.refresh(std::nullopt, false, 0, [&](Status s) { out = std::move(s); });
    loop.run(ms);
    return out;
  }
};

TEST_CASE("the first broker that answers is enough") {
  ClientOptions o = fake_options();
  o.bootstrap = {{"nowhere", 1}, {"broker-1", 9092}};
  ClientRig rig(2, o);
  rig.cluster.add_topic("t", {1, 2});
  REQUIRE(rig.refresh().ok());
  CHECK(rig.client.view().brokers().size() == 2);
  CHECK(rig.client.view().controller_id() == 1);
  const TopicInfo* t = rig.client.view().topic("t");
  REQUIRE(t != nullptr);
  CHECK(rig.client.view().topic(t->id) == t);
  CHECK(t->partition(1)->leader == 2);
  CHECK(t->partition(2) == nullptr);
}

TEST_CASE("nobody there is told at once, with every address") {
  ClientOptions o = fake_options();
  o.bootstrap = {{"nowhere", 1}, {"elsewhere", 2}};
  ClientRig rig(1, o);
  const Status s = rig.refresh(100);
  CHECK(s.code() == ErrorCode::closed);
  CHECK(s.error().message.find("nowhere:1") != std::string::npos);
  CHECK(s.error().message.find("elsewhere:2") != std::string::npos);
}

TEST_CASE("the highest common version is spoken") {
  ClientRig rig;
  rig.cluster.set_range(wire::ApiKey::metadata, 0, 7);
  REQUIRE(rig.refresh().ok());
  CHECK(rig.cluster.seen().back().version == 7);
  rig.cluster.set_range(wire::ApiKey::metadata, 90, 99);
  ClientRig late;
  late.cluster.set_range(wire::ApiKey::metadata, 90, 99);
  CHECK(late.refresh().code() == ErrorCode::unsupported_version);
}

TEST_CASE("an old broker's answer to ApiVersions is asked for again in version 0") {
  ClientRig rig;
  int asked = 0;
  rig.cluster.on<wire::ApiVersionsRequest>([&](int, const wire::ApiVersionsRequest&) {
    wire::ApiVersionsResponse r;
    if (++asked == 1) {
      r.error_code = static_cast<int16_t>(ErrorCode::unsupported_version);
      return r;
    }
    r.api_keys.push_back({static_cast<int16_t>(wire::ApiKey::metadata), 0, 4});
    return r;
  });
  REQUIRE(rig.refresh().ok());
  CHECK(asked == 2);
  CHECK(rig.cluster.seen()[1].version == 0);
}

TEST_CASE("a topic just created is waited for, one that never comes is not") {
  ClientRig rig;
  REQUIRE(rig.refresh().ok());
  Result<TopicInfo> out = ErrorCode::internal;
  rig.client.with_topic("new", false, 0, [&](Result<TopicInfo> r) { out = std::move(r); });
  rig.loop.run(400);
  CHECK(out.code() == ErrorCode::internal);
  rig.cluster.add_topic("new", {1});
  rig.loop.run(1'000);
  CHECK(out.ok());
  rig.client.with_topic("never", false, 0, [&](Result<TopicInfo> r) { out = std::move(r); });
  rig.loop.run(2'000);
  CHECK(out.code() == ErrorCode::unknown_topic_or_partition);
  CHECK(out.error().message == "there is no topic never");
}

wire::ListOffsetsResponse offsets_answer(const wire::ListOffsetsRequest& q, ErrorCode error, int64_t offset) {
  wire::ListOffsetsResponse r;
  for (const auto& topic : q.topics) {
    auto& t = r.topics.emplace_back();
    t.name = topic.name;
    for (const auto& p : topic.partitions) {
      auto& out = t.partitions.emplace_back();
      out.partition_index = p.partition_index;
      out.error_code = static_cast<int16_t>(error);
      out.offset = offset + p.partition_index;
    }
  }
  return r;
}

TEST_CASE("offsets are asked of each leader, and again when a leader has moved") {
  ClientRig rig(2);
  rig.cluster.add_topic("t", {1, 2});
  int moved = 0;
  rig.cluster.on<wire::ListOffsetsRequest>([&](int broker, const wire::ListOffsetsRequest& q) {
    if (broker == 2 && ++moved == 1) return offsets_answer(q, ErrorCode::not_leader_or_follower, 0);
    return offsets_answer(q, ErrorCode::none, 100 * broker);
  });
  std::map<TopicPartition, OffsetAt> out;
  list_offsets(rig.client, {{{"t", 0}, kLatest}, {{"t", 1}, kLatest}}, false, 0,
               [&](Result<std::map<TopicPartition, OffsetAt>> r) { out = std::move(r).value(); });
  rig.loop.run(5'000);
  CHECK(moved == 2);
  CHECK(out.at({"t", 0}).offset == 100);
  CHECK(out.at({"t", 1}).offset == 201);

  // A partition the topic does not have gets an error of its own, soon.
  out.clear();
  list_offsets(rig.client, {{{"t", 9}, kLatest}}, false, 0,
               [&](Result<std::map<TopicPartition, OffsetAt>> r) { out = std::move(r).value(); });
  rig.loop.run(1'000);
  CHECK(out.at({"t", 9}).error == ErrorCode::unknown_topic_or_partition);
}

TEST_CASE("a coordinator that moved is looked up anew") {
  ClientRig rig(2);
  int lookups = 0;
  rig.cluster.on<wire::FindCoordinatorRequest>([&](int, const wire::FindCoordinatorRequest&) {
    wire::FindCoordinatorResponse r;
    const int id = ++lookups == 1 ? 1 : 2;
    r.coordinators.push_back({"g", id, "broker-" + std::to_string(id), 9092, 0, std::nullopt});
    return r;
  });
  rig.cluster.on<wire::OffsetFetchRequest>([&](int broker, const wire::OffsetFetchRequest&) {
    wire::OffsetFetchResponse r;
    auto& g = r.groups.emplace_back();
    g.group_id = "g";
    if (broker == 1) {
      g.error_code = static_cast<int16_t>(ErrorCode::not_coordinator);
      return r;
    }
    auto& t = g.topics.emplace_back();
    t.name = "t";
    auto& p = t.partitions.emplace_back();
    p.committed_offset = 42;
    return r;
  });
  int64_t offset = -1;
  fetch_committed(rig.client, "g", std::nullopt, 0, [&](Result<std::map<TopicPartition, CommittedOffset>> r) {
    REQUIRE(r.ok());
    offset = r->at({"t", 0}).offset;
  });
  rig.loop.run(5'000);
  CHECK(offset == 42);
  CHECK(lookups == 2);
}

TEST_CASE("a call ends at its deadline with the last answer") {
  ClientRig rig;
  rig.cluster.add_topic("t", {1});
  rig.cluster.on<wire::ListOffsetsRequest>([&](int, const wire::ListOffsetsRequest& q) {
    return offsets_answer(q, ErrorCode::leader_not_available, 0);
  });
  CallOptions options;
  options.timeout_ms = 3'000;
  wire::ListOffsetsRequest request;
  request.topics.emplace_back().name = "t";
  request.topics[0].partitions.emplace_back();
  bool answered = false;
  const int64_t begun = rig.client.now_ms();
  int64_t ended = 0;
  rig.client.call<wire::ListOffsetsRequest>(
      Target::leader("t", 0), request, options,
      [](const wire::ListOffsetsResponse& r) {
        return error_from_wire(r.topics.at(0).partitions.at(0).error_code);
      },
      [&](Result<wire::ListOffsetsResponse> r) {
        answered = r.ok();
        ended = rig.client.now_ms();
      });
  rig.loop.run(10'000);
  CHECK(answered);
  CHECK(ended - begun <= 3'000);
  CHECK(rig.cluster.count(wire::ApiKey::list_offsets) > 3);  // with growing pauses
  CHECK(rig.cluster.count(wire::ApiKey::list_offsets) < 12);
}

TEST_CASE("what changes something is not asked twice after a lost connection") {
  ClientRig rig;
  REQUIRE(rig.refresh().ok());
  rig.cluster.no_answer<wire::CreateTopicsRequest>();
  ClientRig other;
  other.cluster.no_answer<wire::CreateTopicsRequest>();
  REQUIRE(other.refresh().ok());
  for (const bool repeat : {false, true}) {
    CAPTURE(repeat);
    ClientRig& r = repeat ? other : rig;
    CallOptions options;
    options.timeout_ms = 5'000;
    options.repeat_after_loss = repeat;
    ErrorCode outcome = ErrorCode::none;
    r.client.call<wire::CreateTopicsRequest>(
        Target::controller(), {}, options, nullptr,
        [&](Result<wire::CreateTopicsResponse> x) { outcome = x.code(); });
    r.loop.run(100);
    r.cluster.drop_connections();
    r.loop.run(20'000);
    CHECK(outcome != ErrorCode::none);
    CHECK((r.cluster.count(wire::ApiKey::create_topics) > 1) == repeat);
  }
}

TEST_CASE("callbacks of a client that is gone are dropped") {
  VirtualLoop loop;
  FakeCluster cluster(loop);
  auto client = std::make_unique<Client>(loop, cluster, loop, fake_options());
  bool called = false;
  client->refresh(std::nullopt, false, 0, [&](Status s) { called = s.ok(); });
  client.reset();
  loop.run(60'000);
  CHECK_FALSE(called);
}

}  // namespace
}  // namespace millrace::client::testing
