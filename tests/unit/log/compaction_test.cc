// The rules of compaction, one by one.
#include "compaction_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

std::string wide(char c) {
  return std::string(200, c);
}

TEST_CASE("the key hash is SipHash-2-4 with 128 bits") {
  // From the reference implementation: key 00..0f, messages "" and 00..0e.
  const HashSecret secret{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  const KeyHash empty = hash_key(secret, {});
  CHECK(empty.low == 0xe6a825ba047f81a3u);
  CHECK(empty.high == 0x930255c71472f66du);
  Bytes message;
  for (uint8_t i = 0; i < 15; ++i) message.push_back(i);
  const KeyHash fifteen = hash_key(secret, message);
  CHECK(fifteen.low == 0x11a8b03399e99354u);
  CHECK(fifteen.high == 0xd9c3cf970fec087eu);
}

TEST_CASE("an offset map keeps the last offset of each key, up to its limit") {
  OffsetMap map({1, 2}, 24 * 20, 0.5, 1'000'000);
  CHECK(map.capacity() == 10);
  CHECK(map.bytes() <= 24 * 20);
  for (int i = 0; i < 10; ++i) CHECK(map.put(as_bytes(std::to_string(i)), Offset(i)));
  CHECK_FALSE(map.put(as_bytes("one more"), Offset(10)));
  CHECK(map.put(as_bytes("3"), Offset(11)));
  CHECK(map.put(as_bytes("3"), Offset(7)));
  CHECK(map.get(as_bytes("3")) == Offset(11));
  CHECK(map.get(as_bytes("one more")) == kNoOffset);
  CHECK(map.size() == 10);

  // No more memory than keys can come.
  const OffsetMap small({1, 2}, 128u << 20, 0.9, 100);
  CHECK(small.bytes() < 24 * 130);
  CHECK(small.capacity() >= 100);
}

TEST_CASE("the last record of each key stays, at its offset, unchanged") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 40; ++i) {
    KeyedSpec spec;
    spec.timestamp = kT0 + 10 * i;
    spec.codec = i % 2 == 0 ? record::Codec::lz4 : record::Codec::none;
    f.append_keyed({{"a", wide('a') + std::to_string(i)}, {"k" + std::to_string(i % 7), "v"}}, spec);
  }
  f.append_keyed({{"a", "active"}});
  const auto before = f.last_of_key();
  f.settle();
  const size_t segments = f.log->segment_count();
  REQUIRE(segments > 3);
  const uint64_t bytes = f.log->size_bytes();
  const CompactionStats stats = f.compact();
  CHECK(f.last_of_key() == before);
  CHECK(f.records().size() == before.size());
  CHECK(f.log->log_end_offset() == Offset(81));
  CHECK(f.log->size_bytes() < bytes / 3);
  CHECK(stats.segments_after == stats.segments_before);
  CHECK(stats.records_dropped == 81 - before.size());
  CHECK(stats.keys == 8);
  CHECK(f.log->cleaned_end() == Offset(81));
  // Nothing dirty, nothing done.
  CHECK(f.log->plan_compaction(at_ms(0), Offset(81))->sources.empty());
  // The same from the files.
  f.reopen_clean();
  CHECK(f.last_of_key() == before);
  f.reopen_unclean(Offset(0));
  CHECK(f.stats.bytes_cut == 0);
  CHECK(f.last_of_key() == before);
  // What became small is joined by the next run.
  f.append_keyed({{"z", "z"}});
  f.settle();
  CHECK(f.compact().segments_after == 1);
  CHECK(f.log->segment_count() < segments);
  CHECK(f.last_of_key().size() == before.size() + 1);
}

TEST_CASE("a batch that keeps all its records is copied byte for byte") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "1"}, {"b", "2"}}, {.codec = record::Codec::zstd});
  const Bytes kept = f.everything();
  f.append_keyed({{"c", "old"}});
  f.settle();
  f.append_keyed({{"c", "new"}});
  f.settle();
  f.compact();
  const Bytes after = f.everything();
  REQUIRE(after.size() > kept.size());
  CHECK(std::equal(kept.begin(), kept.end(), after.begin()));
}

