// AlterPartition: a leader proposes an ISR. What the controller answers is the truth the leader goes by.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/contains.h"
#include "base/plants.h"
#include "control/broker_epoch.h"
#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"

namespace millrace::control {
namespace {

using Brokers = std::vector<BrokerId>;

Outcome check_members(const meta::Image& image, const meta::Partition& p, const AlterPartitionItem& item) {
  for (const IsrMember& m : item.isr) {
    const auto ineligible = [&m](std::string why) {
      return Outcome{ErrorCode::ineligible_replica, fmt::format("Replica {} {}", m.broker.v, why)};
    };
    if (!is_usable(image, m.broker)) return ineligible("is fenced, shutting down or not registered");
    const meta::Broker& broker = *image.broker(m.broker);
    const bool unsaid = m.epoch == BrokerEpoch(-1) && contains(p.isr, m.broker);
    if (!unsaid && broker.epoch != m.epoch && !planted(Plant::accept_old_member)) {
      return ineligible(fmt::format("is registered in epoch {}, not {}", broker.epoch.v, m.epoch.v));
    }
    if (!directory_is_online(p, broker)) return ineligible("lies in a directory that is offline");
  }
  return {};
}

Outcome check_item(const meta::Image& image, const meta::Partition& p, BrokerId asks,
                   const AlterPartitionItem& item) {
  const auto bad = [](std::string why) { return Outcome{ErrorCode::invalid_request, std::move(why)}; };
  if (item.leader_epoch > p.leader_epoch || item.partition_epoch > p.partition_epoch) {
    return {ErrorCode::not_controller, "This controller has not heard of these epochs"};
  }
  if (item.leader_epoch < p.leader_epoch) {
    return {ErrorCode::fenced_leader_epoch,
            fmt::format("The leader epoch is {}, not {}", p.leader_epoch.v, item.leader_epoch.v)};
  }
  if (asks != p.leader) return bad(fmt::format("Broker {} leads the partition", p.leader.v));
  if (item.partition_epoch < p.partition_epoch && !planted(Plant::accept_stale_isr)) {
    return {ErrorCode::invalid_update_version,
            fmt::format("The partition epoch is {}, not {}", p.partition_epoch, item.partition_epoch)};
  }
  std::set<BrokerId> seen;
  for (const IsrMember& m : item.isr) {
    if (!seen.insert(m.broker).second) return bad(fmt::format("Replica {} is named twice", m.broker.v));
    if (!contains(p.replicas, m.broker)) return bad(fmt::format("Broker {} has no replica", m.broker.v));
  }
  if (!seen.contains(p.leader)) return bad("The leader is not in its own ISR");
  if (item.leader_recovering && item.isr.size() > 1) return bad("A recovering leader is alone in the ISR");
  if (item.leader_recovering && !p.leader_recovering) return bad("A leader that has recovered does so once");
  return check_members(image, p, item);
}

}  // namespace

AlteredPartition Controller::alter_partition(Draft& draft, TopicRules& rules, const AlterPartition& request,
                                             const PartitionKey& key, const AlterPartitionItem& item) const {
  AlteredPartition out;
  out.partition = key;
  const meta::Topic* topic = draft.image().topic(key.topic);
  if (topic == nullptr) {
    out.outcome = {ErrorCode::unknown_topic_id, "No such topic"};
    return out;
  }
  const meta::Partition* before = topic->partitions.find(key.partition);
  if (before == nullptr) {
    out.outcome = {ErrorCode::unknown_topic_or_partition, "No such partition"};
    return out;
  }
  out.outcome = check_item(draft.image(), *before, request.broker, item);
  if (!out.outcome.ok()) return out;

  PartitionChange change(draft.image(), key.topic, key.partition, rules.of(*topic));
  // In the order of the replicas, however the leader wrote it.
  Brokers isr;
  for (const BrokerId b : before->replicas) {
    if (std::any_of(item.isr.begin(), item.isr.end(), [b](const IsrMember& m) { return m.broker == b; })) {
      isr.push_back(b);
    }
  }
  const std::set<BrokerId> was(before->isr.begin(), before->isr.end());
  if (was != std::set<BrokerId>(isr.begin(), isr.end())) change.set_isr(std::move(isr));
  if (before->leader_recovering && !item.leader_recovering) change.set_recovered();
  if (auto record = change.build()) draft.add(std::move(*record));

  const meta::Partition& after = *draft.image().partition(key.topic, key.partition);
  if (after.leader != request.broker) {
    out.outcome = {ErrorCode::new_leader_elected,
                   "The change completed a reassignment; the leader is another now"};
  }
  out.leader = after.leader;
  out.leader_epoch = after.leader_epoch;
  out.partition_epoch = after.partition_epoch;
  out.isr = after.isr;
  out.leader_recovering = after.leader_recovering;
  return out;
}

Decision<AlterPartitionReply> Controller::handle(const AlterPartition& request, Now) {
  Decision<AlterPartitionReply> decision;
  decision.reply.outcome = check_broker_epoch(image_, request.broker, request.broker_epoch);
  if (!decision.reply.outcome.ok()) return decision;
  decision.atomic = false;
  Draft draft(image_);
  TopicRules rules(view(image_));
  size_t seen = 0;
  for (const AlterPartitionTopic& t : request.topics) {
    for (const AlterPartitionItem& item : t.partitions) {
      const PartitionKey key{t.id, item.partition};
      AlteredPartition& out = decision.reply.partitions.emplace_back();
      if (++seen > limits_.partitions_per_request) {
        out.partition = key;
        out.outcome = {ErrorCode::operation_not_attempted, "Too many partitions in one request"};
      } else {
        out = alter_partition(draft, rules, request, key, item);
      }
    }
  }
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
