// Appending: what leader and follower write, idempotent producers, rolling, and disks that fail.
#include "log_fixture.h"
#include "record/control_batch.h"

namespace millrace::log {
namespace {

using namespace fixture;

BatchSpec idempotent(int32_t sequence, int count = 1, int16_t epoch = 0, int64_t producer = 1) {
  BatchSpec spec;
  spec.count = count;
  spec.producer = ProducerId(producer);
  spec.epoch = ProducerEpoch(epoch);
  spec.sequence = sequence;
  return spec;
}

Bytes marker(int64_t producer, int16_t epoch, bool commit) {
  record::EndTransactionMarker m;
  m.producer_id = ProducerId(producer);
  m.producer_epoch = ProducerEpoch(epoch);
  m.commit = commit;
  m.coordinator_epoch = 5;
  return record::build_marker(m, kT0);
}

TEST_CASE("the leader assigns offsets and epoch in place") {
  Fixture f;
  f.open();
  BatchSpec three;
  three.count = 3;
  Bytes two_batches = joined({batch(three), batch({})});
  const Result<AppendResult> result = f.log->append_as_leader(two_batches, LeaderEpoch(4), at_ms(0));
  REQUIRE(result.ok());
  CHECK(result->base_offset == Offset(0));
  CHECK(result->last_offset == Offset(3));
  CHECK(result->bytes == two_batches.size());
  CHECK_FALSE(result->duplicate);
  CHECK(f.log->log_end_offset() == Offset(4));
  CHECK(f.log->latest_epoch() == LeaderEpoch(4));
  CHECK(f.log->size_bytes() == two_batches.size());
  CHECK(f.everything() == two_batches);
  const Bytes all = f.everything();
  record::BatchIterator batches(all);
  const auto first = *batches.next();
  CHECK(first->leader_epoch() == LeaderEpoch(4));
  CHECK(first->crc_matches());
  const auto second = *batches.next();
  CHECK(second->base_offset() == Offset(3));
  CHECK(f.append(BatchSpec{}, 0, LeaderEpoch(4)).base_offset == Offset(4));
  CHECK(f.disk.writes == 2);  // one a call
}

TEST_CASE("batches that lie apart are written at once, all or none") {
  Fixture f;
  f.open();
  BatchSpec three;
  three.count = 3;
  Bytes first = joined({batch(three), batch({})});
  Bytes second = batch(idempotent(0, 2));
  Bytes third = batch(idempotent(2));
  const std::vector<MutableByteView> pieces{first, second, third};
  f.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  f.disk.torn_bytes = first.size() + 10;
  CHECK(f.log->append_as_leader(pieces, LeaderEpoch(4), at_ms(0)).code() == ErrorCode::no_space);
  CHECK(f.log->log_end_offset() == Offset(0));
  f.disk.fault = nullptr;
  f.disk.writes = 0;
  const Result<AppendResult> result = f.log->append_as_leader(pieces, LeaderEpoch(4), at_ms(0));
  REQUIRE(result.ok());
  CHECK(result->base_offset == Offset(0));
  CHECK(result->last_offset == Offset(6));
  CHECK(result->batches == 4);
  CHECK(f.disk.writes == 1);
  CHECK(f.everything() == joined({first, second, third}));
  // A duplicate among several is refused with all of them; by itself it is known.
  CHECK(f.log->append_as_leader(pieces, LeaderEpoch(4), at_ms(0)).code() ==
        ErrorCode::duplicate_sequence_number);
  const Result<AppendResult> again = f.log->append_as_leader(third, LeaderEpoch(4), at_ms(0));
  REQUIRE(again.ok());
  CHECK(again->duplicate);
  CHECK(f.log->log_end_offset() == Offset(7));
}

TEST_CASE("what is no batch is refused, and changes nothing") {
  Fixture f;
  f.open();
  Bytes bytes;
  CHECK(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).code() == ErrorCode::corrupt_message);
  bytes = batch({});
  bytes.pop_back();
  CHECK(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).code() == ErrorCode::corrupt_message);
  bytes = joined({batch({}), Bytes(10, 0)});
  CHECK(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).code() == ErrorCode::corrupt_message);
  f.config.segment_bytes = 100;
  f.log->configure(f.config);
  BatchSpec large;
  large.value_bytes = 100;
  CHECK(f.append_error(large) == ErrorCode::record_list_too_large);
  CHECK(f.log->log_end_offset() == Offset(0));
  CHECK(f.log->size_bytes() == 0);
}

