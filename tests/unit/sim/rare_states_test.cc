#include "sim/rare_states.h"

#include <set>

#include "sim/disk.h"
#include "sim/knobs.h"
#include "sim/node_lines.h"
#include "sim/state_watch.h"
#include "support/catch.h"

namespace millrace::sim {
namespace {

using Ids = std::vector<BrokerId>;

struct Watched {
  World world{1, Knobs()};
  meta::Image image;

  uint64_t met(size_t state) const { return world.met[state]; }
  uint64_t met_at_all() const {
    uint64_t all = 0;
    for (const uint64_t n : world.met) all += n;
    return all;
  }
  void change(const meta::Partition& before, const meta::Partition& now, int32_t min_insync = 2) {
    note_partition_change(world, image, image, before, now, min_insync);
  }
};

Ids ids(std::initializer_list<int32_t> numbers) {
  Ids out;
  for (const int32_t n : numbers) out.push_back(BrokerId(n));
  return out;
}

meta::Partition partition_of(Ids replicas, Ids isr, int32_t leader, Ids elr = {}) {
  meta::Partition p;
  p.replicas = std::move(replicas);
  p.isr = std::move(isr);
  p.elr = std::move(elr);
  p.leader = BrokerId(leader);
  return p;
}

meta::Image image_with(int32_t id, int64_t epoch, bool fenced) {
  meta::Image image;
  meta::Broker b;
  b.id = BrokerId(id);
  b.epoch = BrokerEpoch(epoch);
  b.fenced = fenced;
  REQUIRE(image.apply(meta::RegisterBrokerRecord{b}).ok());
  return image;
}

TEST_CASE("rare states have names of their own and say what they are") {
  std::set<std::string_view> names;
  for (const RareState& state : kRareStates) {
    INFO(state.name);
    CHECK(names.insert(state.name).second);
    CHECK(state.meaning.size() > 10);
  }
  CHECK(names.size() >= 40);
  CHECK(kRareStates[rare("elr-election")].name == "elr-election");
}

TEST_CASE("a leader from outside the ISR is an ELR election only if it was eligible") {
  Watched w;
  const meta::Partition before = partition_of(ids({1, 2, 3}), {}, -1, ids({2}));
  w.change(before, partition_of(ids({1, 2, 3}), ids({2}), 2));
  CHECK(w.met(rare("elr-election")) == 1);
  CHECK(w.met(rare("leader-again")) == 1);
  w.change(before, partition_of(ids({1, 2, 3}), ids({3}), 3));
  CHECK(w.met(rare("elr-election")) == 1);
}

TEST_CASE("what an ISR loses and gets back is noted") {
  Watched w;
  const meta::Partition whole = partition_of(ids({1, 2, 3}), ids({1, 2, 3}), 1);
  const meta::Partition two = partition_of(ids({1, 2, 3}), ids({1, 2}), 1);
  const meta::Partition one = partition_of(ids({1, 2, 3}), ids({1}), 1, ids({2}));
  w.change(whole, two);
  CHECK(w.met_at_all() == 0);
  w.change(two, one);
  CHECK(w.met(rare("isr-of-one")) == 1);
  CHECK(w.met(rare("below-min-isr")) == 1);
  CHECK(w.met(rare("elr-filled")) == 1);
  w.change(one, two);
  CHECK(w.met(rare("isr-whole-again")) == 0);
  w.change(one, whole);
  CHECK(w.met(rare("isr-whole-again")) == 1);
  w.change(one, partition_of(ids({1, 2, 3}), {}, -1, ids({1, 2})));
  CHECK(w.met(rare("no-leader")) == 1);
}

TEST_CASE("a reassignment ends as done or as called off") {
  Watched w;
  meta::Partition moving = partition_of(ids({2, 3, 1}), ids({1}), 1);
  moving.adding_replicas = ids({2, 3});
  moving.removing_replicas = ids({1});
  w.change(moving, partition_of(ids({2, 3}), ids({2, 3}), 2));
  CHECK(w.met(rare("move-done")) == 1);
  CHECK(w.met(rare("move-called-off")) == 0);
  w.change(moving, partition_of(ids({1}), ids({1}), 1));
  CHECK(w.met(rare("move-called-off")) == 1);
  // Nobody knows brokers 2 and 3: they are not alive.
  w.change(partition_of(ids({1}), ids({1}), 1), moving);
  CHECK(w.met(rare("move-newcomer-down")) == 1);
}

TEST_CASE("a broker that is fenced and comes back is told from one that registers again") {
  Watched w;
  std::set<int32_t> fenced;
  const meta::Image fresh = image_with(1, 7, true), serving = image_with(1, 7, false),
                    next = image_with(1, 8, true);
  note_broker_changes(w.world, fresh, serving, fenced);  // the first time is no return
  CHECK(w.met_at_all() == 0);
  note_broker_changes(w.world, serving, fresh, fenced);
  note_broker_changes(w.world, fresh, serving, fenced);
  CHECK(w.met(rare("fenced-returns")) == 1);
  note_broker_changes(w.world, serving, next, fenced);
  CHECK(w.met(rare("registered-unfenced")) == 1);
  note_broker_changes(w.world, next, image_with(1, 8, false), fenced);
  CHECK(w.met(rare("fenced-returns")) == 1);
}

TEST_CASE("lines of nodes are read for what they speak of, and told only if asked") {
  Watched w;
  std::string told;
  w.world.narrate = [&told](const std::string& line) { told += line; };
  NodeLines silent(w.world, "n1", false);
  silent.write(TraceLevel::info, "partition",
               "t-0: cut from 9, in epoch 3, to 5, as the leader of epoch 4 has it");
  CHECK(w.met(rare("follower-cut")) == 1);
  CHECK(w.met(rare("follower-cut-epochs")) == 0);
  silent.write(TraceLevel::info, "partition",
               "t-0: cut from 9, in epoch 9, to 5, as the leader of epoch 11 has it");
  CHECK(w.met(rare("follower-cut-epochs")) == 1);
  silent.write(TraceLevel::info, "broker", "node 2 leads the metadata log");
  CHECK(w.met_at_all() == 3);
  CHECK(told.empty());
  NodeLines(w.world, "n1", true).write(TraceLevel::info, "broker", "unfenced");
  CHECK(told == "  n1 broker: unfenced");
}

TEST_CASE("faults that take acknowledged records from a disk are drawn only where others have them") {
  size_t emptied = 0, dead = 0;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    const Knobs k = draw_knobs(seed);
    INFO("seed " << seed);
    if (!k.fsync) CHECK_FALSE((k.faults.power || k.faults.disk_error || k.faults.dead_disk));
    if (k.faults.empty_disk) {
      ++emptied;
      CHECK((k.fsync && k.nodes >= 3 && k.replication_factor >= 2 && k.min_insync >= 2));
    }
    if (k.faults.dead_disk) ++dead;
    CHECK(k.min_insync <= k.replication_factor);
    CHECK(k.replication_factor <= k.nodes);
    CHECK(k.heartbeat_ms < k.session_timeout_ms);
    CHECK(describe(k) == describe(draw_knobs(seed)));
  }
  CHECK(emptied > 20);
  CHECK(dead > 20);
}

TEST_CASE("devices that are replaced are empty and work") {
  Scheduler scheduler;
  SimDisk disk(scheduler, Dice(1, "disk"));
  disk.add_device("/n/d0");
  disk.add_device("/n/d1");
  for (const char* path : {"/n/d0/a", "/n/d1/b"}) {
    const auto file = disk.open(path, io::OpenMode::create_new);
    REQUIRE(file.ok());
    REQUIRE((*file)->write_at(0, {ByteView(Bytes(100, 7))}).ok());
  }
  disk.device(0).dead = true;
  disk.power_cycle();
  disk.replace_all();
  for (const char* root : {"/n/d0", "/n/d1"}) {
    CHECK(disk.files_under(root).empty());
    CHECK(disk.exists(root));
  }
  CHECK(disk.device(0).used == 0);
  const auto again = disk.open("/n/d0/a", io::OpenMode::create_new);
  REQUIRE(again.ok());
  CHECK((*again)->write_at(0, {ByteView(Bytes(10, 7))}).ok());
  CHECK((*again)->sync().ok());
}

}  // namespace
}  // namespace millrace::sim
