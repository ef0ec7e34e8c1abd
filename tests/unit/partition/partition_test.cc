// What a partition shows: fetches and their bounds, epochs, watches, deletion.

#include "partition/partition.h"

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

TEST_CASE("a partition that does not lead yet serves nothing", "[partition]") {
  Rig r;
  r.open();
  CHECK(r.try_append().code() == ErrorCode::not_leader_or_follower);
  CHECK(r.try_fetch(Offset(0)).code() == ErrorCode::not_leader_or_follower);
  CHECK(r.partition->offsets().code() == ErrorCode::not_leader_or_follower);
  CHECK(r.partition->delete_records(Offset(-1)).code() == ErrorCode::not_leader_or_follower);
  CHECK(r.partition->end_offset_for_epoch(LeaderEpoch(0), {}).code() == ErrorCode::not_leader_or_follower);
  CHECK(r.partition->offset_for_timestamp(0, Isolation::read_uncommitted, {}).code() ==
        ErrorCode::not_leader_or_follower);
  CHECK(r.partition->offset_of_max_timestamp({}).code() == ErrorCode::not_leader_or_follower);
}

TEST_CASE("consumers see nothing beyond the high watermark", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 2});
  r.run_all();
  (void)r.append({.count = 3});
  CHECK(r.fetch(Offset(0)) == std::vector<int64_t>{0});
  CHECK(r.seen.high_watermark == Offset(2));
  CHECK(r.seen.log_end == Offset(5));
  CHECK(r.fetch(Offset(2)).empty());
  CHECK(r.fetch(Offset(5)).empty());
  CHECK(r.try_fetch(Offset(6)).code() == ErrorCode::offset_out_of_range);
  CHECK(r.try_fetch(Offset(-1)).code() == ErrorCode::offset_out_of_range);
  CHECK(r.seen.log_end == Offset(5));  // filled with the error, too
  r.run_all();
  CHECK(r.fetch(Offset(0)) == std::vector<int64_t>{0, 2});
  CHECK(r.fetch(Offset(3)) == std::vector<int64_t>{2});  // the batch that holds it
}

TEST_CASE("at least one batch comes if asked for, however small the budget", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 1, .value_bytes = 500});
  (void)r.append({.count = 1, .value_bytes = 500});
  r.run_all();
  CHECK(r.fetch(Offset(0), 1, true) == std::vector<int64_t>{0});
  CHECK(r.fetch(Offset(0), 1, false).empty());
  CHECK(r.fetch(Offset(0), 0, true).empty());
  CHECK(r.fetch(Offset(0), 800, false) == std::vector<int64_t>{0});
}

TEST_CASE("the epoch a client knows is compared with ours", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  r.run_all();
  const EpochCheck older{LeaderEpoch(4)};
  const EpochCheck same{LeaderEpoch(5)};
  const EpochCheck newer{LeaderEpoch(6)};
  CHECK(r.try_fetch(Offset(0), 100, true, older).code() == ErrorCode::fenced_leader_epoch);
  CHECK(r.try_fetch(Offset(0), 100, true, same).ok());
  CHECK(r.try_fetch(Offset(0), 100, true, newer).code() == ErrorCode::unknown_leader_epoch);
  CHECK(r.partition->offsets(older).code() == ErrorCode::fenced_leader_epoch);
  CHECK(r.partition->offsets(newer).code() == ErrorCode::unknown_leader_epoch);
  CHECK(r.partition->offset_of_max_timestamp(older).code() == ErrorCode::fenced_leader_epoch);
  CHECK(r.partition->offset_for_timestamp(0, Isolation::read_uncommitted, newer).code() ==
        ErrorCode::unknown_leader_epoch);
  CHECK(r.partition->end_offset_for_epoch(LeaderEpoch(5), older).code() == ErrorCode::fenced_leader_epoch);
  const auto end = r.partition->end_offset_for_epoch(LeaderEpoch(5), same);
  REQUIRE(end.ok());
  CHECK(end->end_offset == Offset(1));
}

TEST_CASE("the end of an epoch is where the next one began", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 4});
  REQUIRE(r.partition->lead({LeaderEpoch(8), {BrokerId(1)}, 1}).ok());
  (void)r.append({.count = 2});
  const auto old_end = r.partition->end_offset_for_epoch(LeaderEpoch(5), {});
  REQUIRE(old_end.ok());
  CHECK(old_end->epoch == LeaderEpoch(5));
  CHECK(old_end->end_offset == Offset(4));
  const auto between = r.partition->end_offset_for_epoch(LeaderEpoch(7), {});
  REQUIRE(between.ok());
  CHECK(between->epoch == LeaderEpoch(5));
  CHECK(between->end_offset == Offset(4));
  const auto present = r.partition->end_offset_for_epoch(LeaderEpoch(8), {});
  REQUIRE(present.ok());
  CHECK(present->end_offset == Offset(6));
  const auto unknown = r.partition->end_offset_for_epoch(LeaderEpoch(9), {});
  REQUIRE(unknown.ok());
  CHECK(unknown->end_offset == Offset(-1));
}

