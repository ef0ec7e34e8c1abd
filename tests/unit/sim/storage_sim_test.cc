#include "sim/storage_sim.h"

#include "support/catch.h"

namespace millrace::sim {
namespace {

TEST_CASE("one seed is one run, with a crash and two hundred operations at least") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    StorageSimOptions options;
    options.seed = seed;
    const StorageSimOutcome once = run_storage_sim(options);
    const StorageSimOutcome again = run_storage_sim(options);
    CHECK(once.failure.empty());
    CHECK(once.hash == again.hash);
    CHECK(once.operations >= 200);
    CHECK(once.crashes >= 1);
  }
}

TEST_CASE("a planted mistake is found") {
  bool found = false;
  for (uint64_t seed = 1; seed <= 100 && !found; ++seed) {
    StorageSimOptions options;
    options.seed = seed;
    REQUIRE(plant(options.bugs, "ack-early"));
    found = !run_storage_sim(options).failure.empty();
  }
  CHECK(found);
}

}  // namespace
}  // namespace millrace::sim
