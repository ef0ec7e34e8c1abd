// Which brokers are alive: heartbeats, refused connections, sessions that end; and what follows for the
// partitions they hold.
//
// Order of records: who leaves gives up its partitions first and is fenced last; who comes is unfenced first.
// So the records may be cut into entries anywhere.
#include <fmt/format.h>

#include <algorithm>

#include "base/contains.h"
#include "base/plants.h"
#include "control/broker_epoch.h"
#include "control/controller.h"
#include "control/draft.h"

namespace millrace::control {
namespace {

// Damaged replicas of one broker, with one heartbeat: each is a new leader epoch and a copy.
constexpr size_t kGivenUpAtOnce = 16;

meta::BrokerChangeRecord change_of(const meta::Broker& broker) {
  meta::BrokerChangeRecord r;
  r.id = broker.id;
  r.epoch = broker.epoch;
  return r;
}

}  // namespace

// --- sessions ---

bool Controller::has_session(BrokerId broker, Now now) {
  if (alone_.contains(broker)) return false;
  auto at = sessions_.find(broker);
  if (at == sessions_.end()) {
    // A fenced broker that says nothing is not there; any other may have been heard by an earlier controller.
    const meta::Broker* known = image_.broker(broker);
    if (known == nullptr || known->fenced) return false;
    at = sessions_.emplace(broker, Session{now.mono_ms}).first;
  }
  return now.mono_ms - at->second.heard_mono_ms < setting("broker.session.timeout.ms");
}

void Controller::expire_sessions(Draft& draft, TopicRules& rules, Now now, Ticked& out) {
  std::vector<BrokerId> lost;
  image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (!b->fenced && !alone_.contains(id) && !has_session(id, now)) lost.push_back(id);
  });
  for (const BrokerId b : lost) fence(draft, rules, b);
  // Sessions of fenced brokers only keep others from taking their id.
  const int64_t timeout = setting("broker.session.timeout.ms");
  std::erase_if(sessions_, [&](const auto& s) { return now.mono_ms - s.second.heard_mono_ms >= timeout; });
  for (const auto& [id, s] : sessions_) {
    out.next_mono_ms = std::min(out.next_mono_ms, s.heard_mono_ms + timeout);
  }
  out.fenced = std::move(lost);
}

// --- coming and going ---

void Controller::leave(Draft& draft, TopicRules& rules, BrokerId broker) const {
  index_.replicas_on(broker).for_each([&](const PartitionKey& key) {
    const meta::Partition& p = *draft.image().partition(key.topic, key.partition);
    if (p.leader != broker && !contains(p.isr, broker)) return;
    PartitionChange change(draft.image(), key.topic, key.partition, rules.of(*image_.topic(key.topic)));
    if (auto record = change.without(broker).build()) draft.add(std::move(*record));
  });
}

void Controller::fence(Draft& draft, TopicRules& rules, BrokerId broker) {
  if (!planted(Plant::fence_keeps_isr)) leave(draft, rules, broker);
  meta::BrokerChangeRecord change = change_of(*draft.image().broker(broker));
  change.fenced = true;
  draft.add(std::move(change));
  sessions_.erase(broker);
}

void Controller::unfence(Draft& draft, TopicRules& rules, BrokerId broker) const {
  meta::BrokerChangeRecord unfenced = change_of(*draft.image().broker(broker));
  unfenced.fenced = false;
  draft.add(std::move(unfenced));
  index_.leaderless().for_each([&](const PartitionKey& key) {
    const meta::Partition& p = *draft.image().partition(key.topic, key.partition);
    if (!contains(p.replicas, broker)) return;
    PartitionChange change(draft.image(), key.topic, key.partition, rules.of(*image_.topic(key.topic)));
    if (auto record = change.build()) draft.add(std::move(*record));
  });
}