TEST_CASE("a batch that loses records keeps what is not theirs") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}, {"b", "1"}, {"c", "2"}},
                 {.timestamp = kT0 + 5,
                  .producer = ProducerId(7),
                  .epoch = ProducerEpoch(1),
                  .sequence = 0,
                  .codec = record::Codec::gzip},
                 0, LeaderEpoch(3));
  f.append_keyed({{"a", "3"}, {"c", "4"}});
  f.settle();
  f.compact();
  const std::vector<BatchFound> b = f.batches();
  REQUIRE(b.size() == 2);
  CHECK(b[0].base == Offset(0));
  CHECK(b[0].next == Offset(3));
  CHECK(b[0].records == 1);
  CHECK(b[0].producer == ProducerId(7));
  CHECK(b[0].base_sequence == 0);
  CHECK(b[0].codec == record::Codec::gzip);
  CHECK(b[0].epoch == LeaderEpoch(3));
  CHECK(f.records() == std::vector<Found>{{Offset(1), "b", "1", kT0 + 6},
                                          {Offset(3), "a", "3", kT0},
                                          {Offset(4), "c", "4", kT0 + 1}});
}

TEST_CASE("records without a key go, records below the log start go") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}, {std::nullopt, "no key"}, {"b", "2"}, {"c", "3"}});
  f.settle();
  REQUIRE(f.log->advance_log_start(Offset(1)).ok());
  f.compact();
  CHECK(f.offsets() == std::vector<int64_t>{2, 3});
  REQUIRE(f.batches().size() == 1);
  CHECK(f.batches()[0].records == 2);
}

