// Partitions whose log is at rest: what they know without a file, and how they wake.
#include "log/partition_metadata.h"
#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

Uuid topic_of_rig() {
  Uuid id;
  id.bytes.fill(7);
  return id;
}

struct RestingRig : Rig {
  void open_resting(const log::RestingLog& rest = {}) {
    Partition::Environment environment;
    environment.disk = &disk;
    environment.clock = &clock;
    environment.self = BrokerId(1);
    environment.on_storage_failure = [this](const std::string& directory, const Error& error) {
      failures.emplace_back(directory, error.code);
    };
    partition =
        std::make_shared<Partition>(environment, PartitionName{"orders", PartitionId(0)}, topic_of_rig(),
                                    kHome, std::make_shared<const PartitionConfig>(config), rest);
    lead();
  }
  /// What a clean stop leaves of it.
  log::RestingLog stop() {
    partition->stop(ErrorCode::not_leader_or_follower);
    REQUIRE(partition->close().ok());
    const std::optional<log::RestingLog> rest = partition->resting();
    REQUIRE(rest);
    partition.reset();
    return *rest;
  }
  Result<Fetched> read_cold() {
    return partition->fetch_cold(Offset(0), size_t{1} << 20, true, Isolation::read_uncommitted, {}, seen);
  }
  log::RestingLog written(int batches) {
    open_resting();
    for (int i = 0; i < batches; ++i) (void)append();
    run_all();
    return stop();
  }
};

TEST_CASE("a partition that was never written has nothing on disk", "[partition]") {
  RestingRig r;
  r.open_resting();
  CHECK(r.offsets().log_end == Offset(0));
  CHECK(r.fetch(Offset(0)).empty());
  CHECK(r.try_fetch(Offset(1)).code() == ErrorCode::offset_out_of_range);
  CHECK(r.partition->epoch_of(Offset(0)) == LeaderEpoch(5));
  const auto end = r.partition->end_offset_for_epoch(LeaderEpoch(3), {});
  REQUIRE(end.ok());
  CHECK(end->end_offset == Offset(0));
  r.partition->keep_house(r.clock.now());
  r.partition->checkpoint(r.loop);
  r.run_all();
  CHECK_FALSE(r.partition->take_changed());
  CHECK(r.partition->usage().segments == 0);
  r.partition->stop(ErrorCode::unknown_topic_or_partition);
  REQUIRE(r.partition->remove("/data/orders-0.x-delete").ok());
  const auto names = r.files.list(kHome);
  REQUIRE(names.ok());
  CHECK(names->empty());
}

TEST_CASE("the first append makes directory, identity and segment", "[partition]") {
  RestingRig r;
  r.open_resting();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  r.files.crash();
  const auto metadata = log::read_partition_metadata(r.files, kLogDirectory);
  REQUIRE(metadata.ok());
  REQUIRE(metadata->has_value());
  CHECK((*metadata)->topic_id == topic_of_rig());
  r.partition.reset();
  r.lead();
  CHECK(r.offsets().log_end == Offset(1));
}

TEST_CASE("whenever power is cut during the first append, records never lie unnamed", "[partition]") {
  // Every sync of the first group commit may be the last that happened.
  for (uint64_t last = 0; last < 12; ++last) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      RestingRig r;
      uint64_t synced = 0;
      r.open_resting();
      r.files.fault = [&](test::DiskOp op, const std::string&) {
        if (op != test::DiskOp::sync && op != test::DiskOp::sync_directory) return ErrorCode::none;
        return synced++ < last ? ErrorCode::none : ErrorCode::io_error;
      };
      (void)r.append();
      const bool told = r.await_commit(Offset(1), 1);
      r.run_all();
      const bool acknowledged = told || r.waiter->commits == Told{{1, ErrorCode::none}};
      r.files.fault = nullptr;
      if (seed == 0) {
        r.files.crash();  // what was not synced is lost
      } else {
        uint64_t state = seed * 0x9e3779b97f4a7c15ull;
        r.files.crash([&state](uint64_t n) {
          state = state * 6364136223846793005ull + 1442695040888963407ull;
          return (state >> 33) % n;
        });
      }
      r.partition.reset();
      const auto log_file = r.files.read_file(kLogDirectory + "/00000000000000000000.log", size_t{1} << 20);
      const bool has_records = log_file.ok() && !log_file->empty();
      if (acknowledged) CHECK(has_records);
      if (acknowledged || (seed == 0 && has_records)) {
        const auto metadata = log::read_partition_metadata(r.files, kLogDirectory);
        REQUIRE(metadata.ok());
        CHECK(metadata->has_value());
      }
    }
  }
}

