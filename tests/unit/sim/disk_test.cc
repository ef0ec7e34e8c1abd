#include "sim/disk.h"

#include <algorithm>

#include "support/catch.h"

namespace millrace::sim {
namespace {

constexpr uint64_t kSeeds = 200;

struct Machine {
  explicit Machine(uint64_t seed) : disk(scheduler, Dice(seed, "disk")) { disk.add_device("/d"); }

  std::shared_ptr<io::File> open(const std::string& path, io::OpenMode mode = io::OpenMode::create) {
    Result<std::shared_ptr<io::File>> file = disk.open(path, mode);
    REQUIRE(file.ok());
    return *file;
  }

  Scheduler scheduler;
  SimDisk disk;
};

TEST_CASE("what was synced, name and bytes, survives every power cut") {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine m(seed);
    const auto file = m.open("/d/a");
    REQUIRE(file->write_at(0, Bytes(700, 1)).ok());
    REQUIRE(file->sync().ok());
    REQUIRE(m.disk.sync_directory("/d").ok());
    REQUIRE(file->write_at(700, Bytes(9000, 2)).ok());
    m.disk.power_cycle();
    const Bytes* left = m.disk.content("/d/a");
    REQUIRE(left != nullptr);
    REQUIRE(left->size() >= 700);
    CHECK(std::all_of(left->begin(), left->begin() + 700, [](uint8_t b) { return b == 1; }));
    CHECK(file->size().code() == ErrorCode::io_error);  // of an earlier life
  }
}

TEST_CASE("what was not synced is lost, kept, torn or garbage, and each of them happens") {
  bool lost = false, whole = false, part = false, garbage = false;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine m(seed);
    const auto file = m.open("/d/a");
    REQUIRE(m.disk.sync_directory("/d").ok());
    REQUIRE(file->write_at(0, Bytes(4096, 7)).ok());
    m.disk.power_cycle();
    const Bytes& left = *m.disk.content("/d/a");
    const auto good = static_cast<size_t>(std::count(left.begin(), left.end(), uint8_t{7}));
    lost = lost || left.empty();
    whole = whole || good == 4096;
    part = part || (good > 0 && good < 4096 && good % 512 == 0);
    garbage = garbage || (left.size() == 4096 && good < 512);
  }
  CHECK(lost);
  CHECK(whole);
  CHECK(part);
  CHECK(garbage);
}

TEST_CASE("names need a sync of their directory, and roll back as a prefix") {
  bool neither = false, first_only = false, both = false;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine m(seed);
    (void)m.open("/d/a");
    (void)m.open("/d/b");
    m.disk.power_cycle();
    const bool a = m.disk.exists("/d/a"), b = m.disk.exists("/d/b");
    CHECK((a || !b));
    neither = neither || !a;
    first_only = first_only || (a && !b);
    both = both || b;
  }
  CHECK(neither);
  CHECK(first_only);
  CHECK(both);
}

TEST_CASE("a process that dies loses nothing") {
  Machine m(1);
  REQUIRE(m.open("/d/a")->write_at(0, Bytes(10, 3)).ok());
  m.disk.kill_process();
  REQUIRE(m.disk.content("/d/a") != nullptr);
  CHECK(m.disk.content("/d/a")->size() == 10);
}

TEST_CASE("after a failed sync the pages look clean and are not there") {
  bool gone = false;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine m(seed);
    const auto file = m.open("/d/a");
    REQUIRE(m.disk.sync_directory("/d").ok());
    REQUIRE(file->write_at(0, Bytes(100, 5)).ok());
    m.disk.device(0).syncs_until_error = 1;
    CHECK(file->sync().code() == ErrorCode::io_error);
    CHECK(file->sync().code() == ErrorCode::io_error);  // as the real one: it does not try again
    CHECK(m.open("/d/a")->sync().ok());
    CHECK(*m.disk.content("/d/a") == Bytes(100, 5));
    m.disk.power_cycle();
    gone = gone || *m.disk.content("/d/a") != Bytes(100, 5);
  }
  CHECK(gone);
}

TEST_CASE("a full disk takes what fits") {
  Machine m(1);
  m.disk.device(0).capacity = 60;
  const auto file = m.open("/d/a");
  CHECK(file->write_at(0, Bytes(100, 5)).code() == ErrorCode::no_space);
  CHECK(m.disk.content("/d/a")->size() == 60);
  REQUIRE(m.disk.remove("/d/a").ok());
  CHECK(*m.disk.free_bytes("/d") == 60);
}

}  // namespace
}  // namespace millrace::sim