TEST_CASE("leading the same epoch twice changes nothing", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.lead();
  CHECK(r.high_watermark() == Offset(0));
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
}

TEST_CASE("timestamps are looked up below what is visible", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 2});
  const auto hidden = r.partition->offset_for_timestamp(0, Isolation::read_uncommitted, {});
  REQUIRE(hidden.ok());
  CHECK(hidden->offset == Offset(-1));
  r.run_all();
  const auto found = r.partition->offset_for_timestamp(1'700'000'000'001, Isolation::read_uncommitted, {});
  REQUIRE(found.ok());
  CHECK(found->offset == Offset(1));
  CHECK(found->timestamp_ms == 1'700'000'000'001);
  CHECK(found->epoch == LeaderEpoch(5));
  const auto greatest = r.partition->offset_of_max_timestamp({});
  REQUIRE(greatest.ok());
  CHECK(greatest->offset == Offset(1));
}

TEST_CASE("records are deleted up to the high watermark and no further", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append({.count = 4});
  r.run_all();
  (void)r.append({.count = 4});
  CHECK(r.partition->delete_records(Offset(5)).code() == ErrorCode::offset_out_of_range);
  CHECK(r.partition->delete_records(Offset(-2)).code() == ErrorCode::offset_out_of_range);
  const auto some = r.partition->delete_records(Offset(2));
  REQUIRE(some.ok());
  CHECK(*some == Offset(2));
  CHECK(r.try_fetch(Offset(1)).code() == ErrorCode::offset_out_of_range);
  CHECK(r.seen.log_start == Offset(2));
  CHECK(r.fetch(Offset(2)) == std::vector<int64_t>{0});  // the batch goes on from before
  const auto lower = r.partition->delete_records(Offset(1));
  REQUIRE(lower.ok());
  CHECK(*lower == Offset(2));
  const auto all = r.partition->delete_records(Offset(-1));
  REQUIRE(all.ok());
  CHECK(*all == Offset(4));
  r.run_all();
  CHECK(r.offsets().log_start == Offset(4));
  CHECK(r.offsets().high_watermark == Offset(8));
}

TEST_CASE("a watch is told once until it is armed again", "[partition]") {
  Rig r;
  r.lead();
  const DataWatches::Id id = r.partition->watch(r.waiter, 5);
  const DataWatches::Id gone = r.partition->watch(r.waiter, 6);
  r.partition->unwatch(gone);
  CHECK(r.partition->usage().data_watches == 1);
  (void)r.append();
  r.loop.settle();
  CHECK(r.waiter->data.empty());  // not visible yet
  r.run_all();
  CHECK(r.waiter->data == std::vector<uint64_t>{5});
  (void)r.append();
  r.run_all();
  CHECK(r.waiter->data.size() == 1);
  r.partition->rearm(id);
  (void)r.append();
  r.run_all();
  CHECK(r.waiter->data == std::vector<uint64_t>{5, 5});
  r.partition->rearm(id);
  r.partition->unwatch(id);
  r.partition->rearm(id);
  (void)r.append();
  r.run_all();
  CHECK(r.waiter->data.size() == 2);
  CHECK(r.partition->usage().data_watches == 0);
}

TEST_CASE("watches hear of the end", "[partition]") {
  Rig r;
  r.lead();
  (void)r.partition->watch(r.waiter, 5);
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::unknown_topic_or_partition); });
  r.loop.settle();
  CHECK(r.waiter->data == std::vector<uint64_t>{5});
  CHECK(r.try_fetch(Offset(0)).code() == ErrorCode::unknown_topic_or_partition);
}

TEST_CASE("housekeeping lets old segments go, but only what is committed", "[partition]") {
  Rig r;
  r.config.log.segment_bytes = 400;
  r.config.log.retention_bytes = 1;
  r.config.log.file_delete_delay_ms = 0;
  r.lead();
  for (int i = 0; i < 5; ++i) (void)r.append({.count = 1, .value_bytes = 200});
  r.partition->keep_house(r.clock.now());
  CHECK(r.offsets().log_start == Offset(0));
  r.run_all();
  r.partition->keep_house(r.clock.now());
  CHECK(r.offsets().log_start > Offset(0));
  CHECK(r.offsets().log_start <= r.offsets().high_watermark);
  CHECK(r.offsets().log_end == Offset(5));
  CHECK(r.failures.empty());
  r.partition->stop(ErrorCode::not_leader_or_follower);
  const uint64_t segments = r.partition->usage().segments;
  r.partition->keep_house(r.clock.now());  // not while it does not serve
  CHECK(r.partition->usage().segments == segments);
}

TEST_CASE("a removed partition leaves its name to the tombstone", "[partition]") {
  Rig r;
  r.lead();
  (void)r.append();
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::unknown_topic_or_partition); });
  REQUIRE(r.partition->remove("/data/orders-0.x-delete").ok());
  CHECK_FALSE(r.files.exists(kLogDirectory));
  CHECK(r.files.exists("/data/orders-0.x-delete"));
  r.run_all();
  CHECK(r.failures.empty());
}

}  // namespace
}  // namespace millrace::partition
