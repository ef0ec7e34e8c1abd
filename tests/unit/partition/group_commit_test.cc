// What is committed when: group commit, acks, durability.

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

TEST_CASE("the high watermark waits for the sync", "[partition]") {
  Rig r;
  r.lead();
  const Appended a = r.append({.count = 3});
  CHECK(a.base_offset == Offset(0));
  CHECK(a.last_offset == Offset(2));
  CHECK_FALSE(r.await_commit(Offset(3), 7));
  r.loop.settle();
  CHECK(r.disk.waiting() == 1);
  CHECK(r.high_watermark() == Offset(0));
  CHECK(r.waiter->commits.empty());
  const uint64_t before = r.files.syncs;
  r.run_disk();
  CHECK(r.files.syncs > before);
  CHECK(r.high_watermark() == Offset(3));
  CHECK(r.waiter->commits == Told{{7, ErrorCode::none}});
  CHECK(r.partition->usage().durable_end == Offset(3));
  CHECK(r.partition->usage().commit_waits == 0);
}

TEST_CASE("what was told to be committed survives a power cut", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 2});
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  (void)r.append({.count = 5});  // its sync never ran
  r.files.crash();
  r.partition.reset();
  r.lead();
  CHECK(r.offsets().log_end.v == 2);
  CHECK(r.high_watermark().v == 2);
}

TEST_CASE("appends of one tick share a sync", "[partition]") {
  Rig r;
  r.lead();
  r.loop.in_tick([&] {
    for (uint64_t i = 0; i < 5; ++i) {
      const Appended a = r.append();
      CHECK_FALSE(r.await_commit(a.last_offset + 1, i));
    }
    CHECK(r.disk.runs == 0);  // only when the tick ends
  });
  CHECK(r.disk.runs == 1);
  r.run_all();
  CHECK(r.disk.runs == 1);
  CHECK(r.high_watermark() == Offset(5));
  CHECK(r.waiter->commits == Told{{0, ErrorCode::none},
                                  {1, ErrorCode::none},
                                  {2, ErrorCode::none},
                                  {3, ErrorCode::none},
                                  {4, ErrorCode::none}});
}

TEST_CASE("appends during a sync go into the next one, together", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  CHECK(r.disk.waiting() == 1);
  // Under way: these were not there when it was planned.
  (void)r.append();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(3), 3));
  CHECK(r.disk.runs == 1);
  r.run_disk();
  CHECK(r.high_watermark() == Offset(1));
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  CHECK(r.disk.waiting() == 1);  // begun at once
  r.run_disk();
  CHECK(r.high_watermark() == Offset(3));
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}, {3, ErrorCode::none}});
  CHECK(r.disk.waiting() == 0);
  CHECK(r.disk.runs == 2);
}

TEST_CASE("an append that nobody waits for is synced within 10 ms", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({}, false);
  r.loop.advance(4);
  (void)r.append({}, false);
  r.loop.advance(5);
  CHECK(r.disk.runs == 0);
  CHECK(r.high_watermark() == Offset(0));
  r.loop.advance(1);
  CHECK(r.disk.runs == 1);
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  r.loop.advance(100);
  CHECK(r.disk.runs == 1);
}

TEST_CASE("an append during a lazy sync is not forgotten", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({}, false);
  r.loop.advance(10);
  CHECK(r.disk.waiting() == 1);
  (void)r.append({}, false);
  r.loop.advance(50);
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
}

TEST_CASE("somebody who waits does not wait for the lazy timer", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({}, false);
  (void)r.append({}, true);
  CHECK(r.disk.waiting() == 1);
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  r.loop.advance(20);  // the timer finds nothing left
  CHECK(r.disk.runs == 1);
}

