// Reading: whole batches from the one that holds the offset, bounds, and lookups by time.
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

TEST_CASE("reads begin with the batch that holds the offset") {
  Fixture f;
  f.open();
  f.append(BatchSpec{.count = 3});
  f.append(BatchSpec{.count = 4});
  f.append(BatchSpec{.count = 1});
  for (int from = 0; from < 8; ++from) {
    const ReadResult r = f.read(Offset(from));
    const Offset expected = from < 3 ? Offset(0) : from < 7 ? Offset(3) : Offset(7);
    CHECK(r.base_offset == expected);
    CHECK(r.next_offset == Offset(8));
    REQUIRE(r.regions.size() == 1);
    CHECK(r.regions[0].length == r.bytes);
    CHECK(base_offsets(*Log::read_bytes(r)).front() == expected);
  }
  CHECK(f.read(Offset(8)).empty());
  CHECK(f.log->read(Offset(9), 100, Offset(100), true).code() == ErrorCode::offset_out_of_range);
  CHECK(f.log->read(Offset(-1), 100, Offset(100), true).code() == ErrorCode::offset_out_of_range);
  REQUIRE(f.log->advance_log_start(Offset(4)).ok());
  CHECK(f.log->read(Offset(3), 100, Offset(100), true).code() == ErrorCode::offset_out_of_range);
  CHECK(f.read(Offset(4)).base_offset == Offset(3));
}

TEST_CASE("no batch reaches the upper bound") {
  Fixture f;
  f.open();
  f.append(BatchSpec{.count = 3});
  f.append(BatchSpec{.count = 3});
  f.append(BatchSpec{.count = 3});
  const auto offsets = [&](int from, int bound) {
    const ReadResult r = f.read(Offset(from), 1 << 20, Offset(bound));
    return r.empty() ? std::vector<Offset>() : base_offsets(*Log::read_bytes(r));
  };
  for (const bool reopened : {false, true}) {
    if (reopened) f.reopen_clean();  // no landmarks now
    CHECK(offsets(0, 9) == std::vector<Offset>{Offset(0), Offset(3), Offset(6)});
    CHECK(offsets(0, 100) == std::vector<Offset>{Offset(0), Offset(3), Offset(6)});
    CHECK(offsets(0, 8) == std::vector<Offset>{Offset(0), Offset(3)});
    CHECK(offsets(0, 6) == std::vector<Offset>{Offset(0), Offset(3)});
    CHECK(offsets(1, 3) == std::vector<Offset>{Offset(0)});
    CHECK(offsets(0, 2).empty());
    CHECK(offsets(4, 5).empty());
    CHECK(offsets(5, 4).empty());
    CHECK(offsets(0, 0).empty());
    CHECK(f.read(Offset(0), 1 << 20, Offset(6)).next_offset == Offset(6));
  }
}

TEST_CASE("max_bytes cuts at whole batches, the first one excepted if asked") {
  Fixture f;
  f.config.index_interval_bytes = 200;
  f.open();
  const size_t size = batch({}).size();
  for (int i = 0; i < 50; ++i) f.append(BatchSpec{});
  for (const bool reopened : {false, true}) {
    if (reopened) f.reopen_clean();
    for (const int from : {0, 1, 7, 30, 49}) {
      for (size_t max = 0; max < 12 * size; max += 37) {
        const size_t there = static_cast<size_t>(50 - from);
        const ReadResult strict = f.read(Offset(from), max, Offset(50), false);
        REQUIRE(strict.bytes == std::min(max / size, there) * size);
        const ReadResult lenient = f.read(Offset(from), max, Offset(50), true);
        REQUIRE(lenient.bytes == std::max<size_t>(1, std::min(max / size, there)) * size);
        REQUIRE(lenient.base_offset == Offset(from));
        REQUIRE(lenient.next_offset == Offset(from + static_cast<int64_t>(lenient.bytes / size)));
        const ReadResult bounded = f.read(Offset(from), max, Offset(35), true);
        const size_t below = from < 35 ? static_cast<size_t>(35 - from) : 0;
        REQUIRE(bounded.bytes == std::min(below, std::max<size_t>(1, max / size)) * size);
      }
    }
  }
}

TEST_CASE("an oversize first batch beyond the bound is not returned") {
  Fixture f;
  f.open();
  f.append(BatchSpec{.count = 1});
  f.append(BatchSpec{.count = 10});
  CHECK(f.read(Offset(1), 1, Offset(5), true).empty());
  CHECK(f.read(Offset(1), 1, Offset(11), true).next_offset == Offset(11));
}

