#include "sim/knobs.h"

#include "meta/options.h"
#include "support/catch.h"

namespace millrace::sim {
namespace {

TEST_CASE("what the knobs set is what brokers take") {
  // A value out of its bounds would leave the default in force, unnoticed.
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const std::shared_ptr<const meta::ConfigValues> settings = broker_settings(draw_knobs(seed));
    for (const auto& [key, value] : *settings) {
      CAPTURE(seed, key, value);
      const meta::OptionDef* option = meta::find_broker_option(key);
      REQUIRE(option != nullptr);
      REQUIRE(meta::check_option_value(*option, value).ok());
    }
  }
}

}  // namespace
}  // namespace millrace::sim