TEST_CASE("a log at rest answers for its ends without a file", "[partition]") {
  RestingRig r;
  const log::RestingLog rest = r.written(3);
  CHECK(rest.log_end == Offset(3));
  CHECK(rest.on_disk());
  size_t touched = 0;
  r.files.fault = [&](test::DiskOp, const std::string&) {
    ++touched;
    return ErrorCode::none;
  };
  r.open_resting(rest);
  CHECK(r.offsets().log_end == Offset(3));
  CHECK(r.high_watermark() == Offset(3));
  CHECK(r.offsets().last_stable == Offset(3));
  CHECK(r.fetch(Offset(3)).empty());
  CHECK(r.partition->epoch_of(Offset(0)) == LeaderEpoch(5));
  CHECK(r.partition->usage().bytes == rest.bytes);
  CHECK_FALSE(r.partition->must_wake_to_read(Offset(3)));
  CHECK(r.partition->must_wake_to_read(Offset(2)));
  CHECK(r.stop() == rest);  // and a clean stop has nothing to do
  CHECK(touched == 0);
}

TEST_CASE("a log at rest is opened by what needs it", "[partition]") {
  RestingRig r;
  const log::RestingLog rest = r.written(3);
  r.open_resting(rest);
  // A loop is told to ask where blocking is allowed.
  const auto look = r.try_fetch(Offset(0));
  REQUIRE(look.ok());
  CHECK(look->cold);
  CHECK(r.partition->resting().has_value());
  const auto read = r.read_cold();
  REQUIRE(read.ok());
  CHECK(read->bytes == rest.bytes);
  CHECK_FALSE(r.partition->resting().has_value());
  r.stop();
  r.open_resting(rest);
  const auto found = r.partition->offset_of_max_timestamp({});
  REQUIRE(found.ok());
  CHECK(found->offset == Offset(0));  // all have the same
  r.stop();
  r.open_resting(rest);
  CHECK(r.append().base_offset == Offset(3));
  r.run_all();
  CHECK(r.high_watermark() == Offset(4));
}

TEST_CASE("waking is done on the pool, and nobody of a loop is overtaken", "[partition]") {
  RestingRig r;
  r.open_resting();
  std::vector<int> order;
  const auto note = [&](int n) {
    return [&order, n](const Status& s) {
      CHECK(s.ok());
      order.push_back(n);
    };
  };
  CHECK_FALSE(r.partition->awake_for(r.loop));
  CHECK_FALSE(r.partition->wake(r.loop, note(1)));
  CHECK_FALSE(r.partition->wake(r.loop, note(2)));
  CHECK(r.disk.waiting() == 1);
  CHECK(order.empty());
  CHECK(r.disk.run_one());
  // Open, but those who asked first go first.
  CHECK_FALSE(r.partition->awake_for(r.loop));
  CHECK_FALSE(r.partition->wake(r.loop, note(3)));
  r.loop.settle();
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(r.partition->awake_for(r.loop));
  CHECK(r.partition->wake(r.loop, note(4)));
  CHECK(order.size() == 3);
}

