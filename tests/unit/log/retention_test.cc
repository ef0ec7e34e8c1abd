// What leaves the log: by age, by size, by DeleteRecords, by truncation, with its topic.
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

/// Ten batches a segment, one record each, record n at kT0 + 100 n.
void fill(Fixture& f, int batches) {
  f.config.segment_bytes = 10 * static_cast<int32_t>(batch({}).size());
  f.config.file_delete_delay_ms = 1000;
  f.open();
  for (int i = 0; i < batches; ++i) {
    BatchSpec spec;
    spec.timestamp = kT0 + 100 * i;
    f.append(spec, 100 * i, LeaderEpoch(i / 15));
  }
  REQUIRE(f.log->flush().ok());
}

TEST_CASE("retention by age takes whole segments whose last record is too old") {
  Fixture f;
  f.config.retention_ms = 1000;
  fill(f, 35);
  REQUIRE(f.log->segment_count() == 4);
  // Records 0..9 are older than 1000 ms once the time is beyond 900 + 1000.
  CHECK(f.log->delete_old_segments(at_ms(1900), Offset(35))->empty());
  const auto first = f.log->delete_old_segments(at_ms(1901), Offset(35));
  REQUIRE(first.ok());
  CHECK(first->base_offsets == std::vector<Offset>{Offset(0)});
  CHECK(first->bytes == static_cast<uint64_t>(f.config.segment_bytes));
  CHECK(first->reason == "retention.ms");
  CHECK(f.log->log_start_offset() == Offset(10));
  CHECK(f.log->read(Offset(9), 10, Offset(35), true).code() == ErrorCode::offset_out_of_range);
  CHECK(f.log->epochs().entries().front() == EpochStart{LeaderEpoch(0), Offset(10)});
  // Nothing above the high watermark goes, however old.
  CHECK(f.log->delete_old_segments(at_ms(1'000'000), Offset(19))->empty());
  CHECK(f.log->delete_old_segments(at_ms(1'000'000), Offset(20))->base_offsets.size() == 1);
  // All of it: the active segment rolls first.
  const auto rest = f.log->delete_old_segments(at_ms(1'000'000), Offset(35));
  CHECK(rest->base_offsets == std::vector<Offset>{Offset(20), Offset(30)});
  CHECK(f.log->log_start_offset() == Offset(35));
  CHECK(f.log->log_end_offset() == Offset(35));
  CHECK(f.log->size_bytes() == 0);
  CHECK(f.append(BatchSpec{}).base_offset == Offset(35));
}

TEST_CASE("a log that begins beyond its recorded start misses data; one that begins there does not") {
  Fixture f;
  f.config.retention_ms = 1000;
  fill(f, 35);
  f.log.reset();
  REQUIRE(f.disk.remove(f.path(Offset(0), FileKind::log)).ok());
  OpenParams p = f.params();
  p.recovery_point = Offset(35);
  p.log_start_exact = true;
  const Status missing = f.try_open(p);
  REQUIRE(missing.code() == ErrorCode::corrupt);
  CHECK(missing.error().message.find("segments are missing") != std::string::npos);
  p.log_start_offset = Offset(10);
  CHECK(f.try_open(p).ok());
}

