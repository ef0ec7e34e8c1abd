#include "broker/disk_watch.h"

#include "support/catch.h"
#include "support/deferred_disk.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"

namespace millrace::broker {
namespace {

struct WatchRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  test::DeferredDisk disk{files};
  DiskWatch::State state = std::make_shared<partition::DirectoryState>("/data");
  int64_t setting = 1000;
  std::vector<std::string> low;
  DiskWatch watch{{&loop, &disk, &clock, Trace()}};

  void start() {
    loop.in_tick([&] {
      watch.start({state}, {[this] { return setting; }, [this](const std::string& d) { low.push_back(d); }});
    });
  }
  void round() {
    loop.settle();
    while (disk.run_one()) loop.settle();
    loop.advance(DiskWatch::kRoundMs);
  }
};

TEST_CASE("the floor: a number, 5 % of a small disk, 1 GiB of a large one", "[broker]") {
  CHECK(free_bytes_floor(0, 1 << 20) == 0);
  CHECK(free_bytes_floor(123, 1 << 20) == 123);
  CHECK(free_bytes_floor(-1, 2000) == 100);
  CHECK(free_bytes_floor(-1, uint64_t{1} << 40) == uint64_t{1} << 30);
}

TEST_CASE("a disk that fills up is noticed, room is asked for again and again, and it comes back",
          "[broker]") {
  WatchRig r;
  r.files.capacity = 10'000;
  r.start();
  r.round();
  CHECK(r.state->serving());
  CHECK(r.state->free_bytes() == 10'000);
  CHECK(r.state->total_bytes() == 10'000);
  r.files.put("/data/x", Bytes(9'500));
  r.round();
  CHECK(r.state->full());
  CHECK(r.low == std::vector<std::string>{"/data"});
  for (int64_t ms = 0; ms < DiskWatch::kMakeRoomMs; ms += DiskWatch::kRoundMs) r.round();
  CHECK(r.low.size() == 2);
  r.files.erase("/data/x");
  r.round();
  CHECK(r.state->serving());
  // The floor may change while it runs.
  r.setting = 20'000;
  r.round();
  CHECK(r.state->full());
  r.setting = 0;
  r.round();
  CHECK(r.state->serving());
}

TEST_CASE("without a floor, a write that found no space asks for room once", "[broker]") {
  WatchRig r;
  r.files.capacity = 10'000;
  r.setting = 0;
  r.start();
  r.round();
  r.state->note_no_space();
  r.round();
  r.round();
  CHECK(r.low.size() == 1);
  CHECK(r.state->serving());
}

TEST_CASE("with plenty of room it is looked at once a second", "[broker]") {
  WatchRig r;
  r.start();
  r.round();
  REQUIRE(r.state->free_bytes() > uint64_t{1} << 40);
  const size_t runs = r.disk.runs;
  for (int64_t ms = 2 * DiskWatch::kRoundMs; ms < 1'000; ms += DiskWatch::kRoundMs) r.round();
  CHECK(r.disk.runs == runs);
  r.round();
  CHECK(r.disk.runs == runs + 1);
}

TEST_CASE("a failed directory is left alone, and a stopped watch asks nothing", "[broker]") {
  WatchRig r;
  r.files.capacity = 10;
  r.start();
  (void)r.state->fail(Error(ErrorCode::io_error, "gone"));
  r.round();
  CHECK(r.low.empty());
  CHECK(r.state->failed());
  r.round();
  r.watch.stop();
  r.round();
  const size_t runs = r.disk.runs;
  r.round();
  r.round();
  CHECK(r.disk.runs == runs);
}

}  // namespace
}  // namespace millrace::broker
