#include "broker/convergence.h"

#include "support/catch.h"
#include "support/manual_loop.h"

namespace millrace::broker {
namespace {

struct ConvergenceRig {
  struct Asked {
    BrokerId broker;
    LogIndex index;
    std::function<void(bool)> done;
  };
  test::ManualClock clock;
  std::vector<Asked> asked;
  int released = 0;
  Convergence convergence{clock, [this](BrokerId b, LogIndex index, int64_t, std::function<void(bool)> done) {
                            asked.push_back({b, index, std::move(done)});
                          }};

  void wait(int64_t index, const std::vector<BrokerId>& brokers) {
    convergence.when_published(LogIndex(index), brokers, [this] { ++released; });
  }
  void say(size_t which, bool published) { std::exchange(asked.at(which).done, nullptr)(published); }
};

const BrokerId kTwo(2);
const BrokerId kThree(3);

TEST_CASE("a change is told when the last of the brokers has it", "[broker]") {
  ConvergenceRig rig;
  rig.wait(7, {kTwo, kThree});
  REQUIRE(rig.asked.size() == 2);
  CHECK(rig.asked[0].broker == kTwo);
  CHECK(rig.asked[1].index == LogIndex(7));
  rig.say(0, true);
  CHECK(rig.released == 0);
  rig.say(1, true);
  CHECK(rig.released == 1);
}

TEST_CASE("who is known to have it is not asked again", "[broker]") {
  ConvergenceRig rig;
  rig.wait(7, {kTwo});
  rig.say(0, true);
  rig.wait(7, {kTwo});
  rig.wait(3, {kTwo});
  CHECK(rig.asked.size() == 1);
  CHECK(rig.released == 3);
  rig.wait(8, {kTwo});
  CHECK(rig.asked.size() == 2);
  CHECK(rig.released == 3);
}

TEST_CASE("without other brokers nobody is waited for", "[broker]") {
  ConvergenceRig rig;
  rig.wait(7, {});
  CHECK(rig.released == 1);
}

TEST_CASE("a broker that does not answer holds one change, not the next ones, until its excuse ends",
          "[broker]") {
  ConvergenceRig rig;
  rig.wait(7, {kTwo, kThree});
  rig.say(1, true);
  rig.say(0, false);
  CHECK(rig.released == 1);
  rig.wait(8, {kTwo, kThree});
  REQUIRE(rig.asked.size() == 3);
  CHECK(rig.asked[2].broker == kThree);
  rig.say(2, true);
  CHECK(rig.released == 2);
  rig.clock.advance(Convergence::kExcusedMs);
  rig.wait(9, {kTwo});
  REQUIRE(rig.asked.size() == 4);
  CHECK(rig.asked[3].broker == kTwo);
  rig.say(3, true);
  CHECK(rig.released == 3);
}

TEST_CASE("an answer may come after the machine has gone", "[broker]") {
  std::function<void(bool)> late;
  int released = 0;
  {
    const test::ManualClock clock;
    Convergence convergence(
        clock, [&](BrokerId, LogIndex, int64_t, std::function<void(bool)> done) { late = std::move(done); });
    convergence.when_published(LogIndex(1), {kTwo}, [&] { ++released; });
  }
  late(true);
  CHECK(released == 1);
}

}  // namespace
}  // namespace millrace::broker