TEST_CASE("where the log begins a snapshot of the producers stays, also if none was written there") {
  Fixture f;
  f.config.segment_bytes = 10 * static_cast<int32_t>(batch({}).size());
  f.config.retention_ms = 1000;
  f.open();
  BatchSpec spec{.producer = ProducerId(4), .epoch = ProducerEpoch(0), .sequence = 0};
  for (int i = 0; i < 10; ++i, ++spec.sequence) f.append(spec, 0);
  for (int i = 0; i < 25; ++i) f.append(BatchSpec{.timestamp = kT0 + 5000}, 5000);
  REQUIRE(f.log->flush().ok());
  // An unclean stop before the first checkpoint: later snapshots are not trusted and go.
  f.reopen_unclean(Offset(0));
  REQUIRE(f.log->flush().ok());
  REQUIRE_FALSE(f.disk.exists(f.path(Offset(10), FileKind::snapshot)));
  const auto planned = f.log->plan_retention(at_ms(2000), Offset(35));
  REQUIRE(planned.ok());
  CHECK(planned->log_start == Offset(10));
  CHECK(f.log->segments().front().base_offset == Offset(0));  // not before the caller has recorded it
  REQUIRE(f.log->flush().ok());
  CHECK(f.log->retire_below(*planned, at_ms(2000))->base_offsets == std::vector<Offset>{Offset(0)});
  f.log.reset();
  OpenParams p = f.params();
  p.log_start_offset = Offset(10);
  p.log_start_exact = true;
  p.durable_end = Offset(35);
  f.open(p);
  REQUIRE(f.log->producers().find(ProducerId(4)) != nullptr);
  CHECK(f.log->producers().find(ProducerId(4))->last_sequence() == 9);
}

TEST_CASE("retention by size keeps at least that much") {
  Fixture f;
  f.config.retention_ms = -1;
  const auto segment = 10 * static_cast<int64_t>(batch({}).size());
  f.config.retention_bytes = 2 * segment;
  fill(f, 35);
  const auto deleted = f.log->delete_old_segments(at_ms(0), Offset(35));
  REQUIRE(deleted.ok());
  CHECK(deleted->base_offsets == std::vector<Offset>{Offset(0)});  // 3.5 - 1 >= 2, 3.5 - 2 < 2
  CHECK(deleted->reason == "retention.bytes");
  CHECK(f.log->size_bytes() == static_cast<uint64_t>(segment) * 5 / 2);
  CHECK(f.log->delete_old_segments(at_ms(0), Offset(35))->empty());
}

TEST_CASE("compacted logs lose nothing to age or size, but what lies below the log start") {
  Fixture f;
  f.config.retention_ms = 1;
  f.config.retention_bytes = 1;
  f.config.delete_policy = false;
  f.config.compact_policy = true;
  fill(f, 35);
  CHECK(f.log->delete_old_segments(at_ms(1'000'000), Offset(35))->empty());
  REQUIRE(f.log->advance_log_start(Offset(25)).ok());
  const auto deleted = f.log->delete_old_segments(at_ms(0), Offset(35));
  CHECK(deleted->base_offsets == std::vector<Offset>{Offset(0), Offset(10)});
  CHECK(deleted->reason == "log start offset");
  CHECK(f.log->log_start_offset() == Offset(25));
}

TEST_CASE("what is not durable is not deleted") {
  Fixture f;
  f.config.retention_ms = 0;
  f.config.segment_bytes = 10 * static_cast<int32_t>(batch({}).size());
  f.open();
  for (int i = 0; i < 25; ++i) f.append(BatchSpec{});
  CHECK(f.log->delete_old_segments(at_ms(1'000'000), Offset(25))->empty());
  REQUIRE(f.log->flush().ok());
  CHECK(f.log->delete_old_segments(at_ms(1'000'000), Offset(25))->base_offsets.size() == 3);
}

TEST_CASE("deleted files are renamed at once and removed later") {
  Fixture f;
  f.config.retention_ms = 0;
  fill(f, 25);
  REQUIRE_FALSE(f.log->delete_old_segments(at_ms(5000), Offset(20))->empty());
  const std::string path = f.path(Offset(0), FileKind::log);
  CHECK_FALSE(f.disk.has(path));
  CHECK(f.disk.has(path + ".deleted"));
  CHECK(f.log->remove_pending(at_ms(5999)) == 0);
  CHECK(f.log->has_pending_removals());
  CHECK(f.log->remove_pending(at_ms(6000)) >= 4);
  CHECK_FALSE(f.log->has_pending_removals());
  for (const std::string& left : f.disk.paths()) CHECK_FALSE(left.ends_with(".deleted"));
  CHECK_FALSE(f.disk.has(f.path(Offset(10), FileKind::snapshot)));
  CHECK(f.disk.has(f.path(Offset(20), FileKind::snapshot)));
  f.reopen_clean();
  CHECK(f.log->log_start_offset() == Offset(20));
}