TEST_CASE("a tombstone stays for delete.retention.ms after it was first cleaned") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}, {"b", "1"}});
  f.append_keyed({{"a", std::nullopt}});
  f.settle();
  f.compact(100'000);  // however old it is by then
  CHECK(f.offsets() == std::vector<int64_t>{1, 2});
  std::vector<BatchFound> b = f.batches();
  CHECK_FALSE(b[0].horizon);
  CHECK(b[1].horizon);
  CHECK(b[1].base_timestamp == kT0 + 101'000);
  CHECK(f.records()[1].timestamp == kT0);

  f.append_keyed({{"x", "3"}});
  f.settle();
  f.compact(100'999);
  CHECK(f.offsets() == std::vector<int64_t>{1, 2, 3});
  CHECK(f.batches()[1].base_timestamp == kT0 + 101'000);

  f.append_keyed({{"x", "4"}});
  f.settle();
  f.compact(101'000);
  CHECK(f.offsets() == std::vector<int64_t>{1, 4});
}

TEST_CASE("a value after a tombstone, and a tombstone after a value of the same batch") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", std::nullopt}, {"a", "1"}, {"b", "2"}, {"b", std::nullopt}});
  f.settle();
  f.compact(0);
  CHECK(f.offsets() == std::vector<int64_t>{1, 3});
}

TEST_CASE("data of aborted transactions goes; the markers go a retention later") {
  CompactionFixture f;
  f.open();
  const ProducerId p(9);
  f.append_keyed({{"a", "kept"}});  // 0
  f.append_keyed({{"a", "aborted"}},
                 {.producer = p, .epoch = ProducerEpoch(0), .sequence = 0, .transactional = true});
  f.append(end_marker(p, false));  // 2
  f.append_keyed({{"b", "old"}},
                 {.producer = p, .epoch = ProducerEpoch(0), .sequence = 1, .transactional = true});
  f.append(end_marker(p, true));  // 4
  f.append_keyed({{"b", "new"}},
                 {.producer = p, .epoch = ProducerEpoch(0), .sequence = 2, .transactional = true});
  f.append(end_marker(p, true));  // 6
  f.settle();
  f.compact(0);
  CHECK(f.offsets() == std::vector<int64_t>{0, 5});
  // The markers saw data of their transactions: they stay, also in the index.
  std::vector<int64_t> control;
  for (const BatchFound& b : f.batches()) {
    if (b.control) control.push_back(b.base.v);
  }
  CHECK(control == std::vector<int64_t>{2, 4, 6});
  CHECK(f.log->aborted_transactions(Offset(0), Offset(7))->size() == 1);

  f.append_keyed({{"c", "7"}});
  f.settle();
  f.compact(10);  // no data is left of the first two: their time begins
  CHECK(f.log->aborted_transactions(Offset(0), Offset(8))->empty());
  std::vector<bool> horizons;
  for (const BatchFound& b : f.batches()) {
    if (b.control) horizons.push_back(b.horizon);
  }
  CHECK(horizons == std::vector<bool>{true, true, false});
  f.append_keyed({{"c", "8"}});
  f.settle();
  f.compact(1010);
  control.clear();
  for (const BatchFound& b : f.batches()) {
    if (b.control) control.push_back(b.base.v);
  }
  CHECK(control == std::vector<int64_t>{6});
  CHECK(f.offsets() == std::vector<int64_t>{0, 5, 8});
  f.reopen_unclean(Offset(0));
  CHECK(f.log->last_stable_offset(Offset(9)) == Offset(9));
}

TEST_CASE("an open transaction is not compacted, nor what follows it") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}});
  f.append_keyed({{"a", "1"}});
  f.settle();
  f.append_keyed(
      {{"a", "2"}},
      {.producer = ProducerId(9), .epoch = ProducerEpoch(0), .sequence = 0, .transactional = true});
  f.settle();
  f.append_keyed({{"a", "3"}});
  f.settle();
  f.compact();
  CHECK(f.offsets() == std::vector<int64_t>{1, 2, 3});
  f.append(end_marker(ProducerId(9), true));
  f.settle();
  f.compact();
  CHECK(f.offsets() == std::vector<int64_t>{3});
}

TEST_CASE("a transaction whose marker is not replicated stays undecided through a truncation") {
  CompactionFixture f;
  f.open();
  f.append_keyed(
      {{"a", "0"}},
      {.producer = ProducerId(9), .epoch = ProducerEpoch(0), .sequence = 0, .transactional = true});
  f.append(end_marker(ProducerId(9), false));
  f.settle();
  f.append_keyed({{"b", "2"}});
  CHECK(f.log->last_stable_offset(Offset(1)) == Offset(0));
  REQUIRE(f.log->truncate_to(Offset(2), at_ms(0)).ok());
  CHECK(f.log->last_stable_offset(Offset(1)) == Offset(0));
  CHECK(f.log->last_stable_offset(Offset(2)) == Offset(2));
}

TEST_CASE("only what is closed, replicated, durable and old enough is compacted") {
  CompactionFixture f;
  f.config.min_compaction_lag_ms = 500;
  f.open();
  const auto end_of_plan = [&](int64_t ms, Offset hw) {
    const Result<CompactionPlan> plan = f.log->plan_compaction(at_ms(ms), hw);
    REQUIRE(plan.ok());
    return plan->sources.empty() ? Offset(-1) : plan->end();
  };
  f.append_keyed({{"a", "0"}}, {.timestamp = kT0});
  f.settle();
  f.append_keyed({{"a", "1"}}, {.timestamp = kT0 + 200});
  f.settle();
  f.append_keyed({{"a", "2"}}, {.timestamp = kT0 + 300});
  CHECK(end_of_plan(0, Offset(3)) == Offset(-1));
  CHECK(end_of_plan(600, Offset(3)) == Offset(1));
  CHECK(end_of_plan(700, Offset(3)) == Offset(2));
  CHECK(end_of_plan(9999, Offset(3)) == Offset(2));  // the active segment never
  CHECK(end_of_plan(9999, Offset(1)) == Offset(1));  // not replicated
  REQUIRE(f.log->roll(at_ms(0)).ok());
  CHECK(end_of_plan(9999, Offset(3)) == Offset(2));  // not on disk
  REQUIRE(f.log->flush().ok());
  CHECK(end_of_plan(9999, Offset(3)) == Offset(3));
}

