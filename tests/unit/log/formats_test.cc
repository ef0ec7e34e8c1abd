// The files of a partition, byte for byte. Expected bytes are written out by hand from the layouts in the
// headers.
#include "base/crc32c.h"
#include "base/endian.h"
#include "log/checkpoints.h"
#include "log/commit_file.h"
#include "log/data_directory.h"
#include "log/partition_metadata.h"
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

Bytes hex(std::string_view text) {
  Bytes out;
  std::string digits;
  for (const char c : text) {
    if (c == ' ') continue;
    digits += c;
    if (digits.size() == 2) {
      out.push_back(static_cast<uint8_t>(std::stoi(digits, nullptr, 16)));
      digits.clear();
    }
  }
  return out;
}

TEST_CASE("segment file names carry twenty digits") {
  CHECK(file_name(Offset(0), FileKind::log) == "00000000000000000000.log");
  CHECK(file_name(Offset(42), FileKind::time_index) == "00000000000000000042.timeindex");
  CHECK(file_name(Offset(INT64_MAX), FileKind::snapshot) == "09223372036854775807.snapshot");
  const auto parsed = parse_file_name("00000000000000000042.txnindex.deleted");
  REQUIRE(parsed);
  CHECK(parsed->offset == Offset(42));
  CHECK(parsed->kind == FileKind::txn_index);
  CHECK(parsed->stage == FileStage::deleted);
  CHECK(parse_file_name("00000000000000000042.log.swap")->stage == FileStage::swap);
  CHECK(parse_file_name("00000000000000000042.log.cleaned")->stage == FileStage::cleaned);
  for (const char* bad : {"", ".log", "42.log", "00000000000000000042.lag", "0000000000000000004x.log",
                          "99999999999999999999.log", "00000000000000000042", "leader-epoch-checkpoint"}) {
    INFO(bad);
    CHECK_FALSE(parse_file_name(bad));
  }
}

TEST_CASE("partition directory names") {
  CHECK(partition_directory_name("my-topic", PartitionId(7)) == "my-topic-7");
  const auto plain = parse_partition_directory("my-topic-7");
  REQUIRE(plain);
  CHECK(plain->topic == "my-topic");
  CHECK(plain->partition == PartitionId(7));
  CHECK_FALSE(plain->being_deleted);
  Uuid id;
  id.bytes.fill(0xab);
  const std::string deleted = deleted_directory_name("my-topic", PartitionId(7), id);
  CHECK(deleted == "my-topic-7.abababababababababababababababab-delete");
  CHECK(parse_partition_directory(deleted)->being_deleted);
  CHECK(parse_partition_directory(deleted)->partition == PartitionId(7));
  CHECK(deleted_directory_name(std::string(249, 't'), PartitionId(100000), id).size() == 255);
  // A topic may be called anything legal.
  CHECK(parse_partition_directory("orders-delete-0")->topic == "orders-delete");
  CHECK(parse_partition_directory("a-1-2")->topic == "a-1");
  for (const char* bad : {"topic", "-1", "topic-", "topic-x", "topic-01", "topic-99999999999", "x-delete"}) {
    INFO(bad);
    CHECK_FALSE(parse_partition_directory(bad));
  }
}

TEST_CASE("offset index bytes") {
  OffsetIndex index;
  index.append(5, 4097);
  index.append(258, 70000);
  const Bytes expected = hex("00000005 00001001 00000102 00011170");
  CHECK(index.encode() == expected);
  CHECK(index.encode(1) == Bytes(expected.begin() + 8, expected.end()));
  CHECK(OffsetIndex::parse(expected, 70001)->entries() == index.entries());
  CHECK(OffsetIndex::parse(expected, 70000).code() == ErrorCode::corrupt);  // beyond the segment
  CHECK(OffsetIndex::parse(ByteView(expected).first(12), 70001).code() == ErrorCode::corrupt);
  CHECK(OffsetIndex::parse(hex("00000005 00001001 00000005 00011170"), 70001).code() == ErrorCode::corrupt);
  CHECK(OffsetIndex::parse(hex("00000005 00001001 00000006 00001001"), 70001).code() == ErrorCode::corrupt);
  CHECK(OffsetIndex::parse(Bytes(8 * 4, 0), 70001).code() ==
        ErrorCode::corrupt);  // Kafka's unused tail of zeros
  CHECK_FALSE(index.floor_offset(4));
  CHECK(index.floor_offset(5)->position == 4097);
  CHECK(index.floor_offset(257)->position == 4097);
  CHECK(index.floor_offset(INT64_MAX)->position == 70000);
  CHECK(index.floor_position(69999)->relative_offset == 5);
  CHECK_FALSE(index.floor_position(4096));
}