TEST_CASE("DeleteRecords moves the log start") {
  Fixture f;
  fill(f, 35);
  REQUIRE(f.log->advance_log_start(Offset(17)).ok());
  CHECK(f.log->log_start_offset() == Offset(17));
  REQUIRE(f.log->advance_log_start(Offset(5)).ok());
  CHECK(f.log->log_start_offset() == Offset(17));
  CHECK(f.log->advance_log_start(Offset(36)).code() == ErrorCode::offset_out_of_range);
  CHECK(f.log->epochs().entries() ==
        std::vector<EpochStart>{{LeaderEpoch(1), Offset(17)}, {LeaderEpoch(2), Offset(30)}});
  REQUIRE(f.log->advance_log_start(Offset(35)).ok());
  CHECK(f.read(Offset(35)).empty());
  f.reopen_clean();
  CHECK(f.log->log_start_offset() == Offset(35));
}

TEST_CASE("truncation cuts the batch that holds the offset") {
  for (const bool reopened : {false, true}) {
    Fixture f;
    f.config.segment_bytes = 1000;
    f.config.index_interval_bytes = 200;
    f.open();
    for (int i = 0; i < 20; ++i) {
      BatchSpec spec;
      spec.count = 3;
      spec.timestamp = kT0 + 10 * i;
      spec.producer = ProducerId(1);
      spec.epoch = ProducerEpoch(0);
      spec.sequence = 3 * i;
      f.append(spec, 0, LeaderEpoch(i / 4));
    }
    REQUIRE(f.log->segment_count() > 2);
    const Bytes all = f.everything();
    const size_t size = all.size() / 20;
    if (reopened) f.reopen_clean();
    for (const int64_t target : {60, 59, 45, 44, 43, 31, 12, 11, 2, 0}) {
      REQUIRE(f.log->truncate_to(Offset(target), at_ms(0)).ok());
      const int64_t batches = target / 3;
      INFO("to " << target);
      CHECK(f.log->log_end_offset() == Offset(3 * batches));
      CHECK(f.log->size_bytes() == static_cast<uint64_t>(batches) * size);
      CHECK(f.everything() ==
            Bytes(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(f.log->size_bytes())));
      CHECK(f.log->durable_end() <= f.log->log_end_offset());
      CHECK(f.log->latest_epoch() ==
            (batches == 0 ? kNoLeaderEpoch : LeaderEpoch(static_cast<int32_t>((batches - 1) / 4))));
      const ProducerEntry* producer = f.log->producers().find(ProducerId(1));
      CHECK((producer == nullptr ? -1 : producer->last_sequence()) == 3 * batches - 1);
      const auto found = f.log->offset_of_max_timestamp();
      REQUIRE(found.ok());
      CHECK(found->has_value() == (batches > 0));
      if (batches > 0) CHECK((*found)->offset == Offset(3 * batches - 1));
      for (const std::string& path : f.disk.paths()) {
        const auto name = parse_file_name(path.substr(kDirectory.size() + 1));
        if (name && name->kind == FileKind::snapshot) CHECK(name->offset <= f.log->log_end_offset());
      }
    }
    // It goes on from there, also after a restart.
    f.append(BatchSpec{}, 0, LeaderEpoch(9));
    f.reopen_clean();
    CHECK(f.everything().size() == f.log->size_bytes());
    CHECK(f.log->log_end_offset() == Offset(1));
  }
}