TEST_CASE("need: the share that is dirty, and what is overdue") {
  CompactionFixture f;
  f.config.max_compaction_lag_ms = 1000;
  f.open();
  f.append_keyed({{"a", wide('0')}});
  f.settle();
  f.compact();
  f.append_keyed({{"a", wide('1')}}, {.timestamp = kT0 + 100}, 100);
  f.append_keyed({{"a", wide('2')}}, {.timestamp = kT0 + 100}, 100);
  f.settle(100);
  CompactionNeed need = *f.log->compaction_need(at_ms(200), Offset(3));
  CHECK(need.clean_bytes > 0);
  CHECK(need.dirty_bytes == 2 * need.clean_bytes);
  CHECK(need.dirty_ratio() > 0.66);
  CHECK_FALSE(need.overdue);
  CHECK(f.log->compaction_need(at_ms(1200), Offset(3))->overdue);
  // An active segment that is too old is closed.
  f.append_keyed({{"b", "3"}}, {.timestamp = kT0 + 1200}, 1200);
  CHECK(f.log->segments().back().bytes > 0);
  (void)f.log->compaction_need(at_ms(2300), Offset(4));
  CHECK(f.log->segments().back().bytes == 0);
}

TEST_CASE("a dirty part that does not fit the map is compacted piece by piece") {
  CompactionFixture f;
  f.map_bytes = 24 * 12;
  f.open();
  for (int round = 0; round < 3; ++round) {
    for (int k = 0; k < 40; ++k) f.append_keyed({{"key" + std::to_string(k), wide('v')}});
  }
  f.settle();
  const auto before = f.last_of_key();
  Offset reached{0};
  for (int i = 0; f.log->cleaned_end() < Offset(120); ++i) {
    REQUIRE(i < 40);
    f.compact();
    REQUIRE(f.log->cleaned_end() > reached);
    reached = f.log->cleaned_end();
    REQUIRE(f.last_of_key() == before);
  }
  CHECK(f.records().size() <= 120);
}

TEST_CASE("a clean segment is not written again") {
  CompactionFixture f;
  f.open();
  for (int k = 0; k < 8; ++k) f.append_keyed({{"first" + std::to_string(k), wide('v')}});
  f.settle();
  f.compact();
  for (int k = 0; k < 8; ++k) f.append_keyed({{"second" + std::to_string(k % 2), wide('v')}});
  f.settle();
  const CompactionStats stats = f.compact();
  CHECK(stats.bytes_written < 1000);
  CHECK(f.records().size() == 10);
}

TEST_CASE("a producer's last batch leaves its number behind") {
  CompactionFixture f;
  f.open();
  const KeyedSpec first{.producer = ProducerId(5), .epoch = ProducerEpoch(0), .sequence = 0};
  const KeyedSpec second{.producer = ProducerId(5), .epoch = ProducerEpoch(0), .sequence = 1};
  f.append_keyed({{"a", "0"}}, first);
  f.append_keyed({{"a", "1"}}, second);
  f.append_keyed({{"a", "2"}});
  f.settle();
  f.compact();
  CHECK(f.offsets() == std::vector<int64_t>{2});
  // A restart that reads the log anew knows it still.
  for (const std::string& p : f.disk.paths()) {
    if (p.ends_with(".snapshot")) f.disk.erase(p);
  }
  f.reopen_unclean(Offset(0));
  const AppendResult again = f.append(keyed_batch({{"a", "1"}}, second));
  CHECK(again.duplicate);
  CHECK(again.base_offset == Offset(1));
  CHECK_FALSE(f.append(keyed_batch({{"a", "3"}},
                                   {.producer = ProducerId(5), .epoch = ProducerEpoch(0), .sequence = 2}))
                  .duplicate);
}

