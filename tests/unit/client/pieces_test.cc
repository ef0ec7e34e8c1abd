// The parts of the client that need no connection.
#include <set>

#include "client/addresses.h"
#include "client/api_ranges.h"
#include "client/partitioner.h"
#include "client/range_assignor.h"
#include "support/catch.h"

namespace millrace::client {
namespace {

TEST_CASE("bootstrap lists") {
  const auto list = parse_bootstrap("a:1, b ,[::1]:29092,[fe80::1],,127.0.0.1:65535");
  REQUIRE(list.ok());
  std::vector<std::string> shown;
  for (const io::Endpoint& e : *list) shown.push_back(to_string(e));
  CHECK(shown ==
        std::vector<std::string>{"a:1", "b:9092", "[::1]:29092", "[fe80::1]:9092", "127.0.0.1:65535"});
  for (const char* bad : {"", ",", " , ", "a:", "a:0", "a:65536", "a:b", "a:1x", ":9092", "::1", "[::1",
                          "[::1]x", "[::1]:", "[]:1"}) {
    CAPTURE(bad);
    CHECK(parse_bootstrap(bad).code() == ErrorCode::invalid_argument);
  }
  std::string many;
  for (size_t i = 0; i <= kBootstrapMax; ++i) many += "a,";
  CHECK(parse_bootstrap(many).code() == ErrorCode::invalid_argument);
}

TEST_CASE("murmur2 is Java's") {
  // Values of org.apache.kafka.common.utils.Utils.murmur2, as their public tests list them.
  const std::pair<const char*, int32_t> known[] = {
      {"21", -973932308},
      {"foobar", -790332482},
      {"a-little-bit-long-string", -985981536},
      {"a-little-bit-longer-string", -1486304829},
      {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
      {"abc", 479470107},
  };
  for (const auto& [key, hash] : known) {
    CAPTURE(key);
    CHECK(static_cast<int32_t>(murmur2(as_bytes(key))) == hash);
  }
  CHECK(partition_of_key(as_bytes("foobar"), 1) == 0);
  // The sign bit is dropped, not the value negated.
  CHECK(partition_of_key(as_bytes("21"), 10) ==
        static_cast<int32_t>((static_cast<uint32_t>(-973932308) & 0x7fffffffu) % 10));
}

TopicInfo topic_of(int32_t partitions, int32_t leaderless = -1) {
  TopicInfo t;
  t.name = "t";
  for (int32_t i = 0; i < partitions; ++i) {
    PartitionInfo p;
    p.id = i;
    p.leader = i == leaderless ? -1 : 1;
    t.partitions.push_back(p);
  }
  return t;
}

TEST_CASE("records without a key stick to a partition until the batch is over") {
  StickyPartitions sticky(7);
  const TopicInfo t = topic_of(4);
  std::set<int32_t> used;
  for (int i = 0; i < 50; ++i) {
    const int32_t first = sticky.current(t);
    CHECK(sticky.current(t) == first);
    used.insert(first);
    sticky.advance("t");
    CHECK(sticky.current(t) != first);
  }
  CHECK(used.size() == 4);
  StickyPartitions one(7);
  const TopicInfo single = topic_of(1);
  CHECK(one.current(single) == 0);
  one.advance("t");
  CHECK(one.current(single) == 0);
  StickyPartitions avoiding(7);
  const TopicInfo two = topic_of(2, 1);
  for (int i = 0; i < 10; ++i) {
    // The partition without leader is taken only where there is no other to go to.
    if (i == 0) CHECK(avoiding.current(two) == 0);
    avoiding.advance("t");
  }
}

TEST_CASE("version negotiation") {
  wire::ApiVersionsResponse r;
  r.api_keys = {{0, 3, 9}, {1, 4, 4}, {3, 9, 2}};  // the last one is nonsense
  const ApiRanges ranges(r);
  CHECK(*ranges.choose(wire::ApiKey::produce, 3, 13, "b") == 9);
  CHECK(*ranges.choose(wire::ApiKey::produce, 0, 5, "b") == 5);
  CHECK(*ranges.choose(wire::ApiKey::fetch, 4, 18, "b") == 4);
  const auto old_broker = ranges.choose(wire::ApiKey::fetch, 5, 18, "b:1");
  REQUIRE(old_broker.code() == ErrorCode::unsupported_version);
  CHECK(old_broker.error().message ==
        "the broker at b:1 speaks Fetch 4-4, this client 5-18: the broker is too old");
  const auto old_client = ranges.choose(wire::ApiKey::produce, 0, 2, "b:1");
  REQUIRE(old_client.code() == ErrorCode::unsupported_version);
  CHECK(old_client.error().message.ends_with("the client is too old"));
  CHECK(ranges.choose(wire::ApiKey::list_offsets, 1, 9, "b").code() == ErrorCode::unsupported_version);
  CHECK(ranges.choose(wire::ApiKey::metadata, 0, 13, "b").code() == ErrorCode::unsupported_version);
  CHECK_FALSE(ranges.knows(wire::ApiKey::metadata));
}

TEST_CASE("the range assignor deals as Kafka's does") {
  const std::vector<MemberSubscription> members = {
      {"c", {}, {"t", "u"}}, {"a", {}, {"t", "t"}}, {"b", {}, {"t", "u", "gone"}}};
  const Assignment got = assign_range(members, {{"t", 7}, {"u", 1}});
  const std::vector<TopicPartition> a = {{"t", 0}, {"t", 1}, {"t", 2}};
  const std::vector<TopicPartition> b = {{"t", 3}, {"t", 4}, {"u", 0}};
  const std::vector<TopicPartition> c = {{"t", 5}, {"t", 6}};
  CHECK(got.at("a") == a);
  CHECK(got.at("b") == b);
  CHECK(got.at("c") == c);

  const Assignment few = assign_range({{"x", {}, {"t"}}, {"y", {}, {"t"}}, {"z", {}, {}}}, {{"t", 1}});
  CHECK(few.at("x").size() == 1);
  CHECK(few.at("y").empty());
  CHECK(few.at("z").empty());
  CHECK(assign_range({}, {{"t", 3}}).empty());

  // Static members are ordered by their instance, before the others.
  const Assignment fixed =
      assign_range({{"a", {}, {"t"}}, {"z", "i1", {"t"}}, {"y", "i2", {"t"}}}, {{"t", 3}});
  CHECK(fixed.at("z") == std::vector<TopicPartition>{{"t", 0}});
  CHECK(fixed.at("y") == std::vector<TopicPartition>{{"t", 1}});
  CHECK(fixed.at("a") == std::vector<TopicPartition>{{"t", 2}});
}

TEST_CASE("group protocol blobs") {
  const std::vector<std::string> topics = {"a", "b"};
  CHECK(*decode_subscription(encode_subscription(topics)) == topics);
  const std::vector<TopicPartition> partitions = {{"a", 0}, {"a", 3}, {"b", 1}};
  const Bytes blob = encode_assignment(partitions);
  CHECK(*decode_assignment(blob) == partitions);
  CHECK(decode_assignment({})->empty());
  for (size_t n = 1; n < blob.size(); ++n) {
    CAPTURE(n);
    CHECK(decode_assignment(ByteView(blob).first(n)).code() == ErrorCode::corrupt);
  }
  // A later version with fields of its own at the end is read as far as it is known.
  Bytes later = encode_subscription(topics);
  later[1] = 9;
  later.resize(later.size() + 40);
  CHECK(decode_subscription(later).ok());
  CHECK(decode_subscription(to_bytes(std::string_view("\xff\xff rubbish"))).code() == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::client
