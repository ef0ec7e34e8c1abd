// What the commit file is told, when, and what that is worth after a crash.

#include "partition/commit_journal.h"

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

const log::CommitKey kJournalKey{Uuid{}, PartitionId(0)};
const std::string kJournalPath = "/data/commit-file";

struct JournalRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  test::DeferredDisk disk{files};
  std::vector<ErrorCode> failures;
  std::shared_ptr<CommitJournal> journal;

  JournalRig() {
    REQUIRE(files.make_directories(kHome).ok());
    files.settle();
    open();
  }
  void open() {
    CommitJournal::Environment environment;
    environment.disk = &disk;
    environment.loop = &loop;
    environment.on_storage_failure = [this](const std::string& directory, const Error& error) {
      CHECK(directory == kHome);
      failures.push_back(error.code);
    };
    auto opened = CommitJournal::open(environment, kHome);
    REQUIRE(opened.ok());
    journal = *opened;
  }
  static log::CommitKey key(int32_t partition) { return {Uuid{}, PartitionId(partition)}; }
  std::optional<Offset> on_disk(int32_t partition) const {
    const auto replayed = log::CommitFile::replay(files.content(kJournalPath));
    const auto it = replayed.ends.find(key(partition));
    return it == replayed.ends.end() ? std::nullopt : std::optional<Offset>(it->second);
  }
  void pass(int64_t ms) {
    loop.settle();
    loop.advance(ms);
    while (disk.run_one()) loop.settle();
  }
};