TEST_CASE("the follower keeps offsets and epochs") {
  Fixture leader;
  leader.open();
  for (int i = 0; i < 5; ++i) leader.append(BatchSpec{.count = 2}, 0, LeaderEpoch(i / 3));
  const Bytes bytes = leader.everything();
  Fixture f;
  f.open();
  REQUIRE(f.log->append_as_follower(bytes, at_ms(0)).ok());
  CHECK(f.everything() == bytes);
  CHECK(f.log->log_end_offset() == Offset(10));
  CHECK(f.log->epochs().entries() == leader.log->epochs().entries());
  CHECK(f.log->append_as_follower(bytes, at_ms(0)).code() == ErrorCode::offset_out_of_range);
  // Behind a compacted leader offsets are missing.
  Bytes later = batch({});
  record::set_base_offset(later, Offset(100));
  REQUIRE(f.log->append_as_follower(later, at_ms(0)).ok());
  CHECK(f.log->log_end_offset() == Offset(101));
  // Farther than a segment can reach: a new segment begins there.
  record::set_base_offset(later, Offset(int64_t{1} << 40));
  const auto far = f.log->append_as_follower(later, at_ms(0));
  REQUIRE(far.ok());
  CHECK(far->rolled);
  CHECK(f.log->segments().back().base_offset == Offset(int64_t{1} << 40));
}

TEST_CASE("an empty segment too far back gives way") {
  Fixture f;
  f.open();
  Bytes far = batch({});
  record::set_base_offset(far, Offset(int64_t{1} << 40));
  REQUIRE(f.log->append_as_follower(far, at_ms(0)).ok());
  CHECK(f.log->segment_count() == 1);
  CHECK(f.log->segments()[0].base_offset == Offset(int64_t{1} << 40));
}

TEST_CASE("duplicates: the last five batches of a producer are remembered") {
  Fixture f;
  f.open();
  f.append(BatchSpec{});
  std::vector<AppendResult> originals;
  for (int i = 0; i < 6; ++i) {
    BatchSpec spec = idempotent(i * 2, 2);
    spec.timestamp = kT0 + i;
    originals.push_back(f.append(spec));
  }
  const Offset end = f.log->log_end_offset();
  for (size_t i = 1; i < 6; ++i) {
    const AppendResult again = f.append(idempotent(static_cast<int32_t>(i) * 2, 2));
    CHECK(again.duplicate);
    CHECK(again.base_offset == originals[i].base_offset);
    CHECK(again.last_offset == originals[i].last_offset);
    CHECK(again.timestamp == originals[i].timestamp);
    CHECK(again.bytes == 0);
  }
  CHECK(f.append_error(idempotent(0, 2)) ==
        ErrorCode::out_of_order_sequence_number);  // the sixth is forgotten
  CHECK(f.append_error(idempotent(10, 1)) == ErrorCode::out_of_order_sequence_number);  // not the same batch
  CHECK(f.append_error(idempotent(13, 1)) == ErrorCode::out_of_order_sequence_number);  // a gap
  CHECK(f.log->log_end_offset() == end);
  CHECK_FALSE(f.append(idempotent(12, 1)).duplicate);
}

TEST_CASE("producer epochs: older ones are fenced, newer ones begin at 0") {
  Fixture f;
  f.open();
  f.append(idempotent(7, 1, 3));  // nothing known: any sequence
  CHECK(f.append_error(idempotent(8, 1, 2)) == ErrorCode::invalid_producer_epoch);
  CHECK(f.append_error(idempotent(8, 1, 4)) == ErrorCode::out_of_order_sequence_number);
  CHECK_FALSE(f.append(idempotent(0, 1, 4)).duplicate);
  CHECK(f.append(idempotent(0, 1, 4)).duplicate);
  CHECK(f.append_error(idempotent(7, 1, 3)) ==
        ErrorCode::invalid_producer_epoch);                 // no duplicate of an old epoch
  CHECK_FALSE(f.append(idempotent(5, 1, 0, 2)).duplicate);  // another producer
}

