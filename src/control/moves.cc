// Moves that nobody names one by one: emptying a broker, spreading replicas and preferred leaders.
#include <fmt/format.h>

#include <algorithm>

#include "control/balance.h"
#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"

namespace millrace::control {
namespace {

constexpr int64_t kDrainIntervalMs = 1000;

using Brokers = std::vector<BrokerId>;

Brokers replaced(Brokers list, BrokerId from, BrokerId to) {
  std::replace(list.begin(), list.end(), from, to);
  return list;
}

}  // namespace

// --- emptying a broker ---

Decision<DecommissionBrokerReply> Controller::handle(const DecommissionBroker& request, Now) {
  Decision<DecommissionBrokerReply> decision;
  const meta::Broker* broker = image_.broker(request.broker);
  if (broker == nullptr) {
    decision.reply.outcome = {ErrorCode::broker_id_not_registered,
                              fmt::format("No broker with id {}", request.broker.v)};
    return decision;
  }
  if (broker->decommissioning != request.cancel) return decision;
  if (!request.cancel) {
    bool others = false;
    image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
      others = others || (id != request.broker && !b->decommissioning);
    });
    if (!others) {
      decision.reply.outcome = {ErrorCode::invalid_request, "No other broker could take the replicas"};
      return decision;
    }
  }
  meta::BrokerChangeRecord change;
  change.id = broker->id;
  change.epoch = broker->epoch;
  change.decommissioning = !request.cancel;
  decision.records.push_back(std::move(change));
  next_drain_mono_ms_ = 0;
  return decision;
}

void Controller::drain_brokers(Draft& draft, TopicRules& rules, Now now, Ticked& out) {
  std::vector<BrokerId> draining;
  image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (b->decommissioning && !index_.replicas_on(id).empty()) draining.push_back(id);
  });
  if (draining.empty()) return;
  if (now.mono_ms < next_drain_mono_ms_) {
    out.next_mono_ms = std::min(out.next_mono_ms, next_drain_mono_ms_);
    return;
  }
  next_drain_mono_ms_ = now.mono_ms + kDrainIntervalMs;
  out.next_mono_ms = std::min(out.next_mono_ms, next_drain_mono_ms_);

  Balance balance(image_, index_);
  for (const BrokerId leaving : draining) {
    size_t in_flight = 0;
    index_.reassigning().for_each([&](const PartitionKey& key) {
      if (index_.replicas_on(leaving).contains(key)) ++in_flight;
    });
    index_.replicas_on(leaving).scan([&](const PartitionKey& key) {
      if (in_flight >= limits_.drain_moves_in_flight) return false;
      if (index_.reassigning().contains(key)) return true;
      const meta::Topic& topic = *image_.topic(key.topic);
      const meta::Partition& p = *draft.image().partition(key.topic, key.partition);
      const std::optional<BrokerId> taker = balance.stand_in(p.replicas, leaving);
      if (!taker) return true;
      PartitionChange change(draft.image(), key.topic, key.partition, rules.of(topic));
      auto record = change.reassign(replaced(p.replicas, leaving, *taker)).build();
      if (!record) return true;
      draft.add(std::move(*record));
      balance.move(leaving, *taker);
      ++in_flight;
      ++out.moves;
      return true;
    });
  }
}

// --- spreading ---

// Replicas first: from the fullest broker to the emptiest, until they differ by one at most. Then preferred
// leaders: within the replicas a partition has.
std::vector<PlannedMove> Controller::plan_rebalance(size_t moves_max) const {
  std::vector<PlannedMove> plan;
  Balance balance(image_, index_);
  if (balance.takers().size() < 2) return plan;
  std::map<PartitionKey, Brokers> planned;
  const auto state = [&](const PartitionKey& key) {
    const auto at = planned.find(key);
    return at != planned.end() ? at->second : image_.partition(key.topic, key.partition)->replicas;
  };
  const auto less = [&](BrokerId a, BrokerId b) { return balance.load(a) < balance.load(b); };
  const auto put = [&](const PartitionKey& key, Brokers to, std::string reason) {
    const meta::Topic& topic = *image_.topic(key.topic);
    plan.push_back(
        {{topic.name, key.partition}, topic.partitions.find(key.partition)->replicas, to, std::move(reason)});
    planned[key] = std::move(to);
  };

  // A broker from which nothing can move any more is passed over.
  std::vector<BrokerId> sources = balance.takers();
  while (plan.size() < moves_max && !sources.empty()) {
    const BrokerId from = *std::max_element(sources.begin(), sources.end(), less);
    const BrokerId to = *std::min_element(balance.takers().begin(), balance.takers().end(), less);
    if (balance.load(from) <= balance.load(to) + 1) break;
    bool found = false;
    index_.replicas_on(from).scan([&](const PartitionKey& key) {
      if (planned.contains(key) || index_.reassigning().contains(key)) return true;
      const Brokers& replicas = image_.partition(key.topic, key.partition)->replicas;
      if (index_.replicas_on(to).contains(key) || !balance.keeps_racks(replicas, from, to)) return true;
      put(key, replaced(replicas, from, to),
          fmt::format("broker {} has {} replicas, broker {} has {}", from.v, balance.load(from), to.v,
                      balance.load(to)));
      balance.move(from, to);
      found = true;
      return false;
    });
    if (!found) std::erase(sources, from);
  }

  std::map<BrokerId, size_t> leads;
  for (const BrokerId b : balance.takers()) leads[b] = index_.preferring(b);
  for (const auto& [key, replicas] : planned) {
    const BrokerId was = image_.partition(key.topic, key.partition)->replicas.front();
    if (was == replicas.front()) continue;
    if (leads.contains(was)) --leads[was];
    ++leads[replicas.front()];
  }
  for (const BrokerId from : balance.takers()) {
    index_.replicas_on(from).scan([&](const PartitionKey& key) {
      if (plan.size() >= moves_max) return false;
      if (planned.contains(key) || index_.reassigning().contains(key)) return true;
      Brokers replicas = state(key);
      if (replicas.front() != from) return true;
      auto best = replicas.begin();
      for (auto at = replicas.begin(); at != replicas.end(); ++at) {
        if (leads.contains(*at) && leads[*at] < leads[*best]) best = at;
      }
      if (leads[from] <= leads[*best] + 1) return true;
      const BrokerId to = *best;
      std::rotate(replicas.begin(), best, best + 1);
      put(key, std::move(replicas),
          fmt::format("broker {} is preferred for {} partitions, broker {} for {}", from.v, leads[from], to.v,
                      leads[to]));
      --leads[from];
      ++leads[to];
      return true;
    });
  }
  return plan;
}

Decision<RebalanceReply> Controller::handle(const Rebalance& request, Now) {
  Decision<RebalanceReply> decision;
  decision.atomic = false;
  decision.reply.moves = plan_rebalance(std::min(request.moves_max, limits_.partitions_per_request));
  if (request.plan_only) return decision;
  Draft draft(image_);
  TopicRules rules(view(image_));
  // A partition with a replica on a broker that may get none keeps it until that broker is dealt with.
  std::erase_if(decision.reply.moves, [&](const PlannedMove& m) {
    return !reassign(draft, rules, {m.partition, m.to}, false).ok();
  });
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