TEST_CASE("time index bytes") {
  TimeIndex index;
  CHECK(index.append_if_later(1'700'000'000'000, 5));
  CHECK_FALSE(index.append_if_later(1'700'000'000'000, 6));
  CHECK_FALSE(index.append_if_later(-1, 6));
  CHECK(index.append_if_later(1'700'000'000'001, 6));
  const Bytes expected = hex("0000018bcfe56800 00000005 0000018bcfe56801 00000006");
  CHECK(index.encode() == expected);
  CHECK(TimeIndex::parse(expected)->encode() == expected);
  CHECK(TimeIndex::parse(ByteView(expected).first(13)).code() == ErrorCode::corrupt);
  CHECK(TimeIndex::parse(hex("0000018bcfe56801 00000005 0000018bcfe56800 00000006")).code() ==
        ErrorCode::corrupt);
  CHECK_FALSE(index.floor(1'699'999'999'999));
  CHECK(index.floor(1'700'000'000'000)->relative_offset == 5);
  CHECK(index.floor(INT64_MAX)->relative_offset == 6);
}

TEST_CASE("transaction index bytes") {
  TxnIndex index;
  index.append({ProducerId(7), Offset(100), Offset(120), Offset(110)});
  const Bytes expected = hex("0000 0000000000000007 0000000000000064 0000000000000078 000000000000006e");
  REQUIRE(expected.size() == 34);
  CHECK(index.encode() == expected);
  CHECK(TxnIndex::parse(expected, Offset(90))->entries() == index.entries());
  CHECK(TxnIndex::parse(expected, Offset(121)).code() == ErrorCode::corrupt);
  CHECK(TxnIndex::parse(joined({expected, expected}), Offset(0)).code() == ErrorCode::corrupt);
  Bytes version = expected;
  version[1] = 1;
  CHECK(TxnIndex::parse(version, Offset(0)).code() == ErrorCode::corrupt);
}

TEST_CASE("producer snapshot bytes") {
  ProducerState state;
  BatchHeader h;
  h.base_offset = Offset(1000);
  h.last_offset_delta = 4;
  h.producer_id = ProducerId(4001);
  h.producer_epoch = ProducerEpoch(3);
  h.base_sequence = 10;
  h.max_timestamp = 1'700'000'000'000;
  h.attributes = 0x10;  // transactional
  state.apply_data(h, 0);
  const Bytes entry =
      hex("0000000000000fa1"    // producer id
          "0003"                // epoch
          "0000000e"            // last sequence
          "00000000000003ec"    // last offset
          "00000004"            // offset delta
          "0000018bcfe56800"    // timestamp
          "ffffffff"            // coordinator epoch
          "00000000000003e8");  // first offset of the transaction
  REQUIRE(entry.size() == 46);
  const Bytes body = joined({hex("00000001"), entry});
  Bytes expected = hex("0001 00000000");
  store_be(&expected[2], crc32c(body));
  expected.insert(expected.end(), body.begin(), body.end());
  CHECK(state.encode_snapshot() == expected);

  ProducerState loaded;
  REQUIRE(loaded.load_snapshot(expected, 5).ok());
  const ProducerEntry* e = loaded.find(ProducerId(4001));
  REQUIRE(e != nullptr);
  CHECK(e->last_sequence() == 14);
  CHECK(e->batches[0].first_sequence() == 10);
  CHECK(e->batches[0].first_offset() == Offset(1000));
  CHECK(e->txn_first_offset == Offset(1000));
  CHECK(loaded.first_unstable_offset(Offset(2000)) == Offset(1000));
  CHECK(loaded.encode_snapshot() == expected);

  for (size_t i = 0; i < expected.size(); ++i) {
    Bytes damaged = expected;
    damaged[i] ^= 0x04;
    CHECK(ProducerState().load_snapshot(damaged, 0).code() == ErrorCode::corrupt);
    CHECK(ProducerState().load_snapshot(ByteView(expected).first(i), 0).code() == ErrorCode::corrupt);
  }
  CHECK(ProducerState().encode_snapshot().size() == 10);
}

