// Opening after everything that can happen to a tail, an index, a snapshot or a directory.
#include <random>

#include "base/endian.h"
#include "log/partition_metadata.h"
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

/// Everything about a log that two recoveries of the same files must agree on.
struct Picture {
  Offset start;
  Offset end;
  Bytes bytes;
  std::vector<EpochStart> epochs;
  Bytes producers;
  std::vector<std::pair<std::string, Bytes>> files;

  bool operator==(const Picture&) const = default;
};

Picture picture_of(Fixture& f) {
  Picture p{f.log->log_start_offset(),
            f.log->log_end_offset(),
            f.everything(),
            f.log->epochs().entries(),
            f.log->producers().encode_snapshot(),
            {}};
  for (const std::string& path : f.disk.paths()) {
    if (path.ends_with(".log")) p.files.emplace_back(path, f.disk.content(path));
  }
  return p;
}

/// A tail of some 64 KiB of batches of all sizes after a prefix, the positions where batches end, and
/// offsets.
struct Tail {
  Bytes file;
  std::vector<size_t> ends;  // ends[n]: after n batches
  std::vector<Offset> next;  // next[n]: log end after n batches
  size_t prefix = 0;         // batches below the recovery point
};

Tail make_tail() {
  Fixture f;
  f.config.segment_bytes = 1 << 20;
  f.open();
  Tail tail;
  tail.ends = {0};
  tail.next = {Offset(0)};
  std::mt19937 random(7);
  const auto add = [&] {
    BatchSpec spec;
    spec.count = 1 + static_cast<int>(random() % 5);
    spec.value_bytes = random() % 4 == 0 ? random() % 4000 : random() % 300;
    spec.producer = ProducerId(static_cast<int64_t>(tail.ends.size() % 3));
    spec.epoch = ProducerEpoch(0);
    const ProducerEntry* known = f.log->producers().find(spec.producer);
    spec.sequence = known == nullptr ? 0 : known->last_sequence() + 1;
    const AppendResult r = f.append(spec, 0, LeaderEpoch(static_cast<int32_t>(tail.ends.size() / 20)));
    tail.ends.push_back(tail.ends.back() + r.bytes);
    tail.next.push_back(r.last_offset + 1);
  };
  for (int i = 0; i < 10; ++i) add();
  tail.prefix = 10;
  while (tail.ends.back() - tail.ends[tail.prefix] < 64 * 1024) add();
  tail.file = f.disk.content(f.path(Offset(0), FileKind::log));
  return tail;
}

size_t whole_batches(const Tail& tail, size_t bytes) {
  return static_cast<size_t>(std::upper_bound(tail.ends.begin(), tail.ends.end(), bytes) -
                             tail.ends.begin()) -
         1;
}

void recover(Fixture& f, const Tail& tail, Bytes file) {
  f.log.reset();
  f.disk = test::MemoryDisk();
  f.disk.put(f.path(Offset(0), FileKind::log), std::move(file));
  f.reopen_unclean(tail.next[tail.prefix]);
}

