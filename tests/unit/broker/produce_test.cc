// Produce requests of one tick: one write for each partition, an answer for each request, true about its own
// batches.
#include <deque>

#include "broker/tick_appends.h"
#include "broker_rig.h"
#include "support/partition_rig.h"

namespace millrace::broker {
namespace {

using test_rig::BrokerRig;
using Spec = partition::rig::BatchSpec;

constexpr int16_t kProduceVersion = 9;

struct ProduceRig : BrokerRig {
  std::deque<partition::rig::Rig> doors;

  explicit ProduceRig(size_t partitions = 2, bool fsync = false) {
    auto hosted = std::make_shared<HostedTopic>();
    hosted->id = topic;
    for (size_t i = 0; i < partitions; ++i) {
      add_partition(1);
      partition::rig::Rig& door = doors.emplace_back();
      door.config.fsync = fsync;
      door.open();
      REQUIRE(door.partition->lead({LeaderEpoch(1), {BrokerId(1)}, 1}).ok());
      door.files.writes = 0;
      hosted->partitions.push_back(door.partition);
    }
    auto v = view();
    v->hosted.insert_or_assign(topic, std::move(hosted));
    show(v);
  }
  using Answer = std::shared_ptr<std::optional<wire::ProduceResponse>>;
  Answer produce(const std::vector<std::pair<int, Spec>>& batches, int16_t acks = 1) {
    std::deque<Bytes> kept;
    wire::ProduceRequest r;
    r.acks = acks;
    r.timeout_ms = 1000;
    auto& t = r.topic_data.emplace_back();
    t.name = "orders";
    for (const auto& [number, spec] : batches) {
      auto& p = t.partition_data.emplace_back();
      p.index = number;
      p.records = wire::Records(MutableByteView(kept.emplace_back(partition::rig::batch(spec))));
    }
    // The bytes are gone when the handler returns, as a connection's are.
    Answer answer = ask(std::move(r), kProduceVersion);
    for (Bytes& b : kept) std::fill(b.begin(), b.end(), uint8_t{0xee});
    return answer;
  }
  static int64_t base_of(const Answer& answer, size_t i = 0) {
    REQUIRE(answer->has_value());
    const auto& p = (*answer)->responses.at(0).partition_responses.at(i);
    CHECK(p.error_code == 0);
    return p.base_offset;
  }
  static ErrorCode error_of(const Answer& answer, size_t i = 0) {
    REQUIRE(answer->has_value());
    return static_cast<ErrorCode>((*answer)->responses.at(0).partition_responses.at(i).error_code);
  }
  int64_t end_of(size_t i) const { return doors[i].offsets().log_end.v; }
};

Spec sent_by(int64_t producer, int32_t sequence, int count = 1) {
  return {.count = count, .producer = ProducerId(producer), .sequence = sequence};
}

TEST_CASE("requests of one tick are written once for each partition") {
  ProduceRig rig;
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    answers.push_back(rig.produce({{0, {.count = 2}}}));
    answers.push_back(rig.produce({{0, {}}, {1, {.count = 3}}}));
    answers.push_back(rig.produce({{0, {}}}, -1));
    answers.push_back(rig.produce({{0, {}}, {7, {}}}));
    CHECK(rig.doors[0].files.writes == 0);
    for (const auto& a : answers) CHECK_FALSE(a->has_value());
  });
  CHECK(ProduceRig::base_of(answers[0]) == 0);
  CHECK(ProduceRig::base_of(answers[1]) == 2);
  CHECK(ProduceRig::base_of(answers[1], 1) == 0);
  CHECK(ProduceRig::base_of(answers[2]) == 3);
  CHECK(ProduceRig::base_of(answers[3]) == 4);
  CHECK(ProduceRig::error_of(answers[3], 1) == ErrorCode::unknown_topic_or_partition);
  CHECK(rig.doors[0].files.writes == 3);  // acks=all has a write of its own between the others
  CHECK(rig.doors[1].files.writes == 1);
  CHECK(rig.doors[0].fetch(Offset(0)) == std::vector<int64_t>{0, 2, 3, 4});
  CHECK(rig.end_of(1) == 3);
  // The next tick begins with nothing.
  CHECK(ProduceRig::base_of(rig.produce({{0, {}}})) == 5);
  CHECK(rig.doors[0].files.writes == 4);
}

TEST_CASE("a large batch does not overtake small ones that came before it") {
  ProduceRig rig;
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    answers.push_back(rig.produce({{0, sent_by(1, 0)}}));
    answers.push_back(rig.produce({{0, {.value_bytes = TickAppends::kBatchBytesMax}}, {1, {}}}));
    answers.push_back(rig.produce({{0, sent_by(1, 1)}}));
  });
  for (int i = 0; i < 3; ++i) CHECK(ProduceRig::base_of(answers[static_cast<size_t>(i)]) == i);
  CHECK(rig.end_of(1) == 1);
}

