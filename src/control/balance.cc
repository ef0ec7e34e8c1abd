#include "control/balance.h"

#include <set>
#include <tuple>

#include "base/contains.h"
#include "control/placement.h"

namespace millrace::control {

Balance::Balance(const meta::Image& image, const PartitionIndex& index) : image_(image) {
  image.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    load_[id] = index.replicas_on(id).size();
    if (!b->decommissioning && is_usable(image, id)) takers_.push_back(id);
  });
}

size_t Balance::load(BrokerId broker) const {
  const auto at = load_.find(broker);
  return at == load_.end() ? 0 : at->second;
}

std::optional<BrokerId> Balance::stand_in(const std::vector<BrokerId>& replicas, BrokerId leaving) const {
  std::set<std::string> racks;
  for (const BrokerId b : replicas) {
    if (b != leaving) racks.insert(rack(b));
  }
  std::optional<BrokerId> best;
  const auto rank = [&](BrokerId b) { return std::tuple(racks.contains(rack(b)), load(b), b); };
  for (const BrokerId b : takers_) {
    if (contains(replicas, b)) continue;
    if (!best || rank(b) < rank(*best)) best = b;
  }
  return best;
}

bool Balance::keeps_racks(const std::vector<BrokerId>& replicas, BrokerId leaving, BrokerId joining) const {
  std::set<std::string> before;
  std::set<std::string> after{rack(joining)};
  for (const BrokerId b : replicas) {
    before.insert(rack(b));
    if (b != leaving) after.insert(rack(b));
  }
  return after.size() >= before.size();
}

void Balance::move(BrokerId from, BrokerId to) {
  if (load_[from] > 0) --load_[from];
  ++load_[to];
}

std::string Balance::rack(BrokerId broker) const {
  const meta::Broker* b = image_.broker(broker);
  return b == nullptr ? "" : b->rack.value_or("");
}

}  // namespace millrace::control