TEST_CASE("a producer is known after a cut, though all that was remembered of it lay beyond") {
  CompactionFixture f;
  f.open();
  const auto by_producer = [](int16_t epoch, int32_t sequence) {
    return KeyedSpec{.producer = ProducerId(5), .epoch = ProducerEpoch(epoch), .sequence = sequence};
  };
  f.append_keyed({{"a", "0"}}, by_producer(0, 0));
  f.append_keyed({{"a", "1"}}, by_producer(0, 1));
  f.append_keyed({{"a", "2"}});
  f.settle();
  f.append_keyed({{"b", "3"}}, by_producer(1, 0));
  f.compact();
  REQUIRE(f.offsets() == std::vector<int64_t>{2, 3});
  for (const std::string& p : f.disk.paths()) {
    if (p.ends_with(".snapshot")) f.disk.erase(p);
  }
  REQUIRE(f.log->truncate_to(Offset(3), at_ms(0)).ok());
  f.reopen_unclean(Offset(0));
  CHECK(f.append(keyed_batch({{"a", "1"}}, by_producer(0, 1))).base_offset == Offset(1));
  Bytes ahead = keyed_batch({{"c", "4"}}, by_producer(1, 1));
  CHECK(f.log->append_as_leader(ahead, LeaderEpoch(0), at_ms(0)).code() ==
        ErrorCode::out_of_order_sequence_number);
  // What an earlier run kept is let go when the producer has more in what is cleaned.
  f.append_keyed({{"a", "4"}}, by_producer(1, 0));
  f.settle();
  f.compact();
  const std::vector<BatchFound> left = f.batches();
  CHECK(std::none_of(left.begin(), left.end(), [](const BatchFound& b) { return b.base == Offset(1); }));
}

TEST_CASE("consumers are not given batches without records alone, also before the run is over") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 6; ++i) {
    f.append_keyed({{"a", wide('a')}}, {.producer = ProducerId(i), .epoch = ProducerEpoch(0), .sequence = 0});
    f.settle();
  }
  f.compact();
  const Offset end = f.log->log_end_offset();
  const auto records_of = [](const Result<ReadResult>& read) {
    REQUIRE(read.ok());
    REQUIRE_FALSE(read->empty());
    const Result<Bytes> bytes = Log::read_bytes(*read);
    REQUIRE(bytes.ok());
    return record::BatchView::parse(*bytes)->record_count();
  };
  for (const Offset cleaned : {f.log->cleaned_end(), Offset(0)}) {
    f.log->set_cleaned_end(cleaned);
    REQUIRE(records_of(f.log->read(Offset(0), 1, end, true)) == 0);
    CHECK(records_of(f.log->read_records(Offset(0), 1, end, true)) == 1);
  }
}

TEST_CASE("segments join after compaction, whatever the policy becomes") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 60; ++i) f.append_keyed({{"k" + std::to_string(i % 3), wide('v')}});
  f.settle();
  f.append_keyed({{"k0", "end"}, {"k1", "end"}, {"k2", "end"}});
  f.settle();
  f.compact();
  const auto segments = f.log->segments();
  for (size_t i = 0; i + 1 < segments.size(); ++i)
    CHECK(segments[i].next_offset == segments[i + 1].base_offset);
  f.config.compact_policy = false;
  f.config.delete_policy = true;
  f.config.retention_ms = -1;
  f.reopen_clean();
  CHECK(f.records().size() == 3);
  f.reopen_unclean(Offset(0));
  CHECK(f.stats.bytes_cut == 0);
  CHECK(f.records().size() == 3);
  // A segment that is missing is damage as ever.
  f.append_keyed({{"x", "y"}});
  f.settle();
  f.append_keyed({{"x", "z"}});
  f.settle();
  const Offset gone = f.log->segments()[f.log->segment_count() - 2].base_offset;
  f.disk.erase(f.path(gone, FileKind::log));
  OpenParams p = f.params();
  p.create = false;
  p.durable_end = f.log->log_end_offset();
  CHECK(f.try_open(p).code() == ErrorCode::corrupt);
}

