#include "cli/placement_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <tuple>

#include "base/assert.h"
#include "base/contains.h"

namespace millrace::cli {
namespace {

// How many partitions are looked at for one that suits the leaders too, once some can be moved.
constexpr size_t kWishesMax = 256;

/// A layout being changed, with what each broker has of it.
class Board {
 public:
  explicit Board(const Layout& layout) : layout_(layout), now_(layout.partitions), loads_(loads_of(layout)) {
    for (const auto& [id, b] : layout.brokers) {
      if (b.alive) living_.push_back(id);
    }
    for (size_t i = 0; i < now_.size(); ++i) {
      for (const int32_t b : now_[i].replicas) held_[b].insert(i);
    }
  }

  size_t size() const { return now_.size(); }
  const std::vector<int32_t>& living() const { return living_; }
  const std::vector<int32_t>& replicas(size_t i) const { return now_[i].replicas; }
  const std::set<size_t>& held(int32_t broker) { return held_[broker]; }
  int64_t load(int32_t broker) const { return loads_.at(broker).replicas; }
  int64_t preferred(int32_t broker) const { return loads_.at(broker).preferred; }
  bool is_living(int32_t broker) const {
    const auto at = layout_.brokers.find(broker);
    return at != layout_.brokers.end() && at->second.alive;
  }

  std::string rack(int32_t broker) const {
    const auto at = layout_.brokers.find(broker);
    return at == layout_.brokers.end() ? std::string() : at->second.rack;
  }
  size_t racks(const std::vector<int32_t>& replicas) const {
    std::set<std::string> found;
    for (const int32_t b : replicas) found.insert(rack(b));
    return found.size();
  }
  bool may_replace(size_t i, int32_t from, int32_t to) const {
    const std::vector<int32_t>& before = now_[i].replicas;
    if (contains(before, to)) return false;
    std::vector<int32_t> then = before;
    std::replace(then.begin(), then.end(), from, to);
    return racks(then) >= racks(before);
  }

  void replace(size_t i, int32_t from, int32_t to) {
    std::vector<int32_t> then = now_[i].replicas;
    std::replace(then.begin(), then.end(), from, to);
    put(i, std::move(then));
  }
  /// `broker`, which has a replica, becomes the preferred one.
  void prefer(size_t i, int32_t broker) {
    std::vector<int32_t> then = now_[i].replicas;
    const auto at = std::find(then.begin(), then.end(), broker);
    ASSERT(at != then.end());
    std::rotate(then.begin(), at, at + 1);
    put(i, std::move(then));
  }

  /// In the layout's order.
  std::vector<PartitionMove> moves() const {
    std::vector<PartitionMove> out;
    for (size_t i = 0; i < now_.size(); ++i) {
      const PlacedPartition& was = layout_.partitions[i];
      if (was.replicas != now_[i].replicas)
        out.push_back({was.topic, was.partition, was.replicas, now_[i].replicas});
    }
    return out;
  }

 private:
  void put(size_t i, std::vector<int32_t> replicas) {
    for (const int32_t b : now_[i].replicas) {
      --loads_[b].replicas;
      held_[b].erase(i);
    }
    --loads_[now_[i].replicas.front()].preferred;
    now_[i].replicas = std::move(replicas);
    for (const int32_t b : now_[i].replicas) {
      ++loads_[b].replicas;
      held_[b].insert(i);
    }
    ++loads_[now_[i].replicas.front()].preferred;
  }