TEST_CASE("reads move on to the next segment") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.config.index_interval_bytes = 100;
  f.open();
  for (int i = 0; i < 40; ++i) f.append(BatchSpec{.count = 2});
  REQUIRE(f.log->segment_count() > 5);
  for (const bool reopened : {false, true}) {
    if (reopened) f.reopen_clean();
    const Bytes all = f.everything();
    CHECK(base_offsets(all).size() == 40);
    const auto segments = f.log->segments();
    for (const SegmentInfo& s : segments) {
      const ReadResult r = f.read(s.base_offset);
      CHECK(r.bytes == s.bytes);  // one segment a call
      CHECK(r.next_offset == s.next_offset);
    }
  }
}

TEST_CASE("the tail reader needs no file reads") {
  Fixture f;
  f.open();
  for (int i = 0; i < 100; ++i) {
    f.append(BatchSpec{.count = 2});
    f.disk.reads = 0;
    const ReadResult r = f.read(Offset(i * 2), 1 << 20, Offset(i * 2 + 2));
    REQUIRE(r.bytes > 0);
    REQUIRE(f.disk.reads == 0);
    if (i > 3) {
      // A consumer two batches behind, bounded by a high watermark one batch behind.
      REQUIRE(f.read(Offset(i * 2 - 4), 1 << 20, Offset(i * 2)).next_offset == Offset(i * 2));
      REQUIRE(f.disk.reads == 0);
    }
  }
}

TEST_CASE("a read of what is not cached says so") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.open();
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{});
  bool cold = true;
  f.disk.is_cold = [&](const std::string&, uint64_t, size_t) { return cold; };
  const Result<ReadResult> r = f.log->read(Offset(1), 1000, Offset(20), true, ReadMode::cached_only);
  REQUIRE(r.ok());
  CHECK(r->would_block);
  CHECK(r->empty());
  CHECK_FALSE(f.read(Offset(1)).empty());
  cold = false;
  const Result<ReadResult> warm = f.log->read(Offset(1), 1000, Offset(20), true, ReadMode::cached_only);
  REQUIRE(warm.ok());
  CHECK_FALSE(warm->would_block);
  CHECK_FALSE(warm->empty());
}