TEST_CASE("an opening that finds no room half-way leaves nothing that is taken for synced") {
  Fixture f;
  OpenParams p = f.params();
  p.clean_shutdown = true;
  p.topic_id = Uuid::from_random({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  REQUIRE(f.disk.make_directories(std::string(io::parent_path(kDirectory))).ok());
  f.disk.settle();
  // The directory comes to be and says whose it is, then there is no room for the first segment.
  f.disk.fault = [](test::DiskOp op, const std::string& path) {
    return op == test::DiskOp::open && path.ends_with(".log") ? ErrorCode::no_space : ErrorCode::none;
  };
  REQUIRE(f.try_open(p).code() == ErrorCode::no_space);
  f.disk.fault = nullptr;
  REQUIRE(f.try_open(p).ok());
  f.append(BatchSpec{.count = 3});
  REQUIRE(f.log->flush().ok());
  f.log.reset();
  f.disk.crash();
  const Result<std::optional<PartitionMetadata>> known = read_partition_metadata(f.disk, kDirectory);
  REQUIRE(known.ok());
  REQUIRE(known->has_value());
  CHECK((*known)->topic_id == p.topic_id);
  p.clean_shutdown = false;
  REQUIRE(f.try_open(p).ok());
  CHECK(f.log->log_end_offset() == Offset(3));
}

TEST_CASE("a tail cut at every byte loses only the batch that was cut") {
  const Tail tail = make_tail();
  Fixture f;
  for (size_t size = tail.ends[tail.prefix]; size <= tail.file.size(); ++size) {
    const size_t batches = whole_batches(tail, size);
    recover(f, tail, Bytes(tail.file.begin(), tail.file.begin() + static_cast<std::ptrdiff_t>(size)));
    if (f.log->log_end_offset() != tail.next[batches] || f.log->size_bytes() != tail.ends[batches] ||
        f.stats.bytes_cut != size - tail.ends[batches]) {
      FAIL("cut at byte " << size << ": log ends at " << f.log->log_end_offset().v);
    }
    if (size % 997 == 0 || size == tail.ends[batches]) {
      // What is left is what was there, and the second recovery finds nothing to do.
      const Picture first = picture_of(f);
      REQUIRE(first.bytes ==
              Bytes(tail.file.begin(), tail.file.begin() + static_cast<std::ptrdiff_t>(tail.ends[batches])));
      f.reopen_unclean(tail.next[tail.prefix]);
      REQUIRE(f.stats.bytes_cut == 0);
      REQUIRE(picture_of(f) == first);
      REQUIRE_FALSE(f.append(BatchSpec{}, 0, LeaderEpoch(1000)).duplicate);
    }
  }
}

TEST_CASE("garbage and zeros after the last batch are cut") {
  const Tail tail = make_tail();
  Fixture f;
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const size_t batches = tail.prefix + random() % (tail.ends.size() - tail.prefix);
    Bytes file(tail.file.begin(), tail.file.begin() + static_cast<std::ptrdiff_t>(tail.ends[batches]));
    const size_t extra = 1 + random() % 6000;
    for (size_t i = 0; i < extra; ++i) {
      file.push_back(round % 3 == 0 ? uint8_t{0} : static_cast<uint8_t>(random()));
    }
    if (round % 3 == 1 && extra > 61) {
      // Looks like the next batch, and is not: a header that fits around garbage.
      const size_t at = tail.ends[batches];
      store_be(&file[at], tail.next[batches].v);
      store_be(&file[at + 8], static_cast<int32_t>(extra - 12));
      file[at + 16] = 2;
      store_be(&file[at + 23], int32_t{0});
      store_be(&file[at + 57], int32_t{1});
    }
    recover(f, tail, file);
    REQUIRE(f.log->log_end_offset() == tail.next[batches]);
    REQUIRE(f.stats.bytes_cut == extra);
  }
}

TEST_CASE("a flipped bit beyond the recovery point cuts there, before it refuses to open") {
  const Tail tail = make_tail();
  Fixture f;
  std::mt19937 random(13);
  for (int round = 0; round < 1000; ++round) {
    Bytes file = tail.file;
    const size_t byte = random() % file.size();
    const size_t batch = whole_batches(tail, byte);  // the one hit
    // Base offset and leader epoch are outside the checksum: a flip there can pass for another batch.
    const size_t inside = byte - tail.ends[batch];
    if (inside < 8 || (inside >= 12 && inside < 16)) continue;
    file[byte] = static_cast<uint8_t>(file[byte] ^ (1u << (random() % 8)));
    f.log.reset();
    f.disk = test::MemoryDisk();
    f.disk.put(f.path(Offset(0), FileKind::log), file);
    OpenParams p = f.params();
    p.recovery_point = tail.next[tail.prefix];
    const Status opened = f.try_open(p);
    if (batch >= tail.prefix) {
      REQUIRE(opened.ok());
      REQUIRE(f.log->log_end_offset() == tail.next[batch]);
      p.durable_end = tail.next[batch + 1];
      f.disk.put(f.path(Offset(0), FileKind::log), file);
      const Status refused = f.try_open(p);
      REQUIRE(refused.code() == ErrorCode::corrupt);
      REQUIRE(refused.error().message.find(".log") != std::string::npos);
      REQUIRE(refused.error().message.find("position " + std::to_string(tail.ends[batch])) !=
              std::string::npos);
      REQUIRE(f.disk.content(f.path(Offset(0), FileKind::log)) == file);  // nothing was cut away
    }
  }
}

TEST_CASE("a crash at any moment of a recovery leaves a log that recovers the same") {
  Fixture f;
  f.config.segment_bytes = 3000;
  f.config.index_interval_bytes = 100;
  f.open();
  std::mt19937 random(3);
  for (int i = 0; i < 60; ++i) {
    BatchSpec spec;
    spec.value_bytes = random() % 300;
    f.append(spec, 0, LeaderEpoch(i / 10));
  }
  REQUIRE(f.log->segment_count() > 3);
  f.disk.settle();
  // Unsynced bytes of the third segment were lost; the later ones made it to the disk.
  const auto segments = f.log->segments();
  const std::string torn = f.path(segments[2].base_offset, FileKind::log);
  Bytes content = f.disk.content(torn);
  content.resize(content.size() / 2);
  f.log.reset();
  f.disk.put(torn, content);
  const auto prepare = [&](Fixture& g) {
    g.config = f.config;
    for (const std::string& path : f.disk.paths()) g.disk.put(path, f.disk.content(path));
  };
  Fixture whole;
  prepare(whole);
  whole.reopen_unclean(segments[1].base_offset);
  CHECK(whole.stats.segments_removed == segments.size() - 3);
  const Picture expected = picture_of(whole);
  CHECK(expected.end < segments[3].base_offset);
  CHECK(expected.end > segments[2].base_offset);

  for (int step = 0; step < 200; ++step) {
    for (const int lossy : {0, 1, 2}) {
      Fixture g;
      prepare(g);
      int left = step;
      bool struck = false;
      g.disk.fault = [&](test::DiskOp op, const std::string&) {
        if (op == test::DiskOp::read || op == test::DiskOp::list) return ErrorCode::none;
        struck = struck || left-- == 0;
        return struck ? ErrorCode::io_error : ErrorCode::none;
      };
      OpenParams p = g.params();
      p.create = false;
      p.recovery_point = segments[1].base_offset;
      const Status status = g.try_open(p);
      g.disk.fault = nullptr;
      g.log.reset();
      if (!struck) {
        REQUIRE(status.ok());
        step = 1000;
        break;
      }
      REQUIRE(status.code() == ErrorCode::io_error);
      if (lossy == 0) g.disk.crash();
      if (lossy == 1) g.disk.crash([&](uint64_t n) { return random() % n; });
      g.open(p);
      REQUIRE(picture_of(g) == expected);
    }
  }
}

TEST_CASE("deleted or garbled indexes are made again as they were") {
  Fixture f;
  f.config.segment_bytes = 2000;
  f.config.index_interval_bytes = 150;
  f.open();
  for (int i = 0; i < 60; ++i) {
    BatchSpec spec;
    spec.timestamp = kT0 + 10 * i;
    f.append(spec);
  }
  REQUIRE(f.log->close(true).ok());
  const auto segments = f.log->segments();
  REQUIRE(segments.size() > 2);
  const std::string offsets = f.path(segments[1].base_offset, FileKind::offset_index);
  const std::string times = f.path(segments[1].base_offset, FileKind::time_index);
  const Bytes offsets_before = f.disk.content(offsets);
  const Bytes times_before = f.disk.content(times);
  REQUIRE(offsets_before.size() > 24);
  REQUIRE(times_before.size() > 36);
  const auto try_with = [&](Bytes new_offsets, Bytes new_times) {
    f.log.reset();
    if (new_offsets.empty()) {
      f.disk.erase(offsets);
    } else {
      f.disk.put(offsets, std::move(new_offsets));
    }
    if (new_times.empty()) {
      f.disk.erase(times);
    } else {
      f.disk.put(times, std::move(new_times));
    }
    OpenParams p = f.params();
    p.clean_shutdown = true;
    f.open(p);
    CHECK(base_offsets(f.everything()).size() == 60);
    for (int64_t from = segments[1].base_offset.v; from < segments[1].next_offset.v; ++from) {
      REQUIRE(f.read(Offset(from), 10).base_offset == Offset(from));
      const auto found = f.log->offset_for_timestamp(kT0 + 10 * from, Offset(60));
      REQUIRE(found.ok());
      REQUIRE((*found)->offset == Offset(from));
    }
    Segment segment(f.disk, kDirectory, segments[1].base_offset,
                    *f.disk.open(f.path(segments[1].base_offset, FileKind::log), io::OpenMode::read),
                    segments[1].bytes);
    segment.set_closed(segments[1].next_offset);
    Bytes scratch;
    uint32_t rebuilt = 0;
    REQUIRE(segment.load_indexes(scratch, f.config.index_interval_bytes, &rebuilt).ok());
    if (rebuilt > 0) {
      CHECK(segment.offset_index().encode() == offsets_before);
      CHECK(segment.time_index().encode() == times_before);
    }
  };
  try_with({}, times_before);
  try_with(offsets_before, {});
  try_with({}, {});
  try_with(Bytes(offsets_before.begin(), offsets_before.end() - 3), times_before);
  try_with(offsets_before, Bytes(times_before.begin(), times_before.end() - 3));
  try_with(Bytes(offsets_before.size(), 0), Bytes(times_before.size(), 0));
  for (size_t i = 0; i < offsets_before.size(); ++i) {
    Bytes damaged = offsets_before;
    damaged[i] ^= 0x01;
    try_with(damaged, times_before);
  }
}

TEST_CASE("garbled time indexes never hide a record") {
  Fixture f;
  f.config.segment_bytes = 2000;
  f.config.index_interval_bytes = 150;
  f.open();
  for (int i = 0; i < 40; ++i) {
    BatchSpec spec;
    spec.timestamp = kT0 + 10 * i;
    f.append(spec);
  }
  REQUIRE(f.log->close(true).ok());
  const std::string times = f.path(Offset(0), FileKind::time_index);
  const Bytes before = f.disk.content(times);
  const Offset end = f.log->segments()[0].next_offset;
  for (size_t i = 0; i < before.size(); ++i) {
    f.disk.flip_bit(times, i, 0);
    OpenParams p = f.params();
    p.clean_shutdown = true;
    f.open(p);
    for (int64_t n = 0; n < end.v; ++n) {
      const auto found = f.log->offset_for_timestamp(kT0 + 10 * n, Offset(40));
      REQUIRE(found.ok());
      REQUIRE((found->has_value() && (*found)->offset == Offset(n)));
    }
    f.log.reset();
    f.disk.put(times, before);
  }
}

TEST_CASE("the active segment's index on disk need not be complete, nor right beyond the recovery point") {
  Fixture f;
  f.config.index_interval_bytes = 150;
  f.open();
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  const std::string path = f.path(Offset(0), FileKind::offset_index);
  const Bytes at_flush = f.disk.content(path);
  for (int i = 0; i < 20; ++i) f.append(BatchSpec{});
  SECTION("as flushed") {
    f.reopen_unclean(Offset(20));
  }
  SECTION("lost") {
    f.disk.erase(path);
    f.reopen_unclean(Offset(20));
  }
  SECTION("garbage beyond") {
    Bytes garbage = at_flush;
    for (int i = 0; i < 16; ++i) garbage.push_back(0x7f);
    f.disk.put(path, garbage);
    f.reopen_unclean(Offset(20));
  }
  SECTION("plausible lies beyond") {
    Bytes lies = at_flush;
    for (const int32_t n : {22, 2000, 25, 2010}) {
      lies.resize(lies.size() + 4);
      store_be(&lies[lies.size() - 4], n);
    }
    f.disk.put(path, lies);
    f.reopen_unclean(Offset(20));
  }
  CHECK(f.log->log_end_offset() == Offset(40));
  CHECK(base_offsets(f.everything()).size() == 40);
  CHECK(f.stats.segments_scanned == 1);
  REQUIRE(f.log->flush().ok());
  Segment fresh(f.disk, kDirectory, Offset(0),
                *f.disk.open(f.path(Offset(0), FileKind::log), io::OpenMode::read), f.log->size_bytes());
  fresh.set_closed(Offset(40));
  Bytes scratch;
  REQUIRE(fresh.rebuild_indexes(scratch, f.config.index_interval_bytes).ok());
  CHECK(f.disk.content(path) == fresh.offset_index().encode());
}

TEST_CASE("only what lies beyond the recovery point is scanned") {
  Fixture f;
  f.config.segment_bytes = 3000;
  f.open();
  for (int i = 0; i < 200; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  const Offset point = f.log->recovery_point();
  CHECK(point == Offset(200));
  for (int i = 0; i < 3; ++i) f.append(BatchSpec{});
  f.reopen_unclean(point);
  CHECK(f.stats.segments_scanned == 1);
  CHECK(f.stats.bytes_scanned <= 3000);
  CHECK(f.log->log_end_offset() == Offset(203));
  CHECK(f.log->durable_end() == Offset(200));
  CHECK(f.log->needs_sync());
  f.reopen_clean();
  CHECK(f.stats.segments_scanned == 0);
  CHECK(f.log->durable_end() == Offset(203));
  CHECK_FALSE(f.log->needs_sync());
}

TEST_CASE("damage in a closed segment below the recovery point stays where it is") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.config.index_interval_bytes = 100;
  f.open();
  for (int i = 0; i < 60; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  const auto segments = f.log->segments();
  const std::string victim = f.path(segments[1].base_offset, FileKind::log);
  f.disk.flip_bit(victim, 88 + 16, 0);  // magic of its second batch
  f.reopen_unclean(Offset(60));
  const auto read = f.log->read(segments[1].base_offset + 1, 10, Offset(60), true);
  CHECK(read.code() == ErrorCode::corrupt);
  CHECK(read.error().message.find(victim) != std::string::npos);
  CHECK_FALSE(f.read(segments[2].base_offset).empty());
  CHECK(f.disk.content(victim).size() == segments[1].bytes);
}

/// Sixty records, synced, in several segments; what those are.
auto sixty_batches(Fixture& f) {
  f.config.segment_bytes = 1000;
  f.open();
  for (int i = 0; i < 60; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  return f.log->segments();
}

TEST_CASE("missing segments are damage, not an empty log") {
  Fixture f;
  const auto segments = sixty_batches(f);
  OpenParams p = f.params();
  p.recovery_point = Offset(60);
  SECTION("all") {
    for (const std::string& path : f.disk.paths()) f.disk.erase(path);
    CHECK(f.try_open(p).code() == ErrorCode::corrupt);
  }
  SECTION("the last") {
    f.disk.erase(f.path(segments.back().base_offset, FileKind::log));
    CHECK(f.try_open(p).code() == ErrorCode::corrupt);
    p.clean_shutdown = true;
    CHECK(f.try_open(p).code() == ErrorCode::corrupt);
  }
  SECTION("the directory") {
    REQUIRE(f.disk.remove_tree(kDirectory).ok());
    CHECK(f.try_open(p).code() == ErrorCode::corrupt);
    p.create = false;
    CHECK(f.try_open(p).code() == ErrorCode::not_found);
  }
}

TEST_CASE("damage at the end of a log that was closed cleanly is damage") {
  Fixture f;
  f.open();
  for (int i = 0; i < 10; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->close(true).ok());
  const std::string path = f.path(Offset(0), FileKind::log);
  Bytes content = f.disk.content(path);
  content.resize(content.size() - 5);
  f.disk.put(path, content);
  OpenParams p = f.params();
  p.clean_shutdown = true;
  p.recovery_point = Offset(10);
  CHECK(f.try_open(p).code() == ErrorCode::corrupt);
  CHECK(f.disk.content(path) == content);
}

TEST_CASE("leftovers of deletion and compaction") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.open();
  for (int i = 0; i < 33; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->close(true).ok());
  const auto segments = f.log->segments();
  REQUIRE(segments.size() == 3);
  const Bytes first = f.disk.content(f.path(Offset(0), FileKind::log));
  const std::string log0 = f.path(Offset(0), FileKind::log);
  f.disk.put(f.path(Offset(90), FileKind::log) + ".deleted", Bytes(5));
  f.disk.put(f.path(Offset(91), FileKind::log) + ".cleaned", Bytes(5));
  f.disk.put(f.path(Offset(92), FileKind::offset_index), Bytes(8));  // its log is gone
  f.disk.put(kDirectory + "/leader-epoch-checkpoint.tmp", Bytes(3));
  f.disk.put(kDirectory + "/notes.txt", Bytes(3));
  // Compaction kept every second batch of the first segment and was to swap the result in.
  Bytes compacted;
  const size_t size = batch({}).size();
  for (size_t i = 0; i < 11; i += 2) {
    compacted.insert(compacted.end(), first.begin() + static_cast<std::ptrdiff_t>(i * size),
                     first.begin() + static_cast<std::ptrdiff_t>((i + 1) * size));
  }
  f.disk.put(log0 + ".swap", compacted);
  f.disk.put(f.path(Offset(0), FileKind::offset_index) + ".swap", Bytes(8, 1));
  f.config.compact_policy = true;
  OpenParams p = f.params();
  p.clean_shutdown = true;
  f.open(p);
  CHECK(f.stats.leftovers_removed >= 5);
  CHECK(f.disk.content(log0) == compacted);
  for (const std::string& path : f.disk.paths()) {
    INFO(path);
    CHECK_FALSE((path.ends_with(".deleted") || path.ends_with(".cleaned") || path.ends_with(".swap") ||
                 path.ends_with(".tmp")));
  }
  CHECK_FALSE(f.disk.has(f.path(Offset(92), FileKind::offset_index)));
  CHECK(f.disk.has(kDirectory + "/notes.txt"));
  const std::vector<Offset> offsets = base_offsets(f.everything());
  CHECK(offsets.size() == 33 - 5);
  CHECK(f.read(Offset(1)).base_offset == Offset(2));
}

TEST_CASE("leader epochs: from the file, from the batches when it is lost") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.open();
  for (int i = 0; i < 60; ++i) f.append(BatchSpec{}, 0, LeaderEpoch(i / 13));
  REQUIRE(f.log->flush().ok());
  const std::vector<EpochStart> before = f.log->epochs().entries();
  const std::string path = kDirectory + "/leader-epoch-checkpoint";
  SECTION("kept") {}
  SECTION("lost") {
    f.disk.erase(path);
  }
  SECTION("garbage") {
    f.disk.put(path, Bytes(20, 'x'));
  }
  SECTION("older than the log") {
    f.disk.put(path, to_bytes("0\n1\n0 0\n"));
  }
  if (f.disk.content(path).size() == 8) {
    f.reopen_unclean(Offset(5));
  } else {
    f.reopen_unclean(Offset(60));
  }
  CHECK(f.log->epochs().entries() == before);
  REQUIRE(f.log->flush().ok());
  CHECK(EpochCache::parse(as_text(f.disk.content(path)))->entries() == before);
}

TEST_CASE("bytes of an older life of the file do not come back") {
  Fixture f;
  f.open();
  for (int i = 0; i < 10; ++i) f.append(BatchSpec{.fill = 'o'}, 0, LeaderEpoch(1));
  REQUIRE(f.log->flush().ok());
  const Bytes old = f.disk.content(f.path(Offset(0), FileKind::log));
  REQUIRE(f.log->truncate_to(Offset(5), at_ms(0)).ok());
  f.append(BatchSpec{.fill = 'n'}, 0, LeaderEpoch(2));
  // The power cut kept the new batch, and lost the truncation: old batches of the same size follow.
  Bytes mixed = f.disk.content(f.path(Offset(0), FileKind::log));
  mixed.insert(mixed.end(), old.begin() + static_cast<std::ptrdiff_t>(mixed.size()), old.end());
  f.disk.put(f.path(Offset(0), FileKind::log), mixed);
  f.reopen_unclean(Offset(5));
  CHECK(f.log->log_end_offset() == Offset(6));
  CHECK(f.log->latest_epoch() == LeaderEpoch(2));
}

TEST_CASE("snapshots: a damaged one is passed over, one beyond the recovery point is not trusted") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.open();
  for (int i = 0; i < 40; ++i) {
    BatchSpec spec;
    spec.producer = ProducerId(i % 4);
    spec.epoch = ProducerEpoch(0);
    spec.sequence = i / 4;
    f.append(spec);
  }
  REQUIRE(f.log->flush().ok());
  const auto segments = f.log->segments();
  REQUIRE(segments.size() == 4);
  const Bytes state = f.log->producers().encode_snapshot();
  SECTION("sound") {
    f.reopen_unclean(Offset(40));
    CHECK(f.stats.snapshot_used == segments[3].base_offset);
  }
  SECTION("damaged") {
    f.disk.flip_bit(f.path(segments[3].base_offset, FileKind::snapshot), 20, 2);
    f.reopen_unclean(Offset(40));
    CHECK(f.stats.snapshot_used == segments[2].base_offset);
    CHECK_FALSE(f.disk.has(f.path(segments[3].base_offset, FileKind::snapshot)));
  }
  SECTION("all lost") {
    for (const SegmentInfo& s : segments) f.disk.erase(f.path(s.base_offset, FileKind::snapshot));
    f.reopen_unclean(Offset(40));
    CHECK(f.stats.snapshot_used == kNoOffset);
    CHECK(f.stats.batches_replayed == 40);
  }
  SECTION("beyond the recovery point") {
    f.reopen_unclean(segments[2].base_offset + 1);
    CHECK(f.stats.snapshot_used == segments[2].base_offset);
  }
  CHECK(f.log->producers().encode_snapshot() == state);
}