  const Layout& layout_;
  std::vector<PlacedPartition> now_;
  std::map<int32_t, BrokerLoad> loads_;
  std::vector<int32_t> living_;               // ascending
  std::map<int32_t, std::set<size_t>> held_;  // places in now_
};

using Count = std::function<int64_t(int32_t)>;
/// Something that can go from one broker to another, if there is anything.
using Edge = std::function<std::optional<size_t>(int32_t from, int32_t to)>;

struct Hop {
  size_t item;
  int32_t from;
  int32_t to;
};

/// The shortest chain of hops that takes one from a broker with more to one with at least two fewer: from the
/// fullest that has such a chain, to the emptiest that is as near. Empty if nothing can be evened out.
std::vector<Hop> chain(const std::vector<int32_t>& brokers, const Count& count, const Edge& edge) {
  std::vector<int32_t> by_count = brokers;
  std::stable_sort(by_count.begin(), by_count.end(),
                   [&](int32_t a, int32_t b) { return count(a) > count(b); });
  std::vector<int32_t> emptiest(by_count.rbegin(), by_count.rend());
  for (const int32_t start : by_count) {
    if (count(start) <= count(emptiest.front()) + 1) break;
    std::map<int32_t, Hop> reached_by;
    std::set<int32_t> seen{start};
    std::deque<int32_t> open{start};
    while (!open.empty()) {
      const int32_t at = open.front();
      open.pop_front();
      for (const int32_t to : emptiest) {
        if (seen.contains(to)) continue;
        const std::optional<size_t> item = edge(at, to);
        if (!item) continue;
        seen.insert(to);
        reached_by[to] = {*item, at, to};
        if (count(to) + 1 < count(start)) {
          std::vector<Hop> hops;
          for (int32_t b = to; b != start; b = reached_by.at(b).from) hops.push_back(reached_by.at(b));
          return hops;  // the last first: each leaves room before it is filled
        }
        open.push_back(to);
      }
    }
  }
  return {};
}

// Two replicas in one rack while another rack has none: one of them goes there.
void spread_racks(Board& board) {
  for (size_t i = 0; i < board.size(); ++i) {
    bool again = true;
    while (again) {
      again = false;
      const std::vector<int32_t> replicas = board.replicas(i);
      std::map<std::string, std::vector<int32_t>> by_rack;
      for (const int32_t b : replicas) by_rack[board.rack(b)].push_back(b);
      std::optional<std::tuple<int64_t, int32_t, int32_t>> best;  // load of the taker, taker, giver
      for (const auto& [rack, there] : by_rack) {
        if (there.size() < 2) continue;
        int32_t giver = -1;
        for (const int32_t b : there) {
          // The preferred one stays if it can.
          if (!board.is_living(b)) continue;
          if (giver < 0 || std::tuple(b == replicas.front(), -board.load(b), b) <
                               std::tuple(giver == replicas.front(), -board.load(giver), giver)) {
            giver = b;
          }
        }
        if (giver < 0) continue;
        for (const int32_t taker : board.living()) {
          if (by_rack.contains(board.rack(taker))) continue;
          const auto candidate = std::tuple(board.load(taker), taker, giver);
          if (!best || candidate < *best) best = candidate;
        }
      }
      if (best) {
        board.replace(i, std::get<2>(*best), std::get<1>(*best));
        again = true;
      }
    }
  }
}

void even_replicas(Board& board) {
  const Edge movable = [&](int32_t from, int32_t to) -> std::optional<size_t> {
    std::optional<size_t> found;
    size_t looked_at = 0;
    for (const size_t i : board.held(from)) {
      if (found && ++looked_at > kWishesMax) break;
      if (!board.may_replace(i, from, to)) continue;
      // What the giver leads goes if it leads more than the taker, and stays otherwise.
      const bool led = board.replicas(i).front() == from;
      if (led == (board.preferred(from) > board.preferred(to))) return i;
      if (!found) found = i;
    }
    return found;
  };
  while (true) {
    const std::vector<Hop> hops = chain(board.living(), [&](int32_t b) { return board.load(b); }, movable);
    if (hops.empty()) return;
    bool moved = false;
    for (const Hop& h : hops) {
      // Two hops of a chain may have chosen the same partition: then the rest is found anew.
      if (!contains(board.replicas(h.item), h.from) || !board.may_replace(h.item, h.from, h.to)) break;
      board.replace(h.item, h.from, h.to);
      moved = true;
    }
    if (!moved) return;
  }
}

// A broker that leads too much and one that leads too little change places in two partitions: for those with
// one replica, where no other order helps.
bool exchange(Board& board) {
  std::vector<int32_t> brokers = board.living();
  std::stable_sort(brokers.begin(), brokers.end(),
                   [&](int32_t a, int32_t b) { return board.preferred(a) > board.preferred(b); });
  for (const int32_t from : brokers) {
    for (auto at = brokers.rbegin(); at != brokers.rend(); ++at) {
      const int32_t to = *at;
      if (board.preferred(from) <= board.preferred(to) + 1) break;
      for (const size_t led : board.held(from)) {
        if (board.replicas(led).front() != from || !board.may_replace(led, from, to)) continue;
        for (const size_t back : board.held(to)) {
          if (board.replicas(back).front() == to || !board.may_replace(back, to, from)) continue;
          board.replace(led, from, to);
          board.replace(back, to, from);
          return true;
        }
        break;
      }
    }
  }
  return false;
}

void even_preferred(Board& board) {
  const Edge reorderable = [&](int32_t from, int32_t to) -> std::optional<size_t> {
    for (const size_t i : board.held(from)) {
      if (board.replicas(i).front() == from && contains(board.replicas(i), to)) return i;
    }
    return std::nullopt;
  };
  while (true) {
    const std::vector<Hop> hops =
        chain(board.living(), [&](int32_t b) { return board.preferred(b); }, reorderable);
    for (const Hop& h : hops) board.prefer(h.item, h.to);
    if (hops.empty() && !exchange(board)) return;
  }
}

}  // namespace

size_t PartitionMove::copies() const {
  return static_cast<size_t>(
      std::count_if(to.begin(), to.end(), [this](int32_t b) { return !contains(from, b); }));
}

std::map<int32_t, BrokerLoad> loads_of(const Layout& layout) {
  std::map<int32_t, BrokerLoad> out;
  for (const auto& [id, b] : layout.brokers) out[id] = {};
  for (const PlacedPartition& p : layout.partitions) {
    ASSERT(!p.replicas.empty());
    for (const int32_t b : p.replicas) ++out[b].replicas;
    ++out[p.replicas.front()].preferred;
  }
  return out;
}

Layout after(Layout layout, const std::vector<PartitionMove>& plan) {
  std::map<std::pair<std::string, int32_t>, const PartitionMove*> moves;
  for (const PartitionMove& m : plan) moves[{m.topic, m.partition}] = &m;
  for (PlacedPartition& p : layout.partitions) {
    const auto at = moves.find({p.topic, p.partition});
    if (at != moves.end()) p.replicas = at->second->to;
  }
  return layout;
}

Result<std::vector<PartitionMove>> plan_drain(const Layout& layout, int32_t leaving) {
  Layout without = layout;
  without.brokers[leaving].alive = false;
  Board board(without);
  for (size_t i = 0; i < board.size(); ++i) {
    if (!contains(board.replicas(i), leaving)) continue;
    std::set<std::string> racks;
    for (const int32_t b : board.replicas(i)) {
      if (b != leaving) racks.insert(board.rack(b));
    }
    std::optional<int32_t> best;
    const auto rank = [&](int32_t b) { return std::tuple(racks.contains(board.rack(b)), board.load(b), b); };
    for (const int32_t b : board.living()) {
      if (contains(board.replicas(i), b)) continue;
      if (!best || rank(b) < rank(*best)) best = b;
    }
    if (!best) {
      const PlacedPartition& p = layout.partitions[i];
      return Error(ErrorCode::invalid_replication_factor,
                   fmt::format("{}-{} has {} replicas, and without broker {} there are {} brokers alive",
                               p.topic, p.partition, p.replicas.size(), leaving, board.living().size()));
    }
    const bool led = board.replicas(i).front() == leaving;
    board.replace(i, leaving, *best);
    if (!led) continue;
    // The replicas that stay have the records: one of them rather than the newcomer, the one that leads
    // least.
    std::optional<int32_t> first;
    for (const int32_t b : board.replicas(i)) {
      if (!board.is_living(b)) continue;
      const auto order = [&](int32_t c) {
        return std::tuple(board.preferred(c) - (c == board.replicas(i).front() ? 1 : 0), c == *best, c);
      };
      if (!first || order(b) < order(*first)) first = b;
    }
    if (first && *first != board.replicas(i).front()) board.prefer(i, *first);
  }
  return board.moves();
}

std::vector<PartitionMove> plan_rebalance(const Layout& layout) {
  Board board(layout);
  if (board.living().size() < 2) return {};
  spread_racks(board);
  even_replicas(board);
  even_preferred(board);
  return board.moves();
}

}  // namespace millrace::cli
