// AlterPartitionReassignments (KIP-455): begin, replace or cancel a move of replicas. When a move is done
// says control/partition_change.cc.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/contains.h"
#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"

namespace millrace::control {
namespace {

bool is_moving(const meta::Partition& p) {
  return !p.adding_replicas.empty() || !p.removing_replicas.empty();
}

Outcome check_target(const meta::Image& image, const std::vector<BrokerId>& target) {
  const auto bad = [](std::string why) {
    return Outcome{ErrorCode::invalid_replica_assignment, std::move(why)};
  };
  if (target.empty()) return bad("The manual partition assignment includes an empty replica list");
  std::set<BrokerId> seen;
  for (const BrokerId b : target) {
    if (!seen.insert(b).second)
      return bad(fmt::format("The manual partition assignment includes broker {} twice", b.v));
    const meta::Broker* broker = image.broker(b);
    if (broker == nullptr) {
      return bad(fmt::format(
          "The manual partition assignment includes broker {}, but no such broker is registered", b.v));
    }
    if (broker->decommissioning) {
      return bad(
          fmt::format("The manual partition assignment includes broker {}, which is being emptied", b.v));
    }
  }
  return {};
}

}  // namespace

Outcome Controller::reassign(Draft& draft, TopicRules& rules, const Reassignment& item,
                             bool factor_may_change) const {
  const meta::Topic* topic = draft.image().topic(item.partition.topic);
  const meta::Partition* p = topic == nullptr ? nullptr : topic->partitions.find(item.partition.partition);
  if (p == nullptr) {
    return {ErrorCode::unknown_topic_or_partition, "This server does not host this topic-partition."};
  }
  PartitionChange change(draft.image(), topic->id, item.partition.partition, rules.of(*topic));
  if (!item.replicas) {
    if (!is_moving(*p))
      return {ErrorCode::no_reassignment_in_progress, "No partition reassignment is in progress."};
    const std::vector<BrokerId>& adding = p->adding_replicas;
    const bool isr_is_new =
        std::all_of(p->isr.begin(), p->isr.end(), [&adding](BrokerId b) { return contains(adding, b); });
    const bool elr_helps =
        std::any_of(p->elr.begin(), p->elr.end(), [&adding](BrokerId b) { return !contains(adding, b); });
    if (isr_is_new && !elr_helps && !rules.of(*topic).unclean) {
      return {ErrorCode::invalid_replica_assignment,
              "Cancelled, the partition would be left without any replica that is in sync"};
    }
    change.cancel_reassignment();
  } else {
    if (Outcome fine = check_target(draft.image(), *item.replicas); !fine.ok()) return fine;
    const size_t factor = p->replicas.size() - p->adding_replicas.size();
    if (!factor_may_change && item.replicas->size() != factor) {
      return {ErrorCode::invalid_replication_factor,
              fmt::format("The replication factor is changed from {} to {}", factor, item.replicas->size())};
    }
    change.reassign(*item.replicas);
  }
  if (auto record = change.build()) draft.add(std::move(*record));
  return {};
}

Decision<AlterReassignmentsReply> Controller::handle(const AlterReassignments& request, Now) {
  Decision<AlterReassignmentsReply> decision;
  decision.atomic = false;
  Draft draft(image_);
  TopicRules rules(view(image_));
  std::set<std::pair<std::string_view, PartitionId>> seen;
  for (const Reassignment& item : request.partitions) {
    const auto decide = [&]() -> Outcome {
      if (request.partitions.size() > limits_.partitions_per_request) {
        return {ErrorCode::policy_violation,
                fmt::format("A request may move at most {} partitions", limits_.partitions_per_request)};
      }
      if (!seen.emplace(item.partition.topic, item.partition.partition).second) {
        return {ErrorCode::invalid_request, "The partition is named more than once."};
      }
      return reassign(draft, rules, item, request.allow_replication_factor_change);
    };
    Outcome outcome = decide();
    decision.reply.partitions.push_back({item.partition, std::move(outcome)});
  }
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