TEST_CASE("offsets in holes are read from what follows; timestamps are found") {
  CompactionFixture f;
  f.config.segment_bytes = 1 << 20;
  f.open();
  for (int i = 0; i < 30; ++i) {
    f.append_keyed({{"k" + std::to_string(i % 10 == 0 ? i : 1000), wide('v')}}, {.timestamp = kT0 + i});
  }
  f.settle();
  f.compact();
  CHECK(f.offsets() == std::vector<int64_t>{0, 10, 20, 29});
  for (int from = 0; from < 30; ++from) {
    const ReadResult r = f.read(Offset(from), 1);
    const int64_t expected = from == 0 ? 0 : from <= 10 ? 10 : from <= 20 ? 20 : 29;
    const std::vector<Offset> bases = base_offsets(*Log::read_bytes(r));
    CHECK(bases.front() == Offset(expected));
    const auto at = f.log->offset_for_timestamp(kT0 + from, Offset(30));
    REQUIRE(at.ok());
    REQUIRE(at->has_value());
    CHECK((*at)->offset == Offset(expected));
  }
  CHECK((*f.log->offset_of_max_timestamp())->offset == Offset(29));
}

TEST_CASE("the greatest timestamp is that of a record, also when an empty batch has a greater one") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}}, {.timestamp = kT0 + 5});
  f.append_keyed({{"b", "1"}}, {.timestamp = kT0 + 900});
  f.settle();
  f.append_keyed({{"b", "2"}}, {.timestamp = kT0 + 7});
  f.settle();
  f.compact();
  const auto greatest = f.log->offset_of_max_timestamp();
  REQUIRE(greatest.ok());
  REQUIRE(greatest->has_value());
  CHECK((*greatest)->offset == Offset(2));
  CHECK((*greatest)->timestamp == kT0 + 7);
}

TEST_CASE("readers of replaced segments go on, the space comes back") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 20; ++i) f.append_keyed({{"a", wide('v') + std::to_string(i)}});
  f.settle();
  const ReadResult held = f.read(Offset(0), 1500);
  const Bytes before = *Log::read_bytes(held);
  f.compact();
  CHECK(f.files_named(".deleted") > 0);
  CHECK(*Log::read_bytes(held) == before);
  f.log->remove_pending(at_ms(1));
  CHECK(f.files_named(".deleted") == 0);
  CHECK(f.files_named(".cleaned") == 0);
  CHECK(f.files_named(".swap") == 0);
  CHECK(*Log::read_bytes(held) == before);
  CHECK(f.disk.used() < 2000);
}

TEST_CASE("damage ends the run and changes nothing") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 20; ++i) f.append_keyed({{"a", wide('v')}});
  f.settle();
  f.disk.flip_bit(f.path(Offset(0), FileKind::log), 150, 3);
  const Bytes before = f.disk.content(f.path(Offset(0), FileKind::log));
  const size_t segments = f.log->segment_count();
  const Result<CompactionStats> r = f.try_compact(0);
  CHECK(r.code() == ErrorCode::corrupt);
  CHECK(r.error().message.find("00000000000000000000.log") != std::string::npos);
  CHECK(f.disk.content(f.path(Offset(0), FileKind::log)) == before);
  CHECK(f.log->segment_count() == segments);
  CHECK(f.log->cleaned_end() == Offset(0));
  CHECK(f.files_named(".cleaned") == 0);
  CHECK_FALSE(f.log->failed());
}