TEST_CASE("noted ends are written together, within 50 ms, and synced", "[journal]") {
  JournalRig r;
  const uint64_t syncs = r.files.syncs;
  for (int i = 0; i < 100; ++i) r.journal->note(JournalRig::key(i % 10), Offset(i));
  CHECK_FALSE(r.on_disk(3));
  r.pass(50);
  CHECK(r.files.syncs == syncs + 2);  // where the new ones begin, then their ends
  CHECK(r.on_disk(3) == Offset(93));
  r.pass(1'000);
  CHECK(r.files.syncs == syncs + 2);  // nothing new, nothing written
  r.journal->note(JournalRig::key(3), Offset(94));
  r.pass(50);
  CHECK(r.files.syncs == syncs + 3);
  CHECK(r.on_disk(3) == Offset(94));
  r.files.crash();
  r.open();
  REQUIRE(r.journal->known(JournalRig::key(3)));
  CHECK(r.journal->known(JournalRig::key(3))->durable_end == Offset(94));
  CHECK_FALSE(r.journal->known(JournalRig::key(11)));
}

TEST_CASE("a lowered end is on disk on return, and what is noted later stays above it", "[journal]") {
  JournalRig r;
  r.journal->note(JournalRig::key(0), Offset(50));
  r.pass(50);
  r.journal->note(JournalRig::key(0), Offset(60));
  REQUIRE(r.journal->lower(JournalRig::key(0), Offset(20)).ok());
  CHECK(r.on_disk(0) == Offset(20));
  r.pass(50);  // the 60 of before is not written after it
  CHECK(r.on_disk(0) == Offset(20));
  r.journal->note(JournalRig::key(0), Offset(25));
  r.pass(50);
  CHECK(r.on_disk(0) == Offset(25));
  r.files.crash();
  r.open();
  CHECK(r.journal->known(JournalRig::key(0))->durable_end == Offset(25));
  // The checkpoint file may still say more.
  CHECK(r.journal->known(JournalRig::key(0))->recovery_cap == Offset(20));
}

TEST_CASE("a log start is on disk on return, moves up alone, and goes back with a truncation", "[journal]") {
  JournalRig r;
  CHECK_FALSE(r.journal->known(JournalRig::key(0)));
  r.journal->note(JournalRig::key(0), Offset(50), Offset(3));
  r.pass(50);
  REQUIRE(r.journal->advance_start(JournalRig::key(0), Offset(30)).ok());
  REQUIRE(r.journal->advance_start(JournalRig::key(0), Offset(20)).ok());  // of one that came late
  r.files.crash();
  r.open();
  CHECK(r.journal->known(JournalRig::key(0))->log_start == Offset(30));
  CHECK(r.journal->known(JournalRig::key(0))->durable_end == Offset(50));
  REQUIRE(r.journal->lower(JournalRig::key(0), Offset(10)).ok());
  r.files.crash();
  r.open();
  CHECK(r.journal->known(JournalRig::key(0))->log_start == Offset(10));
  CHECK(r.journal->known(JournalRig::key(0))->durable_end == Offset(10));
}

TEST_CASE("a log start that found no room is not taken for recorded", "[journal]") {
  JournalRig r;
  r.journal->note(JournalRig::key(0), Offset(50));
  r.pass(50);
  r.files.capacity = 0;
  CHECK(r.journal->advance_start(JournalRig::key(0), Offset(5)).code() == ErrorCode::no_space);
  CHECK(r.journal->advance_start(JournalRig::key(0), Offset(5)).code() == ErrorCode::no_space);
  r.files.capacity = UINT64_MAX;
  REQUIRE(r.journal->advance_start(JournalRig::key(0), Offset(5)).ok());
  r.files.crash();
  r.open();
  CHECK(r.journal->known(JournalRig::key(0))->log_start == Offset(5));
}

TEST_CASE("a cap of the recovery point goes when the checkpoint file was written after it", "[journal]") {
  JournalRig r;
  REQUIRE(r.journal->lower(JournalRig::key(0), Offset(5)).ok());
  const uint64_t gathered = r.journal->serial();
  REQUIRE(r.journal->lower(JournalRig::key(1), Offset(7)).ok());  // while the checkpoint is being written
  REQUIRE(r.journal->checkpointed(gathered).ok());
  r.files.crash();
  r.open();
  CHECK_FALSE(r.journal->known(JournalRig::key(0))->recovery_cap);
  CHECK(r.journal->known(JournalRig::key(1))->recovery_cap == Offset(7));
  // Those found at the start go with the first checkpoint.
  REQUIRE(r.journal->checkpointed(r.journal->serial()).ok());
  r.files.crash();
  r.open();
  CHECK_FALSE(r.journal->known(JournalRig::key(1))->recovery_cap);
}

TEST_CASE("a second truncation further up leaves the cap of the first", "[journal]") {
  JournalRig r;
  REQUIRE(r.journal->lower(JournalRig::key(0), Offset(5)).ok());
  REQUIRE(r.journal->lower(JournalRig::key(0), Offset(9)).ok());
  r.files.crash();
  r.open();
  CHECK(r.journal->known(JournalRig::key(0))->recovery_cap == Offset(5));
  CHECK(r.journal->known(JournalRig::key(0))->durable_end == Offset(9));
}

TEST_CASE("a failed sync of the commit file fences the directory, once", "[journal]") {
  JournalRig r;
  r.journal->note(JournalRig::key(0), Offset(1));
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  r.pass(50);
  CHECK(r.failures == std::vector<ErrorCode>{ErrorCode::io_error});
  r.files.fault = nullptr;
  const uint64_t syncs = r.files.syncs;
  r.journal->note(JournalRig::key(0), Offset(2));
  r.pass(2'000);
  CHECK(r.files.syncs == syncs);  // never retried
  CHECK(r.failures.size() == 1);
  CHECK(r.journal->flush().code() == ErrorCode::kafka_storage_error);
  CHECK(r.journal->lower(JournalRig::key(0), Offset(0)).code() == ErrorCode::kafka_storage_error);
}

TEST_CASE("a full disk fences nothing: the newest ends are written when there is room", "[journal]") {
  JournalRig r;
  r.files.capacity = r.files.used() + 20;  // not even a frame
  r.journal->note(JournalRig::key(0), Offset(1));
  r.journal->note(JournalRig::key(1), Offset(8));
  r.pass(50);
  CHECK(r.failures.empty());
  CHECK_FALSE(r.on_disk(0));
  CHECK(r.journal->lower(JournalRig::key(5), Offset(3)).code() == ErrorCode::no_space);
  r.journal->note(JournalRig::key(0), Offset(2));
  r.pass(50);
  r.files.capacity = UINT64_MAX;
  r.pass(5'000);
  CHECK(r.on_disk(0) == Offset(2));
  CHECK(r.on_disk(1) == Offset(8));
  CHECK(r.failures.empty());
}

TEST_CASE("deleted topics are forgotten; the file does not grow without end", "[journal]") {
  JournalRig r;
  for (int i = 0; i < 3; ++i) r.journal->note(JournalRig::key(i), Offset(1));
  REQUIRE(r.journal->flush().ok());
  r.journal->forget(JournalRig::key(1));
  CHECK_FALSE(r.journal->known(JournalRig::key(1)));
  uint64_t largest = 0;
  for (int i = 0; i < 150'000; ++i) {
    r.journal->note(JournalRig::key(0), Offset(i));
    REQUIRE(r.journal->flush().ok());
    largest = std::max(largest, r.journal->size_bytes());
  }
  CHECK(largest < (5u << 20));
  CHECK(r.journal->size_bytes() < largest);  // was rewritten
  CHECK_FALSE(r.on_disk(1));
  CHECK(r.on_disk(2) == Offset(1));
}

TEST_CASE("durable ends of topics that are gone are pruned at start", "[journal]") {
  JournalRig r;
  r.journal->note(JournalRig::key(0), Offset(4));
  r.journal->note(JournalRig::key(1), Offset(4));
  REQUIRE(r.journal->close().ok());
  r.open();
  r.journal->keep_only([](const log::CommitKey& k) { return k.partition == PartitionId(1); });
  CHECK_FALSE(r.journal->known(JournalRig::key(0)));
  CHECK(r.journal->known(JournalRig::key(1)));
}

TEST_CASE("after close nothing is written", "[journal]") {
  JournalRig r;
  r.journal->note(JournalRig::key(0), Offset(4));
  REQUIRE(r.journal->close().ok());
  CHECK(r.on_disk(0) == Offset(4));
  r.journal->note(JournalRig::key(0), Offset(5));
  const size_t runs = r.disk.runs;
  r.pass(1'000);
  CHECK(r.disk.runs == runs);
  CHECK(r.on_disk(0) == Offset(4));
}

// --- with a partition ---

struct DurableRig : Rig {
  std::shared_ptr<CommitJournal> journal;

  DurableRig() { open_all(); }
  log::OpenParams params() {
    CommitJournal::Environment environment;
    environment.disk = &disk;
    environment.loop = &loop;
    auto opened = CommitJournal::open(environment, kHome);
    REQUIRE(opened.ok());
    journal = *opened;
    log::OpenParams p;
    p.directory = kLogDirectory;
    p.config = config.log;
    p.now = clock.now();
    p.create = true;
    if (const auto known = journal->known(kJournalKey)) {
      p.durable_end = known->durable_end;
      if (known->recovery_cap) p.recovery_point = std::min(p.recovery_point, *known->recovery_cap);
    }
    return p;
  }
  void open_all() {
    auto opened = log::Log::open(disk, params(), Trace());
    REQUIRE(opened.ok());
    Partition::Environment environment;
    environment.disk = &disk;
    environment.clock = &clock;
    environment.self = BrokerId(1);
    environment.journal = journal;
    partition =
        std::make_shared<Partition>(environment, PartitionName{"orders", PartitionId(0)}, Uuid{}, kHome,
                                    std::make_shared<const PartitionConfig>(config), std::move(*opened));
  }
  /// What opening would say now.
  Status reopen() {
    auto opened = log::Log::open(disk, params(), Trace());
    return opened.ok() ? Status() : Status(opened.error());
  }
  void settle_all() {
    loop.settle();
    loop.advance(60);
    run_all();
    loop.advance(60);
    run_all();
  }
  std::string log_file() const { return kLogDirectory + "/00000000000000000000.log"; }
};

TEST_CASE("durable ends reach the commit file without delaying a reply", "[journal]") {
  DurableRig r;
  r.lead();
  (void)r.append({.count = 3});
  CHECK_FALSE(r.await_commit(Offset(3), 1));
  r.run_disk();
  CHECK(r.waiter->commits == Told{{1, ErrorCode::none}});
  r.settle_all();
  r.files.crash();
  (void)r.params();
  REQUIRE(r.journal->known(kJournalKey));
  CHECK(r.journal->known(kJournalKey)->durable_end == Offset(3));
}

TEST_CASE("in mode replicated the recorded end is what was synced", "[journal]") {
  DurableRig r;
  r.config.fsync = false;
  r.lead();
  r.configure();
  (void)r.append();
  r.settle_all();
  CHECK(r.high_watermark() == Offset(1));
  (void)r.params();
  CHECK(r.journal->known(kJournalKey)->durable_end == Offset(0));
}

TEST_CASE("damage below the recorded end keeps the log closed and is named; above it is cut", "[journal]") {
  DurableRig r;
  r.lead();
  (void)r.append({.value_bytes = 100});
  (void)r.append({.value_bytes = 100});
  r.settle_all();
  const size_t synced = r.files.content(r.log_file()).size();
  (void)r.append({.value_bytes = 100});  // in the cache only
  r.files.settle();                      // a kill: the kernel writes it later
  r.partition.reset();
  const Bytes before = r.files.content(r.log_file());
  SECTION("below: a flipped bit") {
    r.files.flip_bit(r.log_file(), synced - 5, 2);
    const Bytes flipped = r.files.content(r.log_file());
    const Status status = r.reopen();
    CHECK(status.code() == ErrorCode::corrupt);
    INFO(status.error().message);
    CHECK(status.error().message.find(r.log_file()) != std::string::npos);
    CHECK(status.error().message.find("position " + std::to_string(synced / 2)) != std::string::npos);
    CHECK(r.files.content(r.log_file()) == flipped);  // never truncated
  }
  SECTION("below: the file is shorter") {
    auto file = r.files.open(r.log_file(), io::OpenMode::write);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(synced / 2).ok());
    CHECK(r.reopen().code() == ErrorCode::corrupt);
    CHECK(r.files.content(r.log_file()).size() == synced / 2);
  }
  SECTION("below: the segment is missing") {
    r.files.erase(r.log_file());
    CHECK(r.reopen().code() == ErrorCode::corrupt);
  }
  SECTION("below: the directory is missing") {
    for (const std::string& path : r.files.paths()) {
      if (path.starts_with(kLogDirectory)) r.files.erase(path);
    }
    r.files.erase(kLogDirectory);
    CHECK(r.reopen().code() == ErrorCode::corrupt);
  }
  SECTION("above: a flipped bit") {
    r.files.flip_bit(r.log_file(), before.size() - 5, 2);
    REQUIRE(r.reopen().ok());
    CHECK(r.files.content(r.log_file()).size() == synced);
  }
}

TEST_CASE("a truncation is recorded before it is done, and appends go on", "[journal]") {
  DurableRig r;
  r.lead();
  for (int i = 0; i < 4; ++i) (void)r.append({.count = 5});
  r.settle_all();
  r.loop.in_tick([&] { r.partition->checkpoint(r.loop); });
  r.settle_all();
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::not_leader_or_follower); });
  SECTION("whole") {
    REQUIRE(r.partition->truncate_to(Offset(12), r.clock.now()).ok());  // inside the third batch
    CHECK(r.partition->usage().offsets.log_end == Offset(10));
    r.files.crash();  // at once
    r.partition.reset();
    (void)r.params();
    CHECK(r.journal->known(kJournalKey)->durable_end <= Offset(10));
    CHECK(r.journal->known(kJournalKey)->recovery_cap <= Offset(10));
    CHECK(r.reopen().ok());
  }
  SECTION("cut off before the log was touched") {
    r.files.fault = [](test::DiskOp op, const std::string& path) {
      return op == test::DiskOp::truncate && path.ends_with(".log") ? ErrorCode::io_error : ErrorCode::none;
    };
    CHECK_FALSE(r.partition->truncate_to(Offset(12), r.clock.now()).ok());
    r.files.fault = nullptr;
    r.files.crash();
    r.partition.reset();
    CHECK(r.reopen().ok());
  }
  SECTION("nothing is cut when the commit file cannot be written") {
    const Bytes before = r.files.content(r.log_file());
    r.files.capacity = r.files.used();
    CHECK(r.partition->truncate_to(Offset(12), r.clock.now()).code() == ErrorCode::no_space);
    CHECK(r.files.content(r.log_file()) == before);
    CHECK(r.partition->usage().offsets.log_end == Offset(20));
  }
  SECTION("a fresh start") {
    REQUIRE(r.partition->restart_at(Offset(100), r.clock.now()).ok());
    REQUIRE(r.partition->lead({LeaderEpoch(6), {BrokerId(1)}, 1}).ok());
    CHECK(r.append().base_offset == Offset(100));
  }
}

}  // namespace
}  // namespace millrace::partition
