// Producers while a broker gives away what it leads.
#include "broker/hand_over.h"

#include "support/partition_rig.h"

namespace millrace::broker {
namespace {

struct HandOverRig : partition::rig::Rig {
  HandOver hand_over{loop, clock};
  int began = 0;    // leadership may move
  int went_on = 0;  // producers that waited

  HandOverRig() {
    open();
    lead_with({1, 2});
  }
  void lead_with(const std::vector<int>& isr) {
    partition::Partition::Leadership l{LeaderEpoch(5), {}, 2};
    for (const int i : isr) l.isr.emplace_back(i);
    REQUIRE(partition->lead(l).ok());
  }
  void begin() {
    loop.in_tick([&] { hand_over.begin({partition}, [this] { ++began; }); });
  }
  void ask() {
    CHECK_FALSE(partition->wake(loop, [this](const Status& open) { went_on += open.ok() ? 1 : 0; }));
  }
  void pass(int64_t ms) {
    clock.advance(ms);
    loop.settle();
  }
};

TEST_CASE("leadership moves at once where nothing waits for a commit", "[hand over]") {
  HandOverRig r;
  r.begin();
  CHECK(r.began == 1);
  r.ask();
  r.hand_over.on_published();  // of something else: it still leads
  r.loop.settle();
  CHECK(r.went_on == 0);
  r.partition->follow(LeaderEpoch(6), BrokerId(2));
  r.hand_over.on_published();
  r.loop.settle();
  CHECK(r.went_on == 1);
  CHECK(r.try_append().code() == ErrorCode::not_leader_or_follower);
}

TEST_CASE("what was appended is given a moment to be committed", "[hand over]") {
  HandOverRig r;
  (void)r.append();
  CHECK_FALSE(r.await_commit(Offset(1), 1));
  r.run_all();
  r.begin();
  r.pass(50);
  CHECK(r.began == 0);  // the other replica has not fetched it
  r.pass(60);
  CHECK(r.began == 1);
}

TEST_CASE("producers do not wait for a hand-over that takes too long, or that is over", "[hand over]") {
  HandOverRig r;
  r.begin();
  r.ask();
  r.pass(999);
  CHECK(r.went_on == 0);
  r.pass(1);
  CHECK(r.went_on == 1);
  CHECK(r.try_append().ok());

  HandOverRig over;
  over.begin();
  over.ask();
  over.hand_over.end();
  over.loop.settle();
  CHECK(over.went_on == 1);
}

}  // namespace
}  // namespace millrace::broker
