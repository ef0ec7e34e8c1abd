// Giving up damage and taking in directories: what is lost is said, kept aside, and the rest opens again.
#include "log/repair.h"

#include "log/file_names.h"
#include "log/lost_ranges.h"
#include "log/manifest.h"
#include "log/partition_metadata.h"
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

const Uuid kRepairedTopic = Uuid::from_random({2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
const std::string kDataDirectory = "/data";

struct Repair : Fixture {
  std::vector<SegmentInfo> segments;
  PartitionCheck check;

  Repair() {
    config.segment_bytes = 2000;
    config.index_interval_bytes = 200;
    open();
    for (int i = 0; i < 40; ++i) {
      BatchSpec spec;
      spec.count = 2;
      spec.timestamp = kT0 + 10 * i;
      spec.producer = ProducerId(1);
      spec.epoch = ProducerEpoch(0);
      spec.sequence = 2 * i;
      append(spec, 0, LeaderEpoch(i < 20 ? 0 : 4));
    }
    segments = log->segments();
    REQUIRE(log->close(true).ok());
    log.reset();
    check.recovery_point = check.durable_end = Offset(80);
    disk.put("/data/recovery-point-offset-checkpoint", to_bytes("0\n1\norders 0 80\n"));
    disk.put("/data/replication-offset-checkpoint", to_bytes("0\n1\norders 0 80\n"));
    std::pair<CommitKey, Offset> end{{kRepairedTopic, PartitionId(0)}, Offset(80)};
    disk.put("/data/commit-file", CommitFile::encode(std::span(&end, 1)));
  }
  Status reopen(Offset known) {
    OpenParams p = params();
    p.create = false;
    p.recovery_point = p.durable_end = known;
    return try_open(std::move(p));
  }
  Offset recorded_end() {
    const Bytes file = disk.content("/data/commit-file");
    const CommitFile::Replayed known = CommitFile::replay(file);
    CHECK(known.bytes == file.size());
    const auto it = known.ends.find({kRepairedTopic, PartitionId(0)});
    return it == known.ends.end() ? kNoOffset : it->second;
  }
  std::vector<Offset> readable() {
    std::vector<Offset> out;
    for (Offset at = log->log_start_offset(); at < log->log_end_offset();) {
      const ReadResult r = read(at, 100'000);
      REQUIRE_FALSE(r.empty());
      const Result<Bytes> bytes = Log::read_bytes(r);
      REQUIRE(bytes.ok());
      for (const Offset o : base_offsets(*bytes)) out.push_back(o);
      at = r.next_offset;
    }
    return out;
  }
  RepairPlan repaired(RepairMode mode) {
    const Result<RepairPlan> plan = plan_repair(disk, kDirectory, mode, check);
    REQUIRE(plan.ok());
    REQUIRE(carry_out(disk, *plan).ok());
    REQUIRE(record_end(disk, kDataDirectory, {{"orders", PartitionId(0)}, kRepairedTopic}, plan->end).ok());
    return *plan;
  }
};

TEST_CASE("a sound log needs no repair") {
  Repair f;
  for (const RepairMode mode : {RepairMode::drop_from_damage, RepairMode::skip_damaged}) {
    const auto plan = plan_repair(f.disk, kDirectory, mode, f.check);
    REQUIRE(plan.ok());
    CHECK(plan->losses.empty());
    CHECK(plan->end == Offset(80));
  }
}

TEST_CASE("dropping from the damage on ends the log there and keeps the bytes") {
  Repair f;
  const std::string path = f.path(f.segments[1].base_offset, FileKind::log);
  const Bytes before = f.disk.content(path);
  const auto size = static_cast<uint64_t>(record::BatchView::size_of(before));
  f.disk.flip_bit(path, size + 70, 3);  // the second batch of the second segment
  CHECK(f.reopen(Offset(0)).code() != ErrorCode::io_error);
  f.disk.put(path, before);
  f.disk.flip_bit(path, size + 70, 3);

  const Offset end = f.segments[1].base_offset + 2;
  const RepairPlan plan = f.repaired(RepairMode::drop_from_damage);
  REQUIRE_FALSE(plan.losses.empty());
  CHECK(plan.end == end);
  CHECK(plan.losses.front().from == end);
  CHECK(plan.losses.front().position == size);
  CHECK(plan.losses.back().to == Offset(80));
  CHECK(f.recorded_end() == end);
  CHECK(f.disk.content("/data/recovery-point-offset-checkpoint") ==
        to_bytes("0\n1\norders 0 " + std::to_string(end.v) + "\n"));
  CHECK(f.disk.content("/data/replication-offset-checkpoint") ==
        to_bytes("0\n1\norders 0 " + std::to_string(end.v) + "\n"));
  // Aside, byte for byte.
  const LostRange lost{end, plan.losses.front().to, size};
  const Bytes aside = f.disk.content(kDirectory + "/" + lost_name(lost));
  CHECK(aside.size() == before.size() - size);
  CHECK(parse_lost_name(lost_name(lost))->from == end);

  REQUIRE(f.reopen(end).ok());
  CHECK(f.log->log_end_offset() == end);
  CHECK(f.readable().size() == static_cast<size_t>(end.v / 2));
  // It goes on.
  BatchSpec more;
  more.producer = ProducerId(1);
  more.epoch = ProducerEpoch(0);
  more.sequence = static_cast<int32_t>(end.v);
  CHECK(f.append(more, 0, LeaderEpoch(5)).base_offset == end);
}

TEST_CASE("skipping damage leaves a hole that readers pass") {
  Repair f;
  const SegmentInfo second = f.segments[1];
  const std::string path = f.path(second.base_offset, FileKind::log);
  const Bytes before = f.disk.content(path);
  const auto size = static_cast<size_t>(record::BatchView::size_of(before));
  size_t batches_lost = 1;
  const int where = GENERATE(0, 1, 2);
  if (where == 0) {  // in the middle of a segment
    f.disk.flip_bit(path, size + 70, 3);
  } else if (where == 1) {  // at the end of a closed segment
    f.disk.flip_bit(path, before.size() - 5, 3);
  } else {  // a closed segment that is cut short
    f.disk.put(path, Bytes(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(size + 7)));
    batches_lost = static_cast<size_t>((second.next_offset - second.base_offset) / 2 - 1);
  }
  const RepairPlan plan = f.repaired(RepairMode::skip_damaged);
  REQUIRE(plan.losses.size() == 1);
  CHECK(plan.losses[0].to - plan.losses[0].from == static_cast<int64_t>(2 * batches_lost));
  CHECK(plan.end == Offset(80));
  CHECK(f.recorded_end() == Offset(80));

  REQUIRE(f.reopen(Offset(GENERATE(80, 0))).ok());  // checkpointed, and everything scanned
  CHECK(f.log->log_end_offset() == Offset(80));
  const std::vector<Offset> offsets = f.readable();
  CHECK(offsets.size() == 40 - batches_lost);
  CHECK(std::find(offsets.begin(), offsets.end(), plan.losses[0].from) == offsets.end());

  // The check knows the hole.
  PartitionCheck check = f.check;
  check.holes_are_damage = true;
  const auto verdict = verify_partition(f.disk, kDirectory, check);
  REQUIRE(verdict.ok());
  for (const Finding& finding : verdict->findings.list) UNSCOPED_INFO(text_of(finding));
  CHECK(verdict->findings.damages == 0);
}

TEST_CASE("a tail that is gone is given up by name") {
  Repair f;
  const SegmentInfo last = f.segments.back();
  f.disk.put(f.path(last.base_offset, FileKind::log), {});
  CHECK(f.reopen(Offset(80)).code() == ErrorCode::corrupt);
  const RepairPlan plan = f.repaired(RepairMode::drop_from_damage);
  REQUIRE(plan.losses.size() == 1);
  CHECK(plan.losses[0].from == last.base_offset);
  CHECK(plan.losses[0].to == Offset(80));
  CHECK(plan.losses[0].path.empty());
  REQUIRE(f.reopen(f.recorded_end()).ok());
  CHECK(f.log->log_end_offset() == last.base_offset);
}

TEST_CASE("an adopted directory has the new topic's identity and epochs") {
  Repair f;
  REQUIRE(write_partition_metadata(f.disk, kDirectory, kRepairedTopic).ok());
  const Uuid target = Uuid::from_random({7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7});
  const auto adopted = adopt(f.disk, kDirectory, {target, LeaderEpoch(0)});
  REQUIRE(adopted.ok());
  CHECK(adopted->batches == 40);
  CHECK(adopted->rewritten == 20);
  CHECK(adopted->end == Offset(80));
  REQUIRE(
      record_end(f.disk, kDataDirectory, {{"orders", PartitionId(0)}, kRepairedTopic}, std::nullopt).ok());
  CHECK(f.recorded_end() == kNoOffset);
  CHECK(f.disk.content("/data/recovery-point-offset-checkpoint") == to_bytes("0\n0\n"));
  CHECK((*read_partition_metadata(f.disk, kDirectory))->topic_id == target);
  CHECK(f.disk.content(kDirectory + "/leader-epoch-checkpoint") == to_bytes("0\n1\n0 0\n"));
  REQUIRE(f.reopen(Offset(0)).ok());
  CHECK(f.log->log_end_offset() == Offset(80));
  CHECK(f.log->latest_epoch() == LeaderEpoch(0));
  CHECK(f.readable().size() == 40);
  // Twice is once.
  const auto again = adopt(f.disk, kDirectory, {target, LeaderEpoch(0)});
  REQUIRE(again.ok());
  CHECK(again->rewritten == 0);
}

TEST_CASE("the commit file vouches for what was taken in, if there is one") {
  Repair f;
  const CommitKey taken_in{Uuid::from_random({7}), PartitionId(3)};
  REQUIRE(vouch(f.disk, kDataDirectory, taken_in, Offset(12)).ok());
  const CommitFile::Replayed known = CommitFile::replay(f.disk.content("/data/commit-file"));
  CHECK(known.ends.at(taken_in) == Offset(12));
  CHECK(f.recorded_end() == Offset(80));
  f.disk.erase("/data/commit-file");  // a data directory of Kafka
  REQUIRE(vouch(f.disk, kDataDirectory, taken_in, Offset(12)).ok());
  CHECK_FALSE(f.disk.has("/data/commit-file"));
}

TEST_CASE("what the manifest says of a log that was changed is over") {
  Repair f;
  RestingLog log;
  log.last_stable = log.log_end = log.oldest_end = Offset(80);
  log.first_epoch = log.last_epoch = LeaderEpoch(0);
  log.segments = 1;
  log.bytes = log.oldest_bytes = 100;
  Manifest manifest;
  manifest.broker_epoch = BrokerEpoch(3);
  manifest.topics.push_back({"orders", kRepairedTopic, {{PartitionId(0), log}, {PartitionId(1), log}}});
  const std::string path = std::string(kDataDirectory) + "/log-manifest";
  f.disk.put(path, encode_manifest(manifest));
  const PartitionKey changed{{"orders", PartitionId(0)}, kRepairedTopic};
  REQUIRE(record_end(f.disk, kDataDirectory, changed, Offset(80)).ok());
  manifest.topics[0].partitions.erase(manifest.topics[0].partitions.begin());
  const auto left = parse_manifest(f.disk.content(path));
  REQUIRE(left.ok());
  CHECK(*left == manifest);

  f.disk.put(path, to_bytes("no manifest"));
  REQUIRE(record_end(f.disk, kDataDirectory, changed, Offset(80)).ok());
  CHECK_FALSE(f.disk.has(path));
}

TEST_CASE("a damaged directory is not adopted, and nothing is changed") {
  Repair f;
  f.disk.flip_bit(f.path(f.segments[1].base_offset, FileKind::log), 100, 1);
  const Bytes before = f.disk.content(f.path(f.segments.back().base_offset, FileKind::log));
  CHECK(adopt(f.disk, kDirectory, {kRepairedTopic, LeaderEpoch(0)}).code() == ErrorCode::corrupt);
  CHECK(f.disk.content(f.path(f.segments.back().base_offset, FileKind::log)) == before);
  CHECK_FALSE(f.disk.has(kDirectory + "/partition.metadata"));
}

TEST_CASE("an interrupted repair can be run again") {
  for (int fail_at = 0; fail_at < 40; ++fail_at) {
    Repair f;
    const std::string path = f.path(f.segments[1].base_offset, FileKind::log);
    f.disk.flip_bit(path, 100, 1);
    const auto plan = plan_repair(f.disk, kDirectory, RepairMode::skip_damaged, f.check);
    REQUIRE(plan.ok());
    int operations = 0;
    f.disk.fault = [&](test::DiskOp op, const std::string&) {
      const bool counts = op == test::DiskOp::write || op == test::DiskOp::rename ||
                          op == test::DiskOp::remove || op == test::DiskOp::sync;
      return counts && operations++ == fail_at ? ErrorCode::io_error : ErrorCode::none;
    };
    const Status first = carry_out(f.disk, *plan);
    f.disk.fault = nullptr;
    const RepairPlan second = f.repaired(RepairMode::skip_damaged);
    REQUIRE(f.reopen(second.end).ok());
    CHECK(f.readable().size() == 39);
    if (first.ok()) return;
  }
  FAIL("the repair has more steps than this test tries");
}

}  // namespace
}  // namespace millrace::log