TEST_CASE("a full disk ends the run and leaves the log as it was") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 20; ++i) f.append_keyed({{"k" + std::to_string(i % 15), wide('v')}});
  f.settle();
  const auto before = f.records();
  f.disk.capacity = f.disk.used() + 100;
  CHECK(f.try_compact(0).code() == ErrorCode::no_space);
  f.disk.capacity = UINT64_MAX;
  CHECK(f.files_named(".cleaned") == 0);
  CHECK(f.records() == before);
  f.append_keyed({{"z", "z"}});
  f.compact();
}

TEST_CASE("a sync that fails while segments are exchanged ends the log") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 20; ++i) f.append_keyed({{"a", wide('v')}});
  f.settle();
  int syncs = 0;
  f.disk.fault = [&](test::DiskOp op, const std::string&) {
    // The first is that of the .cleaned names.
    return op == test::DiskOp::sync_directory && ++syncs == 2 ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK(f.try_compact(0).code() == ErrorCode::io_error);
  CHECK(f.log->failed());
}

TEST_CASE("truncation and retention go first; the run ends") {
  CompactionFixture f;
  f.open();
  for (int i = 0; i < 30; ++i) f.append_keyed({{"a", wide('v')}});
  f.settle();
  CompactionPlan plan = *f.log->plan_compaction(at_ms(0), Offset(30));
  Compaction run(f.disk, std::move(plan), f.limits());
  while (*run.step(1 << 20) == Compaction::State::working) {
  }
  SECTION("before the swap") {
    REQUIRE(f.log->truncate_to(Offset(3), at_ms(0)).ok());
    CHECK(f.log->begin_swap(run.ready()).code() == ErrorCode::cancelled);
  }
  SECTION("in the middle of it") {
    REQUIRE(f.log->begin_swap(run.ready()).ok());
    CHECK(f.log->begin_swap(run.ready()).code() == ErrorCode::cancelled);
    REQUIRE(f.log->truncate_to(Offset(3), at_ms(0)).ok());
    CHECK(f.log->finish_swap(run.ready(), {}, at_ms(0)).code() == ErrorCode::cancelled);
  }
  run.abandon();
  CHECK(f.log->log_end_offset() == Offset(3));
  f.reopen_unclean(Offset(0));
  CHECK(f.offsets() == std::vector<int64_t>{0, 1, 2});
  CHECK(f.files_named(".swap") == 0);
}

