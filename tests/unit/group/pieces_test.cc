// The small parts: the partition hash, records and their damage, subscriptions, the offset store, limits.
#include "group/offsets.h"
#include "group/partition_for.h"
#include "group/subscription.h"
#include "shard_host.h"
#include "wire/records/group_metadata.h"
#include "wire/records/offset_commit.h"

namespace millrace::group::testing {
namespace {

Bytes hex(std::string_view text) {
  Bytes out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

GroupMetadata two_members() {
  GroupMetadata m;
  m.protocol_type = "consumer";
  m.generation = 7;
  m.protocol = "range";
  m.leader = "a";
  m.current_state_timestamp_ms = 1234;
  m.members["a"] = {"instance", "client", "/1.2.3.4", 300'000, 45'000, {1, 2}, {3}};
  m.members["b"] = {std::nullopt, "", "", 1, 2, {}, {}};
  return m;
}

ClientContext v(int16_t version) {
  ClientContext c;
  c.client_id = "c";
  c.client_host = "/h";
  c.api_version = version;
  return c;
}

JoinGroupRequest join_request(const std::string& group) {
  JoinGroupRequest r;
  r.group_id = group;
  r.session_timeout_ms = 10'000;
  r.rebalance_timeout_ms = 20'000;
  r.protocol_type = "consumer";
  auto& p = r.protocols.emplace_back();
  p.name = "range";
  p.metadata = subscription_bytes({"t"});
  return r;
}

OffsetCommitRequest commit_request(const std::string& group, int32_t partitions) {
  OffsetCommitRequest r;
  r.group_id = group;
  auto& t = r.topics.emplace_back();
  t.name = "t";
  for (int32_t i = 0; i < partitions; ++i) t.partitions.emplace_back().partition_index = i;
  return r;
}

int16_t number(ErrorCode code) {
  return static_cast<int16_t>(code);
}

}  // namespace

TEST_CASE("a group's partition is the one that Java finds", "[group]") {
  CHECK(java_string_hash("") == 0);
  CHECK(java_string_hash("abc") == 96354);
  CHECK(java_string_hash("my-group") == -1906497762);
  CHECK(java_string_hash("gr\xc3\xbcppe") == -1233264812);
  CHECK(java_string_hash("\xf0\x9f\x98\x80") == 1772899);  // two UTF-16 units
  CHECK(java_string_hash("polygenelubricants") == INT32_MIN);
  // Malformed UTF-8: overlong, surrogate, cut short, stray.
  CHECK(java_string_hash("\xff") == 0xFFFD);
  CHECK(java_string_hash("\xe2\x82") == 0xFFFD);
  CHECK(java_string_hash("\xc0\x80") == 0xFFFD * 31 + 0xFFFD);
  CHECK(java_string_hash("\xe2\x82z") == 0xFFFD * 31 + 'z');

  CHECK(partition_for("my-group", 50) == 12);
  CHECK(partition_for("polygenelubricants", 50) == 0);
  CHECK(partition_for("connect-cluster", 50) == 13);
  CHECK(partition_for("console-consumer-12345", 50) == 6);
  CHECK(partition_for("anything", 1) == 0);
}

TEST_CASE("records are laid out as Kafka lays them out", "[group]") {
  CHECK(encode_key(OffsetKey{"g", "t", 3}) == hex("0001"
                                                  "000167"
                                                  "000174"
                                                  "00000003"));
  CHECK(encode_key(GroupKey{"g"}) == hex("0002"
                                         "000167"));
  CommittedOffset o;
  o.offset = 5;
  o.leader_epoch = 2;
  o.metadata = "m";
  o.commit_timestamp_ms = 256;
  CHECK(encode_value(o) == hex("0003"
                               "0000000000000005"
                               "00000002"
                               "00016d"
                               "0000000000000100"));
  o.expire_timestamp_ms = 512;
  CHECK(encode_value(o) == hex("0001"
                               "0000000000000005"
                               "00016d"
                               "0000000000000100"
                               "0000000000000200"));
  GroupMetadata empty;
  empty.protocol_type = "c";
  empty.generation = 1;
  empty.current_state_timestamp_ms = 256;
  CHECK(encode_value(empty) == hex("0003"
                                   "000163"
                                   "00000001"
                                   "ffff"
                                   "ffff"
                                   "0000000000000100"
                                   "00000000"));
}

TEST_CASE("records come back as they were, from every version", "[group]") {
  CommittedOffset o;
  o.offset = 42;
  o.metadata = "x";
  o.commit_timestamp_ms = 9;
  SECTION("offsets") {
    o.leader_epoch = 4;
    CHECK(*decode_offset_value(encode_value(o)) == o);
    o.topic_id = test_uuid(77);
    CHECK(*decode_offset_value(encode_value(o)) == o);
    o.topic_id = {};
    o.leader_epoch = -1;
    o.expire_timestamp_ms = 10;
    CHECK(*decode_offset_value(encode_value(o)) == o);
    o.expire_timestamp_ms = -1;
    for (int16_t version = 0; version <= 4; ++version) {
      wire::OffsetCommitValue w;
      w.offset = 42;
      w.metadata = "x";
      w.commit_timestamp = 9;
      CHECK(*decode_offset_value(wire::encode_versioned(w, version)) == o);
    }
    wire::LegacyOffsetCommitKey legacy;
    legacy.group = "g";
    legacy.topic = "t";
    legacy.partition = 1;
    const auto key = decode_key(wire::encode_key(legacy));
    REQUIRE(key.ok());
    CHECK(std::get<OffsetKey>(key.value()) == OffsetKey{"g", "t", 1});
  }
  SECTION("groups") {
    const GroupMetadata m = two_members();
    CHECK(*decode_group_value(encode_value(m)) == m);
    wire::GroupMetadataValue w;
    w.protocol_type = "consumer";
    w.generation = 3;
    auto& member = w.members.emplace_back();
    member.member_id = "a";
    member.session_timeout = 10'000;
    member.rebalance_timeout = 20'000;
    for (int16_t version = 0; version <= 4; ++version) {
      const auto back = decode_group_value(wire::encode_versioned(w, version));
      REQUIRE(back.ok());
      // The first version knew no rebalance timeout.
      CHECK(back.value().members.at("a").rebalance_timeout_ms == (version == 0 ? 10'000 : 20'000));
    }
    w.members.push_back(w.members[0]);
    CHECK(decode_group_value(wire::encode_versioned(w, 3)).code() == ErrorCode::corrupt);
  }
}

TEST_CASE("damaged records are skipped and counted", "[group]") {
  const Bytes group_value = encode_value(two_members());
  for (size_t n = 0; n < group_value.size(); ++n) {
    CHECK(decode_group_value(ByteView(group_value).first(n)).code() == ErrorCode::corrupt);
  }
  const Bytes offset_value = encode_value(CommittedOffset{});
  for (size_t n = 0; n < offset_value.size(); ++n) {
    CHECK(decode_offset_value(ByteView(offset_value).first(n)).code() == ErrorCode::corrupt);
  }
  CHECK(decode_offset_value(hex("0005"
                                "0000000000000005"))
            .code() == ErrorCode::corrupt);

  GroupShard shard({});
  const Bytes key = encode_key(GroupKey{"g"});
  shard.apply(key, ByteView(group_value).first(9), {});
  shard.apply(hex("00"), std::nullopt, {});
  shard.apply(encode_key(OffsetKey{"g", "t", 0}), ByteView(offset_value).first(3), {});
  CHECK(shard.counters().records_corrupt == 3);
  shard.apply(hex("0003000167"), group_value, {});
  shard.apply(hex("7fff"), std::nullopt, {});
  CHECK(shard.counters().records_unknown == 2);
  CHECK(shard.replicated_to_string().empty());

  // Members without a leader among them: read, but not believed.
  GroupMetadata headless = two_members();
  headless.leader = "z";
  shard.apply(key, ByteView(encode_value(headless)), {});
  shard.on_loaded({});
  CHECK(shard.live("g") == nullptr);
  CHECK(shard.counters().records_corrupt == 4);
}

TEST_CASE("a subscription's topics are read from every version", "[group]") {
  wire::ConsumerProtocolSubscription s;
  s.topics = {"b", "a", "b"};
  s.generation_id = 4;
  for (int16_t version = 0; version <= 3; ++version) {
    CHECK(subscription_topics(wire::encode_versioned(s, version)) == std::set<std::string>{"a", "b"});
  }
  Bytes newer = wire::encode_versioned(s, 3);
  newer[1] = 9;
  CHECK(subscription_topics(newer) == std::set<std::string>{"a", "b"});
  CHECK_FALSE(subscription_topics({}));
  CHECK_FALSE(subscription_topics(hex("00007fffffff")));
}

TEST_CASE("offsets in a transaction wait for its end", "[group]") {
  OffsetStore store;
  const OffsetKey key{"g", "t", 0};
  const auto at = [](int64_t offset) {
    CommittedOffset o;
    o.offset = offset;
    return o;
  };
  store.put_pending(ProducerId(1), key, at(10));
  CHECK(store.has_pending("g"));
  CHECK(store.has_pending("g", "t", 0));
  CHECK_FALSE(store.has_pending("g", "t", 1));
  CHECK(store.find("g", "t", 0) == nullptr);
  CHECK(store.count("g") == 0);
  SECTION("committed") {
    store.end_transaction(ProducerId(2), true);
    CHECK(store.find("g", "t", 0) == nullptr);
    store.end_transaction(ProducerId(1), true);
    REQUIRE(store.find("g", "t", 0) != nullptr);
    CHECK(store.find("g", "t", 0)->offset == 10);
    CHECK(store.count("g") == 1);
    CHECK_FALSE(store.has_pending("g"));
  }
  SECTION("aborted") {
    store.end_transaction(ProducerId(1), false);
    CHECK(store.group_count() == 0);
  }
  SECTION("a later plain commit wins over it") {
    store.put(key, at(20));
    store.end_transaction(ProducerId(1), true);
    CHECK(store.find("g", "t", 0)->offset == 20);
  }
  SECTION("an earlier plain commit does not") {
    store.put(OffsetKey{"g", "t", 1}, at(5));
    store.put_pending(ProducerId(1), OffsetKey{"g", "t", 1}, at(6));
    store.end_transaction(ProducerId(1), true);
    CHECK(store.find("g", "t", 1)->offset == 6);
    CHECK(store.count("g") == 2);
  }
  SECTION("a tombstone takes it away") {
    store.erase(key);
    store.end_transaction(ProducerId(1), true);
    CHECK(store.group_count() == 0);
  }
}

TEST_CASE("a transactional commit is unstable until its marker", "[group]") {
  ShardHost host({});
  TxnOffsetCommitRequest r;
  r.group_id = "g";
  r.producer_id = 9;
  r.producer_epoch = 1;
  auto& t = r.topics.emplace_back();
  t.name = "t";
  t.partitions.emplace_back().committed_offset = 5;
  Output out;
  host.shard().handle(Token(1), r, v(3), host.now, out);
  REQUIRE(out.records.size() == 1);
  REQUIRE(out.producer);
  CHECK(out.producer->id == ProducerId(9));
  CHECK(out.producer->epoch == ProducerEpoch(1));
  host.shard().apply(out.records[0].key, ByteView(*out.records[0].value), host.now, ProducerId(9));

  OffsetFetchRequest fetch;
  fetch.group.group_id = "g";
  fetch.group.topics.emplace().emplace_back().name = "t";
  fetch.group.topics->back().partition_indexes = {0};
  const auto fetched = [&] {
    host.send(fetch, v(8));
    return host.only_reply<OffsetFetchResponse>().topics.at(0).partitions.at(0);
  };
  CHECK(fetched().error_code == 0);
  CHECK(fetched().committed_offset == -1);
  fetch.require_stable = true;
  CHECK(fetched().error_code == number(ErrorCode::unstable_offset_commit));
  CHECK(fetched().committed_offset == -1);
  host.shard().apply_marker(ProducerId(9), true);
  CHECK(fetched().error_code == 0);
  CHECK(fetched().committed_offset == 5);
}

TEST_CASE("a deleted group takes pending offsets with it", "[group]") {
  ShardHost host({});
  host.shard().apply(encode_key(OffsetKey{"g", "t", 0}), ByteView(encode_value(CommittedOffset{})), host.now,
                     ProducerId(3));
  DeleteGroupsRequest r;
  r.groups_names = {"g"};
  host.send(r, v(2));
  CHECK(host.only_reply<DeleteGroupsResponse>().results.at(0).error_code == 0);
  CHECK(host.shard().group_count() == 0);
  host.shard().apply_marker(ProducerId(3), true);
  CHECK(host.shard().group_count() == 0);
}

TEST_CASE("every limit refuses with its code", "[group]") {
  GroupLimits limits;
  limits.initial_rebalance_delay_ms = 0;
  SECTION("groups") {
    limits.groups_max = 2;
    ShardHost host(limits);
    for (const char* name : {"a", "b"}) host.send(commit_request(name, 1), v(8));
    host.take_replies();
    host.send(commit_request("c", 1), v(8));
    CHECK(host.only_reply<OffsetCommitResponse>().topics[0].partitions[0].error_code ==
          number(ErrorCode::policy_violation));
    host.send(join_request("c"), v(5));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::policy_violation));
    host.send(join_request("a"), v(5));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::member_id_required));
    CHECK(host.shard().counters().limit_refusals == 2);
  }
  SECTION("pending members") {
    limits.pending_members_max = 1;
    ShardHost host(limits);
    host.send(join_request("g"), v(5));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::member_id_required));
    host.send(join_request("g"), v(5));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::group_max_size_reached));
  }
  SECTION("protocols and their metadata") {
    limits.protocols_per_member_max = 2;
    limits.member_metadata_bytes_max = 100;
    ShardHost host(limits);
    JoinGroupRequest r = join_request("g");
    r.protocols.resize(3, r.protocols[0]);
    host.send(r, v(3));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::invalid_request));
    r.protocols.resize(1);
    r.protocols[0].metadata.resize(101);
    host.send(r, v(3));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::invalid_request));
    CHECK(host.shard().group_count() == 0);
  }
  SECTION("names that no record could hold") {
    ShardHost host(limits);
    host.send(join_request(std::string(kIdBytesMax + 1, 'g')), v(3));
    CHECK(host.only_reply<JoinGroupResponse>().error_code == number(ErrorCode::invalid_group_id));
    OffsetCommitRequest r = commit_request(std::string(kIdBytesMax + 1, 'g'), 1);
    host.send(r, v(8));
    CHECK(host.only_reply<OffsetCommitResponse>().topics[0].partitions[0].error_code ==
          number(ErrorCode::invalid_group_id));
    r = commit_request("g", 1);
    r.topics[0].name.assign(kIdBytesMax + 1, 't');
    host.send(r, v(8));
    CHECK(host.only_reply<OffsetCommitResponse>().topics[0].partitions[0].error_code ==
          number(ErrorCode::invalid_topic_exception));
    CHECK(host.log.empty());
  }
  SECTION("offsets of a commit, and of a group") {
    limits.offsets_per_commit_max = 3;
    limits.offsets_per_group_max = 2;
    ShardHost host(limits);
    host.send(commit_request("g", 4), v(8));
    const auto refused = host.only_reply<OffsetCommitResponse>();
    REQUIRE(refused.topics[0].partitions.size() == 4);
    for (const auto& p : refused.topics[0].partitions) {
      CHECK(p.error_code == number(ErrorCode::invalid_commit_offset_size));
    }
    for (int again = 0; again < 2; ++again) {
      host.send(commit_request("g", 3), v(8));
      const auto r = host.only_reply<OffsetCommitResponse>();
      CHECK(r.topics[0].partitions[0].error_code == 0);
      CHECK(r.topics[0].partitions[1].error_code == 0);
      CHECK(r.topics[0].partitions[2].error_code == number(ErrorCode::invalid_commit_offset_size));
    }
  }
  SECTION("a group loaded larger than allowed shrinks at its next rebalance") {
    limits.group_size_max = 2;
    ShardHost host(limits);
    GroupMetadata m = two_members();
    m.members["c"] = m.members["b"];
    for (auto& [id, member] : m.members) member.session_timeout_ms = 10'000;
    host.log.push_back({encode_key(GroupKey{"g"}), encode_value(m)});
    host.reload();
    CHECK(host.shard().to_string("g") ==
          "PreparingRebalance generation 7 protocol range leader a members a b c");
    JoinGroupRequest r = join_request("g");
    for (const char* id : {"b", "c"}) {
      r.member_id = id;
      host.send(r, v(5));
    }
    CHECK(host.take_replies().empty());
    r.member_id = "a";
    r.group_instance_id = "instance";
    host.send(r, v(5));
    const auto replies = host.take_replies();
    REQUIRE(replies.size() == 3);
    CHECK(host.shard().to_string("g") ==
          "CompletingRebalance generation 8 protocol range leader b members b c");
  }
}

TEST_CASE("a tick writes a bounded number of records", "[group]") {
  GroupLimits limits;
  limits.records_per_tick_max = 10;
  limits.offsets_retention_ms = 1'000;
  limits.offsets_retention_check_interval_ms = 5'000;
  ShardHost host(limits);
  for (int i = 0; i < 7; ++i) host.send(commit_request("g" + std::to_string(i), 5), v(8));
  host.send(commit_request("h", 25), v(8));
  const size_t before = host.log.size();
  host.now.mono_ms += 5'000;
  host.now.wall_ms += 5'000;
  int ticks = 0;
  while (host.shard().next_deadline_mono_ms() <= host.now.mono_ms) {
    const size_t had = host.log.size();
    host.tick();
    CHECK(host.log.size() - had <= 10);
    REQUIRE(++ticks < 20);
  }
  CHECK(host.log.size() - before == 60);
  CHECK(host.shard().group_count() == 0);
  CHECK(host.shard().counters().offsets_expired == 60);
}

}  // namespace millrace::group::testing
