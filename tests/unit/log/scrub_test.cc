// The background scrub of closed segments, in steps.
#include "log/scrub.h"

#include "log/file_names.h"
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

struct Scrubbed : Fixture {
  std::vector<SegmentInfo> segments;

  Scrubbed() {
    config.segment_bytes = 2000;
    config.index_interval_bytes = 200;
    open();
    for (int i = 0; i < 80; ++i) append(BatchSpec{.count = 2, .timestamp = kT0 + 10 * i});
    REQUIRE(log->flush().ok());
    segments = log->segments();
    REQUIRE(segments.size() > 4);
  }
  struct Found {
    size_t scrubbed = 0;
    uint64_t bytes = 0;
    std::vector<DamagedRange> damaged;
    std::vector<Offset> bad_indexes;
  };
  Found scrub(size_t step_bytes) {
    Found found;
    Offset from(0);
    while (const std::optional<ScrubTarget> target = log->scrub_target(from)) {
      SegmentScrub s(disk, *target);
      while (true) {
        const uint64_t before = s.bytes_read();
        const Result<bool> done = s.step(step_bytes);
        REQUIRE(done.ok());
        if (*done) break;
        REQUIRE(s.bytes_read() > before);
      }
      ++found.scrubbed;
      found.bytes += s.bytes_read();
      for (const DamagedRange& range : s.damaged()) {
        if (log->note_damage(range, target->file)) found.damaged.push_back(range);
      }
      if (!s.index_problem().empty()) found.bad_indexes.push_back(target->base);
      from = target->next_base;
    }
    return found;
  }
};

TEST_CASE("scrubbing sound segments finds nothing and reads every closed one") {
  Scrubbed f;
  for (const size_t step : {size_t{1}, size_t{300}, size_t{1} << 20}) {
    const Scrubbed::Found found = f.scrub(step);
    CHECK(found.scrubbed == f.segments.size() - 1);
    uint64_t bytes = 0;
    for (const SegmentInfo& s : f.segments) bytes += s.active ? 0 : s.bytes;
    CHECK(found.bytes == bytes);
    CHECK(found.damaged.empty());
    CHECK(found.bad_indexes.empty());
  }
  CHECK(f.log->damaged_ranges() == 0);
}

TEST_CASE("a flipped bit anywhere in a closed segment is found, told once and not served") {
  Scrubbed f;
  const SegmentInfo hurt = f.segments[2];
  const std::string path = f.path(hurt.base_offset, FileKind::log);
  const auto first = static_cast<size_t>(record::BatchView::size_of(f.disk.content(path)));
  const size_t byte = GENERATE(as<size_t>(), 3, 9, 16, 20, 70);  // offset, length, magic, checksum, records
  f.disk.flip_bit(path, first + byte, 1);
  const Scrubbed::Found found = f.scrub(500);
  REQUIRE(found.damaged.size() == 1);
  CHECK(found.damaged[0].segment == hurt.base_offset);
  CHECK(found.damaged[0].position == first);
  CHECK(found.damaged[0].end >= 2 * first);
  CHECK(found.damaged[0].what.find(path) != std::string::npos);
  CHECK(f.scrub(1 << 20).damaged.empty());
  CHECK(f.log->damaged_ranges() == 1);
  // What precedes it is served, it is not, what follows is.
  const ReadResult before = f.read(hurt.base_offset);
  CHECK(before.bytes == first);
  CHECK(before.next_offset == hurt.base_offset + 2);
  CHECK(f.log->read(hurt.base_offset + 2, 1 << 20, Offset(INT64_MAX), true).code() == ErrorCode::corrupt);
  CHECK_FALSE(f.read(hurt.next_offset).empty());
}

TEST_CASE("an index that does not fit is made anew") {
  Scrubbed f;
  const SegmentInfo hurt = f.segments[1];
  const FileKind kind = GENERATE(FileKind::offset_index, FileKind::time_index);
  const std::string path = f.path(hurt.base_offset, kind);
  const Bytes before = f.disk.content(path);
  REQUIRE(before.size() >= 24);
  f.disk.flip_bit(path, 7, 0);
  const Scrubbed::Found found = f.scrub(1 << 20);
  CHECK(found.damaged.empty());
  REQUIRE(found.bad_indexes == std::vector<Offset>{hurt.base_offset});
  REQUIRE(f.log->rebuild_indexes_of(hurt.base_offset).ok());
  REQUIRE(f.log->flush().ok());
  CHECK(f.disk.content(path) == before);
  CHECK(f.scrub(1 << 20).bad_indexes.empty());
}

TEST_CASE("a segment deleted meanwhile is read to its end and blamed on nobody") {
  Scrubbed f;
  const std::optional<ScrubTarget> target = f.log->scrub_target(Offset(0));
  REQUIRE(target);
  f.disk.flip_bit(f.path(Offset(0), FileKind::log), 70, 1);
  SegmentScrub s(f.disk, *target);
  REQUIRE(s.step(100).ok());
  REQUIRE(f.log->advance_log_start(f.segments[1].next_offset).ok());
  REQUIRE(f.log->delete_old_segments(at_ms(0), f.log->log_end_offset()).ok());
  const Result<bool> done = s.step(1 << 20);
  REQUIRE(done.ok());
  CHECK(*done);
  REQUIRE_FALSE(s.damaged().empty());
  CHECK_FALSE(f.log->note_damage(s.damaged()[0], target->file));
  CHECK(f.log->damaged_ranges() == 0);
}

TEST_CASE("a disk that refuses to read is an error, not damage") {
  Scrubbed f;
  const std::optional<ScrubTarget> target = f.log->scrub_target(Offset(0));
  REQUIRE(target);
  SegmentScrub s(f.disk, *target);
  f.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::read ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK(s.step(1 << 20).code() == ErrorCode::io_error);
  CHECK(s.damaged().empty());
}

}  // namespace
}  // namespace millrace::log