TEST_CASE("compact,delete: retention also applies, not while segments are exchanged") {
  CompactionFixture f;
  f.config.delete_policy = true;
  f.config.retention_ms = 500;
  f.open();
  for (int i = 0; i < 30; ++i) f.append_keyed({{"a", wide('v')}});
  f.settle();
  f.compact();
  for (int i = 0; i < 30; ++i) f.append_keyed({{"a", wide('v')}}, {.timestamp = kT0 + 10'000}, 10'000);
  f.settle();
  CompactionPlan plan = *f.log->plan_compaction(at_ms(0), Offset(60));
  Compaction run(f.disk, std::move(plan), f.limits());
  while (*run.step(1 << 20) == Compaction::State::working) {
  }
  REQUIRE(f.log->begin_swap(run.ready()).ok());
  CHECK(f.log->delete_old_segments(at_ms(10'100), Offset(60))->empty());
  REQUIRE(f.log->finish_swap(run.ready(), {}, at_ms(0)).ok());
  run.group_swapped();
  run.abandon();
  f.append_keyed({{"b", "last"}}, {.timestamp = kT0 + 20'000}, 20'000);
  f.settle();
  CHECK_FALSE(f.log->delete_old_segments(at_ms(20'100), Offset(61))->empty());
  CHECK(f.log->log_start_offset() > Offset(30));
  CHECK(f.last_of_key().contains("b"));
}

TEST_CASE("a follower takes a compacted log as it is") {
  CompactionFixture leader;
  leader.open();
  for (int i = 0; i < 40; ++i) leader.append_keyed({{"k" + std::to_string(i % 9 == 0 ? i : 1), wide('v')}});
  leader.settle();
  leader.append_keyed({{"end", "end"}});
  leader.compact();
  CompactionFixture follower;
  follower.config.segment_bytes = 900;
  follower.open();
  for (Offset at{0}; at < leader.log->log_end_offset();) {
    const ReadResult r = leader.read(at, 400);
    REQUIRE(follower.log->append_as_follower(*Log::read_bytes(r), at_ms(0)).ok());
    at = r.next_offset;
    REQUIRE(follower.log->log_end_offset() <= at);
  }
  REQUIRE(follower.log->log_end_offset() == leader.log->log_end_offset());
  CHECK(follower.records() == leader.records());
  const auto segments = follower.log->segments();
  for (size_t i = 0; i + 1 < segments.size(); ++i)
    CHECK(segments[i].next_offset == segments[i + 1].base_offset);
  follower.reopen_unclean(Offset(0));
  CHECK(follower.records() == leader.records());
}

TEST_CASE("leader epochs survive the batches they began with") {
  CompactionFixture f;
  f.open();
  f.append_keyed({{"a", "0"}}, {}, 0, LeaderEpoch(1));
  f.append_keyed({{"a", "1"}}, {}, 0, LeaderEpoch(2));
  f.append_keyed({{"b", "2"}}, {}, 0, LeaderEpoch(2));
  f.append_keyed({{"a", "3"}}, {}, 0, LeaderEpoch(3));
  f.settle();
  f.compact();
  const EpochCache before = f.log->epochs();
  f.reopen_clean();
  CHECK(f.log->epochs().entries() == before.entries());
  f.reopen_unclean(Offset(0));
  CHECK(f.log->epochs().entries() == before.entries());
}

TEST_CASE("every crash while segments are exchanged opens to the old or the new content") {
  // A power cut before every operation on the disk, with all, none or some of what was not synced.
  for (const bool lose_all : {true, false}) {
    for (int stop = 0;; ++stop) {
      CompactionFixture f;
      f.open();
      REQUIRE(f.disk.sync_directory("/").ok());
      REQUIRE(f.disk.sync_directory("/data").ok());
      for (int i = 0; i < 40; ++i)
        f.append_keyed({{"k" + std::to_string(i % 12), wide('v') + std::to_string(i)}});
      f.settle();
      REQUIRE(f.log->flush().ok());
      const auto before = f.last_of_key();
      int operations = 0;
      bool stopped = false;
      f.disk.fault = [&](test::DiskOp, const std::string&) {
        stopped = stopped || operations++ == stop;
        return stopped ? ErrorCode::io_error : ErrorCode::none;
      };
      const bool whole = f.try_compact(0).ok();
      f.disk.fault = nullptr;
      uint64_t dice = static_cast<uint64_t>(stop) * 2654435761u;
      const Offset recovery_point = f.log->recovery_point();
      f.log.reset();
      if (lose_all) {
        f.disk.crash();
      } else {
        f.disk.crash([&](uint64_t n) {
          return ((dice = dice * 6364136223846793005u + 1442695040888963407u) >> 33) % n;
        });
      }
      INFO("stopped before operation " << stop << (lose_all ? ", nothing unsynced kept" : ""));
      OpenParams p = f.params();
      p.create = false;
      p.recovery_point = p.durable_end = recovery_point;
      f.open(p);
      REQUIRE(f.log->log_end_offset() == Offset(40));
      REQUIRE(f.last_of_key() == before);
      REQUIRE(f.files_named(".swap") == 0);
      REQUIRE(f.files_named(".cleaned") == 0);
      REQUIRE(f.log->flush().ok());
      f.compact();
      REQUIRE(f.last_of_key() == before);
      if (whole) break;
    }
  }
}

}  // namespace
}  // namespace millrace::log