TEST_CASE("leader epoch checkpoint text") {
  EpochCache cache;
  CHECK(cache.assign(LeaderEpoch(0), Offset(0)));
  CHECK_FALSE(cache.assign(LeaderEpoch(0), Offset(50)));
  CHECK(cache.assign(LeaderEpoch(3), Offset(100)));
  CHECK(cache.encode() == "0\n2\n0 0\n3 100\n");
  CHECK(EpochCache::parse(cache.encode())->entries() == cache.entries());
  CHECK(EpochCache::parse("0\n0\n")->entries().empty());
  for (const char* bad : {"", "1\n0\n", "0\n", "0\n2\n0 0\n", "0\n1\nx 0\n", "0\n1\n0 -1\n",
                          "0\n2\n3 0\n2 5\n", "0\n2\n2 5\n3 4\n", "0\n99999999999999999999\n", "0\n1\n0\n"}) {
    INFO(bad);
    CHECK_FALSE(EpochCache::parse(bad).ok());
  }
}

TEST_CASE("offset checkpoint text") {
  const OffsetCheckpoint checkpoint{{{"my-topic", PartitionId(1)}, Offset(999)},
                                    {{"my-topic", PartitionId(0)}, Offset(1042)}};
  const std::string text = "0\n2\nmy-topic 0 1042\nmy-topic 1 999\n";
  CHECK(encode_checkpoint(checkpoint) == text);
  CHECK(*parse_checkpoint(text) == checkpoint);
  CHECK(parse_checkpoint("0\n0\n")->empty());
  for (const char* bad : {"", "0", "0\nx\n", "0\n1\n", "0\n1\ntopic 0\n", "0\n1\nt 0 x\n", "0\n1\nt -1 5\n",
                          "0\n1\nt 0 5\nt 1 6\n", "0\n1\n 0 5\n"}) {
    INFO(bad);
    CHECK(parse_checkpoint(bad).code() == ErrorCode::parse_error);
  }
}

TEST_CASE("partition metadata text") {
  const Uuid id = *Uuid::parse("4L6g3nShT-eMCtK--X86sw");
  const std::string text = "version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw\n";
  CHECK(encode_partition_metadata({.topic_id = id}) == text);
  CHECK(parse_partition_metadata(text)->topic_id == id);
  for (const char* bad : {"", "version: 0\n", "version: 1\ntopic_id: 4L6g3nShT-eMCtK--X86sw\n",
                          "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n", "version: 0\ntopic_id: x\n"}) {
    INFO(bad);
    CHECK(parse_partition_metadata(bad).code() == ErrorCode::parse_error);
  }
}

TEST_CASE("commit file frames: bytes, torn tails, later entries win") {
  Uuid id;
  id.bytes.fill(1);
  const CommitKey key{id, PartitionId(2)};
  const std::vector<std::pair<CommitKey, Offset>> one{{key, Offset(77)}};
  const Bytes frame = CommitFile::encode(one);
  const Bytes body = hex("01 00000001 01010101010101010101010101010101 00000002 000000000000004d");
  REQUIRE(frame.size() == 8 + body.size());
  CHECK(Bytes(frame.begin(), frame.begin() + 4) == hex("00000020"));
  CHECK(load_be<uint32_t>(&frame[4]) == crc32c(body));
  CHECK(Bytes(frame.begin() + 8, frame.end()) == body);

  const std::vector<std::pair<CommitKey, Offset>> lower{{key, Offset(70)}};
  const Bytes two = joined({frame, CommitFile::encode(lower)});
  for (size_t size = 0; size <= two.size(); ++size) {
    const auto [ends, caps, starts, valid, broken] = CommitFile::replay(ByteView(two).first(size));
    CHECK(caps.empty());
    CHECK(starts.empty());
    CHECK_FALSE(broken);  // a torn tail is no damage
    CHECK(valid == (size < frame.size() ? 0 : size < two.size() ? frame.size() : two.size()));
    if (size < frame.size()) {
      CHECK(ends.empty());
    } else {
      CHECK(ends.at(key) == (size < two.size() ? Offset(77) : Offset(70)));
    }
  }
  for (size_t i = 0; i < frame.size(); ++i) {
    Bytes damaged = frame;
    damaged[i] ^= 0x10;
    const CommitFile::Replayed alone = CommitFile::replay(damaged);
    CHECK(alone.bytes == 0);
    CHECK(alone.ends.empty());
    // What follows is read all the same.
    const CommitFile::Replayed followed = CommitFile::replay(joined({damaged, CommitFile::encode(lower)}));
    CHECK(followed.bytes == two.size());
    CHECK(followed.damaged);
    CHECK(followed.ends.at(key) == Offset(70));
  }
}