TEST_CASE("sequences wrap") {
  Fixture f;
  f.open();
  f.append(idempotent(INT32_MAX - 1, 1));
  f.append(idempotent(INT32_MAX, 3));  // INT32_MAX, 0, 1
  CHECK(f.append(idempotent(INT32_MAX, 3)).duplicate);
  CHECK(f.log->producers().find(ProducerId(1))->last_sequence() == 1);
  CHECK(f.append_error(idempotent(3)) == ErrorCode::out_of_order_sequence_number);
  f.append(idempotent(2));
  Fixture g;
  g.open();
  g.append(idempotent(INT32_MAX, 1));
  g.append(idempotent(0));
}

TEST_CASE("several batches of one producer in one append follow each other") {
  Fixture f;
  f.open();
  Bytes bytes = joined({batch(idempotent(0, 2)), batch(idempotent(2)), batch(idempotent(3))});
  REQUIRE(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).ok());
  bytes = joined({batch(idempotent(4)), batch(idempotent(6))});
  CHECK(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).code() ==
        ErrorCode::out_of_order_sequence_number);
  bytes = joined({batch(idempotent(4)), batch(idempotent(4))});
  CHECK(f.log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).code() ==
        ErrorCode::duplicate_sequence_number);
  CHECK(f.log->log_end_offset() == Offset(4));
  CHECK(f.append(idempotent(3)).duplicate);
}

