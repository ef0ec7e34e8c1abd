#include "sim/state_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/contains.h"
#include "group/partition_for.h"

namespace millrace::sim {

namespace {

constexpr std::string_view kOffsetsTopic = "__consumer_offsets";

bool is_fenced(const meta::Image& image, BrokerId id) {
  const meta::Broker* b = image.broker(id);
  return b == nullptr || b->fenced;
}

std::string numbers(const std::vector<BrokerId>& ids) {
  std::string out;
  for (const BrokerId id : ids) out += (out.empty() ? "" : ",") + std::to_string(id.v);
  return "[" + out + "]";
}

std::string described(const meta::Partition& p) {
  return fmt::format("led by {} in epoch {}, replicas {} +{} -{}, in sync {}, eligible {}", p.leader.v,
                     p.leader_epoch.v, numbers(p.replicas), numbers(p.adding_replicas),
                     numbers(p.removing_replicas), numbers(p.isr), numbers(p.elr));
}

}  // namespace

void note_partition_change(World& world, const meta::Image& was, const meta::Image& is,
                           const meta::Partition& before, const meta::Partition& now, int32_t min_insync) {
  const bool same_replicas = before.replicas == now.replicas;
  const bool led_anew = now.leader != before.leader && now.leader != kNoBroker;
  if (led_anew && contains(before.elr, now.leader) && !contains(before.isr, now.leader))
    world.meet(rare("elr-election"));
  if (now.leader == kNoBroker && before.leader != kNoBroker) world.meet(rare("no-leader"));
  if (now.leader != kNoBroker && before.leader == kNoBroker) world.meet(rare("leader-again"));
  if (led_anew && before.leader != kNoBroker) {
    const meta::Broker* b = is.broker(before.leader);
    const meta::Broker* earlier = was.broker(before.leader);
    if (b != nullptr &&
        (b->in_controlled_shutdown || (earlier != nullptr && earlier->in_controlled_shutdown)))
      world.meet(rare("leader-by-shutdown"));
  }
  if (same_replicas && now.isr.size() == 1 && before.isr.size() > 1) world.meet(rare("isr-of-one"));
  const size_t needed = std::min<size_t>(static_cast<size_t>(min_insync), now.replicas.size());
  if (same_replicas && now.isr.size() < needed && before.isr.size() >= needed)
    world.meet(rare("below-min-isr"));
  if (same_replicas && before.isr.size() < needed && now.isr.size() == now.replicas.size())
    world.meet(rare("isr-whole-again"));
  if (!now.elr.empty() && before.elr.empty()) world.meet(rare("elr-filled"));
  const bool was_moving = !before.adding_replicas.empty() || !before.removing_replicas.empty();
  const bool moves = !now.adding_replicas.empty() || !now.removing_replicas.empty();
  if (was_moving && !moves) {
    const bool called_off = std::any_of(before.adding_replicas.begin(), before.adding_replicas.end(),
                                        [&](BrokerId id) { return !contains(now.replicas, id); });
    world.meet(called_off ? rare("move-called-off") : rare("move-done"));
  }
  if (moves && std::any_of(now.adding_replicas.begin(), now.adding_replicas.end(),
                           [&](BrokerId id) { return is_fenced(is, id); }))
    world.meet(rare("move-newcomer-down"));
}

void note_broker_changes(World& world, const meta::Image& was, const meta::Image& is,
                         std::set<int32_t>& fenced) {
  is.brokers().for_each([&](const BrokerId& id, const meta::BrokerRef& now) {
    const meta::Broker* before = was.broker(id);
    if (before == nullptr) return;
    if (before->epoch == now->epoch) {
      if (before->fenced && !now->fenced && fenced.contains(id.v)) world.meet(rare("fenced-returns"));
      if (!before->fenced && now->fenced) fenced.insert(id.v);
    } else {
      if (!before->fenced) world.meet(rare("registered-unfenced"));
      fenced.erase(id.v);
    }
  });
}

void StateWatch::look() {
  look_at_image();
  for (const auto& node : nodes_) {
    if (!node->runs()) continue;
    look_at_quorum(*node);
    look_at_partitions(*node);
  }
}

void StateWatch::look_at_image() {
  std::shared_ptr<const meta::Image> newest = newest_image(nodes_);
  if (!newest || (image_ && newest->applied_index() <= image_->applied_index())) return;
  if (image_) {
    const meta::Image& was = *image_;
    newest->topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
      const meta::Topic* before = was.topic(name);
      if (before == nullptr || before == topic.get() || before->id != topic->id) return;
      for (size_t i = 0; i < std::min(before->partitions.size(), topic->partitions.size()); ++i) {
        const meta::Partition& p = topic->partitions[i];
        const meta::Partition& b = before->partitions[i];
        if (p.partition_epoch == b.partition_epoch && p.leader_epoch == b.leader_epoch) continue;
        if (world_.narrate) world_.say(fmt::format("{}-{}: {}", name, i, described(p)));
        note_partition_change(world_, was, *newest, b, p, world_.knobs.min_insync);
        for (const BrokerId id : b.replicas) {
          if (!contains(p.replicas, id) && following_.contains({id.v, name, static_cast<int32_t>(i)}))
            world_.meet(rare("removed-as-follower"));
        }
      }
    });
    note_broker_changes(world_, was, *newest, fenced_);
    note_drain(*newest);
    note_coordinator(was, *newest);
  }
  image_ = std::move(newest);
}