TEST_CASE("one that cannot be appended does not harm the others of its tick") {
  ProduceRig rig;
  CHECK(ProduceRig::base_of(rig.produce({{0, sent_by(1, 0)}})) == 0);
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    answers.push_back(rig.produce({{0, sent_by(1, 1)}}));
    answers.push_back(rig.produce({{0, sent_by(1, 0)}}));  // a duplicate
    answers.push_back(rig.produce({{0, sent_by(1, 2)}}));
    answers.push_back(rig.produce({{0, sent_by(2, 0)}}));
    answers.push_back(rig.produce({{0, sent_by(2, 5)}}));  // out of order
    answers.push_back(rig.produce({{0, {}}}));
  });
  CHECK(ProduceRig::base_of(answers[0]) == 1);
  CHECK(ProduceRig::base_of(answers[1]) == 0);
  CHECK(ProduceRig::base_of(answers[2]) == 2);
  CHECK(ProduceRig::base_of(answers[3]) == 3);
  CHECK(ProduceRig::error_of(answers[4]) == ErrorCode::out_of_order_sequence_number);
  CHECK(ProduceRig::base_of(answers[5]) == 4);
  CHECK(rig.end_of(0) == 5);
}

TEST_CASE("a write that fails appends nothing of a tick") {
  ProduceRig rig;
  bool full = true;
  auto& files = rig.doors[0].files;
  files.fault = [&](test::DiskOp op, const std::string&) {
    return full && op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  files.torn_bytes = 100;
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    for (int i = 0; i < 3; ++i) answers.push_back(rig.produce({{0, {}}, {1, {}}}, -1));
  });
  for (size_t i = 0; i < 3; ++i) {
    // What was written before the disk refused is there again if power fails now.
    CHECK(ProduceRig::error_of(answers[i], 0) == ErrorCode::request_timed_out);
    CHECK(ProduceRig::base_of(answers[i], 1) == static_cast<int64_t>(i));
  }
  CHECK(rig.end_of(0) == 0);
  full = false;
  CHECK(ProduceRig::base_of(rig.produce({{0, {}}})) == 0);
  CHECK(rig.doors[0].fetch(Offset(0)) == std::vector<int64_t>{0});
}

TEST_CASE("with acks=all and fsync each request of a tick is answered when its own is durable") {
  ProduceRig rig(1, true);
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    answers.push_back(rig.produce({{0, {}}}, -1));
    answers.push_back(rig.produce({{0, {}}}, -1));
    answers.push_back(rig.produce({{0, {}}}, 1));
  });
  CHECK_FALSE(answers[0]->has_value());
  CHECK_FALSE(answers[1]->has_value());
  CHECK(ProduceRig::base_of(answers[2]) == 2);
  while (rig.doors[0].disk.run_one()) rig.loop.settle();
  CHECK(ProduceRig::base_of(answers[0]) == 0);
  CHECK(ProduceRig::base_of(answers[1]) == 1);
  CHECK(rig.doors[0].files.writes == 2);
}

TEST_CASE("more than fits a tick's memory is appended meanwhile") {
  ProduceRig rig(1);
  const size_t enough = 2 * TickAppends::kBytesMax / 4000;
  std::vector<ProduceRig::Answer> answers;
  rig.loop.in_tick([&] {
    for (size_t i = 0; i < enough; ++i) answers.push_back(rig.produce({{0, {.value_bytes = 3900}}}));
    CHECK(rig.doors[0].files.writes >= 1);
  });
  for (size_t i = 0; i < enough; ++i) CHECK(ProduceRig::base_of(answers[i]) == static_cast<int64_t>(i));
  CHECK(rig.doors[0].files.writes <= 4);
}

TEST_CASE("what was gathered can be appended before the tick ends") {
  ProduceRig rig;
  link::ConnectionContext other;
  rig.loop.in_tick([&] {
    const ProduceRig::Answer answer = rig.produce({{0, {}}});
    GatheredProduces& gathered = *rig.broker.shard(0).gathered;
    CHECK(gathered.any_of(*rig.connection));
    CHECK_FALSE(gathered.any_of(other));
    gathered.append_now();
    CHECK(ProduceRig::base_of(answer) == 0);
    CHECK(rig.end_of(0) == 1);
    CHECK_FALSE(gathered.any_of(*rig.connection));
    CHECK(ProduceRig::base_of(rig.produce({{0, {.value_bytes = TickAppends::kBatchBytesMax}}})) == 1);
  });
}

}  // namespace
}  // namespace millrace::broker
