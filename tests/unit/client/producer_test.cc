// What the producer sends: batches, sequence numbers, repetition.
#include "client/producer.h"

#include "record/batch_iterator.h"
#include "record/opened_batch.h"
#include "support/catch.h"
#include "unit/client/fake_cluster.h"

namespace millrace::client::testing {
namespace {

struct SentBatch {
  int32_t partition = 0;
  int64_t producer_id = -1;
  int32_t base_sequence = -1;
  std::vector<std::string> values;
};

struct ProducerRig {
  VirtualLoop loop;
  FakeCluster cluster{loop};
  Client client{loop, cluster, loop, fake_options()};
  std::vector<SentBatch> sent;
  std::deque<ErrorCode> answers;  // then none
  int64_t next_offset = 0;
  int64_t next_producer_id = 500;
  std::unique_ptr<Producer> producer;
  std::vector<Result<Delivery>> outcomes;

  explicit ProducerRig(ProducerOptions options = {}) {
    cluster.add_topic("t", {1, 1});
    cluster.on<wire::ProduceRequest>([this](int, const wire::ProduceRequest& q) { return produce(q); });
    cluster.on<wire::InitProducerIdRequest>([this](int, const wire::InitProducerIdRequest& q) {
      CHECK_FALSE(q.transactional_id.has_value());
      wire::InitProducerIdResponse r;
      r.producer_id = next_producer_id++;
      return r;
    });
    producer = std::make_unique<Producer>(client, options);
  }

