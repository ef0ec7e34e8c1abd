// flush.messages and flush.ms: syncs that are asked for beside durability.

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

bool await_flush(Rig& r, Offset at, uint64_t tag, bool committed) {
  bool done = false;
  r.loop.in_tick([&] { done = r.partition->await_commit(at, r.waiter, tag, {committed, true}); });
  return done;
}

TEST_CASE("flush.messages: the append that reaches it is answered when it is synced", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_messages = 3;
  r.lead();
  CHECK_FALSE(r.append({.count = 2}, false).flush);
  r.loop.settle();
  CHECK(r.disk.runs == 0);
  const Appended third = r.append({.count = 1}, false);
  CHECK(third.flush);
  CHECK_FALSE(await_flush(r, third.last_offset + 1, 1, false));
  CHECK(r.high_watermark() == Offset(3));  // replicated: readers do not wait
  CHECK(r.disk.waiting() == 1);
  CHECK(r.waiter->commits.empty());
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  CHECK(r.partition->usage().durable_end == Offset(3));
  CHECK(await_flush(r, Offset(3), 2, true));
  CHECK_FALSE(r.append({.count = 1}, false).flush);  // counted from the sync on
}

TEST_CASE("flush.messages with durability=fsync makes acks=1 wait, too", "[flush]") {
  Rig r;
  r.config.flush_messages = 1;
  r.lead();
  const Appended a = r.append({}, false);
  CHECK(a.flush);
  CHECK_FALSE(await_flush(r, Offset(1), 1, false));
  CHECK(r.disk.waiting() == 1);  // not only in 10 ms
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
}

TEST_CASE("flushed and committed: both are waited for", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_messages = 1;
  r.config.min_insync_replicas = 2;
  r.open();
  REQUIRE(r.partition->lead({LeaderEpoch(5), {BrokerId(1)}, 3}).ok());
  (void)r.append({}, false);
  CHECK_FALSE(await_flush(r, Offset(1), 1, true));
  r.run_all();
  CHECK(r.partition->usage().durable_end == Offset(1));
  CHECK(r.waiter->commits.empty());  // the watermark stands still: too few in sync
  r.config.min_insync_replicas = 1;
  r.configure();
  r.loop.settle();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
}

TEST_CASE("an append during a flush gets the next one", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_messages = 1;
  r.lead();
  (void)r.append({}, false);
  CHECK_FALSE(await_flush(r, Offset(1), 1, false));
  CHECK(r.disk.waiting() == 1);
  (void)r.append({}, false);
  CHECK_FALSE(await_flush(r, Offset(2), 2, false));
  r.run_disk();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}, {2, ErrorCode::none}});
}

TEST_CASE("a duplicate of what is being flushed waits for it", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_messages = 1;
  r.lead();
  const BatchSpec spec{.count = 1, .producer = ProducerId(9), .sequence = 0};
  (void)r.append(spec, false);
  const Appended again = r.append(spec, false);
  CHECK(again.duplicate);
  CHECK(again.flush);
  r.run_all();
  CHECK_FALSE(r.append(spec, false).flush);
}

TEST_CASE("flush.ms bounds the age of what is not synced", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_ms = 200;
  r.lead();
  (void)r.append();
  r.loop.advance(150);
  (void)r.append();
  CHECK(r.disk.runs == 0);
  r.loop.advance(49);
  CHECK(r.disk.runs == 0);
  r.loop.advance(1);
  CHECK(r.disk.runs == 1);
  r.run_all();
  CHECK(r.partition->usage().durable_end == Offset(2));
  r.loop.advance(10'000);
  CHECK(r.disk.runs == 1);
}

TEST_CASE("flush.ms below 10 ms shortens the delay of durability=fsync", "[flush]") {
  Rig r;
  r.config.flush_ms = 2;
  r.lead();
  (void)r.append({}, false);
  r.loop.advance(2);
  CHECK(r.disk.runs == 1);
}

TEST_CASE("a failed flush: the data may survive, so the answer is timed out", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.config.flush_messages = 1;
  r.lead();
  (void)r.append({}, false);
  CHECK_FALSE(await_flush(r, Offset(1), 1, false));
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::request_timed_out}});
  CHECK(r.failures.size() == 1);
}

TEST_CASE("durability=replicated: the checkpoint syncs what is dirty", "[flush]") {
  Rig r;
  r.config.fsync = false;
  r.lead();
  (void)r.append();
  r.loop.advance(60'000);
  CHECK(r.partition->usage().durable_end == Offset(0));
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.run_all();
  CHECK(r.partition->usage().durable_end == Offset(1));
}

TEST_CASE("a checkpoint under way does not hold up a group commit", "[flush]") {
  Rig r;
  r.lead();
  (void)r.append({}, false);
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  CHECK(r.disk.waiting() == 1);
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(2), 1));
  CHECK(r.disk.waiting() == 2);
  r.run_all();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  CHECK(r.partition->usage().recovery_point == Offset(1));
}

}  // namespace
}  // namespace millrace::partition
