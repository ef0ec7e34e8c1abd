#include "broker/partition_host.h"

#include "log/checkpoints.h"
#include "log/commit_file.h"

#include "log/partition_metadata.h"
#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"
#include "support/partition_rig.h"

namespace millrace::broker {
namespace {

const std::vector<std::string> kDirs{"/a", "/b"};

struct HostRig {
  test::ManualClock clock;
  test::SeededRandom random;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  std::unique_ptr<PartitionHost> host;
  Uuid topic = random.uuid();
  Uuid cluster = random.uuid();

  Status open(std::vector<std::string> dirs = kDirs) {
    host = nullptr;  // its locks go first
    host = std::make_unique<PartitionHost>(files, clock, random, Trace(), nullptr);
    return host->open_directories({std::move(dirs), cluster.to_string(), BrokerId(1)});
  }
  PartitionHost::Spec spec(int32_t partition, bool existing) const {
    auto config = std::make_shared<const partition::PartitionConfig>();
    return {{"t", PartitionId(partition)}, topic, config, {LeaderEpoch(1), {BrokerId(1)}, 1}, existing};
  }
  Result<PartitionRef> place(int32_t partition, bool existing = false) {
    const Result<PartitionHost::OpenPlan> plan = host->plan(spec(partition, existing));
    if (!plan.ok()) return plan.error();
    return host->open(*plan);
  }
  /// Four partitions, two in each directory; closed again. The ids as they were registered.
  std::vector<Uuid> populate() {
    REQUIRE(open().ok());
    for (int32_t i = 0; i < 4; ++i) {
      const Result<PartitionRef> p = place(i);
      REQUIRE(p.ok());
      // Only what was written has a directory.
      Bytes bytes = partition::rig::batch();
      loop.in_tick([&] { REQUIRE((*p)->append(bytes, true, loop, clock.now()).ok()); });
      loop.settle();
      (*p)->stop(ErrorCode::not_leader_or_follower);
      REQUIRE((*p)->close().ok());
    }
    return host->ids_to_register();
  }
  void fail_reads_below(const std::string& directory) {
    files.fault = [directory](test::DiskOp op, const std::string& path) {
      return path.starts_with(directory) && op != test::DiskOp::make_directories ? ErrorCode::io_error
                                                                                 : ErrorCode::none;
    };
  }
};

TEST_CASE("a directory that cannot be read is offline, the other serves", "[broker]") {
  HostRig r;
  const std::vector<Uuid> ids = r.populate();
  REQUIRE(ids.size() == 2);
  r.fail_reads_below("/b");
  REQUIRE(r.open().ok());
  REQUIRE(r.host->begin_serving().ok());
  CHECK_FALSE(r.host->states()[0]->failed());
  CHECK(r.host->states()[1]->failed());
  r.host->expect(ids);
  // What lies there is not begun anew next door.
  int served = 0;
  for (int32_t i = 0; i < 4; ++i) {
    const Result<PartitionRef> p = r.place(i, true);
    if (p.ok()) {
      ++served;
    } else {
      CHECK(p.code() == ErrorCode::kafka_storage_error);
      CHECK(p.error().message.find("/b") != std::string::npos);
    }
  }
  CHECK(served == 2);
  // Asked again later it is the same, and the directory's id stays registered.
  CHECK(r.place(1, false).code() == r.place(1, true).code());
  CHECK(r.host->ids_to_register() == std::vector<Uuid>{ids[0], ids[1]});
  // A new partition finds a place.
  const Result<PartitionRef> fresh = r.place(4);
  REQUIRE(fresh.ok());
  CHECK((*fresh)->directory() == "/a");
}

TEST_CASE("without the metadata log's directory nothing starts, and it says so", "[broker]") {
  HostRig r;
  (void)r.populate();
  r.fail_reads_below("/a");
  const Status opened = r.open();
  CHECK(opened.code() == ErrorCode::io_error);
  CHECK(opened.error().message.find("/a holds the metadata log") != std::string::npos);
}

TEST_CASE("an empty disk in the place of a full one: its partitions are missed, not empty", "[broker]") {
  HostRig r;
  const std::vector<Uuid> ids = r.populate();
  r.host = nullptr;
  REQUIRE(r.files.remove_tree("/b").ok());
  REQUIRE(r.open().ok());
  r.host->expect(ids);
  int missed = 0;
  for (int32_t i = 0; i < 4; ++i) missed += r.place(i, true).ok() ? 0 : 1;
  CHECK(missed == 2);
  // For as long as they are missed the old id is remembered.
  std::vector<Uuid> registered = r.host->ids_to_register();
  REQUIRE(registered.size() == 3);
  // What was known of the metadata was older: since then the cluster counts on the empty one.
  registered.pop_back();
  r.host->expect(registered);
  CHECK(r.host->ids_to_register() == registered);
  for (int32_t i = 0; i < 4; ++i) CHECK(r.place(i, false).ok());
}

TEST_CASE("a damaged partition is copied anew once others have it, and what was there is kept", "[broker]") {
  HostRig r;
  r.populate();
  REQUIRE(r.open().ok());
  PartitionHost::Spec spec = r.spec(0, false);
  const Result<PartitionHost::OpenPlan> as_it_is = r.host->plan(spec);
  REQUIRE(as_it_is.ok());
  CHECK(as_it_is->stale.empty());
  CHECK_FALSE(as_it_is->create);
  const std::string path = as_it_is->path;

  r.host->found_damaged({r.topic, PartitionId(0)});
  // Nobody else vouches for it: it stays what it is.
  CHECK_FALSE(r.host->plan(spec)->create);
  spec.expendable = true;
  const Result<PartitionHost::OpenPlan> anew = r.host->plan(spec);
  REQUIRE(anew.ok());
  CHECK(anew->create);
  CHECK(anew->stale == std::vector<std::string>{path});
  const Result<PartitionRef> opened = r.host->open(*anew);
  REQUIRE(opened.ok());
  CHECK((*opened)->usage().offsets.log_end == Offset(0));
  const std::vector<std::string> files = r.files.paths();
  CHECK(std::any_of(files.begin(), files.end(), [&](const std::string& f) {
    return f.starts_with(path + ".") && f.find(".stray/") != std::string::npos;
  }));
  CHECK(std::none_of(files.begin(), files.end(),
                     [&](const std::string& f) { return f.starts_with(path + "/"); }));
}

TEST_CASE("a log that ends before what was committed is told to the controller", "[broker]") {
  HostRig r;
  r.populate();  // one record each
  REQUIRE(r.open().ok());
  const auto open_with = [&](int32_t partition, int64_t committed, bool clean) {
    Result<PartitionHost::OpenPlan> plan = r.host->plan(r.spec(partition, false));
    REQUIRE(plan.ok());
    plan->high_watermark = Offset(committed);  // as the checkpoint had it
    plan->clean = clean;
    const Result<PartitionRef> opened = r.host->open(*plan);
    REQUIRE(opened.ok());
    r.host->opened(*plan, **opened);
  };
  open_with(0, 1, false);
  CHECK(r.host->unsynced().empty());
  open_with(1, 2, true);
  CHECK(r.host->unsynced().empty());
  open_with(2, 2, false);
  CHECK(r.host->unsynced() == std::set<log::CommitKey>{{r.topic, PartitionId(2)}});
}

TEST_CASE("the checkpoint of a partition that does not open answers the cap of its recovery point",
          "[broker]") {
  HostRig r;
  const std::vector<Uuid> ids = r.populate();
  REQUIRE(r.files.has("/a/t-0/00000000000000000000.log"));
  const log::TopicPartition key{"t", PartitionId(0)};
  r.files.put("/a/recovery-point-offset-checkpoint", to_bytes(log::encode_checkpoint({{key, Offset(26)}})));
  r.files.put("/a/topic-id-checkpoint", to_bytes(log::encode_topic_ids({{key, r.topic}})));
  const std::pair<log::CommitKey, Offset> cap{{r.topic, PartitionId(0)}, Offset(23)};
  r.files.put("/a/commit-file", log::CommitFile::encode_caps({&cap, 1}));
  REQUIRE(r.open().ok());
  r.host->expect(ids);
  REQUIRE(r.host->begin_serving().ok());
  REQUIRE(r.host->write_checkpoints({}).ok());
  CHECK(r.files.content("/a/recovery-point-offset-checkpoint") ==
        to_bytes(log::encode_checkpoint({{key, Offset(23)}})));
}

TEST_CASE("new partitions go where there is room", "[broker]") {
  HostRig r;
  REQUIRE(r.open().ok());
  CHECK(r.host->may_place().ok());
  (void)r.host->states()[0]->note_room(1, 1000, 100);
  for (int32_t i = 0; i < 3; ++i) {
    const Result<PartitionRef> p = r.place(i);
    REQUIRE(p.ok());
    CHECK((*p)->directory() == "/b");
  }
  CHECK(r.host->may_place().ok());
  (void)r.host->states()[1]->note_room(2, 1000, 100);
  const Status full = r.host->may_place();
  CHECK(full.code() == ErrorCode::kafka_storage_error);
  CHECK(full.error().message.find("2 bytes free") != std::string::npos);
}

TEST_CASE("a file belongs to the directory that holds it", "[broker]") {
  HostRig r;
  REQUIRE(r.open({"/a", "/ab"}).ok());
  CHECK(r.host->state_of("/a/t-0/0.log") == r.host->states()[0]);
  CHECK(r.host->state_of("/ab/t-0/0.log") == r.host->states()[1]);
  CHECK(r.host->state_of("/ab") == r.host->states()[1]);
  CHECK(r.host->state_of("/abc/x") == nullptr);
}

TEST_CASE("a partition that nobody wrote to leaves nothing on the disk", "[broker]") {
  HostRig r;
  REQUIRE(r.open().ok());
  const std::vector<std::string> before = r.files.paths();
  const Result<PartitionRef> p = r.place(0);
  REQUIRE(p.ok());
  CHECK(r.files.paths() == before);
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  Bytes bytes = partition::rig::batch();
  r.loop.in_tick([&] { CHECK_FALSE((*p)->append(bytes, true, r.loop, r.clock.now()).ok()); });
  r.files.fault = nullptr;
  Bytes again = partition::rig::batch();
  r.loop.in_tick([&] { CHECK((*p)->append(again, true, r.loop, r.clock.now()).ok()); });
}

TEST_CASE("two directories of one name do not keep the broker from starting", "[broker]") {
  HostRig r;
  const std::vector<Uuid> ids = r.populate();
  const Uuid older = r.random.uuid();
  const std::string log = "/00000000000000000000.log";
  const auto copy_to_b = [&](std::optional<Uuid> id) {
    // t-0 lies in /a.
    REQUIRE(r.files.has("/a/t-0" + log));
    REQUIRE(r.files.make_directories("/b/t-0").ok());
    r.files.put("/b/t-0" + log, r.files.content("/a/t-0" + log));
    if (id) REQUIRE(log::write_partition_metadata(r.files, "/b/t-0", *id).ok());
  };
  const auto start = [&] {
    REQUIRE(r.open().ok());
    r.host->expect(ids);
    REQUIRE(r.host->begin_serving().ok());
    for (int32_t i = 1; i < 4; ++i) CHECK(r.place(i, true).ok());
    return r.host->plan(r.spec(0, true));
  };
  SECTION("one does not say whose it is, the other does") {
    copy_to_b(std::nullopt);
    const Result<PartitionHost::OpenPlan> plan = start();
    REQUIRE(plan.ok());
    CHECK(plan->path == "/a/t-0");
    CHECK(plan->stale == std::vector<std::string>{"/b/t-0"});
  }
  SECTION("one does not say whose it is, the other is an older topic's") {
    REQUIRE(r.files.remove("/a/t-0/partition.metadata").ok());
    copy_to_b(older);
    const Result<PartitionHost::OpenPlan> plan = start();
    REQUIRE(plan.ok());
    CHECK(plan->path == "/a/t-0");
    CHECK(plan->stale == std::vector<std::string>{"/b/t-0"});
  }
  SECTION("the first is torn, the other is an older topic's: both are moved away") {
    r.files.put("/a/t-0/partition.metadata", to_bytes("version: 0"));
    r.files.erase("/a/commit-file");
    copy_to_b(older);
    const Result<PartitionHost::OpenPlan> plan = start();
    REQUIRE(plan.ok());
    CHECK(plan->create);
    CHECK(plan->stale == std::vector<std::string>{"/a/t-0", "/b/t-0"});
    REQUIRE(r.host->open(*plan).ok());
    CHECK_FALSE(r.files.has("/b/t-0/partition.metadata"));
  }
  SECTION("both are this topic's, and one was begun where the disk then failed") {
    copy_to_b(r.topic);
    r.files.put("/b/t-0" + log, {});
    const Result<PartitionHost::OpenPlan> plan = start();
    REQUIRE(plan.ok());
    CHECK(plan->path == "/a/t-0");
    CHECK(plan->stale == std::vector<std::string>{"/b/t-0"});
  }
  SECTION("both are this topic's: this partition alone is offline") {
    copy_to_b(r.topic);
    const Result<PartitionHost::OpenPlan> plan = start();
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.code() == ErrorCode::corrupt);
    CHECK(plan.error().message.find("/a/t-0 and in /b/t-0") != std::string::npos);
    // Others have it and count on neither: both are put aside, and it is copied.
    PartitionHost::Spec spec = r.spec(0, true);
    spec.expendable = true;
    const Result<PartitionHost::OpenPlan> anew = r.host->plan(spec);
    REQUIRE(anew.ok());
    CHECK(anew->create);
    CHECK(anew->stale.size() == 2);
  }
}

}  // namespace
}  // namespace millrace::broker
