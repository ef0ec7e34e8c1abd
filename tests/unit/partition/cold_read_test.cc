// Reading what the page cache does not hold: never on the loop, never without a look at the checksum.

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

constexpr size_t kPlenty = 1 << 20;

struct ColdRig : Rig {
  bool cold = false;
  ColdRig() {
    files.is_cold = [this](const std::string&, uint64_t, size_t) { return cold; };
  }
  Result<Fetched> fetch_cold(Offset from, size_t bytes_max = kPlenty) {
    return partition->fetch_cold(from, bytes_max, true, Isolation::read_uncommitted, {}, seen);
  }
  /// A new life: what lies there was written by another process.
  void restart() {
    run_all();
    loop.in_tick([&] { partition->stop(ErrorCode::not_leader_or_follower); });
    REQUIRE(partition->close().ok());
    partition.reset();
    lead();
    run_all();
  }
  static std::vector<int64_t> offsets_of(ByteView bytes) {
    std::vector<int64_t> out;
    record::BatchIterator batches(bytes);
    while (true) {
      const auto next = batches.next();
      REQUIRE(next.ok());
      if (!*next) return out;
      out.push_back((*next)->base_offset().v);
    }
  }
  std::string log_file() const { return kLogDirectory + "/00000000000000000000.log"; }
};

TEST_CASE("cold data is not read by fetch, and is by fetch_cold", "[cold]") {
  ColdRig r;
  r.lead();
  for (int i = 0; i < 3; ++i) (void)r.append({.value_bytes = 500});
  r.restart();
  r.cold = true;
  const uint64_t reads = r.files.reads;
  const auto asked = r.try_fetch(Offset(1));
  REQUIRE(asked.ok());
  CHECK(asked->cold);
  CHECK(asked->bytes == 0);
  CHECK(r.files.reads == reads);
  const auto fetched = r.fetch_cold(Offset(1));
  REQUIRE(fetched.ok());
  CHECK_FALSE(fetched->cold);
  CHECK(fetched->regions.empty());
  CHECK(ColdRig::offsets_of(fetched->verified) == std::vector<int64_t>{1, 2});
  CHECK(fetched->bytes == fetched->verified.size());
  CHECK(r.seen.high_watermark == Offset(3));
  r.cold = false;
  CHECK(r.fetch(Offset(1)) == std::vector<int64_t>{1, 2});
}

TEST_CASE("what this process just wrote is not asked for", "[cold]") {
  ColdRig r;
  r.lead();
  (void)r.append();
  r.run_all();
  const uint64_t reads = r.files.reads;
  CHECK(r.try_fetch(Offset(0))->regions.size() == 1);
  CHECK(r.files.reads == reads);
}

TEST_CASE("fetch_cold minds its limits and bounds", "[cold]") {
  ColdRig r;
  r.lead();
  for (int i = 0; i < 4; ++i) (void)r.append({.value_bytes = 500});
  r.restart();
  r.cold = true;
  const auto one = r.fetch_cold(Offset(0), 10);
  REQUIRE(one.ok());
  CHECK(ColdRig::offsets_of(one->verified) == std::vector<int64_t>{0});
  const auto end = r.fetch_cold(Offset(4));
  REQUIRE(end.ok());
  CHECK(end->bytes == 0);
  CHECK(r.fetch_cold(Offset(5)).code() == ErrorCode::offset_out_of_range);
  r.partition->stop(ErrorCode::not_leader_or_follower);
  CHECK(r.fetch_cold(Offset(0)).code() == ErrorCode::not_leader_or_follower);
}

TEST_CASE("a batch with a wrong checksum is never given out; the others are", "[cold]") {
  ColdRig r;
  r.lead();
  for (int i = 0; i < 3; ++i) (void)r.append({.value_bytes = 500});
  r.restart();
  const size_t batch = r.files.content(r.log_file()).size() / 3;
  SECTION("in its records") {
    r.files.flip_bit(r.log_file(), batch + batch / 2, 4);
  }
  SECTION("in its base offset, which no checksum covers") {
    r.files.flip_bit(r.log_file(), batch, 4);
  }
  r.cold = true;
  const auto before = r.fetch_cold(Offset(0));
  REQUIRE(before.ok());
  CHECK(ColdRig::offsets_of(before->verified) == std::vector<int64_t>{0});
  const auto at = r.fetch_cold(Offset(1));
  CHECK(at.code() == ErrorCode::kafka_storage_error);
  CHECK(at.error().message.find(r.log_file()) != std::string::npos);
  CHECK(at.error().message.find("position " + std::to_string(batch)) != std::string::npos);
  const auto behind = r.fetch_cold(Offset(2));
  REQUIRE(behind.ok());
  CHECK(ColdRig::offsets_of(behind->verified) == std::vector<int64_t>{2});
  // One place, however often it is met; the partition still serves.
  (void)r.fetch_cold(Offset(1));
  CHECK(r.partition->usage().damages == 1);
  CHECK(r.failures.empty());
  r.cold = false;
  CHECK(r.append().base_offset == Offset(3));
}

TEST_CASE("indexes of closed segments are not loaded on the loop", "[cold]") {
  ColdRig r;
  r.config.log.segment_bytes = 2'000;
  r.lead();
  for (int i = 0; i < 40; ++i) (void)r.append({.value_bytes = 500});
  r.restart();  // keeps the newest in memory
  const uint64_t reads = r.files.reads;
  const auto asked = r.try_fetch(Offset(0));
  REQUIRE(asked.ok());
  CHECK(asked->cold);
  CHECK(r.files.reads == reads);
  const auto fetched = r.fetch_cold(Offset(0));
  REQUIRE(fetched.ok());
  CHECK(ColdRig::offsets_of(fetched->verified).front() == 0);
}

}  // namespace
}  // namespace millrace::partition