  wire::ProduceResponse produce(const wire::ProduceRequest& q) {
    wire::ProduceResponse r;
    for (const auto& topic : q.topic_data) {
      auto& t = r.responses.emplace_back();
      t.name = topic.name;
      t.topic_id = topic.topic_id;
      for (const auto& p : topic.partition_data) {
        const auto batch = record::single_batch(p.records.view);
        REQUIRE(batch.ok());
        CHECK(batch->crc_matches());
        SentBatch s{p.index, batch->producer_id().v, batch->base_sequence(), {}};
        record::Codecs codecs;
        const auto opened = record::OpenedBatch::open(*batch, codecs, 1 << 20);
        REQUIRE(opened.ok());
        auto reader = opened->reader();
        record::Record rec;
        while (*reader.next(rec)) s.values.emplace_back(rec.value ? as_text(*rec.value) : "(null)");
        auto& out = t.partition_responses.emplace_back();
        out.index = p.index;
        if (!answers.empty()) {
          out.error_code = static_cast<int16_t>(answers.front());
          answers.pop_front();
        }
        if (out.error_code == 0) {
          out.base_offset = next_offset;
          next_offset += static_cast<int64_t>(s.values.size());
        }
        sent.push_back(std::move(s));
      }
    }
    return r;
  }
  void send(const std::string& value, std::optional<int32_t> partition = 0,
            std::optional<std::string> key = {}) {
    ProducerRecord r;
    r.topic = "t";
    r.partition = partition;
    if (key) r.key = to_bytes(*key);
    r.value = to_bytes(value);
    producer->send(std::move(r), [this](Result<Delivery> d) { outcomes.push_back(std::move(d)); });
  }
};

TEST_CASE("records gather while they linger") {
  ProducerRig rig;
  rig.send("a");
  rig.send("b");
  rig.loop.run(3);
  CHECK(rig.sent.empty());
  rig.loop.run(100);
  REQUIRE(rig.sent.size() == 1);
  CHECK(rig.sent[0].values == std::vector<std::string>{"a", "b"});
  REQUIRE(rig.outcomes.size() == 2);
  CHECK(rig.outcomes[0]->offset == 0);
  CHECK(rig.outcomes[1]->offset == 1);
  CHECK(rig.producer->held_bytes() == 0);
}

TEST_CASE("a full batch does not linger, a flush sends at once, each record is told where it went") {
  ProducerOptions o;
  o.batch_bytes_max = 300;
  o.linger_ms = 1'000'000;
  o.codec = record::Codec::zstd;
  ProducerRig rig(o);
  for (int i = 0; i < 6; ++i) rig.send(std::string(100, static_cast<char>('a' + i)));
  rig.loop.run(500);
  CHECK(rig.sent.size() == 2);  // of two records each; the other two may still get company
  rig.send("last", 1);
  bool flushed = false;
  rig.producer->flush([&] { flushed = true; });
  CHECK_FALSE(flushed);
  rig.loop.run(500);
  CHECK(flushed);
  CHECK(rig.outcomes.size() == 7);
  CHECK(rig.sent.back().partition == 1);
  flushed = false;
  rig.producer->flush([&] { flushed = true; });
  CHECK(flushed);
}

TEST_CASE("records of a flush that comes before the topic is known share a batch") {
  ProducerRig rig;
  for (const char* v : {"a", "b", "c"}) rig.send(v);
  bool flushed = false;
  rig.producer->flush([&] { flushed = true; });
  rig.loop.run(1'000);
  CHECK(flushed);
  REQUIRE(rig.sent.size() == 1);
  CHECK(rig.sent[0].values.size() == 3);
}

TEST_CASE("a retriable answer repeats the same batch, in order") {
  ProducerRig rig;
  rig.answers = {ErrorCode::not_leader_or_follower, ErrorCode::not_enough_replicas};
  rig.send("a");
  rig.loop.run(20);
  rig.send("b");
  rig.loop.run(10'000);
  REQUIRE(rig.sent.size() == 4);
  for (const size_t i : {0u, 1u, 2u}) CHECK(rig.sent[i].values == std::vector<std::string>{"a"});
  CHECK(rig.sent[3].values == std::vector<std::string>{"b"});
  CHECK(rig.outcomes.size() == 2);
  CHECK(rig.outcomes[1]->offset == 1);
}

TEST_CASE("an error that is final is told to every record of the batch") {
  ProducerRig rig;
  rig.answers = {ErrorCode::message_too_large};
  rig.send("a");
  rig.send("b");
  rig.loop.run(1'000);
  REQUIRE(rig.outcomes.size() == 2);
  CHECK(rig.outcomes[0].code() == ErrorCode::message_too_large);
  CHECK(rig.outcomes[1].code() == ErrorCode::message_too_large);
  CHECK(rig.sent.size() == 1);
}

TEST_CASE("delivery ends at its timeout") {
  ProducerOptions o;
  o.delivery_timeout_ms = 2'000;
  ProducerRig rig(o);
  rig.cluster.no_answer<wire::ProduceRequest>();
  rig.send("a");
  rig.loop.run(1'900);
  CHECK(rig.outcomes.empty());
  rig.loop.run(200);
  REQUIRE(rig.outcomes.size() == 1);
  CHECK(rig.outcomes[0].code() == ErrorCode::timed_out);
}

TEST_CASE("idempotent batches carry id and sequence; a repetition carries the same") {
  ProducerOptions o;
  o.idempotent = true;
  ProducerRig rig(o);
  rig.send("a");
  rig.send("b");
  rig.loop.run(100);
  rig.answers = {ErrorCode::not_leader_or_follower};
  rig.send("c");
  rig.send("x", 1);
  rig.loop.run(5'000);
  REQUIRE(rig.sent.size() == 4);
  CHECK(rig.sent[0].producer_id == 500);
  CHECK(rig.sent[0].base_sequence == 0);
  for (const SentBatch& s : rig.sent) {
    if (s.values[0] == "c") CHECK(s.base_sequence == 2);
    if (s.values[0] == "x") CHECK(s.base_sequence == 0);  // partitions count for themselves
    CHECK(s.producer_id == 500);
  }
  // After a failure the fate of sequence numbers is unknown: a new id, counted from 0.
  rig.answers = {ErrorCode::out_of_order_sequence_number};
  rig.send("d");
  rig.loop.run(1'000);
  CHECK(rig.outcomes.back().code() == ErrorCode::out_of_order_sequence_number);
  rig.send("e");
  rig.loop.run(1'000);
  CHECK(rig.sent.back().producer_id == 501);
  CHECK(rig.sent.back().base_sequence == 0);
  CHECK(rig.outcomes.back().ok());
  // What the broker has already is stored.
  rig.answers = {ErrorCode::duplicate_sequence_number};
  rig.send("f");
  rig.loop.run(1'000);
  CHECK(rig.outcomes.back().ok());
}

TEST_CASE("acks 0 does not wait for anybody") {
  ProducerOptions o;
  o.acks = 0;
  ProducerRig rig(o);
  rig.cluster.no_answer<wire::ProduceRequest>();
  rig.send("a");
  rig.loop.run(100);
  REQUIRE(rig.outcomes.size() == 1);
  CHECK(rig.outcomes[0]->offset == -1);
  CHECK(rig.cluster.count(wire::ApiKey::produce) == 1);
}

TEST_CASE("partitions that are not there, topics that are not there") {
  ProducerOptions o;
  o.create_topics = false;
  ProducerRig rig(o);
  rig.send("a", 5);
  ProducerRecord r;
  r.topic = "nope";
  rig.producer->send(std::move(r), [&](Result<Delivery> d) { rig.outcomes.push_back(std::move(d)); });
  rig.loop.run(5'000);
  REQUIRE(rig.outcomes.size() == 2);
  CHECK(rig.outcomes[0].code() == ErrorCode::unknown_topic_or_partition);
  CHECK(rig.outcomes[1].code() == ErrorCode::unknown_topic_or_partition);
  CHECK(rig.sent.empty());
}

TEST_CASE("keys choose the partition, the held bytes hold back the source") {
  ProducerRig rig;
  rig.send("a", std::nullopt, "k0");
  rig.loop.run(100);
  REQUIRE(rig.sent.size() == 1);
  CHECK(rig.sent[0].partition == partition_of_key(as_bytes("k0"), 2));
  rig.send("12345678", 0);
  CHECK(rig.producer->held_bytes() == 8);
  bool room = false;
  rig.producer->when_below(7, [&] { room = true; });
  CHECK_FALSE(room);
  rig.loop.run(100);
  CHECK(room);
}

TEST_CASE("an answer about another partition is no answer") {
  ProducerRig rig;
  rig.cluster.on<wire::ProduceRequest>([](int, const wire::ProduceRequest& q) {
    wire::ProduceResponse r;
    auto& t = r.responses.emplace_back();
    t.topic_id = q.topic_data.at(0).topic_id;
    t.partition_responses.emplace_back().index = 77;
    return r;
  });
  rig.send("a");
  rig.loop.run(1'000);
  REQUIRE(rig.outcomes.size() == 1);
  CHECK(rig.outcomes[0].code() == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::client::testing
