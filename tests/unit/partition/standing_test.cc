// Who is heard, and for how long a session holds.
#include "partition/standing.h"

#include "support/catch.h"

namespace millrace::partition {

TEST_CASE("a session holds until it was promised", "[standing]") {
  Standing s;
  CHECK(s.session_over(0));
  s.hold_until(3'000, 3'000);
  CHECK_FALSE(s.session_over(3'000));
  CHECK(s.session_over(3'001));
  s.hold_until(kNoDeadline, 0);
  CHECK_FALSE(s.session_over(INT64_MAX));
}

TEST_CASE("a replica is heard while it fetches, after a silence only when it goes on", "[standing]") {
  Standing s;
  s.hold_until(0, 3'000);
  CHECK_FALSE(s.hears(BrokerId(2), 0));
  s.note_fetch(BrokerId(2), 100);
  CHECK_FALSE(s.hears(BrokerId(2), 599));
  CHECK(s.hears(BrokerId(2), 600));
  CHECK(s.hears(BrokerId(2), 3'100));
  CHECK_FALSE(s.hears(BrokerId(2), 3'101));
  s.note_fetch(BrokerId(2), 3'000);
  s.note_fetch(BrokerId(2), 6'000);
  CHECK(s.hears(BrokerId(2), 6'000));
  // Several at once after a silence, as they lie in the socket of a process that stood still.
  s.note_fetch(BrokerId(2), 20'000);
  s.note_fetch(BrokerId(2), 20'001);
  CHECK_FALSE(s.hears(BrokerId(2), 20'001));
  CHECK_FALSE(s.hears(BrokerId(3), 20'001));
  s.note_fetch(BrokerId(2), 20'500);
  CHECK(s.hears(BrokerId(2), 20'500));
}

}  // namespace millrace::partition
