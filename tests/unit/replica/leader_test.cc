#include "replica/leader.h"

#include "support/catch.h"

namespace millrace::replica {

TEST_CASE("a single replica commits what it has synced") {
  Leader l(BrokerId(1), LeaderEpoch(3), {BrokerId(1)}, 1, {Offset(10), Offset(10)}, Offset(4));
  CHECK(l.high_watermark() == Offset(10));
  CHECK_FALSE(l.on_local({Offset(15), Offset(10)}));
  CHECK(l.high_watermark() == Offset(10));
  CHECK(l.on_local({Offset(15), Offset(12)}));
  CHECK(l.high_watermark() == Offset(12));
  CHECK(l.on_local({Offset(15), Offset(15)}));
  CHECK(l.high_watermark() == Offset(15));
  CHECK(l.local().log_end == Offset(15));
}

TEST_CASE("below min.insync.replicas the high watermark stands still") {
  Leader l(BrokerId(1), LeaderEpoch(0), {BrokerId(1)}, 2, {Offset(0), Offset(0)}, Offset(0));
  CHECK_FALSE(l.enough_in_sync());
  CHECK_FALSE(l.on_local({Offset(5), Offset(5)}));
  CHECK(l.high_watermark() == Offset(0));
  CHECK(l.set_min_insync(1));
  CHECK(l.high_watermark() == Offset(5));
}

TEST_CASE("a member of the ISR that has nothing holds the high watermark back") {
  Leader l(BrokerId(1), LeaderEpoch(0), {BrokerId(1), BrokerId(2)}, 1, {Offset(9), Offset(9)}, Offset(2));
  CHECK(l.high_watermark() == Offset(2));
  CHECK_FALSE(l.on_local({Offset(20), Offset(20)}));
  CHECK(l.isr() == std::vector<BrokerId>{BrokerId(1), BrokerId(2)});
}

TEST_CASE("a known high watermark above the log end is cut to it") {
  Leader l(BrokerId(1), LeaderEpoch(0), {BrokerId(1)}, 1, {Offset(3), Offset(0)}, Offset(7));
  CHECK(l.high_watermark() == Offset(3));
}

}  // namespace millrace::replica
