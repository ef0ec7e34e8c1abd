// Every message in every version: round trip, truncation, array-count bombs, damage.
#include "support/catch.h"
#include "support/wire_cases.h"
#include "wire/api_table.h"

namespace millrace::wire::cases {
namespace {

constexpr uint64_t kRounds = 40;

uint64_t seed_of(const MessageCase& c, int16_t version, uint64_t round) {
  return std::hash<std::string_view>()(c.name) ^ (static_cast<uint64_t>(version) << 40) ^ (round << 48);
}

TEST_CASE("there is a case for every message, requests under their keys") {
  const std::vector<MessageCase> cases = all_cases();
  size_t requests = 0;
  for (const MessageCase& c : cases) {
    if (c.key < 0) continue;
    ++requests;
    const ApiInfo* api = find_api(static_cast<int16_t>(c.key));
    REQUIRE(api != nullptr);
    CHECK(std::string(api->name) + "Request" == c.name);
    CHECK(api->min == c.min);
    CHECK(api->max == c.max);
  }
  CHECK(requests == all_apis().size());
  CHECK(requests >= 80);
}

TEST_CASE("random messages of every version survive encoding and decoding") {
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      for (uint64_t round = 0; round < kRounds; ++round) {
        if (c.survives(seed_of(c, v, round), v)) continue;
        FAIL(c.name << " version " << v << " round " << round);
      }
    }
  }
}

TEST_CASE("default messages of every version survive too") {
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      Bytes bytes = c.defaults(v);
      const Recoded again = c.recode(bytes, v);
      INFO(c.name << " version " << v);
      REQUIRE(again.status.ok());
      REQUIRE(again.used == bytes.size());
      REQUIRE(again.bytes == bytes);
    }
  }
}

TEST_CASE("a message cut at any byte is an error, never a crash") {
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      const Bytes whole = c.random(seed_of(c, v, 1000), v);
      const size_t step = 1 + whole.size() / 2000;
      for (size_t n = 0; n < whole.size(); n += step) {
        Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
        cut.shrink_to_fit();  // a read past the end is then a read past the allocation
        const Recoded r = c.recode(cut, v);
        if (r.status.code() != ErrorCode::corrupt) FAIL(c.name << " version " << v << " cut at " << n);
      }
    }
  }
}

TEST_CASE("damaged messages decode or fail, and what decodes encodes to a fixed point") {
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      RandomFiller random(seed_of(c, v, 2000));
      Bytes bytes = c.random(random.next(), v);
      if (bytes.empty()) continue;
      for (int i = 0; i < 30; ++i) {
        Bytes damaged = bytes;
        damaged[random.next() % damaged.size()] = static_cast<uint8_t>(random.next());
        Recoded once = c.recode(damaged, v);
        if (!once.status.ok()) continue;
        const Recoded twice = c.recode(once.bytes, v);
        INFO(c.name << " version " << v);
        REQUIRE(twice.status.ok());
        REQUIRE(twice.bytes == once.bytes);
      }
    }
  }
}

TEST_CASE("versions outside the range are refused") {
  for (const MessageCase& c : all_cases()) {
    Bytes bytes(64, 0);
    INFO(c.name);
    CHECK(c.recode(bytes, static_cast<int16_t>(c.min - 1)).status.code() == ErrorCode::unsupported_version);
    CHECK(c.recode(bytes, static_cast<int16_t>(c.max + 1)).status.code() == ErrorCode::unsupported_version);
  }
}

}  // namespace
}  // namespace millrace::wire::cases
