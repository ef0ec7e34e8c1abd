#include "control/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/assert.h"
#include "base/contains.h"

namespace millrace::control {
namespace {

struct Seat {
  BrokerId broker;
  std::string rack;
};

// Brokers so that neighbours are in different racks as far as possible: the first of each rack, the second of
// each, ...
std::vector<Seat> interleaved(const meta::Image& image, bool usable) {
  std::map<std::string, std::vector<BrokerId>> racks;
  size_t count = 0;
  image.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (b->decommissioning || is_usable(image, id) != usable) return;
    racks[b->rack.value_or("")].push_back(id);
    ++count;
  });
  std::vector<Seat> seats;
  for (size_t round = 0; seats.size() < count; ++round) {
    for (const auto& [rack, brokers] : racks) {
      if (round < brokers.size()) seats.push_back({brokers[round], rack});
    }
  }
  return seats;
}

class Chooser {
 public:
  explicit Chooser(size_t wanted) : wanted_(wanted) {}

  bool full() const { return chosen_.size() == wanted_; }
  std::vector<BrokerId> take() { return std::move(chosen_); }

  // Walks `seats` once from `from`; with `new_racks_only` it skips racks that have a replica already.
  void walk(const std::vector<Seat>& seats, size_t from, bool new_racks_only) {
    for (size_t i = 0; i < seats.size() && !full(); ++i) {
      const Seat& s = seats[(from + i) % seats.size()];
      if (contains(chosen_, s.broker)) continue;
      if (new_racks_only && racks_.contains(s.rack)) continue;
      racks_.insert(s.rack);
      chosen_.push_back(s.broker);
    }
  }

 private:
  size_t wanted_;
  std::vector<BrokerId> chosen_;
  std::set<std::string> racks_;
};

}  // namespace

bool is_usable(const meta::Image& image, BrokerId broker) {
  const meta::Broker* b = image.broker(broker);
  return b != nullptr && !b->fenced && !b->in_controlled_shutdown;
}

Uuid sole_directory(const meta::Image& image, BrokerId broker) {
  const meta::Broker* b = image.broker(broker);
  return b != nullptr && b->log_dirs.size() == 1 ? b->log_dirs.front() : Uuid{};
}

bool directory_is_online(const meta::Partition& p, const meta::Broker& broker) {
  const auto at = std::find(p.replicas.begin(), p.replicas.end(), broker.id);
  const auto i = static_cast<size_t>(at - p.replicas.begin());
  if (i >= p.directories.size() || p.directories[i].is_zero()) return true;
  return contains(broker.log_dirs, p.directories[i]);
}

meta::Partition new_partition(const meta::Image& image, std::vector<BrokerId> replicas) {
  meta::Partition p;
  std::copy_if(replicas.begin(), replicas.end(), std::back_inserter(p.isr),
               [&image](BrokerId b) { return is_usable(image, b); });
  ASSERT(!p.isr.empty());
  p.leader = p.isr.front();
  for (const BrokerId b : replicas) p.directories.push_back(sole_directory(image, b));
  if (std::all_of(p.directories.begin(), p.directories.end(), [](const Uuid& d) { return d.is_zero(); })) {
    p.directories.clear();
  }
  p.replicas = std::move(replicas);
  return p;
}

Result<std::vector<std::vector<BrokerId>>> place(const meta::Image& image, size_t partitions,
                                                 int16_t replication_factor, size_t start) {
  ASSERT(replication_factor > 0);
  const auto wanted = static_cast<size_t>(replication_factor);
  const std::vector<Seat> usable = interleaved(image, true);
  const std::vector<Seat> resting = interleaved(image, false);
  if (wanted > usable.size() + resting.size()) {
    return Error(
        ErrorCode::invalid_replication_factor,
        fmt::format("Unable to replicate the partition {} time(s): only {} broker(s) can hold replicas",
                    wanted, usable.size() + resting.size()));
  }
  if (usable.empty()) return Error(ErrorCode::invalid_replication_factor, "All brokers are currently fenced");

  std::vector<std::vector<BrokerId>> out;
  out.reserve(partitions);
  for (size_t i = start; i < start + partitions; ++i) {
    // Each lap over the brokers moves the followers one further, so that no two brokers share all partitions.
    const size_t lap = i / usable.size();
    Chooser chooser(wanted);
    chooser.walk({usable[i % usable.size()]}, 0, false);
    for (const bool new_racks_only : {true, false}) {
      chooser.walk(usable, i + 1 + lap, new_racks_only);
      if (!resting.empty() && !new_racks_only) chooser.walk(resting, i, false);
    }
    ASSERT(chooser.full());
    out.push_back(chooser.take());
  }
  return out;
}

Outcome check_assignment(const meta::Image& image, const std::vector<BrokerId>& replicas,
                         size_t replication_factor) {
  const auto bad = [](std::string why) {
    return Outcome{ErrorCode::invalid_replica_assignment, std::move(why)};
  };
  if (replicas.empty()) return bad("The manual partition assignment includes an empty replica list");
  if (replication_factor != 0 && replicas.size() != replication_factor) {
    return bad(fmt::format(
        "The manual partition assignment includes a partition with {} replica(s), but another has {}",
        replicas.size(), replication_factor));
  }
  std::set<BrokerId> seen;
  for (const BrokerId b : replicas) {
    if (!seen.insert(b).second)
      return bad(fmt::format("The manual partition assignment includes broker {} twice", b.v));
    if (image.broker(b) == nullptr) {
      return bad(fmt::format(
          "The manual partition assignment includes broker {}, but no such broker is registered", b.v));
    }
    if (image.broker(b)->decommissioning) {
      return bad(
          fmt::format("The manual partition assignment includes broker {}, which is being emptied", b.v));
    }
  }
  if (std::none_of(replicas.begin(), replicas.end(), [&](BrokerId b) { return is_usable(image, b); })) {
    return bad("All brokers of the manual partition assignment are fenced or shutting down");
  }
  return {};
}

}  // namespace millrace::control