TEST_CASE("commit file: caps of recovery points come, go and survive a rewrite") {
  test::MemoryDisk disk;
  REQUIRE(disk.make_directories("/data").ok());
  Uuid id;
  id.bytes.fill(7);
  const CommitKey a{id, PartitionId(0)};
  const CommitKey b{id, PartitionId(1)};
  const std::vector<std::pair<CommitKey, Offset>> both{{a, Offset(5)}, {b, Offset(0)}};
  const std::vector<std::pair<CommitKey, Offset>> end{{a, Offset(9)}};
  const std::vector<std::pair<CommitKey, Offset>> lifted{{a, Offset(-1)}};
  {
    auto file = CommitFile::open(disk, "/data", nullptr);
    REQUIRE(file.ok());
    REQUIRE((*file)->record_caps(both, true).ok());
    REQUIRE((*file)->record(end, true).ok());
    (*file)->set_rewrite_bytes(1);
    // Far beyond the limit: rewritten.
    for (int i = 0; i < 20; ++i) REQUIRE((*file)->record(end, true).ok());
    CHECK((*file)->size_bytes() < 400);
    CHECK((*file)->caps().size() == 2);
  }
  {
    auto file = CommitFile::open(disk, "/data", nullptr);
    REQUIRE(file.ok());
    CHECK((*file)->caps() == DurableEnds{{a, Offset(5)}, {b, Offset(0)}});
    CHECK((*file)->ends() == DurableEnds{{a, Offset(9)}});
    REQUIRE((*file)->record_caps(lifted, true).ok());
  }
  auto file = CommitFile::open(disk, "/data", nullptr);
  REQUIRE(file.ok());
  CHECK((*file)->caps() == DurableEnds{{b, Offset(0)}});
  CHECK_FALSE((*file)->was_damaged());
}

TEST_CASE("commit file: damage in the middle is said and written away") {
  test::MemoryDisk disk;
  REQUIRE(disk.make_directories("/data").ok());
  Uuid id;
  id.bytes.fill(3);
  {
    auto file = CommitFile::open(disk, "/data", nullptr);
    REQUIRE(file.ok());
    for (int i = 0; i < 10; ++i) {
      const std::vector<std::pair<CommitKey, Offset>> change{{{id, PartitionId(i)}, Offset(i + 1)}};
      REQUIRE((*file)->record(change, true).ok());
    }
  }
  disk.flip_bit("/data/commit-file", 41 * 4 + 20, 3);
  for (const bool again : {false, true}) {
    auto file = CommitFile::open(disk, "/data", nullptr);
    REQUIRE(file.ok());
    CHECK((*file)->was_damaged() != again);
    CHECK((*file)->ends().size() == 9);
    CHECK_FALSE((*file)->ends().contains({id, PartitionId(4)}));
    CHECK((*file)->ends().at({id, PartitionId(9)}) == Offset(10));
  }
}

TEST_CASE("commit file survives power cuts and rewrites itself") {
  test::MemoryDisk disk;
  REQUIRE(disk.make_directories("/data").ok());
  Uuid id;
  id.bytes.fill(9);
  DurableEnds ends;
  {
    auto file = CommitFile::open(disk, "/data", &ends);
    REQUIRE(file.ok());
    CHECK(ends.empty());
    (*file)->set_rewrite_bytes(500);
    for (int i = 0; i < 100; ++i) {
      const std::vector<std::pair<CommitKey, Offset>> change{{{id, PartitionId(i % 3)}, Offset(i)}};
      REQUIRE((*file)->record(change, true).ok());
      CHECK((*file)->size_bytes() < 600);
    }
    const std::vector<std::pair<CommitKey, Offset>> unsynced{{{id, PartitionId(0)}, Offset(1000)}};
    REQUIRE((*file)->record(unsynced, false).ok());
  }
  REQUIRE(disk.sync_directory("/data").ok());
  REQUIRE(disk.sync_directory("/").ok());
  disk.crash();
  auto file = CommitFile::open(disk, "/data", &ends);
  REQUIRE(file.ok());
  CHECK(ends.size() == 3);
  CHECK(ends.at({id, PartitionId(0)}) == Offset(99));
  CHECK(ends.at({id, PartitionId(2)}) == Offset(98));
  // A failed write leaves no torn frame in front of the next one.
  disk.torn_bytes = 13;
  disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  const std::vector<std::pair<CommitKey, Offset>> change{{{id, PartitionId(0)}, Offset(2000)}};
  CHECK((*file)->record(change, true).code() == ErrorCode::no_space);
  disk.fault = nullptr;
  REQUIRE((*file)->record(change, true).ok());
  REQUIRE(CommitFile::open(disk, "/data", &ends).ok());
  CHECK(ends.at({id, PartitionId(0)}) == Offset(2000));
}

