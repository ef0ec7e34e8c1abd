// The walk over files that `dump` is made of.
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

}  // namespace
}  // namespace millrace::log