TEST_CASE("replicated durability commits without the disk's word", "[partition]") {
  Rig r;
  r.config.fsync = false;
  r.lead();
  (void)r.append();
  CHECK(r.high_watermark() == Offset(1));
  CHECK(r.await_commit(Offset(1), 1));
  r.loop.advance(1'000);
  CHECK(r.disk.runs == 0);
  CHECK(r.waiter->commits.empty());
}

TEST_CASE("durability changes for a partition that leads", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.config.fsync = false;
  r.configure();
  r.loop.settle();
  CHECK(r.waiter->commits.empty() == false);
  CHECK(r.high_watermark() == Offset(1));
  r.run_all();
  r.config.fsync = true;
  r.configure();
  (void)r.append();
  CHECK(r.high_watermark() == Offset(1));
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
}

TEST_CASE("too few in sync: acks=all is refused, acks=1 is taken and not committed", "[partition]") {
  Rig r;
  r.config.min_insync_replicas = 2;
  r.open();
  REQUIRE(r.partition->lead({LeaderEpoch(5), {BrokerId(1)}, 3}).ok());
  CHECK(r.try_append().code() == ErrorCode::not_enough_replicas);
  CHECK(r.offsets().log_end == Offset(0));
  (void)r.append({}, false);
  r.loop.advance(10);
  r.run_all();
  CHECK(r.high_watermark() == Offset(0));
  CHECK_FALSE(r.await_commit(Offset(1), 4));
  r.config.min_insync_replicas = 1;
  r.partition->configure(std::make_shared<const PartitionConfig>(r.config), 3);
  r.loop.settle();
  CHECK(r.high_watermark() == Offset(1));
  CHECK(r.waiter->commits == Told{{4, ErrorCode::none}});
}

TEST_CASE("what is committed already needs no waiting", "[partition]") {
  Rig r;
  r.lead();
  CHECK(r.await_commit(Offset(0), 1));
  (void)r.append();
  r.run_all();
  CHECK(r.await_commit(Offset(1), 2));
  CHECK_FALSE(r.await_commit(Offset(2), 3));
  CHECK(r.waiter->commits.empty());
}

TEST_CASE("a waiter on another loop is told there", "[partition]") {
  Rig r;
  r.lead();
  test::ManualLoop other(r.clock);
  const auto elsewhere = std::make_shared<CountingWaiter>(other);
  (void)r.append();
  other.in_tick([&] { CHECK_FALSE(r.partition->await_commit(Offset(1), elsewhere, 9)); });
  r.run_all();
  CHECK(elsewhere->commits.empty());
  other.settle();
  CHECK(elsewhere->commits == Told{{9, ErrorCode::none}});
}

TEST_CASE("stopping tells waiters that their time is over", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::not_leader_or_follower); });
  // Appended is not refused: the record may well survive.
  CHECK(r.waiter->commits == Told{{1, ErrorCode::request_timed_out}});
  CHECK(r.try_append().code() == ErrorCode::not_leader_or_follower);
  CHECK_FALSE(r.await_commit(Offset(1), 2));
  CHECK(r.waiter->commits.size() == 2);
  CHECK(r.waiter->commits.back() == std::pair<uint64_t, ErrorCode>{2, ErrorCode::request_timed_out});
  r.run_all();  // the sync that was under way tells nobody again
  CHECK(r.waiter->commits.size() == 2);
  CHECK(r.partition->close().ok());
  CHECK(r.partition->close().ok());
}

TEST_CASE("a lazy sync whose time comes after the close finds nothing to do", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({}, false);
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::unknown_topic_or_partition); });
  SECTION("closed") {
    REQUIRE(r.partition->close().ok());
  }
  SECTION("removed") {
    REQUIRE(r.partition->remove("/data/orders-0.gone-delete").ok());
  }
  r.loop.advance(20);
  r.run_all();
  CHECK(r.failures.empty());
}

TEST_CASE("a partition that leads again commits what it held", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::not_leader_or_follower); });
  CHECK(r.partition->leader_epoch() == kNoLeaderEpoch);
  REQUIRE(r.partition->lead({LeaderEpoch(6), {BrokerId(1)}, 1}).ok());
  CHECK(r.partition->leader_epoch() == LeaderEpoch(6));
  CHECK(r.high_watermark() == Offset(1));
  r.run_all();
  (void)r.append();
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  CHECK(r.partition->epoch_of(Offset(0)) == LeaderEpoch(5));
  CHECK(r.partition->epoch_of(Offset(1)) == LeaderEpoch(6));
}

TEST_CASE("a new epoch of the same leader commits what waits", "[partition]") {
  Rig r;
  r.lead();
  (void)r.partition->watch(r.waiter, 8);
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  REQUIRE(r.partition->lead({LeaderEpoch(6), {BrokerId(1)}, 1}).ok());
  r.loop.settle();
  CHECK(r.high_watermark() == Offset(1));
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  CHECK(r.waiter->data == std::vector<uint64_t>{8});
  r.run_all();  // the sync of the epoch before has nothing to add
  CHECK(r.waiter->commits.size() == 1);
}

