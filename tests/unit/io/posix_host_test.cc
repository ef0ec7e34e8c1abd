#include "io/posix_host.h"

#include <unistd.h>

#include "io/posix_clock.h"
#include "io/posix_random.h"
#include "support/catch.h"

namespace millrace::io {

TEST_CASE("the host's facts are plausible", "[posix_host]") {
  const PosixHost host;
  CHECK_FALSE(host.hostname().empty());
  CHECK(host.cores() >= 1);
  CHECK(host.process_id() == ::getpid());
  CHECK(host.descriptor_limit() >= 64);
  CHECK(host.resident_bytes() > 1024 * 1024);
  CHECK(host.cpu_ns() > 0);
}

TEST_CASE("the clock runs forward and in milliseconds", "[posix_clock]") {
  const PosixClock clock;
  const int64_t ns = clock.mono_ns();
  const Now now = clock.now();
  CHECK(now.mono_ms >= ns / 1'000'000);
  CHECK(now.mono_ms <= clock.mono_ns() / 1'000'000);
  CHECK(now.wall_ms > 1'600'000'000'000);  // 2020
  CHECK(now.wall_ms < 10'000'000'000'000);
}

TEST_CASE("random bytes fill all that was asked for", "[posix_random]") {
  PosixRandom random;
  // More than one getrandom call is sure to give at once.
  Bytes bytes(1000, 0);
  random.fill(bytes);
  size_t zeros_at_end = 0;
  while (zeros_at_end < bytes.size() && bytes[bytes.size() - 1 - zeros_at_end] == 0) ++zeros_at_end;
  CHECK(zeros_at_end < 20);
  CHECK(random.next_u64() != random.next_u64());
  CHECK_FALSE(random.uuid() == random.uuid());
  random.fill({});
}

}  // namespace millrace::io