TEST_CASE("a retired segment can still be read by who holds a region of it") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.config.retention_ms = 0;
  f.open();
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  const ReadResult r = f.read(Offset(0));
  const Bytes before = *Log::read_bytes(r);
  const auto deleted = f.log->delete_old_segments(at_ms(100'000), Offset(20));
  REQUIRE(deleted.ok());
  CHECK_FALSE(deleted->empty());
  CHECK(*Log::read_bytes(r) == before);
  f.log->remove_pending(at_ms(200'000));
  CHECK(*Log::read_bytes(r) == before);
}

TEST_CASE("bytes missing from a closed segment are an error, never skipped") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.config.index_interval_bytes = 100;
  f.open();
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->close(true).ok());
  const auto segments = f.log->segments();
  const std::string victim = f.path(segments[1].base_offset, FileKind::log);
  Bytes content = f.disk.content(victim);
  OpenParams p = f.params();
  p.clean_shutdown = true;
  const size_t size = batch({}).size();
  SECTION("a whole batch") {
    content.resize(content.size() - size);
    f.disk.put(victim, content);
    f.open(p);
    CHECK(f.log->read(segments[2].base_offset - 1, 1000, Offset(100), true).code() == ErrorCode::corrupt);
    CHECK_FALSE(f.read(segments[2].base_offset).empty());
    f.config.compact_policy = true;  // there, holes are what compaction leaves
    f.log->configure(f.config);
    CHECK(f.read(segments[2].base_offset - 1).base_offset == segments[2].base_offset);
  }
  SECTION("half a batch") {
    content.resize(content.size() - size / 2);
    f.disk.put(victim, content);
    f.open(p);
    CHECK(f.log->read(segments[2].base_offset - 1, 1000, Offset(100), true).code() == ErrorCode::corrupt);
  }
  SECTION("the whole file") {
    f.disk.erase(victim);
    f.open(p);
    CHECK(f.log->read(segments[1].base_offset, 1000, Offset(100), true).code() == ErrorCode::corrupt);
  }
}

TEST_CASE("offset for timestamp: the first record at or after it") {
  for (const record::Codec codec : {record::Codec::none, record::Codec::gzip, record::Codec::snappy,
                                    record::Codec::lz4, record::Codec::zstd}) {
    Fixture f;
    f.config.segment_bytes = 1500;
    f.config.index_interval_bytes = 200;
    f.open();
    // Record n has timestamp kT0 + 10 n, except that every seventh batch is older than its place.
    std::vector<int64_t> timestamps;
    for (int b = 0; b < 60; ++b) {
      BatchSpec spec;
      spec.count = 3;
      spec.codec = codec;
      spec.timestamp = kT0 + 10 * b - (b % 7 == 6 ? 500 : 0);
      f.append(spec);
      for (int i = 0; i < 3; ++i) timestamps.push_back(spec.timestamp + i);
    }
    REQUIRE(f.log->segment_count() > 3);
    for (const bool reopened : {false, true}) {
      if (reopened) f.reopen_clean();
      for (const int64_t asked : {int64_t{0}, int64_t{50}}) {
        REQUIRE(f.log->advance_log_start(Offset(asked)).ok());
        const int64_t start = f.log->log_start_offset().v;
        for (int64_t t = kT0 - 600; t < kT0 + 650; t += 7) {
          std::optional<int64_t> expected;
          for (size_t i = static_cast<size_t>(start); i < timestamps.size() && !expected; ++i) {
            if (timestamps[i] >= t) expected = static_cast<int64_t>(i);
          }
          const auto found = f.log->offset_for_timestamp(t, f.log->log_end_offset());
          REQUIRE(found.ok());
          REQUIRE(found->has_value() == expected.has_value());
          if (expected) {
            REQUIRE((*found)->offset == Offset(*expected));
            REQUIRE((*found)->timestamp == timestamps[static_cast<size_t>(*expected)]);
            REQUIRE((*found)->leader_epoch == LeaderEpoch(0));
            REQUIRE_FALSE(f.log->offset_for_timestamp(t, Offset(*expected))->has_value());
            REQUIRE(f.log->offset_for_timestamp(t, Offset(*expected + 1))->has_value());
          }
        }
      }
    }
  }
}

TEST_CASE("LogAppendTime stamps every record with the batch's time") {
  Fixture f;
  f.open();
  Bytes bytes = batch(BatchSpec{.count = 5});
  record::set_log_append_time(bytes, kT0 + 777);
  f.append(bytes);
  const auto found = f.log->offset_for_timestamp(kT0 + 100, Offset(5));
  REQUIRE(found.ok());
  CHECK((*found)->offset == Offset(0));
  CHECK((*found)->timestamp == kT0 + 777);
  CHECK((*f.log->offset_of_max_timestamp())->offset == Offset(0));
}

TEST_CASE("offset of the greatest timestamp") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.open();
  CHECK_FALSE(f.log->offset_of_max_timestamp()->has_value());
  for (int b = 0; b < 30; ++b) {
    BatchSpec spec;
    spec.count = 2;
    spec.timestamp = kT0 + (b == 10 ? 5000 : b == 20 ? 5000 : b);
    f.append(spec);
  }
  for (const bool reopened : {false, true}) {
    if (reopened) f.reopen_clean();
    const auto found = f.log->offset_of_max_timestamp();
    REQUIRE(found.ok());
    CHECK((*found)->offset == Offset(21));  // the first of those that share it
    CHECK((*found)->timestamp == kT0 + 5001);
  }
  REQUIRE(f.log->advance_log_start(Offset(22)).ok());
  CHECK((*f.log->offset_of_max_timestamp())->offset == Offset(41));
  REQUIRE(f.log->advance_log_start(Offset(42)).ok());
  CHECK((*f.log->offset_of_max_timestamp())->offset == Offset(59));
  REQUIRE(f.log->advance_log_start(Offset(60)).ok());
  CHECK_FALSE(f.log->offset_of_max_timestamp()->has_value());
}

TEST_CASE("closed segments keep few indexes in memory") {
  Fixture f;
  f.config.segment_bytes = 500;
  f.config.index_interval_bytes = 50;
  f.open();
  for (int i = 0; i < 200; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  const size_t last = f.log->segment_count() - 1;
  REQUIRE(last > 20);
  for (int from = 0; from < 200; ++from) REQUIRE(f.read(Offset(from), 10).base_offset == Offset(from));
  // The same again needs index files, and gives the same: garbled ones are made anew on the way.
  for (const SegmentInfo& s : f.log->segments()) {
    if (s.active) continue;
    const std::string path = f.path(s.base_offset, FileKind::offset_index);
    if (!f.disk.content(path).empty()) f.disk.flip_bit(path, 7, 1);
  }
  for (int from = 0; from < 200; ++from) REQUIRE(f.read(Offset(from), 10).base_offset == Offset(from));
}

}  // namespace
}  // namespace millrace::log