TEST_CASE("truncation lowers what counts as durable, and survives a power cut") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.open();
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{}, 0, LeaderEpoch(1));
  REQUIRE(f.log->flush().ok());
  REQUIRE(f.disk.sync_directory("/").ok());
  REQUIRE(f.log->truncate_to(Offset(7), at_ms(0)).ok());
  CHECK(f.log->durable_end() == Offset(7));
  CHECK(f.log->recovery_point() == Offset(7));
  CHECK(f.log->needs_sync());
  for (int i = 0; i < 3; ++i) f.append(BatchSpec{.fill = 'n'}, 0, LeaderEpoch(2));
  const Bytes expected = f.everything();
  REQUIRE(f.log->flush().ok());
  f.disk.crash();
  f.reopen_unclean(Offset(10));
  CHECK(f.everything() == expected);
  CHECK(f.log->epochs().entries() ==
        std::vector<EpochStart>{{LeaderEpoch(1), Offset(0)}, {LeaderEpoch(2), Offset(7)}});
}

TEST_CASE("truncation below the first segment, and starting anew") {
  Fixture f;
  f.config.retention_ms = 0;
  fill(f, 25);
  REQUIRE_FALSE(f.log->delete_old_segments(at_ms(5000), Offset(20))->empty());
  SECTION("truncate") {
    REQUIRE(f.log->truncate_to(Offset(3), at_ms(0)).ok());
    CHECK(f.log->log_start_offset() == Offset(3));
    CHECK(f.log->log_end_offset() == Offset(3));
  }
  SECTION("start anew ahead") {
    REQUIRE(f.log->truncate_fully_and_start_at(Offset(500), at_ms(0)).ok());
    CHECK(f.log->log_start_offset() == Offset(500));
  }
  SECTION("start anew at the same place") {
    REQUIRE(f.log->truncate_fully_and_start_at(Offset(20), at_ms(0)).ok());
    CHECK(f.log->log_start_offset() == Offset(20));
  }
  const Offset end = f.log->log_end_offset();
  CHECK(f.log->size_bytes() == 0);
  CHECK(f.log->segment_count() == 1);
  CHECK(f.log->epochs().entries().empty());
  CHECK(f.append(BatchSpec{}).base_offset == end);
  f.reopen_clean();
  CHECK(f.log->log_end_offset() == end + 1);
}

TEST_CASE("a truncation that fails half-way fails the log") {
  Fixture f;
  fill(f, 35);
  f.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::truncate ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK(f.log->truncate_to(Offset(5), at_ms(0)).code() == ErrorCode::io_error);
  f.disk.fault = nullptr;
  CHECK(f.log->failed());
  CHECK(f.append_error({}) == ErrorCode::kafka_storage_error);
  f.reopen_unclean(Offset(5));
  CHECK(f.log->log_end_offset() == Offset(10));
}

TEST_CASE("removal of a topic's partition") {
  Fixture f;
  fill(f, 15);
  Uuid id;
  id.bytes.fill(1);
  const std::string gone = "/data/" + deleted_directory_name("orders", PartitionId(0), id);
  const ReadResult r = f.read(Offset(0));
  f.append(BatchSpec{}, 0, LeaderEpoch(7));
  const Result<SyncPlan> in_flight = f.log->plan_sync(SyncScope::everything);
  REQUIRE(f.log->rename_for_removal(gone).ok());
  const Status ran = in_flight->run(f.disk);
  CHECK(ran.ok());
  f.log->synced(*in_flight, ran);
  CHECK(f.log->closed());
  CHECK(f.append_error({}) == ErrorCode::closed);
  CHECK(f.log->read(Offset(0), 10, Offset(15), true).code() == ErrorCode::closed);
  CHECK_FALSE(f.disk.exists(kDirectory));
  CHECK(f.disk.exists(gone));
  CHECK(Log::read_bytes(r).ok());
  REQUIRE(f.disk.remove_tree(gone).ok());
  CHECK_FALSE(f.disk.exists(gone));
}

TEST_CASE("a closed log takes nothing") {
  Fixture f;
  fill(f, 5);
  REQUIRE(f.log->close(true).ok());
  REQUIRE(f.log->close(true).ok());
  CHECK(f.append_error({}) == ErrorCode::closed);
  CHECK(f.log->plan_sync(SyncScope::records).code() == ErrorCode::closed);
  CHECK(f.log->truncate_to(Offset(0), at_ms(0)).code() == ErrorCode::closed);
}

}  // namespace
}  // namespace millrace::log
