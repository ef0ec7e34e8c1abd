// The offline check: sound directories have no damage, and every kind of damage is found where it is.
#include "log/verify.h"

#include "compaction_fixture.h"
#include "log/file_names.h"
#include "log/manifest.h"
#include "log/partition_metadata.h"

namespace millrace::log {
namespace {

using namespace fixture;

const Uuid kVerifiedTopic = Uuid::from_random({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});

void write_verified(Fixture& f) {
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
    spec.codec = i % 2 == 0 ? record::Codec::none : record::Codec::lz4;
    f.append(spec);
  }
  REQUIRE(f.log->close(true).ok());
  REQUIRE(write_partition_metadata(f.disk, kDirectory, kVerifiedTopic).ok());
}

PartitionCheck clean_check(const Fixture& f) {
  PartitionCheck check;
  check.records = true;
  check.clean = true;
  check.recovery_point = check.durable_end = f.log->log_end_offset();
  check.topic_id = kVerifiedTopic;
  return check;
}

PartitionVerdict verdict_of(Fixture& f, const PartitionCheck& check) {
  Result<PartitionVerdict> verdict = verify_partition(f.disk, kDirectory, check);
  REQUIRE(verdict.ok());
  for (const Finding& finding : verdict->findings.list) UNSCOPED_INFO(text_of(finding));
  return std::move(*verdict);
}

bool names(const Findings& findings, Severity severity, const std::string& what) {
  return std::any_of(findings.list.begin(), findings.list.end(), [&](const Finding& finding) {
    return finding.severity == severity && text_of(finding).find(what) != std::string::npos;
  });
}

TEST_CASE("a sound partition has no findings") {
  Fixture f;
  write_verified(f);
  const PartitionVerdict v = verdict_of(f, clean_check(f));
  CHECK(v.findings.damages == 0);
  CHECK(v.findings.notes == 0);
  CHECK(v.segments == f.log->segment_count());
  CHECK(v.segments > 2);
  CHECK(v.batches == 40);
  CHECK(v.records == 80);
  CHECK(v.bytes == f.log->size_bytes());
  CHECK(v.start == Offset(0));
  CHECK(v.end == Offset(80));
}

TEST_CASE("every kind of damage in a partition is found") {
  Fixture f;
  write_verified(f);
  const SegmentInfo first = f.log->segments()[0];
  const SegmentInfo second = f.log->segments()[1];
  const std::string log0 = f.path(Offset(0), FileKind::log);
  const std::string log1 = f.path(second.base_offset, FileKind::log);
  PartitionCheck check = clean_check(f);
  std::string expected;
  SECTION("a record") {
    f.disk.flip_bit(log0, 100, 1);
    expected = "position 0, offset 0: checksum does not match; ";
  }
  SECTION("a length") {
    f.disk.flip_bit(log0, 8, 7);
    expected = "position 0, offset 0: impossible batch length; ";
  }
  SECTION("a base offset") {
    f.disk.flip_bit(log0, 7, 3);
    expected = "position ";
  }
  SECTION("in the middle of the log") {
    f.disk.flip_bit(log1, 100, 1);
    expected = log1 + ": position 0, offset " + std::to_string(second.base_offset.v);
  }
  SECTION("an offset index") {
    f.disk.flip_bit(f.path(Offset(0), FileKind::offset_index), 7, 0);
    expected = ".index: position 0: no batch ends with offset";
  }
  SECTION("a time index") {
    f.disk.flip_bit(f.path(Offset(0), FileKind::time_index), 7, 0);
    expected = ".timeindex: position 0: timestamp";
  }
  SECTION("a snapshot's checksum") {
    f.disk.flip_bit(f.path(first.next_offset, FileKind::snapshot), 15, 0);
    expected = "producer snapshot: checksum";
  }
  SECTION("a snapshot of another moment") {
    f.disk.put(f.path(second.next_offset, FileKind::snapshot),
               f.disk.content(f.path(first.next_offset, FileKind::snapshot)));
    expected = "producer 1 epoch 0 last offset " + std::to_string(first.next_offset.v - 1);
  }
  SECTION("leader epochs beyond the end") {
    f.disk.put(kDirectory + "/leader-epoch-checkpoint", to_bytes("0\n2\n0 0\n3 500\n"));
    expected = "epoch 3 begins at offset 500";
  }
  SECTION("leader epochs that the batches do not have") {
    f.disk.put(kDirectory + "/leader-epoch-checkpoint", to_bytes("0\n2\n0 0\n3 40\n"));
    expected = "offset 40: says epoch 3";
  }
  SECTION("two segments that overlap") {
    f.disk.put(f.path(Offset(1), FileKind::log), f.disk.content(log0));
    expected = "reaches into the next segment";
  }
  SECTION("a segment that is gone, in a topic that is not compacted") {
    f.disk.erase(log1);
    check.holes_are_damage = true;
    expected = "offsets " + std::to_string(second.base_offset.v) + " to ";
  }
  SECTION("the end is gone") {
    const SegmentInfo last = f.log->segments().back();
    f.disk.put(f.path(last.base_offset, FileKind::log), {});
    expected = "but 80 was durable";
  }
  SECTION("another topic's") {
    check.topic_id = Uuid::from_random({9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9});
    expected = "millrace disk adopt";
  }
  SECTION("nothing there") {
    for (const std::string& path : f.disk.paths()) f.disk.erase(path);
    expected = "no segments, but the log reached offset 80";
  }
  const PartitionVerdict v = verdict_of(f, check);
  CHECK(v.findings.damages > 0);
  CHECK(names(v.findings, Severity::damage, expected));
}

TEST_CASE("how a transaction ended must be known as long as data of it are there") {
  CompactionFixture f;
  f.open();
  const KeyedSpec first{
      .producer = ProducerId(5), .epoch = ProducerEpoch(0), .sequence = 0, .transactional = true};
  KeyedSpec second = first;
  second.sequence = 2;
  f.append_keyed({{"a", "1"}, {"b", "1"}}, first);
  f.append_keyed({{"a", "2"}}, second);
  f.append(end_marker(ProducerId(5), false));
  f.append_keyed({{"a", "3"}, {"c", "3"}});
  f.settle();
  REQUIRE(f.log->aborted_transactions(Offset(0), Offset(4))->size() == 1);
  const std::string index = f.path(Offset(0), FileKind::txn_index);
  const bool compacted = GENERATE(true, false);
  if (compacted) {
    f.compact();
    // What is left of it: a batch without records that carries the producer's last sequence, and the marker.
    const std::vector<BatchFound> left = f.batches();
    REQUIRE(left.size() >= 2);
    REQUIRE((left[0].base == Offset(2) && left[0].records == 0 && left[1].control));
  }
  // A power cut may take the name of the new index and leave that of the new segment.
  f.disk.put(index, {});
  REQUIRE(f.log->close(true).ok());
  REQUIRE(write_partition_metadata(f.disk, kDirectory, kVerifiedTopic).ok());
  const PartitionVerdict v = verdict_of(f, clean_check(f));
  CHECK(v.findings.damages == (compacted ? 0 : 1));
  CHECK(names(v.findings, Severity::damage, "producer 5 that was aborted at offset 3") == !compacted);
}

TEST_CASE("what the next start mends is a note") {
  Fixture f;
  write_verified(f);
  PartitionCheck check = clean_check(f);
  const SegmentInfo last = f.log->segments().back();
  const std::string last_log = f.path(last.base_offset, FileKind::log);
  std::string expected;
  SECTION("an absent index") {
    f.disk.erase(f.path(Offset(0), FileKind::offset_index));
    expected = "is absent; made anew";
  }
  SECTION("leftovers") {
    f.disk.put(f.path(Offset(0), FileKind::log) + ".deleted", {1});
    f.disk.put(f.path(Offset(0), FileKind::log) + ".cleaned", {1});
    expected = "leftover";
  }
  SECTION("room at the end of an index") {
    const std::string path = f.path(Offset(0), FileKind::time_index);
    Bytes bytes = f.disk.content(path);
    bytes.resize(bytes.size() + 1200);
    f.disk.put(path, bytes);
    expected = "bytes of room";
  }
  SECTION("a torn tail above the durable end") {
    check.clean = false;
    check.recovery_point = check.durable_end = last.base_offset;
    Bytes bytes = f.disk.content(last_log);
    bytes.resize(bytes.size() - 7);
    f.disk.put(last_log, bytes);
    expected = "torn tail";
  }
  SECTION("a hole in a log that may be compacted") {
    f.disk.erase(f.path(f.log->segments()[1].base_offset, FileKind::log));
    expected = "are missing (as a compacted log may have it)";
  }
  const PartitionVerdict v = verdict_of(f, check);
  CHECK(v.findings.damages == 0);
  CHECK(v.findings.notes > 0);
  CHECK(names(v.findings, Severity::note, expected));
}

TEST_CASE("a torn tail below the durable end is damage") {
  Fixture f;
  write_verified(f);
  PartitionCheck check = clean_check(f);
  check.clean = false;
  const std::string last_log = f.path(f.log->segments().back().base_offset, FileKind::log);
  Bytes bytes = f.disk.content(last_log);
  bytes.resize(bytes.size() - 7);
  f.disk.put(last_log, bytes);
  CHECK(verdict_of(f, check).findings.damages > 0);
}

TEST_CASE("records that do not decode are found when asked for") {
  Fixture f;
  write_verified(f);
  // A batch whose records are nonsense under a right checksum.
  const std::string path = f.path(Offset(0), FileKind::log);
  Bytes bytes = f.disk.content(path);
  const size_t size = record::BatchView::size_of(bytes);
  std::fill(bytes.begin() + 61, bytes.begin() + static_cast<std::ptrdiff_t>(size), uint8_t{0xff});
  record::set_max_timestamp(MutableByteView(bytes).first(size), kT0 + 1);  // a new checksum
  f.disk.put(path, bytes);
  PartitionCheck check = clean_check(f);
  CHECK(names(verdict_of(f, check).findings, Severity::damage, "position 0, offset 0: records: "));
  check.records = false;
  CHECK(verdict_of(f, check).findings.damages == 0);
}

TEST_CASE("the walk goes on behind damage") {
  Fixture f;
  write_verified(f);
  const std::string path = f.path(Offset(0), FileKind::log);
  const SegmentInfo first = f.log->segments()[0];
  std::vector<uint64_t> positions;
  REQUIRE(walk_segment(f.disk, path, Offset(0), first.next_offset, [&](const WalkedBatch& b) {
            positions.push_back(b.position);
          }).ok());
  REQUIRE(positions.size() > 4);
  SECTION("a damaged record: the next batch follows") {
    f.disk.flip_bit(path, positions[2] + 70, 0);
  }
  SECTION("a damaged length: the next batch is searched for") {
    f.disk.flip_bit(path, positions[2] + 9, 0);
  }
  const auto walk = walk_segment(f.disk, path, Offset(0), first.next_offset, nullptr);
  REQUIRE(walk.ok());
  CHECK(walk->batches == positions.size() - 1);
  REQUIRE(walk->damaged.size() == 1);
  CHECK(walk->damaged[0].position == positions[2]);
  CHECK(walk->damaged[0].bytes == positions[3] - positions[2]);
  CHECK(walk->damaged[0].expected == Offset(4));
  CHECK(walk->damaged[0].next == Offset(6));
  CHECK(walk->end == first.next_offset);
}

TEST_CASE("the files of a data directory are checked") {
  Fixture f;
  write_verified(f);
  const MetaProperties meta{"MkU3OEVBNTcwNTJENDM2Qk", BrokerId(1), kVerifiedTopic};
  f.disk.put("/data/meta.properties", to_bytes(encode_meta_properties(meta)));
  f.disk.put("/data/.kafka_cleanshutdown", to_bytes("{\"version\":0,\"brokerEpoch\":7}"));
  f.disk.put("/data/recovery-point-offset-checkpoint", to_bytes("0\n1\norders 0 80\n"));
  auto verdict = verify_directory(f.disk, "/data");
  REQUIRE(verdict.ok());
  CHECK(verdict->findings.damages == 0);
  REQUIRE(verdict->partitions.size() == 1);
  CHECK(verdict->partitions[0].topic_id == kVerifiedTopic);
  const PartitionCheck check = check_of(*verdict, verdict->partitions[0]);
  CHECK(check.clean);
  CHECK(check.recovery_point == Offset(80));
  CHECK(verdict_of(f, check).findings.damages == 0);

  SECTION("meta.properties") {
    f.disk.put("/data/meta.properties", to_bytes("version=7\n"));
  }
  SECTION("no meta.properties") {
    f.disk.erase("/data/meta.properties");
  }
  SECTION("a checkpoint") {
    f.disk.put("/data/recovery-point-offset-checkpoint", to_bytes("0\n7\norders 0 80\n"));
  }
  SECTION("the cleaner's checkpoint") {
    f.disk.put("/data/cleaner-offset-checkpoint", to_bytes("0\n1\norders 0 many\n"));
  }
  SECTION("the topic ids") {
    f.disk.put("/data/topic-id-checkpoint", to_bytes("0\n1\norders 0 short\n"));
  }
  SECTION("a manifest that does not verify") {
    f.disk.put("/data/log-manifest", to_bytes("MRLM and nothing"));
  }
  SECTION("a manifest that knows of records that are not there") {
    Manifest manifest;
    manifest.broker_epoch = BrokerEpoch(7);
    RestingLog log;
    log.last_stable = log.log_end = log.oldest_end = Offset(5);
    log.first_epoch = log.last_epoch = LeaderEpoch(0);
    log.segments = 1;
    log.bytes = log.oldest_bytes = 100;
    manifest.topics.push_back({"orders", kVerifiedTopic, {{PartitionId(0), log}, {PartitionId(1), log}}});
    f.disk.put("/data/log-manifest", encode_manifest(manifest));
  }
  verdict = verify_directory(f.disk, "/data");
  REQUIRE(verdict.ok());
  CHECK(verdict->findings.damages == 1);
}

TEST_CASE("checkpoints of another topic of the same name say nothing") {
  Fixture f;
  write_verified(f);
  f.disk.put("/data/.kafka_cleanshutdown", to_bytes("{\"version\":0,\"brokerEpoch\":7}"));
  f.disk.put("/data/recovery-point-offset-checkpoint", to_bytes("0\n1\norders 0 80\n"));
  const std::array<uint8_t, 16> other{1, 2, 3};
  for (const auto& [id, known] : {std::pair(kVerifiedTopic, true), std::pair(Uuid{other}, false)}) {
    TopicIdCheckpoint ids;
    ids[{"orders", PartitionId(0)}] = id;
    f.disk.put("/data/topic-id-checkpoint", to_bytes(encode_topic_ids(ids)));
    const auto verdict = verify_directory(f.disk, "/data");
    REQUIRE(verdict.ok());
    REQUIRE(verdict->partitions.size() == 1);
    const PartitionCheck check = check_of(*verdict, verdict->partitions[0]);
    CHECK(check.clean == known);
    CHECK(check.recovery_point == Offset(known ? 80 : 0));
  }
}

TEST_CASE("a partition that no checkpoint knows counts as not closed cleanly") {
  Fixture f;
  write_verified(f);
  f.disk.put("/data/meta.properties",
             to_bytes(encode_meta_properties({"MkU3OEVBNTcwNTJENDM2Qk", BrokerId(1), kVerifiedTopic})));
  f.disk.put("/data/.kafka_cleanshutdown", to_bytes("{\"version\":0,\"brokerEpoch\":7}"));
  const auto verdict = verify_directory(f.disk, "/data");
  REQUIRE(verdict.ok());
  REQUIRE(verdict->partitions.size() == 1);
  CHECK_FALSE(check_of(*verdict, verdict->partitions[0]).clean);
}

}  // namespace
}  // namespace millrace::log
