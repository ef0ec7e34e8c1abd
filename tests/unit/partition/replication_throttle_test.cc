// How much throttled replication may take, and whose.
#include "partition/replication_throttle.h"

#include "partition/partition_config.h"
#include "support/catch.h"

namespace millrace::partition {
namespace {

TEST_CASE("without a rate nothing is held back") {
  ReplicationThrottle t;
  CHECK_FALSE(t.is_limited());
  t.take(size_t{1} << 40, 1'000);
  CHECK(t.is_open(1'000));
  CHECK(t.open_at_mono_ms(1'000) == 1'000);
}

TEST_CASE("what was taken is waited for at the rate") {
  ReplicationThrottle t;
  t.set_rate(1'000);
  CHECK(t.is_limited());
  CHECK(t.bytes_at_once() == 1'000);
  CHECK(t.is_open(5'000));
  t.take(500, 5'000);
  CHECK_FALSE(t.is_open(5'499));
  CHECK(t.is_open(5'500));
  // Debts of several add up; time that nobody used is not saved.
  t.take(1'000, 6'000);
  t.take(1'000, 6'000);
  CHECK(t.open_at_mono_ms(6'000) == 8'000);
  CHECK(t.is_open(8'000));
  t.take(100, 20'000);
  CHECK(t.open_at_mono_ms(20'000) == 20'100);
}

TEST_CASE("over a while no more than the rate goes through") {
  ReplicationThrottle t;
  t.set_rate(1'000'000);
  int64_t now = 0;
  int64_t taken = 0;
  while (now < 60'000) {
    if (!t.is_open(now)) {
      now = t.open_at_mono_ms(now);
      continue;
    }
    t.take(300'000, now);
    taken += 300'000;
  }
  CHECK(taken <= 60 * 1'000'000 + 300'000);
  CHECK(taken >= 59 * 1'000'000);
}

TEST_CASE("a rate of nothing closes, and a raised one is felt soon") {
  ReplicationThrottle t;
  t.set_rate(0);
  CHECK_FALSE(t.is_open(1'000));
  CHECK_FALSE(t.is_open(1'000'000));
  CHECK(t.bytes_at_once() == 1);
  t.set_rate(1);
  CHECK(t.is_open(1'000'000));
  t.take(size_t{1} << 30, 1'000'000);
  CHECK_FALSE(t.is_open(1'005'000));
  CHECK(t.is_open(1'010'000));
  t.take(1'000, 2'000'000);
  CHECK_FALSE(t.is_open(2'000'500));
  t.set_rate(ReplicationThrottle::kNoLimit);
  CHECK(t.is_open(2'000'500));
}

TEST_CASE("throttled are the partitions that are named, or all") {
  ThrottledPartitions none;
  CHECK_FALSE(none.contains(0));
  ThrottledPartitions some{false, {1, 4, 9}};
  CHECK(some.contains(4));
  CHECK_FALSE(some.contains(5));
  ThrottledPartitions every{true, {}};
  CHECK(every.contains(77));
}

}  // namespace
}  // namespace millrace::partition
