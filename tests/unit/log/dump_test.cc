// The walk over files that `dump` and `verify disk` are made of.
#include "log/dump.h"

#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

void write_some(Fixture& f) {
  f.config.segment_bytes = 2000;
  f.config.index_interval_bytes = 200;
  f.open();
  for (int i = 0; i < 40; ++i) {
    BatchSpec spec;
    spec.count = 2;
    spec.timestamp = kT0 + 10 * i;
    spec.producer = ProducerId(1);
    spec.epoch = ProducerEpoch(0);
    spec.sequence = 2 * i;
    f.append(spec);
  }
  REQUIRE(f.log->close(true).ok());
}

TEST_CASE("a sound partition has no problems") {
  Fixture f;
  write_some(f);
  const auto verified = verify_partition(f.disk, kDirectory);
  REQUIRE(verified.ok());
  for (const std::string& problem : verified->problems) UNSCOPED_INFO(problem);
  CHECK(verified->problems.empty());
  CHECK(verified->segments == f.log->segment_count());
  CHECK(verified->batches == 40);
  CHECK(verified->records == 80);
  CHECK(verified->bytes == f.log->size_bytes());
}

TEST_CASE("dumping a segment shows every batch") {
  Fixture f;
  write_some(f);
  std::vector<Offset> offsets;
  const SegmentInfo first = f.log->segments()[0];
  const auto dump = dump_segment(f.disk, f.path(Offset(0), FileKind::log), [&](const DumpedBatch& b) {
    offsets.push_back(b.header.base_offset);
    CHECK(b.crc_matches);
    CHECK(record::BatchView::parse(b.bytes)->base_offset() == b.header.base_offset);
  });
  REQUIRE(dump.ok());
  CHECK(offsets.size() == dump->batches);
  CHECK(dump->first_offset == Offset(0));
  CHECK(dump->next_offset == first.next_offset);
  CHECK(dump->valid_bytes == first.bytes);
  CHECK(dump->max_timestamp == kT0 + 10 * (first.next_offset.v / 2 - 1) + 1);
  const auto indexes = dump_indexes(f.disk, f.path(Offset(0), FileKind::log));
  REQUIRE(indexes.ok());
  CHECK(indexes->offsets.size() > 3);
  CHECK(indexes->times.size() > 3);
  const auto snapshot = dump_snapshot(f.disk, f.path(first.next_offset, FileKind::snapshot));
  REQUIRE(snapshot.ok());
  REQUIRE(snapshot->size() == 1);
  CHECK(snapshot->front().last_offset() == first.next_offset - 1);
  CHECK(dump_segment(f.disk, "/data/none.log", nullptr).code() == ErrorCode::not_found);
}

TEST_CASE("every kind of damage is named") {
  Fixture f;
  write_some(f);
  const SegmentInfo first = f.log->segments()[0];
  const std::string log0 = f.path(Offset(0), FileKind::log);
  std::string expected;
  SECTION("a record") {
    f.disk.flip_bit(log0, 100, 1);
    expected = "checksum does not match at position 0";
  }
  SECTION("a length") {
    f.disk.flip_bit(log0, 8, 7);
    expected = "impossible batch length at position 0";
  }
  SECTION("an offset") {
    f.disk.flip_bit(log0, 7, 3);  // 0 becomes 8, ahead of the next batch
    expected = "offset 2 at position";
  }
  SECTION("an offset index") {
    f.disk.flip_bit(f.path(Offset(0), FileKind::offset_index), 7, 0);
    expected = "no batch ends with offset";
  }
  SECTION("a time index") {
    f.disk.flip_bit(f.path(Offset(0), FileKind::time_index), 7, 0);
    expected = "and timestamp";
  }
  SECTION("a snapshot") {
    f.disk.flip_bit(f.path(first.next_offset, FileKind::snapshot), 15, 0);
    expected = "producer snapshot: checksum";
  }
  SECTION("leader epochs") {
    f.disk.put(kDirectory + "/leader-epoch-checkpoint", to_bytes("0\n1\n3 500\n"));
    expected = "begins beyond the end of the log";
  }
  SECTION("two segments that overlap") {
    f.disk.put(f.path(Offset(1), FileKind::log), f.disk.content(log0));
    expected = "the segment before it reaches offset";
  }
  SECTION("nothing there") {
    for (const std::string& path : f.disk.paths()) f.disk.erase(path);
    expected = "no segments";
  }
  const auto verified = verify_partition(f.disk, kDirectory);
  REQUIRE(verified.ok());
  REQUIRE_FALSE(verified->problems.empty());
  bool named = false;
  for (const std::string& problem : verified->problems) {
    UNSCOPED_INFO(problem);
    named = named || problem.find(expected) != std::string::npos;
  }
  CHECK(named);
}

}  // namespace
}  // namespace millrace::log