void StateWatch::note_coordinator(const meta::Image& was, const meta::Image& is) {
  const meta::Topic* before = was.topic(kOffsetsTopic);
  const meta::Topic* now = is.topic(kOffsetsTopic);
  if (before == nullptr || now == nullptr || before == now || members_.empty()) return;
  const auto i = static_cast<size_t>(
      group::partition_for(members_.front()->group(), static_cast<int32_t>(now->partitions.size())));
  if (i >= before->partitions.size()) return;
  if (before->partitions[i].leader == now->partitions[i].leader || now->partitions[i].leader == kNoBroker)
    return;
  for (const SimMember* m : members_) {
    if (m->joins()) world_.meet(rare("coordinator-moved-join"));
    if (m->commits()) world_.meet(rare("coordinator-moved-commit"));
  }
}

void StateWatch::note_drain(const meta::Image& image) {
  if (world_.draining < 0) return;
  for (const auto& [name, partitions] : world_.topics) {
    const meta::Topic* topic = image.topic(name);
    if (topic == nullptr) return;
    for (const meta::Partition& p : topic->partitions) {
      if (contains(p.replicas, BrokerId(world_.draining))) return;
    }
  }
  world_.meet(rare("broker-drained"));
  world_.draining = -1;
}

void StateWatch::note_membership(const raft::Membership& now, int64_t index) {
  if (index <= membership_at_) return;
  if (membership_at_ >= 0) {
    for (const raft::NodeId id : members_of_quorum_.voters) {
      if (!now.is_voter(id)) world_.meet(rare("voter-removed"));
    }
    for (const raft::NodeId id : now.voters) {
      if (members_of_quorum_.is_voter(id)) continue;
      world_.meet(rare("voter-added"));
      if (world_.emptied.contains(id.v)) world_.meet(rare("empty-disk-votes"));
    }
  }
  members_of_quorum_ = now;
  membership_at_ = index;
}

