// Compaction through the partition's door: what goes on beside it, and what a failure means.
#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

Bytes keyed(const std::string& key, const std::string& value) {
  record::BatchBuilder builder;
  builder.append(1'700'000'000'000, as_bytes(key), as_bytes(value));
  return builder.build();
}

struct CompactionRig : Rig {
  CompactionRig() {
    config.log.segment_bytes = 1000;
    config.log.compact_policy = true;
    config.log.delete_policy = false;
    lead();
  }
  void write(int from, int to, int keys) {
    for (int i = from; i < to; ++i) {
      loop.in_tick([&] {
        Bytes bytes = keyed("k" + std::to_string(i % keys), std::string(60, 'v') + std::to_string(i));
        REQUIRE(partition->append(bytes, true, loop, clock.now()).ok());
      });
    }
    run_all();
  }
  std::unique_ptr<log::Compaction> begin() {
    Result<std::unique_ptr<log::Compaction>> run = partition->begin_compaction({}, clock.now());
    REQUIRE(run.ok());
    return std::move(*run);
  }
  size_t records() {
    size_t count = 0;
    for (Offset at{0}; at < offsets().high_watermark;) {
      // Indexes of a segment that compaction made are not in memory: not for the loop to load.
      const Result<Fetched> fetched =
          partition->fetch_cold(at, 1 << 20, true, Isolation::read_uncommitted, {}, seen);
      REQUIRE(fetched.ok());
      REQUIRE_FALSE(fetched->verified.empty());
      record::BatchIterator batches(fetched->verified);
      while (true) {
        const auto next = batches.next();
        REQUIRE(next.ok());
        if (!*next) break;
        count += static_cast<size_t>((*next)->record_count());
        at = (*next)->next_offset();
      }
    }
    return count;
  }
};

TEST_CASE("compaction goes step by step while clients write and read") {
  CompactionRig rig;
  rig.write(0, 60, 5);
  const Result<log::CompactionNeed> need = rig.partition->compaction_need(rig.clock.now());
  REQUIRE(need.ok());
  CHECK(need->dirty_ratio() == 1.0);
  const uint64_t before = rig.partition->usage().bytes;
  const std::unique_ptr<log::Compaction> run = rig.begin();
  REQUIRE(run != nullptr);
  int steps = 0;
  while (true) {
    const Result<bool> more = rig.partition->compact(*run, 500, rig.clock.now());
    REQUIRE(more.ok());
    if (!*more) break;
    rig.write(60 + steps, 61 + steps, 5);
    REQUIRE(rig.records() >= 5);
    ++steps;
  }
  CHECK(steps > 5);
  CHECK(rig.partition->usage().bytes < before);
  CHECK(rig.partition->usage().cleaned_end > Offset(40));
  CHECK(rig.partition->compaction_need(rig.clock.now())->clean_bytes > 0);
  CHECK(rig.high_watermark() == Offset(60 + steps));
  CHECK(rig.failures.empty());
}

TEST_CASE("nothing dirty, nothing to do; not serving, nothing done") {
  CompactionRig rig;
  rig.write(0, 2, 2);
  CHECK(rig.begin() == nullptr);
  rig.write(2, 40, 2);
  const std::unique_ptr<log::Compaction> run = rig.begin();
  REQUIRE(run != nullptr);
  rig.partition->stop(ErrorCode::not_leader_or_follower);
  CHECK(rig.partition->compact(*run, 1 << 20, rig.clock.now()).code() == ErrorCode::cancelled);
  CHECK(rig.partition->begin_compaction({}, rig.clock.now()).code() == ErrorCode::not_leader_or_follower);
  CHECK(rig.partition->compaction_need(rig.clock.now()).code() == ErrorCode::not_leader_or_follower);
}

TEST_CASE("damage leaves the partition serving") {
  CompactionRig rig;
  rig.write(0, 60, 5);
  rig.files.flip_bit(kLogDirectory + "/00000000000000000000.log", 80, 1);
  const std::unique_ptr<log::Compaction> run = rig.begin();
  Result<bool> more = true;
  while (more.ok() && *more) more = rig.partition->compact(*run, 500, rig.clock.now());
  CHECK(more.code() == ErrorCode::corrupt);
  CHECK(rig.failures.empty());
  CHECK(rig.partition->offsets().ok());
  CHECK(rig.partition->usage().cleaned_end == Offset(0));
}

TEST_CASE("a sync of compaction that fails takes the directory offline") {
  for (const test::DiskOp op : {test::DiskOp::sync, test::DiskOp::sync_directory}) {
    CompactionRig rig;
    rig.write(0, 60, 5);
    const std::unique_ptr<log::Compaction> run = rig.begin();
    rig.files.fault = [&](test::DiskOp at, const std::string&) {
      return at == op ? ErrorCode::io_error : ErrorCode::none;
    };
    Result<bool> more = true;
    while (more.ok() && *more) more = rig.partition->compact(*run, 500, rig.clock.now());
    CHECK(more.code() == ErrorCode::io_error);
    REQUIRE(rig.failures.size() == 1);
    CHECK(rig.failures[0].first == kHome);
    CHECK(rig.try_append().code() == ErrorCode::kafka_storage_error);
  }
}

}  // namespace
}  // namespace millrace::partition