TEST_CASE("producers expire, unless in a transaction, and their number is bounded") {
  Fixture f;
  f.config.producer_id_expiration_ms = 1000;
  f.config.producer_ids_max = 100;
  f.open();
  f.append(idempotent(0, 1, 0, 1), 0);
  BatchSpec open_txn = idempotent(0, 1, 0, 2);
  open_txn.transactional = true;
  f.append(open_txn, 0);
  f.append(idempotent(0, 1, 0, 3), 500);
  CHECK(f.log->expire_producers(at_ms(999)) == 0);
  // A clock that was set forward by years ages nobody: the retry of a write would be appended twice.
  CHECK(f.log->expire_producers({.mono_ms = 999, .wall_ms = kT0 + int64_t{200'000'000'000}}) == 0);
  CHECK(f.log->expire_producers(at_ms(1000)) == 1);
  CHECK(f.log->producers().find(ProducerId(1)) == nullptr);
  CHECK(f.log->producers().find(ProducerId(2)) != nullptr);
  CHECK(f.log->producers().find(ProducerId(3)) != nullptr);
  for (int64_t id = 10; id < 300; ++id) {
    f.append(idempotent(0, 1, 0, id), 1000 + id);
    REQUIRE(f.log->producers().size() <= 100);
    REQUIRE(f.log->producers().find(ProducerId(id)) != nullptr);
  }
  CHECK(f.log->producers().find(ProducerId(2)) != nullptr);  // in a transaction
  CHECK(f.log->producers().find(ProducerId(10)) == nullptr);
}

TEST_CASE("duplicate window after a restart: five, from a replay, or from before the snapshot") {
  Fixture f;
  f.open();
  for (int i = 0; i < 5; ++i) f.append(idempotent(i));
  SECTION("unclean: replayed") {
    f.reopen_unclean(Offset(0));
    for (int i = 0; i < 5; ++i) CHECK(f.append(idempotent(i)).duplicate);
  }
  SECTION("clean: the snapshot holds the last batch, the log those before it") {
    f.reopen_clean();
    CHECK(f.stats.snapshot_used == Offset(5));
    CHECK(f.stats.batches_replayed == 0);
    for (int i = 0; i < 5; ++i) CHECK(f.append(idempotent(i)).duplicate);
  }
  SECTION("clean, with a younger batch behind it") {
    f.reopen_clean();
    f.append(idempotent(5));
    CHECK(f.append_error(idempotent(0)) == ErrorCode::out_of_order_sequence_number);
    for (int i = 1; i < 6; ++i) CHECK(f.append(idempotent(i)).duplicate);
    return;
  }
  CHECK_FALSE(f.append(idempotent(5)).duplicate);
}

TEST_CASE("transactions bound the last stable offset and leave an index of the aborted") {
  Fixture f;
  f.open();
  f.append(BatchSpec{});                  // 0
  BatchSpec t1 = idempotent(0, 2, 0, 1);  // 1, 2
  t1.transactional = true;
  f.append(t1);
  BatchSpec t2 = idempotent(0, 1, 0, 2);  // 3
  t2.transactional = true;
  f.append(t2);
  CHECK(f.log->last_stable_offset(Offset(4)) == Offset(1));
  CHECK(f.append_error(idempotent(2, 1, 0, 1)) == ErrorCode::invalid_txn_state);
  f.append(marker(1, 0, false));                             // 4: abort of 1
  CHECK(f.log->last_stable_offset(Offset(4)) == Offset(1));  // the marker is not replicated yet
  f.log->on_high_watermark(Offset(5));
  CHECK(f.log->last_stable_offset(Offset(5)) == Offset(3));
  f.append(marker(2, 0, true));  // 5: commit of 2
  f.log->on_high_watermark(Offset(6));
  CHECK(f.log->last_stable_offset(Offset(6)) == Offset(6));
  const std::vector<AbortedTxn> expected{{ProducerId(1), Offset(1), Offset(4), Offset(3)}};
  CHECK(*f.log->aborted_transactions(Offset(0), Offset(6)) == expected);
  CHECK(f.log->aborted_transactions(Offset(5), Offset(6))->empty());
  CHECK(f.log->aborted_transactions(Offset(0), Offset(1))->empty());
  CHECK(f.log->producers().find(ProducerId(1))->coordinator_epoch == 5);

  REQUIRE(f.log->roll(at_ms(0)).ok());
  CHECK(f.disk.content(f.path(Offset(0), FileKind::txn_index)).size() == 34);
  SECTION("reopened") {
    f.reopen_clean();
  }
  SECTION("killed") {
    f.reopen_unclean(Offset(0));
  }
  SECTION("killed, the index damaged") {
    f.disk.flip_bit(f.path(Offset(0), FileKind::txn_index), 1, 3);
    f.reopen_unclean(Offset(0));
  }
  SECTION("the index damaged behind a clean log's back") {
    REQUIRE(f.log->close(true).ok());
    f.disk.flip_bit(f.path(Offset(0), FileKind::txn_index), 1, 3);
    OpenParams p = f.params();
    p.clean_shutdown = true;
    f.open(p);
  }
  CHECK(*f.log->aborted_transactions(Offset(0), Offset(6)) == expected);
  CHECK(f.log->last_stable_offset(Offset(6)) == Offset(6));
}

TEST_CASE("an open transaction survives a restart") {
  Fixture f;
  f.open();
  BatchSpec t = idempotent(0, 2, 0, 1);
  t.transactional = true;
  f.append(t);
  SECTION("clean") {
    f.reopen_clean();
  }
  SECTION("unclean") {
    f.reopen_unclean(Offset(0));
  }
  CHECK(f.log->last_stable_offset(Offset(2)) == Offset(0));
  f.append(marker(1, 0, false));
  f.log->on_high_watermark(Offset(3));
  CHECK(f.log->last_stable_offset(Offset(3)) == Offset(3));
  CHECK(f.log->aborted_transactions(Offset(0), Offset(3))->size() == 1);
}

TEST_CASE("rolling by size") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.open();
  const size_t size = batch({}).size();
  const size_t fits = 1000 / size;
  for (size_t i = 0; i < fits; ++i) CHECK_FALSE(f.append(BatchSpec{}).rolled);
  CHECK(f.append(BatchSpec{}).rolled);
  const auto segments = f.log->segments();
  REQUIRE(segments.size() == 2);
  CHECK(segments[0].bytes == fits * size);
  CHECK(segments[1].base_offset == Offset(static_cast<int64_t>(fits)));
  CHECK(segments[1].active);
}

TEST_CASE("rolling by age, with a jitter that is always the same") {
  Fixture f;
  f.config.segment_ms = 1000;
  f.open();
  f.append(BatchSpec{}, 5000);
  CHECK_FALSE(f.append(BatchSpec{}, 6000).rolled);
  CHECK(f.append(BatchSpec{}, 6001).rolled);
  CHECK_FALSE(f.append(BatchSpec{}, 7001).rolled);
  f.config.segment_jitter_ms = 900;
  const auto first_roll = [&f] {
    f.log.reset();
    f.disk = test::MemoryDisk();
    f.open();
    f.append(BatchSpec{}, 0);
    for (int64_t ms = 1; ms < 2000; ++ms) {
      if (f.append(BatchSpec{}, ms).rolled) return ms;
    }
    return int64_t{0};
  };
  const int64_t rolled_at = first_roll();
  CHECK(rolled_at > 100);
  CHECK(rolled_at <= 1001);
  CHECK(first_roll() == rolled_at);
}

TEST_CASE("rolling when an index is full") {
  Fixture f;
  f.config.index_interval_bytes = 0;
  f.config.segment_index_bytes = 40;  // three time entries
  f.open();
  for (int i = 0; i < 4; ++i) {
    BatchSpec spec;
    spec.timestamp = kT0 + i;
    CHECK_FALSE(f.append(spec).rolled);
  }
  CHECK(f.append(BatchSpec{}).rolled);
}

TEST_CASE("a disk that fills up mid-write leaves no torn batch") {
  for (const size_t room : {0u, 1u, 60u, 61u, 90u}) {
    Fixture f;
    f.open();
    const Bytes before = batch({});
    f.append(before);
    const size_t size = f.disk.content(f.path(Offset(0), FileKind::log)).size();
    f.disk.capacity = f.disk.used() + room;
    CHECK(f.append_error(BatchSpec{.count = 2}) == ErrorCode::no_space);
    CHECK(f.disk.content(f.path(Offset(0), FileKind::log)).size() == size);
    CHECK(f.log->log_end_offset() == Offset(1));
    CHECK_FALSE(f.log->failed());
    f.disk.capacity = UINT64_MAX;
    CHECK(f.append(BatchSpec{.count = 2}).base_offset == Offset(1));
    CHECK(base_offsets(f.everything()) == std::vector<Offset>{Offset(0), Offset(1)});
  }
}

TEST_CASE("a refused write does not count for its producer") {
  Fixture f;
  f.open();
  f.append(idempotent(0));
  f.disk.capacity = f.disk.used() + 10;
  CHECK(f.append_error(idempotent(1)) == ErrorCode::no_space);
  f.disk.capacity = UINT64_MAX;
  CHECK_FALSE(f.append(idempotent(1)).duplicate);
}

TEST_CASE("a full disk at the roll refuses the append and heals") {
  Fixture f;
  f.config.segment_bytes = 300;
  f.config.index_interval_bytes = 10;
  f.open();
  for (int i = 0; i < 3; ++i) f.append(BatchSpec{});
  f.disk.capacity = f.disk.used() + 4;
  CHECK(f.append_error({}) == ErrorCode::no_space);
  CHECK(f.append_error({}) == ErrorCode::no_space);
  f.disk.capacity = UINT64_MAX;
  CHECK(f.append(BatchSpec{}).base_offset == Offset(3));
  CHECK(f.log->segment_count() == 2);
  f.reopen_unclean(Offset(0));
  CHECK(base_offsets(f.everything()).size() == 4);
}

TEST_CASE("a write error that cannot be cut fails the log") {
  Fixture f;
  f.open();
  f.append(BatchSpec{});
  f.disk.torn_bytes = 30;
  bool cut_fails = false;
  f.disk.fault = [&](test::DiskOp op, const std::string&) {
    if (op == test::DiskOp::write) return ErrorCode::io_error;
    if (op == test::DiskOp::truncate && cut_fails) return ErrorCode::io_error;
    return ErrorCode::none;
  };
  CHECK(f.append_error({}) == ErrorCode::io_error);
  CHECK_FALSE(f.log->failed());
  cut_fails = true;
  CHECK(f.append_error({}) == ErrorCode::io_error);
  CHECK(f.log->failed());
  f.disk.fault = nullptr;
  CHECK(f.append_error({}) == ErrorCode::kafka_storage_error);
  CHECK(f.log->plan_sync(SyncScope::records).code() == ErrorCode::kafka_storage_error);
  CHECK_FALSE(f.read(Offset(0)).empty());
  f.reopen_unclean(Offset(0));
  CHECK(f.stats.bytes_cut == 30);
  CHECK(f.log->log_end_offset() == Offset(1));
}

TEST_CASE("sync plans: what they cover, and when the ends move") {
  Fixture f;
  f.config.segment_bytes = 300;
  f.open();
  CHECK(f.log->needs_sync());  // the new names
  for (int i = 0; i < 5; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->segment_count() == 2);
  const Result<SyncPlan> plan = f.log->plan_sync(SyncScope::records);
  REQUIRE(plan.ok());
  CHECK(plan->end == Offset(5));
  f.append(BatchSpec{});  // meanwhile
  CHECK(f.log->durable_end() == Offset(0));
  f.log->synced(*plan, plan->run(f.disk));
  CHECK(f.log->durable_end() == Offset(5));
  CHECK(f.log->recovery_point() == Offset(0));  // the epoch file is not written yet
  CHECK(f.log->needs_sync());
  REQUIRE(f.log->flush().ok());
  CHECK(f.log->durable_end() == Offset(6));
  CHECK(f.log->recovery_point() == Offset(6));
  CHECK_FALSE(f.log->needs_sync());
  f.append(BatchSpec{});
  f.append(BatchSpec{});
  const Result<SyncPlan> next = f.log->plan_sync(SyncScope::records);
  CHECK(next->files.size() == 3);  // the new segment; closing time entry and snapshot of the one before
  f.log->synced(*next, next->run(f.disk));
  CHECK(f.log->durable_end() == Offset(8));
  CHECK(f.log->recovery_point() == f.log->segments().back().base_offset);
  const Result<SyncPlan> nothing = f.log->plan_sync(SyncScope::records);
  CHECK(nothing->empty());
}

TEST_CASE("what a plan synced survives a power cut, and nothing else needs to") {
  Fixture f;
  f.config.segment_bytes = 300;
  f.open();
  for (int i = 0; i < 7; ++i) f.append(BatchSpec{});
  const Result<SyncPlan> plan = f.log->plan_sync(SyncScope::records);
  f.log->synced(*plan, plan->run(f.disk));
  for (int i = 0; i < 4; ++i) f.append(BatchSpec{});
  REQUIRE(f.disk.sync_directory("/").ok());
  f.disk.crash();
  f.reopen_unclean(Offset(0), Offset(7));
  CHECK(f.log->log_end_offset() == Offset(7));
  CHECK(base_offsets(f.everything()).size() == 7);
}

TEST_CASE("a failed sync is never tried again") {
  Fixture f;
  f.open();
  f.append(BatchSpec{});
  f.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK(f.log->flush().code() == ErrorCode::io_error);
  f.disk.fault = nullptr;
  CHECK(f.log->failed());
  CHECK(f.log->flush().code() == ErrorCode::kafka_storage_error);
  CHECK(f.append_error({}) == ErrorCode::kafka_storage_error);
  CHECK(f.log->durable_end() == Offset(0));
}

TEST_CASE("a plan from before a truncation counts for nothing") {
  Fixture f;
  f.open();
  for (int i = 0; i < 4; ++i) f.append(BatchSpec{});
  const Result<SyncPlan> plan = f.log->plan_sync(SyncScope::everything);
  REQUIRE(f.log->truncate_to(Offset(2), at_ms(0)).ok());
  f.append(BatchSpec{});
  f.append(BatchSpec{});
  f.log->synced(*plan, plan->run(f.disk));
  CHECK(f.log->durable_end() == Offset(0));
}

TEST_CASE("begin_epoch marks where a leadership starts") {
  Fixture f;
  f.open();
  f.log->begin_epoch(LeaderEpoch(1));
  f.append(BatchSpec{}, 0, LeaderEpoch(1));
  f.log->begin_epoch(LeaderEpoch(4));
  f.log->begin_epoch(LeaderEpoch(4));
  f.log->begin_epoch(LeaderEpoch(2));
  CHECK(f.log->latest_epoch() == LeaderEpoch(4));
  CHECK(f.log->end_offset_for_epoch(LeaderEpoch(4)) == EpochEnd{LeaderEpoch(4), Offset(1)});
  CHECK(f.log->end_offset_for_epoch(LeaderEpoch(1)) == EpochEnd{LeaderEpoch(1), Offset(1)});
  f.append(BatchSpec{}, 0, LeaderEpoch(4));
  CHECK(f.log->epochs().entries() ==
        std::vector<EpochStart>{{LeaderEpoch(1), Offset(0)}, {LeaderEpoch(4), Offset(1)}});
}

}  // namespace
}  // namespace millrace::log