void StateWatch::look_at_quorum(SimNode& node) {
  const raft::Raft* core = node.broker().ledger().runner().core();
  if (core == nullptr) return;
  Quorum& q = quorums_[node.id().v];
  Quorum now{node.life(),
             core->term().v,
             core->role(),
             core->leader(),
             core->log().base_index().v,
             core->log().last_index().v,
             core->is_taking_snapshot()};
  if (q.life != now.life) {
    if (now.base > 0) world_.meet(rare("snapshot-loaded"));
  } else {
    const bool same_term = q.term == now.term;
    if (q.role == raft::Role::leader && now.role != raft::Role::leader && same_term)
      world_.meet(rare("stepped-down"));
    if (q.role == raft::Role::pre_candidate && now.role == raft::Role::follower && same_term)
      world_.meet(rare("pre-vote-lost"));
    if (q.role == raft::Role::candidate && (!same_term || now.role == raft::Role::follower))
      world_.meet(rare("vote-lost"));
    if (now.last < q.last) world_.meet(rare("entries-overwritten"));
    if (now.base > q.base) {
      world_.meet(q.taking_snapshot || now.base > q.last ? rare("snapshot-installed")
                                                         : rare("snapshot-kept"));
    }
    if (now.taking_snapshot && !q.taking_snapshot) world_.meet(rare("snapshot-half"));
    if (q.taking_snapshot && now.base == q.base && now.leader != q.leader)
      world_.meet(rare("snapshot-orphaned"));
  }
  q = now;
  if (core->leads() && now.term > controller_term_) {
    if (controller_ != raft::kNobody && controller_ != node.id()) world_.meet(rare("controller-changed"));
    controller_ = node.id();
    controller_term_ = now.term;
  }
  if (core->leads() && now.term == controller_term_) note_membership(core->membership(), now.last);
}

void StateWatch::look_at_partitions(SimNode& node) {
  const int32_t id = node.id().v;
  const auto mine = [id](std::set<Place>& places) {
    std::erase_if(places, [id](const Place& p) { return std::get<0>(p) == id; });
  };
  mine(following_);
  std::set<Place> held, zombies;
  size_t dead = 0;
  std::set<std::string> newly_dead;
  for (size_t i = 0; i < node.disk().devices(); ++i) {
    const std::string& root = node.disk().device(i).root;
    const auto state = node.broker().host().state_of(root);
    if (!state || !state->failed()) {
      offline_.erase(root);
      continue;
    }
    ++dead;
    if (offline_.insert(root).second) newly_dead.insert(root);
  }
  if (!newly_dead.empty()) {
    world_.meet(dead < node.disk().devices() ? rare("directory-dead") : rare("all-directories-dead"));
  }
  node.view().hosted.for_each([&](const Uuid& topic, const std::shared_ptr<const broker::HostedTopic>& t) {
    for (size_t i = 0; i < t->partitions.size(); ++i) {
      const broker::PartitionRef& partition = t->partitions[i];
      if (!partition || partition->offline()) continue;
      const partition::Partition::Usage usage = partition->usage();
      const Place place{id, partition->name().topic, static_cast<int32_t>(i)};
      if (usage.role == partition::Partition::Role::follower) following_.insert(place);
      if (usage.role != partition::Partition::Role::leader) continue;
      if (usage.under_min_isr && usage.offsets.high_watermark < usage.offsets.log_end) held.insert(place);
      int64_t& end = world_.ends[{partition->name().topic, static_cast<int32_t>(i)}];
      const meta::Topic* known = image_ ? image_->topic(topic) : nullptr;
      if (known == nullptr || i >= known->partitions.size()) continue;
      const meta::Partition& p = known->partitions[i];
      if (p.leader_epoch == partition->leader_epoch()) end = usage.offsets.log_end.v;
      if (p.leader_epoch > partition->leader_epoch() && p.leader != kNoBroker && p.leader != node.id())
        zombies.insert(place);
    }
  });
  for (const Place& p : held) {
    if (!held_.contains(p)) world_.meet(rare("watermark-held"));
  }
  for (const Place& p : zombies) {
    if (!zombies_.contains(p)) world_.meet(rare("two-leaders"));
  }
  mine(held_);
  mine(zombies_);
  held_.merge(held);
  zombies_.merge(zombies);
}

}  // namespace millrace::sim