TEST_CASE("what is missing below the log start is no reason to cut what lies above") {
  Fixture f;
  const auto segments = sixty_batches(f);
  REQUIRE(segments.size() > 4);
  f.log.reset();
  f.disk.erase(f.path(segments[1].base_offset, FileKind::log));
  OpenParams p = f.params();
  p.log_start_offset = segments[3].base_offset;
  f.open(p);
  CHECK(f.log->log_start_offset() == segments[3].base_offset);
  CHECK(f.log->log_end_offset() == Offset(60));
  CHECK(f.log->segments().front().base_offset == segments[3].base_offset);
  CHECK_FALSE(f.disk.exists(f.path(segments[0].base_offset, FileKind::log)));
  CHECK_FALSE(f.disk.exists(f.path(segments[0].base_offset, FileKind::offset_index)));
}

TEST_CASE("a hole between segments of a compacted log is cut only where it cannot be compaction's") {
  Fixture f;
  f.config.compact_policy = true;
  const auto segments = sixty_batches(f);
  REQUIRE(segments.size() > 3);
  f.log.reset();
  f.disk.erase(f.path(segments[2].base_offset, FileKind::log));
  OpenParams p = f.params();
  SECTION("of a log of which nothing is known") {
    f.open(p);
    CHECK(f.log->log_end_offset() == segments[2].base_offset);
  }
  SECTION("below what is known") {
    p.durable_end = segments[3].base_offset;
    f.open(p);
    CHECK(f.log->log_end_offset() == Offset(60));
  }
  SECTION("beyond it unsynced records are missing") {
    p.durable_end = segments[1].base_offset;
    f.open(p);
    CHECK(f.log->log_end_offset() == segments[2].base_offset);
  }
}