TEST_CASE("a log that cannot be made is tried again; nothing was appended", "[partition]") {
  RestingRig r;
  r.open_resting();
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::make_directories ? ErrorCode::no_space : ErrorCode::none;
  };
  std::optional<Status> told;
  CHECK_FALSE(r.partition->wake(r.loop, [&](const Status& s) { told = s; }));
  r.run_all();
  REQUIRE(told);
  CHECK(told->code() == ErrorCode::kafka_storage_error);
  CHECK(r.try_append().code() == ErrorCode::kafka_storage_error);
  CHECK(r.failures.empty());
  CHECK(r.offsets().log_end == Offset(0));
  r.files.fault = nullptr;
  CHECK(r.append().base_offset == Offset(0));
  r.run_all();
  CHECK(r.high_watermark() == Offset(1));
}

TEST_CASE("files that are not what the stop left take the partition offline", "[partition]") {
  RestingRig r;
  log::RestingLog rest = r.written(3);
  SECTION("shorter") {
    rest.log_end = rest.last_stable = Offset(5);
  }
  SECTION("longer") {
    rest.log_end = rest.last_stable = Offset(2);
  }
  SECTION("gone") {
    REQUIRE(r.files.remove_tree(kLogDirectory).ok());
  }
  r.open_resting(rest);
  CHECK(r.read_cold().code() == ErrorCode::kafka_storage_error);
  CHECK(r.try_append().code() == ErrorCode::kafka_storage_error);
  CHECK(r.partition->offsets().code() == ErrorCode::kafka_storage_error);
  CHECK(r.failures.empty());  // the directory itself is well
}

TEST_CASE("a log that nobody uses is laid to rest, and woken again", "[partition]") {
  RestingRig r;
  r.open_resting();
  (void)r.append();
  r.run_all();
  r.partition->keep_house(r.clock.now());  // used since the last time
  CHECK_FALSE(r.partition->resting());
  r.partition->keep_house(r.clock.now());
  REQUIRE(r.partition->resting());
  CHECK(r.partition->resting()->log_end == Offset(1));
  CHECK(r.high_watermark() == Offset(1));
  CHECK(r.append().base_offset == Offset(1));
  r.run_all();
  CHECK(r.fetch(Offset(0)) == std::vector<int64_t>{0, 1});
  r.files.crash();
  r.partition.reset();
  r.lead();
  CHECK(r.offsets().log_end == Offset(2));
}

TEST_CASE("what is appended while a log is laid to rest is synced, and the log stays open", "[partition]") {
  RestingRig r;
  r.open_resting();
  (void)r.append();
  r.run_all();
  r.partition->keep_house(r.clock.now());
  bool once = false;
  r.files.fault = [&](test::DiskOp op, const std::string&) {
    if (op == test::DiskOp::sync && !std::exchange(once, true)) {
      Bytes bytes = batch();
      CHECK(r.partition->append(bytes, true, r.loop, r.clock.now()).ok());
    }
    return ErrorCode::none;
  };
  r.partition->keep_house(r.clock.now());
  r.files.fault = nullptr;
  CHECK(once);
  CHECK_FALSE(r.partition->resting());
  CHECK(r.high_watermark() == Offset(2));
}

TEST_CASE("retention wakes a log only when it may take something", "[partition]") {
  RestingRig r;
  r.config.log.retention_ms = 1'000;
  log::RestingLog rest = r.written(2);
  r.open_resting(rest);
  Now now = r.clock.now();
  now.wall_ms = rest.oldest_timestamp + 1'000;
  r.partition->keep_house(now);
  CHECK(r.partition->resting());
  now.wall_ms += 1;
  r.partition->keep_house(now);
  CHECK(r.offsets().log_start == Offset(2));
}

TEST_CASE("deleting a topic whose log is at rest moves its directory away unopened", "[partition]") {
  RestingRig r;
  r.open_resting(r.written(1));
  r.partition->stop(ErrorCode::unknown_topic_or_partition);
  REQUIRE(r.partition->remove("/data/orders-0.x-delete").ok());
  CHECK_FALSE(r.files.exists(kLogDirectory));
  CHECK(r.files.exists("/data/orders-0.x-delete"));
  CHECK(r.try_append().code() == ErrorCode::unknown_topic_or_partition);
  CHECK_FALSE(r.files.exists(kLogDirectory));
}

}  // namespace
}  // namespace millrace::partition
