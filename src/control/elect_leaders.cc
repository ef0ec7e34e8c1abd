// Elections that an operator asks for, and those that time brings.
#include <fmt/format.h>

#include <algorithm>

#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"

namespace millrace::control {
namespace {

Outcome not_needed() {
  return {ErrorCode::election_not_needed, "Leader election not needed for topic partition."};
}

Outcome elect_one(Draft& draft, TopicRules& rules, const PartitionKey& key, ElectionType type) {
  const meta::Topic& topic = *draft.image().topic(key.topic);
  const meta::Partition& p = *topic.partitions.find(key.partition);
  const bool preferred = type == ElectionType::preferred;
  if (preferred && !p.replicas.empty() && p.leader == p.replicas.front()) return not_needed();
  if (!preferred && p.leader != kNoBroker) return not_needed();
  PartitionChange change(draft.image(), key.topic, key.partition, rules.of(topic));
  change.set_election(preferred ? PartitionChange::Election::preferred : PartitionChange::Election::unclean);
  auto record = change.build();
  const BrokerId leader = record && record->leader ? *record->leader : p.leader;
  const bool done = preferred ? !p.replicas.empty() && leader == p.replicas.front() : leader != kNoBroker;
  if (!done) {
    return preferred
               ? Outcome{ErrorCode::preferred_leader_not_available, "The preferred leader was not available."}
               : Outcome{ErrorCode::eligible_leaders_not_available,
                         "No eligible leader was found for the partition."};
  }
  draft.add(std::move(*record));
  return {};
}

}  // namespace

Decision<ElectLeadersReply> Controller::handle(const ElectLeaders& request, Now) {
  Decision<ElectLeadersReply> decision;
  decision.atomic = false;
  Draft draft(image_);
  TopicRules rules(view(image_));
  const bool known_type = request.type == ElectionType::preferred || request.type == ElectionType::unclean;
  if (request.partitions) {
    for (const NamedPartition& named : *request.partitions) {
      const auto decide = [&]() -> Outcome {
        if (!known_type) return {ErrorCode::invalid_request, "No such type of election"};
        if (request.partitions->size() > limits_.partitions_per_request) {
          return {ErrorCode::policy_violation,
                  fmt::format("A request may elect at most {} leaders", limits_.partitions_per_request)};
        }
        const meta::Topic* topic = image_.topic(named.topic);
        if (topic == nullptr || topic->partitions.find(named.partition) == nullptr) {
          return {ErrorCode::unknown_topic_or_partition, "This server does not host this topic-partition."};
        }
        return elect_one(draft, rules, {topic->id, named.partition}, request.type);
      };
      Outcome outcome = decide();
      decision.reply.partitions.push_back({named, std::move(outcome)});
    }
  } else if (known_type) {
    const PartitionSet& wanting =
        request.type == ElectionType::preferred ? index_.not_preferred() : index_.leaderless();
    wanting.scan([&](const PartitionKey& key) {
      Outcome outcome = elect_one(draft, rules, key, request.type);
      decision.reply.partitions.push_back(
          {{image_.topic(key.topic)->name, key.partition}, std::move(outcome)});
      return decision.reply.partitions.size() < limits_.partitions_per_request;
    });
  }
  decision.records = draft.take();
  return decision;
}

// Leaderless partitions that could have a leader, at first and then once in an interval (unclean elections
// may have been allowed since); preferred leaders of the brokers that lack more than their share.
void Controller::elect_in_time(Draft& draft, TopicRules& rules, Now now, Ticked& out) {
  const int64_t unclean_ms = setting("unclean.leader.election.interval.ms");
  const int64_t check_ms = setting("leader.imbalance.check.interval.seconds") * 1000;
  if (!ticked_) {
    next_unclean_mono_ms_ = now.mono_ms;
    next_rebalance_mono_ms_ = now.mono_ms + check_ms;
  }
  if (now.mono_ms >= next_unclean_mono_ms_) {
    next_unclean_mono_ms_ = now.mono_ms + unclean_ms;
    index_.leaderless().scan([&](const PartitionKey& key) {
      PartitionChange change(draft.image(), key.topic, key.partition, rules.of(*image_.topic(key.topic)));
      if (auto record = change.build()) {
        draft.add(std::move(*record));
        ++out.elections;
      }
      if (out.elections < limits_.elections_per_tick) return true;
      next_unclean_mono_ms_ = now.mono_ms;  // the rest with the next tick
      return false;
    });
  }
  if (now.mono_ms >= next_rebalance_mono_ms_) {
    next_rebalance_mono_ms_ = now.mono_ms + check_ms;
    if (setting_is_true("auto.leader.rebalance.enable")) {
      const auto percentage = static_cast<size_t>(setting("leader.imbalance.per.broker.percentage"));
      std::map<BrokerId, size_t> missing;
      index_.not_preferred().for_each([&](const PartitionKey& key) {
        ++missing[image_.partition(key.topic, key.partition)->replicas.front()];
      });
      // Once some of a broker's leaders are on their way back, the others follow.
      const bool going_on = std::exchange(rebalance_pending_, false);
      index_.not_preferred().scan([&](const PartitionKey& key) {
        const BrokerId preferred = image_.partition(key.topic, key.partition)->replicas.front();
        const bool too_many = missing[preferred] * 100 > percentage * index_.preferring(preferred);
        if (!(too_many || going_on) || !is_usable(draft.image(), preferred)) return true;
        if (elect_one(draft, rules, key, ElectionType::preferred).ok()) ++out.elections;
        if (out.elections < limits_.elections_per_tick) return true;
        rebalance_pending_ = true;
        next_rebalance_mono_ms_ = now.mono_ms;
        return false;
      });
    }
  }
  out.next_mono_ms = std::min({out.next_mono_ms, next_unclean_mono_ms_, next_rebalance_mono_ms_});
}

Decision<Ticked> Controller::tick(Now now) {
  Decision<Ticked> decision;
  decision.atomic = false;
  decision.reply.next_mono_ms = kNoDeadline;
  Draft draft(image_);
  TopicRules rules(view(image_));
  expire_sessions(draft, rules, now, decision.reply);
  elect_in_time(draft, rules, now, decision.reply);
  drain_brokers(draft, rules, now, decision.reply);
  ticked_ = true;
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
