#include "meta/image.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "support/catch.h"

// Allocations of this program, counted: how the tests below see what a change costs.
namespace {
size_t g_allocations = 0;
size_t g_allocated_bytes = 0;
}  // namespace

// The whole family, so that a sanitizer's own never meets ours.
void* operator new(size_t size) {
  ++g_allocations;
  g_allocated_bytes += size;
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
void* operator new[](size_t size) {
  return operator new(size);
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return operator new(size);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return operator new(size);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, const std::nothrow_t&) noexcept {
  std::free(p);
}
void operator delete[](void* p, const std::nothrow_t&) noexcept {
  std::free(p);
}

using namespace millrace;
using namespace millrace::meta;

namespace {

Uuid image_uuid(uint64_t n) {
  Uuid u;
  for (size_t i = 0; i < 8; ++i) u.bytes[15 - i] = static_cast<uint8_t>(n >> (8 * i));
  u.bytes[0] = 1;
  return u;
}

Partition partition_on(int32_t broker) {
  Partition p;
  p.replicas = {BrokerId(broker)};
  p.isr = p.replicas;
  p.leader = BrokerId(broker);
  return p;
}

Image image_of(size_t topics, size_t partitions) {
  Image image;
  for (size_t t = 0; t < topics; ++t) {
    const Uuid id = image_uuid(t + 1);
    REQUIRE(image.apply(TopicRecord{"topic-" + std::to_string(t), id}).ok());
    for (size_t p = 0; p < partitions; ++p) {
      REQUIRE(image.apply(PartitionRecord{id, PartitionId(static_cast<int32_t>(p)), partition_on(1)}).ok());
    }
  }
  return image;
}

}  // namespace

TEST_CASE("topics and partitions are found by name and id") {
  Image image = image_of(3, 2);
  CHECK(image.partition_count() == 6);
  const Topic* t = image.topic("topic-1");
  REQUIRE(t != nullptr);
  CHECK(image.topic(t->id) == t);
  CHECK(t->partitions.size() == 2);
  CHECK(image.topic("topic-9") == nullptr);
  CHECK(image.partition(t->id, PartitionId(1)) == &t->partitions[1]);
  CHECK(image.partition(t->id, PartitionId(2)) == nullptr);
  CHECK(image.partition(t->id, PartitionId(-1)) == nullptr);

  Delta delta;
  const Uuid id = t->id;
  REQUIRE(image.apply(RemoveTopicRecord{id}, &delta).ok());
  CHECK(image.topic("topic-1") == nullptr);
  CHECK(image.topic(id) == nullptr);
  CHECK(image.partition_count() == 4);
  CHECK(delta.topics == std::set<Uuid>{id});
}

TEST_CASE("a partition change counts epochs") {
  Image image = image_of(1, 1);
  const Uuid id = image_uuid(1);
  PartitionChangeRecord change{.topic_id = id, .partition = PartitionId(0)};
  change.isr = std::vector<BrokerId>{};
  REQUIRE(image.apply(change).ok());
  CHECK(image.partition(id, PartitionId(0))->leader_epoch == LeaderEpoch(0));
  CHECK(image.partition(id, PartitionId(0))->partition_epoch == 1);
  CHECK(image.partition(id, PartitionId(0))->isr.empty());
  CHECK(image.partition(id, PartitionId(0))->leader == BrokerId(1));
  change.leader = BrokerId(1);
  REQUIRE(image.apply(change).ok());
  CHECK(image.partition(id, PartitionId(0))->leader_epoch == LeaderEpoch(1));
  CHECK(image.partition(id, PartitionId(0))->partition_epoch == 2);
}

TEST_CASE("records that do not fit are refused and change nothing") {
  Image image = image_of(1, 1);
  Broker b;
  b.id = BrokerId(1);
  b.epoch = BrokerEpoch(4);
  REQUIRE(image.apply(RegisterBrokerRecord{b}).ok());
  REQUIRE(image.apply(ProducerIdsRecord{BrokerId(1), BrokerEpoch(4), ProducerId(2000)}).ok());
  const Image before = image;
  const Uuid known = image_uuid(1);
  const Uuid unknown = image_uuid(99);
  const std::vector<Record> misfits = {
      TopicRecord{"topic-0", unknown},
      TopicRecord{"other", known},
      TopicRecord{"", unknown},
      TopicRecord{"zero", Uuid{}},
      PartitionRecord{unknown, PartitionId(0), {}},
      PartitionRecord{known, PartitionId(2), {}},
      PartitionRecord{known, PartitionId(-1), {}},
      PartitionChangeRecord{.topic_id = unknown, .partition = PartitionId(0)},
      PartitionChangeRecord{.topic_id = known, .partition = PartitionId(1)},
      RemoveTopicRecord{unknown},
      ConfigRecord{{ResourceType::topic, "t"}, "", "v"},
      FeatureLevelRecord{"f", -1},
      RegisterBrokerRecord{Broker{}},
      BrokerChangeRecord{.id = BrokerId(1), .epoch = BrokerEpoch(3)},
      BrokerChangeRecord{.id = BrokerId(2), .epoch = BrokerEpoch(4)},
      UnregisterBrokerRecord{BrokerId(1), BrokerEpoch(3)},
      ProducerIdsRecord{BrokerId(1), BrokerEpoch(4), ProducerId(1999)},
  };
  for (const Record& r : misfits) {
    INFO(r.index());
    Delta delta;
    CHECK(image.apply(r, &delta).code() == ErrorCode::corrupt);
    CHECK(delta.topics.empty());
    CHECK(delta.brokers.empty());
  }
  CHECK(same_state(image, before));

  // A row of records is applied as a whole or not at all.
  const std::vector<Record> half = {TopicRecord{"fine", unknown}, RemoveTopicRecord{image_uuid(77)}};
  Delta delta;
  CHECK(image.apply(half, &delta).code() == ErrorCode::corrupt);
  CHECK(image.topic("fine") == nullptr);
  CHECK(delta.topics.empty());
}

TEST_CASE("names that collide in metrics are found") {
  Image image;
  REQUIRE(image.apply(TopicRecord{"a.b", image_uuid(1)}).ok());
  REQUIRE(image.apply(TopicRecord{"plain", image_uuid(2)}).ok());
  CHECK(image.colliding_topics("a_b") == std::vector<std::string>{"a.b"});
  CHECK(image.colliding_topics("a.b").empty());
  CHECK(image.colliding_topics("plain").empty());
  REQUIRE(image.apply(RemoveTopicRecord{image_uuid(1)}).ok());
  CHECK(image.colliding_topics("a_b").empty());
}

TEST_CASE("brokers, configurations and features come and go") {
  Image image;
  Broker b;
  b.id = BrokerId(1);
  b.epoch = BrokerEpoch(4);
  Delta delta;
  REQUIRE(image.apply(RegisterBrokerRecord{b}, &delta).ok());
  CHECK(image.next_broker_epoch() == BrokerEpoch(5));
  CHECK(image.broker(BrokerId(1))->fenced);
  BrokerChangeRecord change{.id = BrokerId(1), .epoch = BrokerEpoch(4)};
  change.fenced = false;
  change.in_controlled_shutdown = true;
  REQUIRE(image.apply(change).ok());
  CHECK_FALSE(image.broker(BrokerId(1))->fenced);
  CHECK(image.broker(BrokerId(1))->in_controlled_shutdown);
  REQUIRE(image.apply(UnregisterBrokerRecord{BrokerId(1), BrokerEpoch(4)}).ok());
  CHECK(image.broker(BrokerId(1)) == nullptr);
  CHECK(image.next_broker_epoch() == BrokerEpoch(5));  // epochs are never given twice
  CHECK(delta.brokers == std::set<BrokerId>{BrokerId(1)});

  const ConfigResource topic{ResourceType::topic, "t"};
  REQUIRE(image.apply(ConfigRecord{topic, "retention.ms", "5"}, &delta).ok());
  CHECK(image.topic_config("t")->at("retention.ms") == "5");
  REQUIRE(image.apply(ConfigRecord{topic, "retention.ms", std::nullopt}).ok());
  CHECK(image.topic_config("t") == nullptr);
  CHECK(delta.configs == std::set<ConfigResource>{topic});

  REQUIRE(image.apply(FeatureLevelRecord{"f", 2}, &delta).ok());
  CHECK(image.feature_level("f") == 2);
  REQUIRE(image.apply(FeatureLevelRecord{"f", 0}).ok());
  CHECK(image.feature_level("f") == 0);
  CHECK(delta.features);
}

TEST_CASE("with 100,000 partitions a change costs what changed") {
  const Image before = image_of(1000, 100);
  REQUIRE(before.partition_count() == 100'000);
  const Topic* untouched = before.topic("topic-1");
  const Topic* touched = before.topic("topic-500");
  PartitionChangeRecord change{.topic_id = touched->id, .partition = PartitionId(50)};
  change.leader = kNoBroker;

  Image after = before;
  g_allocations = 0;
  g_allocated_bytes = 0;
  REQUIRE(after.apply(change).ok());
  // Two paths of a 1000-entry treap (depth ~ 2 log2 n), one chunk of references, one partition.
  CHECK(g_allocations < 200);
  CHECK(g_allocated_bytes < 20'000);

  CHECK(after.topic("topic-1") == untouched);  // the very same object
  CHECK(after.topic("topic-500") != touched);
  CHECK(&after.topic("topic-500")->partitions[49] == &touched->partitions[49]);
  CHECK(&after.topic("topic-500")->partitions[50] != &touched->partitions[50]);
  CHECK(touched->partitions[50].leader == BrokerId(1));  // the published image never changes
  CHECK(after.topic("topic-500")->partitions[50].leader == kNoBroker);

  g_allocations = 0;
  const Image copy = after;
  CHECK(g_allocations == 0);
  CHECK(copy.partition_count() == 100'000);
}

TEST_CASE("in one topic of 10,000 partitions a change copies one chunk and the references to the others") {
  const Image before = image_of(1, 10'000);
  Image after = before;
  PartitionChangeRecord change{.topic_id = image_uuid(1), .partition = PartitionId(9'999)};
  change.leader = kNoBroker;
  g_allocations = 0;
  g_allocated_bytes = 0;
  REQUIRE(after.apply(change).ok());
  CHECK(g_allocations < 30);
  CHECK(g_allocated_bytes < 8'000);
  CHECK(&after.topic(image_uuid(1))->partitions[0] == &before.topic(image_uuid(1))->partitions[0]);
}

TEST_CASE("partition lists can be walked") {
  const Image image = image_of(1, 130);
  int32_t n = 0;
  for (const Partition& p : image.topic("topic-0")->partitions) n += p.leader.v;
  CHECK(n == 130);
}

TEST_CASE("a snapshot gives the same image back and notices damage") {
  Image image = image_of(20, 70);
  REQUIRE(image.apply(ClusterRecord{image_uuid(500), BrokerEpoch(7)}).ok());
  REQUIRE(image.apply(FeatureLevelRecord{"f", 2}).ok());
  Broker b;
  b.id = BrokerId(1);
  b.epoch = BrokerEpoch(4);
  b.endpoints = {{"PLAINTEXT", "h", 9092, SecurityProtocol::plaintext}};
  REQUIRE(image.apply(RegisterBrokerRecord{b}).ok());
  REQUIRE(image.apply(ProducerIdsRecord{BrokerId(1), BrokerEpoch(4), ProducerId(2000)}).ok());
  REQUIRE(image.apply(ConfigRecord{{ResourceType::topic, "topic-1"}, "retention.ms", "5"}).ok());
  PartitionChangeRecord change{.topic_id = image_uuid(3), .partition = PartitionId(69)};
  change.leader = kNoBroker;
  REQUIRE(image.apply(change).ok());
  image.set_applied(LogIndex(77), Term(3));

  const Bytes bytes = encode_snapshot(image);
  const auto back = decode_snapshot(bytes);
  REQUIRE(back.ok());
  CHECK(same_state(*back, image));
  CHECK(back->applied_index() == LogIndex(77));
  CHECK(back->applied_term() == Term(3));
  CHECK(back->next_broker_epoch() == BrokerEpoch(7));
  CHECK(back->next_producer_id() == ProducerId(2000));
  CHECK(back->cluster_id() == image_uuid(500));
  CHECK(encode_snapshot(*back) == bytes);
  CHECK_FALSE(same_state(*back, Image{}));

  for (size_t cut :
       {size_t{0}, size_t{7}, size_t{8}, size_t{12}, size_t{20}, bytes.size() / 2, bytes.size() - 1}) {
    INFO(cut);
    CHECK(decode_snapshot(ByteView(bytes).first(cut)).code() == ErrorCode::corrupt);
  }
  for (size_t at = 0; at < bytes.size(); at += 997) {
    Bytes damaged = bytes;
    damaged[at] ^= 0x10;
    INFO(at);
    CHECK(decode_snapshot(damaged).code() == ErrorCode::corrupt);
  }
  // A missing frame at the end is noticed by the count.
  Bytes header_only(bytes.begin(), bytes.begin() + 16 + static_cast<std::ptrdiff_t>(bytes[11]));
  CHECK(decode_snapshot(header_only).code() == ErrorCode::corrupt);
  const auto empty = decode_snapshot(encode_snapshot(Image{}));
  REQUIRE(empty.ok());
  CHECK(same_state(*empty, Image{}));
}

TEST_CASE("a delta names the partitions that changed, and none of a topic that is gone") {
  Image image = image_of(3, 10);
  Delta delta;
  PartitionChangeRecord change{.topic_id = image_uuid(1), .partition = PartitionId(4)};
  change.leader = kNoBroker;
  REQUIRE(image.apply(change, &delta).ok());
  const std::vector<Record> entry = {change, PartitionRecord{image_uuid(2), PartitionId(10), partition_on(1)},
                                     PartitionRecord{image_uuid(3), PartitionId(10), partition_on(1)},
                                     RemoveTopicRecord{image_uuid(3)}};
  REQUIRE(image.apply(entry, &delta).ok());
  CHECK(delta.topics == std::set<Uuid>{image_uuid(1), image_uuid(2), image_uuid(3)});
  REQUIRE(delta.partitions.size() == 2);
  CHECK(delta.partitions[image_uuid(1)] == std::set<PartitionId>{PartitionId(4)});
  CHECK(delta.partitions[image_uuid(2)] == std::set<PartitionId>{PartitionId(10)});
  REQUIRE(image.apply(RemoveTopicRecord{image_uuid(1)}, &delta).ok());
  CHECK(delta.partitions.size() == 1);
}

TEST_CASE("a snapshot is written in pieces of bounded size and read as it comes") {
  Image image = image_of(40, 200);
  for (int i = 0; i < 60; ++i) {
    const ConfigResource topic{ResourceType::topic, "topic-" + std::to_string(i % 40)};
    REQUIRE(image.apply(ConfigRecord{topic, "key-" + std::to_string(i), std::string(30'000, 'x')}).ok());
  }
  image.set_applied(LogIndex(5), Term(2));
  Bytes whole;
  size_t pieces = 0;
  size_t largest = 0;
  REQUIRE(write_snapshot(image, [&](ByteView piece) {
            whole.insert(whole.end(), piece.begin(), piece.end());
            largest = std::max(largest, piece.size());
            ++pieces;
            return Status();
          }).ok());
  CHECK(whole == encode_snapshot(image));
  CHECK(pieces > 8);
  CHECK(largest < kSnapshotPiece + 64 * 1024);
  for (const size_t cut : {size_t{1}, size_t{7}, size_t{4096}, whole.size()}) {
    INFO(cut);
    SnapshotReader reader;
    for (size_t at = 0; at < whole.size(); at += cut) {
      if (cut == 1 && at > 20'000) {
        REQUIRE(reader.add(ByteView(whole).subspan(at)).ok());
        break;
      }
      REQUIRE(reader.add(ByteView(whole).subspan(at, std::min(cut, whole.size() - at))).ok());
    }
    const auto back = reader.finish();
    REQUIRE(back.ok());
    CHECK(same_state(*back, image));
    CHECK(back->applied_index() == LogIndex(5));
  }
  // The writer stops where the taker says no.
  size_t taken = 0;
  const Status full = write_snapshot(image, [&taken](ByteView) -> Status {
    if (++taken == 3) return Error(ErrorCode::no_space);
    return {};
  });
  CHECK(full.code() == ErrorCode::no_space);
  CHECK(taken == 3);
  // A frame that claims more than any writer makes is refused before it is waited for.
  Bytes huge(whole.begin(), whole.begin() + 8);
  huge.insert(huge.end(), {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0});
  SnapshotReader reader;
  CHECK(reader.add(huge).code() == ErrorCode::corrupt);
}