TEST_CASE("what a truncation cut does not come back after a power cut") {
  Fixture f;
  f.config.segment_bytes = 1000;
  f.open();
  for (int i = 0; i < 40; ++i) f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  REQUIRE(f.log->segments().size() > 2);
  REQUIRE(f.disk.sync_directory("/").ok());
  // In the midst of the first segment; the later ones go.
  const Offset cut(2);
  SECTION("truncated") {
    REQUIRE(f.log->truncate_to(cut, at_ms(0)).ok());
  }
  SECTION("begun anew") {
    REQUIRE(f.log->truncate_fully_and_start_at(cut, at_ms(0)).ok());
  }
  f.log.reset();
  f.disk.crash();
  OpenParams p = f.params();
  p.create = false;
  p.durable_end = p.recovery_point = cut;
  f.open(p);
  CHECK(f.log->log_end_offset() == cut);
}

TEST_CASE("a log start beyond what survived begins the log anew there") {
  Fixture f;
  f.open();
  for (int i = 0; i < 10; ++i) f.append(BatchSpec{});
  OpenParams p = f.params();
  p.log_start_offset = Offset(50);
  f.open(p);
  CHECK(f.log->log_start_offset() == Offset(50));
  CHECK(f.log->log_end_offset() == Offset(50));
  CHECK(f.append(BatchSpec{}).base_offset == Offset(50));
}

}  // namespace
}  // namespace millrace::log
