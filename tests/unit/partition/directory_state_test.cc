#include "partition/directory_state.h"

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using rig::Rig;
using rig::Told;

struct DirectoryRig : Rig {
  std::shared_ptr<DirectoryState> state = std::make_shared<DirectoryState>(rig::kHome);
  DirectoryRig() { directory_state = state; }

  Result<Appended> append_as(Origin origin) {
    Result<Appended> result = ErrorCode::unknown_server_error;
    Bytes bytes = rig::batch();
    loop.in_tick([&] { result = partition->append(bytes, true, loop, clock.now(), origin); });
    return result;
  }
};

TEST_CASE("a directory below its floor refuses clients with the figures, and nobody else", "[partition]") {
  DirectoryState state("/data");
  CHECK_FALSE(state.note_room(1000, 10'000, 500));
  CHECK(state.serving());
  CHECK(state.may_append(Origin::client).ok());
  CHECK(state.note_room(499, 10'000, 500));
  CHECK(state.full());
  const Status refused = state.may_append(Origin::client);
  CHECK(refused.code() == ErrorCode::kafka_storage_error);
  CHECK(refused.error().message.find("log dir /data has 499 bytes free") != std::string::npos);
  CHECK(refused.error().message.find("floor of 500") != std::string::npos);
  CHECK(state.may_append(Origin::broker).ok());
  CHECK(state.usable().ok());
}

TEST_CASE("a full directory serves again a little above its floor, not at it", "[partition]") {
  DirectoryState state("/data");
  REQUIRE(state.note_room(0, 100'000, 16'000));
  CHECK_FALSE(state.note_room(16'000, 100'000, 16'000));
  CHECK(state.full());
  CHECK(state.note_room(17'000, 100'000, 16'000));
  CHECK(state.serving());
  // A floor that is taken away frees it at once.
  REQUIRE(state.note_room(0, 100'000, 16'000));
  CHECK(state.note_room(0, 100'000, 0));
  CHECK(state.serving());
}

TEST_CASE("a write that finds no space closes a directory with a floor before the next look", "[partition]") {
  DirectoryState state("/data");
  state.note_no_space();  // no floor known: each write says for itself
  CHECK(state.serving());
  (void)state.note_room(1000, 10'000, 500);
  state.note_no_space();
  CHECK(state.full());
  CHECK(state.no_space_count() == 2);
}

TEST_CASE("a failed directory stays failed and remembers the first reason", "[partition]") {
  DirectoryState state("/data");
  CHECK(state.fail(Error(ErrorCode::io_error, "sync x: Input/output error")));
  CHECK_FALSE(state.fail(Error(ErrorCode::io_error, "later")));
  CHECK(state.failed());
  CHECK_FALSE(state.note_room(1000, 1000, 0));
  state.note_no_space();
  CHECK(state.failed());
  for (const Origin origin : {Origin::client, Origin::broker}) {
    const Status refused = state.may_append(origin);
    CHECK(refused.code() == ErrorCode::kafka_storage_error);
    CHECK(refused.error().message.find("sync x: Input/output error") != std::string::npos);
  }
  CHECK(state.usable().code() == ErrorCode::kafka_storage_error);
}

TEST_CASE("a partition in a full directory: clients are refused before anything is written", "[partition]") {
  DirectoryRig r;
  r.lead();
  r.append();
  r.run_all();
  (void)r.state->note_room(1, 1000, 100);
  const uint64_t writes = r.files.writes;
  CHECK(r.append_as(Origin::client).code() == ErrorCode::kafka_storage_error);
  CHECK(r.files.writes == writes);
  CHECK(r.append_as(Origin::broker).ok());
  CHECK(r.fetch(Offset(0)).size() == 1);
  CHECK(r.partition->delete_records(Offset(1)).ok());
  (void)r.state->note_room(1000, 1000, 100);
  CHECK(r.append_as(Origin::client).ok());
}

TEST_CASE("a full directory still knows what it took: a repeated batch is answered as the first was",
          "[partition]") {
  DirectoryRig r;
  r.lead();
  const Appended first = r.append({.producer = ProducerId(9), .sequence = 0});
  r.run_all();
  (void)r.state->note_room(1, 1000, 100);
  const Result<Appended> again = r.try_append({.producer = ProducerId(9), .sequence = 0});
  REQUIRE(again.ok());
  CHECK(again->duplicate);
  CHECK(again->base_offset == first.base_offset);
  CHECK(r.try_append({.producer = ProducerId(9), .sequence = 1}).code() == ErrorCode::kafka_storage_error);
  (void)r.state->fail(Error(ErrorCode::io_error, "gone"));
  CHECK(r.try_append({.producer = ProducerId(9), .sequence = 0}).code() == ErrorCode::kafka_storage_error);
}

TEST_CASE("a full disk: the append fails whole, is counted, and works again by itself", "[partition]") {
  DirectoryRig r;
  r.lead();
  r.append();
  r.run_all();
  r.files.capacity = r.files.used() + 10;
  CHECK(r.try_append({.value_bytes = 500}).code() == ErrorCode::request_timed_out);
  CHECK(r.state->no_space_count() == 1);
  CHECK(r.failures.empty());
  CHECK(r.offsets().log_end == Offset(1));
  r.files.capacity = UINT64_MAX;
  CHECK(r.append({.value_bytes = 500}).base_offset == Offset(1));
  r.run_all();
  CHECK(r.high_watermark() == Offset(2));
  CHECK(r.fetch(Offset(0)) == std::vector<int64_t>{0, 1});
}

TEST_CASE("a checkpoint that finds no space is made again, and nothing is fenced", "[partition]") {
  DirectoryRig r;
  r.lead();
  r.append();
  r.run_all();
  bool full = true;
  r.files.fault = [&](test::DiskOp op, const std::string& path) {
    const bool small = path.find(".log") == std::string::npos;
    return full && small && op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  r.append();
  REQUIRE_FALSE(r.await_commit(Offset(2), 7));
  // The sync of everything fails at a small file while somebody waits for the records.
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.run_all();
  CHECK(r.waiter->commits == Told{{7, ErrorCode::none}});
  CHECK(r.failures.empty());
  full = false;
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.run_all();
  CHECK(r.partition->usage().recovery_point == Offset(2));
}

TEST_CASE("a broker started on a full disk leads what it holds", "[partition]") {
  DirectoryRig r;
  r.lead();
  r.append();
  r.run_all();
  r.partition->stop(ErrorCode::not_leader_or_follower);
  r.files.fault = [&](test::DiskOp op, const std::string& path) {
    return op == test::DiskOp::write && path.find("leader-epoch") != std::string::npos ? ErrorCode::no_space
                                                                                       : ErrorCode::none;
  };
  CHECK(r.partition->lead({LeaderEpoch(6), {BrokerId(1)}, 1}).ok());
  CHECK(r.failures.empty());
  CHECK(r.high_watermark() == Offset(1));
}

TEST_CASE("of a directory that failed while a sync ran nothing is acknowledged", "[partition]") {
  DirectoryRig r;
  r.lead();
  r.append();
  REQUIRE_FALSE(r.await_commit(Offset(1), 3));
  (void)r.state->fail(Error(ErrorCode::io_error, "another file's sync failed"));
  r.run_all();
  CHECK(r.waiter->commits == Told{{3, ErrorCode::request_timed_out}});
  CHECK(r.partition->offline());
  CHECK(r.append_as(Origin::broker).code() == ErrorCode::kafka_storage_error);
  CHECK(r.try_fetch(Offset(0)).code() == ErrorCode::kafka_storage_error);
  CHECK(r.partition->offsets().code() == ErrorCode::kafka_storage_error);
  // Closing writes nothing: the next start recovers.
  r.partition->stop(ErrorCode::kafka_storage_error);
  const uint64_t writes = r.files.writes;
  CHECK(r.partition->close().ok());
  CHECK(r.files.writes == writes);
}

TEST_CASE("urgent housekeeping removes files that wait for their delay", "[partition]") {
  DirectoryRig r;
  r.config.log.segment_bytes = 400;
  r.config.log.retention_bytes = 400;
  r.config.log.file_delete_delay_ms = 60'000;
  r.lead();
  for (int i = 0; i < 6; ++i) r.append({.value_bytes = 200});
  r.run_all();
  r.partition->keep_house(r.clock.now());
  const auto deleted = [&] {
    size_t count = 0;
    for (const std::string& p : r.files.paths()) count += p.ends_with(".deleted") ? 1U : 0U;
    return count;
  };
  CHECK(deleted() > 0);
  r.partition->keep_house(r.clock.now(), true);
  CHECK(deleted() == 0);
}

}  // namespace
}  // namespace millrace::partition
