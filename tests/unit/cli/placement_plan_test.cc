// Plans for emptying a broker and for spreading the load.
#include "cli/placement_plan.h"

#include <algorithm>
#include <random>
#include <set>

#include "support/catch.h"

namespace millrace::cli {
namespace {

Layout brokers_alive(int32_t count, int32_t racks = 0) {
  Layout layout;
  for (int32_t b = 1; b <= count; ++b)
    layout.brokers[b] = {racks == 0 ? "" : "r" + std::to_string(b % racks), true};
  return layout;
}

void put(Layout& layout, const std::string& topic, std::vector<std::vector<int32_t>> partitions) {
  int32_t index = 0;
  for (auto& replicas : partitions) layout.partitions.push_back({topic, index++, std::move(replicas)});
}

/// Of living brokers: the greatest difference of replicas and of preferred partitions.
std::pair<int64_t, int64_t> spread_of(const Layout& layout) {
  int64_t low = INT64_MAX, high = 0, few = INT64_MAX, many = 0;
  for (const auto& [id, load] : loads_of(layout)) {
    const auto at = layout.brokers.find(id);
    if (at == layout.brokers.end() || !at->second.alive) continue;
    low = std::min(low, load.replicas);
    high = std::max(high, load.replicas);
    few = std::min(few, load.preferred);
    many = std::max(many, load.preferred);
  }
  return {high - low, many - few};
}

size_t copies_of(const std::vector<PartitionMove>& plan) {
  size_t out = 0;
  for (const PartitionMove& m : plan) out += m.copies();
  return out;
}

size_t racks_of(const Layout& layout, const std::vector<int32_t>& replicas) {
  std::set<std::string> out;
  for (const int32_t b : replicas) out.insert(layout.brokers.at(b).rack);
  return out.size();
}

void check_sound(const Layout& layout, const std::vector<PartitionMove>& plan) {
  for (const PartitionMove& m : plan) {
    const std::set<int32_t> distinct(m.to.begin(), m.to.end());
    CHECK(distinct.size() == m.to.size());
    CHECK(m.to.size() == m.from.size());
    CHECK(m.to != m.from);
    for (const int32_t b : m.to) {
      const bool stays = std::find(m.from.begin(), m.from.end(), b) != m.from.end();
      CHECK((stays || layout.brokers.at(b).alive));
    }
  }
}

TEST_CASE("a new broker gets its share with as few copies as needed") {
  Layout layout = brokers_alive(4);
  put(layout, "t", {{1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {1, 2, 3}, {2, 3, 1}});
  // 24 replicas on three brokers; a fourth one is to have six.
  const auto plan = plan_rebalance(layout);
  check_sound(layout, plan);
  CHECK(copies_of(plan) == 6);
  CHECK(spread_of(after(layout, plan)) == std::pair<int64_t, int64_t>(0, 0));
  CHECK(plan_rebalance(after(layout, plan)).empty());
}

TEST_CASE("preferred leaders are spread by order alone where that does") {
  Layout layout = brokers_alive(3);
  put(layout, "t", {{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 3, 2}, {1, 3, 2}, {1, 3, 2}});
  const auto plan = plan_rebalance(layout);
  CHECK(copies_of(plan) == 0);
  CHECK(plan.size() == 4);
  CHECK(spread_of(after(layout, plan)) == std::pair<int64_t, int64_t>(0, 0));
}

TEST_CASE("leaders of partitions with one replica change places with others") {
  Layout layout = brokers_alive(2);
  put(layout, "led", {{1}, {1}, {1}, {1}});
  put(layout, "both", {{1, 2}, {1, 2}});
  put(layout, "more", {{2}, {2}, {2}, {2}});
  const auto plan = plan_rebalance(layout);
  check_sound(layout, plan);
  CHECK(spread_of(after(layout, plan)).first <= 1);
  CHECK(spread_of(after(layout, plan)).second <= 1);
  CHECK(copies_of(plan) == 0);  // the two-replica ones even it out

  Layout stuck = brokers_alive(3);
  put(stuck, "single", {{1}, {1}, {1}, {1}});
  put(stuck, "pair", {{2, 3}, {2, 3}, {2, 3}, {2, 3}});
  const auto moved = plan_rebalance(stuck);
  check_sound(stuck, moved);
  CHECK(spread_of(after(stuck, moved)).first <= 1);
  CHECK(spread_of(after(stuck, moved)).second <= 1);
}

TEST_CASE("an even layout and a single broker need nothing") {
  Layout layout = brokers_alive(3);
  put(layout, "t", {{1, 2}, {2, 3}, {3, 1}});
  CHECK(plan_rebalance(layout).empty());
  Layout one = brokers_alive(1);
  put(one, "t", {{1}, {1}});
  CHECK(plan_rebalance(one).empty());
  CHECK(plan_rebalance(brokers_alive(3)).empty());
}

TEST_CASE("racks are kept apart, and replicas that meet in one are parted") {
  Layout layout;
  layout.brokers = {{1, {"a", true}}, {2, {"a", true}}, {3, {"b", true}}, {4, {"b", true}}};
  put(layout, "t", {{1, 2}, {1, 3}, {1, 4}, {1, 3}});
  const auto plan = plan_rebalance(layout);
  check_sound(layout, plan);
  const Layout then = after(layout, plan);
  for (const PlacedPartition& p : then.partitions) CHECK(racks_of(then, p.replicas) == 2);
  CHECK(spread_of(then) == std::pair<int64_t, int64_t>(0, 0));
}

TEST_CASE("racks of unequal size are not mixed for the sake of equal counts") {
  Layout layout;
  layout.brokers = {{1, {"a", true}}, {2, {"b", true}}, {3, {"b", true}}};
  put(layout, "t", {{1, 2}, {1, 2}, {1, 2}, {1, 2}});
  const Layout then = after(layout, plan_rebalance(layout));
  for (const PlacedPartition& p : then.partitions) CHECK(racks_of(then, p.replicas) == 2);
  const auto loads = loads_of(then);
  CHECK(loads.at(1).replicas == 4);
  CHECK(loads.at(2).replicas == 2);
  CHECK(loads.at(3).replicas == 2);
}

TEST_CASE("replicas on brokers that are not alive stay, and nothing goes there") {
  Layout layout = brokers_alive(4);
  layout.brokers[4].alive = false;
  put(layout, "t", {{4, 1}, {4, 1}, {1, 2}, {1, 2}, {1, 3}});
  const auto plan = plan_rebalance(layout);
  check_sound(layout, plan);
  const Layout then = after(layout, plan);
  CHECK(loads_of(then).at(4).replicas == 2);
  CHECK(spread_of(then).first <= 1);
}

TEST_CASE("a drained broker's replicas go to other racks, then to the emptiest") {
  Layout layout;
  layout.brokers = {{1, {"a", true}}, {2, {"b", true}}, {3, {"a", true}}, {4, {"c", true}}, {5, {"c", true}}};
  put(layout, "t", {{1, 2}, {2, 4}, {4, 2}});
  const auto plan = plan_drain(layout, 1);
  REQUIRE(plan.ok());
  REQUIRE(plan->size() == 1);
  // Rack b has the other replica; brokers 3 and 5 have none, 3 comes first. 2 has the records and leads
  // least.
  CHECK((*plan)[0].to == std::vector<int32_t>{3, 2});
  const auto other = plan_drain(layout, 4);
  REQUIRE(other.ok());
  for (const PartitionMove& m : *other) {
    CHECK(std::find(m.to.begin(), m.to.end(), 4) == m.to.end());
    CHECK(racks_of(layout, m.to) == 2);
  }
}

TEST_CASE("a drain needs as many other brokers as replicas") {
  Layout layout = brokers_alive(3);
  put(layout, "t", {{1, 2}, {3, 1, 2}});
  const auto plan = plan_drain(layout, 3);
  REQUIRE(!plan.ok());
  CHECK(plan.code() == ErrorCode::invalid_replication_factor);
  CHECK(plan.error().message.find("t-1") != std::string::npos);
  layout.brokers[4] = {"", true};
  CHECK(plan_drain(layout, 3).ok());
  layout.brokers[4].alive = false;
  CHECK(!plan_drain(layout, 3).ok());
  CHECK(plan_drain(brokers_alive(1), 1)->empty());
}

TEST_CASE("what is done of a plan needs not be planned again") {
  Layout layout = brokers_alive(5);
  put(layout, "t", {{1, 2, 3}, {1, 2, 3}, {2, 1, 3}, {3, 2, 1}, {1, 3, 2}, {2, 3, 1}, {1, 2, 3}, {1, 2, 3}});
  const auto plan = plan_drain(layout, 2);
  REQUIRE(plan.ok());
  REQUIRE(plan->size() > 3);
  const std::vector<PartitionMove> some(plan->begin(), plan->begin() + 3);
  const auto rest = plan_drain(after(layout, some), 2);
  REQUIRE(rest.ok());
  CHECK(rest->size() == plan->size() - 3);
}

TEST_CASE("any layout without racks becomes even, and plans repeat themselves") {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 dice(seed);
    const int32_t count = 2 + static_cast<int32_t>(dice() % 8);
    Layout layout = brokers_alive(count);
    const size_t partitions = 1 + dice() % 60;
    int64_t replicas = 0;
    for (size_t i = 0; i < partitions; ++i) {
      std::vector<int32_t> all;
      // Broker 1 is favoured, so that there is something to do.
      for (int32_t b = 1; b <= count; ++b) all.push_back(b);
      std::shuffle(all.begin() + 1, all.end(), dice);
      if (dice() % 3 == 0) std::shuffle(all.begin(), all.end(), dice);
      all.resize(1 + dice() % std::min<size_t>(3, all.size()));
      replicas += static_cast<int64_t>(all.size());
      layout.partitions.push_back({"t", static_cast<int32_t>(i), all});
    }
    const auto plan = plan_rebalance(layout);
    INFO("seed " << seed);
    check_sound(layout, plan);
    const Layout then = after(layout, plan);
    CHECK(spread_of(then).first <= 1);
    CHECK(spread_of(then).second <= 1);
    CHECK(plan_rebalance(then).empty());
    CHECK(plan_rebalance(layout).size() == plan.size());
    // Every copy but those of exchanges takes one from a broker that has too much.
    int64_t surplus = 0;
    for (const auto& [id, load] : loads_of(layout))
      surplus += std::max<int64_t>(0, load.replicas - replicas / count);
    CHECK(copies_of(plan) <= static_cast<size_t>(surplus + 2 * static_cast<int64_t>(partitions)));
  }
}

TEST_CASE("with racks no partition gets into fewer of them") {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 dice(seed);
    const int32_t count = 3 + static_cast<int32_t>(dice() % 6);
    Layout layout = brokers_alive(count, 2 + static_cast<int32_t>(dice() % 2));
    for (int32_t i = 0; i < 40; ++i) {
      std::vector<int32_t> all;
      for (int32_t b = 1; b <= count; ++b) all.push_back(b);
      std::shuffle(all.begin(), all.end(), dice);
      all.resize(1 + dice() % 3);
      layout.partitions.push_back({"t", i, all});
    }
    std::set<std::string> racks;
    for (const auto& [id, b] : layout.brokers) racks.insert(b.rack);
    const Layout then = after(layout, plan_rebalance(layout));
    INFO("seed " << seed);
    for (const PlacedPartition& p : then.partitions)
      CHECK(racks_of(then, p.replicas) == std::min(p.replicas.size(), racks.size()));
    CHECK(plan_rebalance(then).empty());
  }
}

}  // namespace
}  // namespace millrace::cli