// What was committed there stays there, as far as anybody knows: once the directory can be read again (a
// cable, a mount, a machine that was switched off), its replicas may lead. Until then they cannot.
void Controller::lose_directories(Draft& draft, TopicRules& rules, BrokerId broker,
                                  const std::vector<Uuid>& gone) const {
  meta::BrokerChangeRecord less = change_of(*draft.image().broker(broker));
  std::vector<Uuid> left = draft.image().broker(broker)->log_dirs;
  std::erase_if(left, [&](const Uuid& d) { return contains(gone, d); });
  less.log_dirs = std::move(left);
  draft.add(std::move(less));
  index_.replicas_on(broker).for_each([&](const PartitionKey& key) {
    const meta::Partition& p = *draft.image().partition(key.topic, key.partition);
    const auto at = std::find(p.replicas.begin(), p.replicas.end(), broker);
    const auto i = static_cast<size_t>(at - p.replicas.begin());
    if (i >= p.directories.size()) return;
    if (!contains(gone, p.directories[i])) return;
    PartitionChange change(draft.image(), key.topic, key.partition, rules.of(*image_.topic(key.topic)));
    if (auto record = change.without(broker).build()) draft.add(std::move(*record));
  });
}

// As far as it has told this controller itself.
bool Controller::is_healthy(BrokerId broker, const PartitionKey& key) const {
  const auto at = sessions_.find(broker);
  return at != sessions_.end() && at->second.told_damage && !at->second.damaged.contains(key);
}

// A damaged replica leaves the ISR, and the partition gets a new leader epoch even if its leader stays: what
// the replica said of its log before, and may still be on its way, is of an epoch that is over, so its broker
// may empty it as soon as it hears of the new one. Only where without it as many healthy ones are in sync as
// min.insync.replicas asks for, or all healthy ones there are: damaged or not, what it holds counts until
// then. A damaged leader hands over to a healthy one in any case: those that are not in sync, or come, can
// copy from that.
void Controller::give_up_damaged(Draft& draft, TopicRules& rules, BrokerId broker,
                                 const std::vector<DamagedReplica>& damaged) const {
  size_t changed = 0;
  for (const DamagedReplica& replica : damaged) {
    const PartitionKey& key = replica.partition;
    const meta::Partition* p = draft.image().partition(key.topic, key.partition);
    if (p == nullptr || !contains(p->replicas, broker)) continue;
    // Of an earlier epoch: given up already, or told again when its broker has heard of this one.
    if (p->leader_epoch != replica.leader_epoch || p->leader == kNoBroker || p->leader_recovering) continue;
    std::vector<BrokerId> in_sync;  // the others, healthy
    size_t others = 0;              // that are in sync, or ought to be
    for (const BrokerId b : p->replicas) {
      const bool synced = contains(p->isr, b);
      if (b == broker || (synced && !is_healthy(b, key))) continue;
      if (synced) in_sync.push_back(b);
      if (synced || !contains(p->adding_replicas, b)) ++others;
    }
    const PartitionRules& rule = rules.of(*draft.image().topic(key.topic));
    const bool enough = in_sync.size() >= std::min(rule.min_isr, others);
    if (in_sync.empty() || (!enough && p->leader != broker)) continue;
    PartitionChange change(draft.image(), key.topic, key.partition, rule);
    if (enough) change.without(broker).distrust(broker);
    if (!contains(in_sync, p->leader)) change.lead_by_one_of(in_sync);
    auto record = change.lead_anew().build();
    if (!record) continue;
    draft.add(std::move(*record));
    if (++changed == kGivenUpAtOnce) return;
  }
}