TEST_CASE("epoch lookups as OffsetForLeaderEpoch wants them") {
  EpochCache cache;
  CHECK(cache.end_offset_for(LeaderEpoch(0), Offset(10)) == EpochEnd{});
  (void)cache.assign(LeaderEpoch(2), Offset(10));
  (void)cache.assign(LeaderEpoch(4), Offset(20));
  (void)cache.assign(LeaderEpoch(7), Offset(30));
  const Offset end(40);
  CHECK(cache.end_offset_for(LeaderEpoch(7), end) == EpochEnd{LeaderEpoch(7), end});
  CHECK(cache.end_offset_for(LeaderEpoch(1), end) == EpochEnd{LeaderEpoch(1), Offset(10)});
  CHECK(cache.end_offset_for(LeaderEpoch(2), end) == EpochEnd{LeaderEpoch(2), Offset(20)});
  CHECK(cache.end_offset_for(LeaderEpoch(5), end) == EpochEnd{LeaderEpoch(4), Offset(30)});
  CHECK(cache.end_offset_for(LeaderEpoch(8), end) == EpochEnd{});
  CHECK(cache.end_offset_for(kNoLeaderEpoch, end) == EpochEnd{});
  CHECK(cache.epoch_of(Offset(9)) == kNoLeaderEpoch);
  CHECK(cache.epoch_of(Offset(29)) == LeaderEpoch(4));

  EpochCache cut = cache;
  CHECK(cut.truncate_from_end(Offset(30)));
  CHECK(cut.latest_epoch() == LeaderEpoch(4));
  CHECK_FALSE(cut.truncate_from_end(Offset(30)));
  EpochCache front = cache;
  CHECK(front.truncate_from_start(Offset(25)));
  CHECK(front.entries().front() == EpochStart{LeaderEpoch(4), Offset(25)});
  CHECK(front.entries().size() == 2);
  CHECK_FALSE(front.truncate_from_start(Offset(25)));
  // A start that moves back, or an epoch that does: the contradicting entries give way.
  CHECK(cache.assign(LeaderEpoch(8), Offset(20)));
  CHECK(cache.entries() ==
        std::vector<EpochStart>{{LeaderEpoch(2), Offset(10)}, {LeaderEpoch(8), Offset(20)}});
}

TEST_CASE("a small log writes the files that its layout says") {
  Fixture f;
  f.config.index_interval_bytes = 100;
  f.open();
  std::vector<size_t> sizes;
  for (int i = 0; i < 4; ++i) {
    BatchSpec spec;
    spec.count = 2;
    spec.value_bytes = 30;
    spec.timestamp = kT0 + 10 * i;
    sizes.push_back(batch(spec).size());
    f.append(spec, 0, LeaderEpoch(i / 2));
  }
  REQUIRE(sizes[0] == 61 + 2 * 37);  // the second batch lies beyond the interval, and so does each after it
  REQUIRE(f.log->roll(at_ms(0)).ok());
  const auto u32 = [](uint64_t v) {
    Bytes b(4);
    store_be(b.data(), static_cast<int32_t>(v));
    return b;
  };
  const auto i64 = [](int64_t v) {
    Bytes b(8);
    store_be(b.data(), v);
    return b;
  };
  const size_t s = sizes[0];
  CHECK(f.disk.content(f.path(Offset(0), FileKind::offset_index)) ==
        joined({u32(3), u32(s), u32(5), u32(2 * s), u32(7), u32(3 * s)}));
  CHECK(f.disk.content(f.path(Offset(0), FileKind::time_index)) ==
        joined({i64(kT0 + 11), u32(3), i64(kT0 + 21), u32(5), i64(kT0 + 31), u32(7)}));
  CHECK(f.disk.content(f.path(Offset(0), FileKind::log)).size() == 4 * s);
  CHECK(f.disk.has(f.path(Offset(8), FileKind::log)));
  CHECK(f.disk.content(f.path(Offset(8), FileKind::snapshot)).size() == 10);
  REQUIRE(f.log->flush().ok());
  CHECK(as_text(f.disk.content(kDirectory + "/leader-epoch-checkpoint")) == "0\n2\n0 0\n1 4\n");
}

}  // namespace
}  // namespace millrace::log