TEST_CASE("a duplicate waits for the commit of the original", "[partition]") {
  Rig r;
  r.lead();
  const BatchSpec spec{.count = 2, .producer = ProducerId(9), .sequence = 0};
  const Appended first = r.append(spec);
  CHECK_FALSE(first.duplicate);
  const Appended again = r.append(spec);
  CHECK(again.duplicate);
  CHECK(again.base_offset == first.base_offset);
  CHECK(again.last_offset == first.last_offset);
  CHECK_FALSE(r.await_commit(again.last_offset + 1, 1));
  CHECK(r.offsets().log_end == Offset(2));
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  const Appended late = r.append(spec);
  CHECK(late.duplicate);
  CHECK(r.await_commit(late.last_offset + 1, 2));
  CHECK(r.try_append({.count = 1, .producer = ProducerId(9), .sequence = 7}).code() ==
        ErrorCode::out_of_order_sequence_number);
}

TEST_CASE("a failed sync takes the partition offline, once and for good", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  (void)r.append();
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  const uint64_t before = r.files.syncs;
  r.run_disk();
  r.files.fault = nullptr;
  CHECK(r.files.syncs == before + 1);
  CHECK(r.waiter->commits == Told{{1, ErrorCode::request_timed_out}});
  REQUIRE(r.failures.size() == 1);
  CHECK(r.failures[0] == std::pair<std::string, ErrorCode>{kHome, ErrorCode::io_error});
  // The kernel would report success now; nobody asks it.
  CHECK(r.try_append().code() == ErrorCode::kafka_storage_error);
  CHECK(r.try_append({}, false).code() == ErrorCode::kafka_storage_error);
  CHECK(r.try_fetch(Offset(0)).code() == ErrorCode::kafka_storage_error);
  CHECK(r.partition->offsets().code() == ErrorCode::kafka_storage_error);
  CHECK(r.partition->delete_records(Offset(0)).code() == ErrorCode::kafka_storage_error);
  CHECK_FALSE(r.await_commit(Offset(1), 2));
  CHECK(r.waiter->commits.back() == std::pair<uint64_t, ErrorCode>{2, ErrorCode::request_timed_out});
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.loop.advance(1'000);
  r.run_all();
  CHECK(r.files.syncs == before + 1);
  CHECK_FALSE(r.partition->lead({LeaderEpoch(6), {BrokerId(1)}, 1}).ok());
  CHECK(r.partition->offsets().code() == ErrorCode::kafka_storage_error);
  CHECK(r.failures.size() == 1);
  r.partition->stop(ErrorCode::kafka_storage_error);
  CHECK(r.partition->close().ok());
}

TEST_CASE("a failed sync before leading leaves the partition offline", "[partition]") {
  Rig r;
  r.open();
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync || op == test::DiskOp::sync_directory ? ErrorCode::io_error
                                                                          : ErrorCode::none;
  };
  CHECK_FALSE(r.partition->lead({LeaderEpoch(5), {BrokerId(1)}, 1}).ok());
  CHECK(r.failures.size() == 1);
  CHECK(r.try_append().code() == ErrorCode::kafka_storage_error);
}

TEST_CASE("a full disk refuses an append and takes the next when there is room", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  r.run_all();
  r.files.capacity = r.files.used() + 50;                        // part of a batch fits
  CHECK(r.try_append().code() == ErrorCode::request_timed_out);  // what fitted may outlive a cut of power
  CHECK(r.offsets().log_end == Offset(1));
  CHECK(r.failures.empty());
  r.files.capacity = UINT64_MAX;
  const Appended a = r.append();
  CHECK(a.base_offset == Offset(1));
  CHECK_FALSE(r.await_commit(Offset(2), 1));
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  CHECK(r.fetch(Offset(0)) == std::vector<int64_t>{0, 1});
}

TEST_CASE("a failed write that cannot be cut away takes the partition offline", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.files.torn_bytes = 30;
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write || op == test::DiskOp::truncate || op == test::DiskOp::sync
               ? ErrorCode::io_error
               : ErrorCode::none;
  };
  CHECK_FALSE(r.try_append().ok());
  CHECK(r.waiter->commits == Told{{1, ErrorCode::request_timed_out}});
  CHECK(r.try_append().code() == ErrorCode::kafka_storage_error);
  r.run_all();  // the sync under way fails too: that is the same failure
  CHECK(r.failures.size() == 1);
}

TEST_CASE("a checkpoint syncs the indexes too", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  r.run_all();
  CHECK(r.partition->usage().durable_end == Offset(1));
  CHECK(r.partition->usage().recovery_point.v == 0);
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.run_all();
  CHECK(r.partition->usage().recovery_point.v == 1);
}

}  // namespace
}  // namespace millrace::partition