// First its leaders move and it leaves every ISR; when it leads nothing and every other live broker has heard
// so, it may go.
void Controller::step_shutdown(Draft& draft, TopicRules& rules, const meta::Broker& broker,
                               BrokerHeartbeatReply& reply) {
  if (broker.fenced) {
    reply.should_shutdown = true;
    return;
  }
  if (!broker.in_controlled_shutdown) {
    leave(draft, rules, broker.id);
    meta::BrokerChangeRecord change = change_of(broker);
    change.in_controlled_shutdown = true;
    draft.add(std::move(change));
    return;
  }
  if (index_.led_by(broker.id) > 0) {
    leave(draft, rules, broker.id);  // an earlier controller did not come so far
    return;
  }
  const auto at = milestones_.find(broker.id);
  const LogIndex since = at == milestones_.end() ? began_at_ : at->second.shutting_down;
  bool all_know = true;
  image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (id == broker.id || b->fenced || alone_.contains(id)) return;
    const auto s = sessions_.find(id);
    all_know = all_know && s != sessions_.end() && s->second.applied >= since;
  });
  if (!all_know) return;
  fence(draft, rules, broker.id);
  reply.should_shutdown = true;
}

Decision<BrokerHeartbeatReply> Controller::handle(const BrokerHeartbeat& request, Now now) {
  Decision<BrokerHeartbeatReply> decision;
  BrokerHeartbeatReply& reply = decision.reply;
  reply.outcome = check_broker_epoch(image_, request.broker, request.epoch);
  if (!reply.outcome.ok()) return decision;
  decision.atomic = false;

  const meta::Broker& broker = *image_.broker(request.broker);
  Session& session = sessions_[request.broker];
  session.heard_mono_ms = now.mono_ms;
  session.applied = std::max(session.applied, request.applied);
  session.told_damage = true;
  session.damaged.clear();
  for (const DamagedReplica& d : request.damaged) session.damaged.insert(d.partition);
  const auto at = milestones_.find(request.broker);
  reply.caught_up = request.applied >= (at == milestones_.end() ? began_at_ : at->second.registered);

  Draft draft(image_);
  TopicRules rules(view(image_));
  std::vector<Uuid> gone;
  for (const Uuid& d : broker.log_dirs) {
    const auto& offline = request.offline_log_dirs;
    if (contains(offline, d)) gone.push_back(d);
  }
  if (!gone.empty()) lose_directories(draft, rules, request.broker, gone);

  if (!broker.fenced && !broker.in_controlled_shutdown && !request.want_shutdown && !request.want_fence)
    give_up_damaged(draft, rules, request.broker, request.damaged);

  if (request.want_shutdown) {
    step_shutdown(draft, rules, broker, reply);
  } else if (request.want_fence) {
    if (!broker.fenced) {
      fence(draft, rules, request.broker);
      sessions_[request.broker] = {now.mono_ms, request.applied};  // it lives
    }
  } else if (broker.fenced && reply.caught_up && !broker.in_controlled_shutdown) {
    unfence(draft, rules, request.broker);
  }
  reply.fenced = draft.image().broker(request.broker)->fenced;
  decision.records = draft.take();
  return decision;
}

Decision<BrokerUnreachableReply> Controller::handle(const BrokerUnreachable& request, Now) {
  Decision<BrokerUnreachableReply> decision;
  BrokerUnreachableReply& reply = decision.reply;
  // What a node that is only a controller has seen itself comes without a reporter.
  if (request.reporter != kNoBroker) {
    reply.outcome = check_broker_epoch(image_, request.reporter, request.reporter_epoch);
  }
  if (reply.outcome.ok()) reply.outcome = check_broker_epoch(image_, request.broker, request.epoch);
  if (reply.outcome.ok() && request.broker == request.reporter) {
    reply.outcome = {ErrorCode::invalid_request, "A broker that reports itself unreachable is not"};
  }
  if (!reply.outcome.ok()) return decision;
  decision.atomic = false;
  if (alone_.contains(request.broker)) return decision;
  const bool was_fenced = image_.broker(request.broker)->fenced;
  sessions_.erase(request.broker);
  if (was_fenced) return decision;  // its next incarnation need not wait
  Draft draft(image_);
  TopicRules rules(view(image_));
  fence(draft, rules, request.broker);
  reply.fenced = true;
  decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
