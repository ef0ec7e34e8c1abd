// Committed metadata becomes partitions and roles: changes are planned, run on the pool where they block, and
// published as a view.
#include "broker/broker.h"

#include <algorithm>
#include <atomic>

#include "base/contains.h"
#include "base/plants.h"
#include "broker/group_shards.h"
#include "broker/topic_settings.h"

namespace millrace::broker {
namespace {

constexpr int64_t kDepartedMs = 10'000;  // View::names
constexpr size_t kDamagedPerBeat = 1'000;
constexpr const char* kPutAside = ".stray";

}  // namespace

// One step of the metadata on its way to the loops: what is to be opened, led anew or removed, and the view
// that results.
struct Broker::Change {
  std::shared_ptr<const meta::Image> image;
  meta::Delta delta;
  std::function<void()> published;

  std::vector<PartitionHost::OpenPlan> to_open;
  std::vector<Result<PartitionRef>> opened;  // as to_open
  std::vector<PartitionRef> to_remove;
  std::vector<std::string> tombstones;  // as to_remove
  std::vector<std::pair<PartitionRef, partition::Partition::Leadership>> to_lead;
  std::map<Uuid, std::vector<PartitionRef>> topics;  // new contents
  std::vector<Uuid> gone;
  std::atomic<size_t> next_job{0};
  size_t workers = 0;
};

void Broker::on_committed(std::shared_ptr<const meta::Image> image, meta::Delta delta,
                          std::function<void()> published) {
  auto change = std::make_shared<Change>();
  change->image = std::move(image);
  change->delta = std::move(delta);
  change->published = std::move(published);
  changes_.push_back(std::move(change));
  if (!changing_) next_change();
}

void Broker::next_change() {
  if (stop_wanted_) return std::exchange(stop_wanted_, nullptr)();
  if (changes_.empty()) {
    changing_ = false;
    return;
  }
  changing_ = true;
  std::shared_ptr<Change> change = std::move(changes_.front());
  changes_.pop_front();
  leader_throttle_->set_rate(setting_int(*change->image, "leader.replication.throttled.rate"));
  follower_throttle_->set_rate(setting_int(*change->image, "follower.replication.throttled.rate"));
  // A changed configuration of a broker may be the default of any topic.
  bool every_topic = false;
  for (const meta::ConfigResource& r : change->delta.configs) {
    if (r.type == meta::ResourceType::broker) every_topic = true;
    if (r.type != meta::ResourceType::topic) continue;
    if (const meta::Topic* t = change->image->topic(r.name)) change->delta.topics.insert(t->id);
  }
  if (every_topic) {
    change->image->topics().for_each(
        [&](const std::string&, const meta::TopicRef& t) { change->delta.topics.insert(t->id); });
  }
  // Nothing is served before this broker has registered: its leader epochs come with the registration.
  if (const meta::Broker* self = change->image->broker(config_.node_id)) {
    if (!is_registered(*change->image)) host_.expect(self->log_dirs);
    if (is_registered(*change->image)) {
      for (const Uuid& id : std::exchange(withheld_, {})) change->delta.topics.insert(id);
    }
    for (const Uuid& id : change->delta.topics) plan_topic(*change, id);
    if (!change->delta.brokers.empty()) tell_leaders_of_brokers(*change->image);
  }
  run_change(std::move(change));
}

void Broker::plan_topic(Change& change, const Uuid& id) {
  const meta::Topic* topic = change.image->topic(id);
  const HostedTopic* hosted = view_->hosted_topic(id);
  if (topic == nullptr) {
    if (hosted == nullptr) return;
    for (const PartitionRef& p : hosted->partitions) {
      if (!p) continue;
      p->stop(ErrorCode::unknown_topic_or_partition);
      replication_.forget(p);
      change.to_remove.push_back(p);
      change.tombstones.push_back(host_.tombstone(*p));
      host_.forget(*p);
    }
    change.gone.push_back(id);
    return;
  }
  const std::shared_ptr<const partition::PartitionConfig> config =
      partition_config(*change.image, topic->name);
  std::vector<PartitionRef> row = hosted == nullptr ? std::vector<PartitionRef>() : hosted->partitions;
  row.resize(topic->partitions.size());
  for (size_t i = 0; i < row.size(); ++i) {
    const meta::Partition& state = topic->partitions[i];
    if (!contains(state.replicas, config_.node_id)) {
      if (!row[i]) continue;
      // It was moved away.
      row[i]->stop(ErrorCode::not_leader_or_follower);
      replication_.forget(row[i]);
      change.to_remove.push_back(row[i]);
      change.tombstones.push_back(host_.tombstone(*row[i]));
      host_.forget(*row[i]);
      row[i] = nullptr;
      continue;
    }
    // With others a broker takes a role only in the epochs of its registration.
    const bool withheld = !is_registered(*change.image) && state.replicas.size() > 1;
    if (withheld) withheld_.insert(id);
    const bool leads = state.leader == config_.node_id && !withheld;
    if (row[i] && !withheld && may_put_aside(*row[i], state)) {
      put_aside(change, row[i]);
      continue;
    }
    partition::Partition::Leadership leadership = leadership_of(*change.image, state);
    if (row[i]) {
      row[i]->configure(config, state.replicas.size());
      row[i]->sync_tail(*env_.control_loop);  // it may be synced from now on: what was written before, too
      if (leads && !row[i]->on_assignment(leadership))
        change.to_lead.emplace_back(row[i], std::move(leadership));
      if (!withheld) settle_role(row[i], state);
      continue;
    }
    PartitionHost::Spec spec{{topic->name, PartitionId(static_cast<int32_t>(i))},
                             id,
                             config,
                             std::move(leadership),
                             !is_registered(*change.image)};
    spec.leads = leads;
    spec.expendable = !withheld && is_expendable(state);
    const log::CommitKey key{id, PartitionId(static_cast<int32_t>(i))};
    const bool may_begin_anew = spec.expendable && !host_.damaged().contains(key);
    Result<PartitionHost::OpenPlan> plan = host_.plan(std::move(spec));
    if (!plan.ok()) {
      trace_.error("{}-{}: {}", topic->name, i, plan.error().message);
      if (plan.code() == ErrorCode::corrupt) {
        host_.found_damaged(key);
        if (may_begin_anew) unopened_[id].insert(key.partition.v);
      }
      continue;
    }
    change.to_open.push_back(std::move(*plan));
  }
  change.topics[id] = std::move(row);
}

bool Broker::is_expendable(const meta::Partition& state) const {
  return state.leader != kNoBroker && state.leader != config_.node_id &&
         !contains(state.isr, config_.node_id) && !contains(state.elr, config_.node_id);
}

// Found damaged while it serves. With others in sync the controller takes it out of the ISR and begins a new
// leader epoch. Only there, before it has said anything of its log in that epoch, may the log be given up:
// whatever is known of it to leaders, or on its way to them, is of epochs that are over.
bool Broker::may_put_aside(const partition::Partition& partition, const meta::Partition& state) const {
  const LeaderEpoch took_part_in = partition.leader_epoch();
  if (planted(Plant::put_aside_needed) && partition.damaged() && state.replicas.size() > 1) return true;
  return partition.damaged() && is_expendable(state) && took_part_in != kNoLeaderEpoch &&
         took_part_in < state.leader_epoch;
}

std::vector<control::DamagedReplica> Broker::damaged_replicas() const {
  std::vector<control::DamagedReplica> damaged;
  const auto& states = host_.states();
  if (std::none_of(states.begin(), states.end(), [](const auto& s) { return s->damaged(); })) return damaged;
  for (const PartitionRef& p : hosted_partitions()) {
    if (!p->damaged()) continue;
    const meta::Partition* state = view_->image->partition(p->topic_id(), p->name().partition);
    if (state == nullptr || state->replicas.size() < 2) continue;
    damaged.push_back({{p->topic_id(), p->name().partition}, p->leader_epoch()});
    if (damaged.size() == kDamagedPerBeat) break;
  }
  return damaged;
}

// What is here keeps another name, and the next change begins it anew, empty, to be copied.
void Broker::put_aside(Change& change, PartitionRef& partition) {
  trace_.warn("{} is damaged here, where it was {}; it is put aside and copied from its leader",
              partition->name().text(),
              partition->role() == partition::Partition::Role::follower ? "followed" : "led");
  partition->stop(ErrorCode::not_leader_or_follower);
  replication_.forget(partition);
  change.to_remove.push_back(partition);
  change.tombstones.push_back(io::join_path(
      partition->directory(), partition->name().text() + "." + env_.random->uuid().to_string() + kPutAside));
  host_.forget(*partition);
  host_.found_damaged({partition->topic_id(), partition->name().partition});
  unopened_[partition->topic_id()].insert(partition->name().partition.v);
  partition = nullptr;
}

partition::Partition::Leadership Broker::leadership_of(const meta::Image& image,
                                                       const meta::Partition& state) const {
  partition::Partition::Leadership l{state.leader_epoch, state.isr, state.replicas.size()};
  if (state.replicas.size() < 2 && state.isr.size() < 2) return l;
  l.partition_epoch = state.partition_epoch;
  l.lag_time_max_ms = setting_int(image, "replica.lag.time.max.ms");
  for (const BrokerId id : state.replicas) {
    const meta::Broker* b = image.broker(id);
    l.brokers.push_back({id, b == nullptr ? replica::kNoBrokerEpoch : b->epoch,
                         b != nullptr && !b->fenced && !b->in_controlled_shutdown});
  }
  return l;
}

// Follows at once; leading may block and is begun elsewhere.
void Broker::settle_role(const PartitionRef& partition, const meta::Partition& state) {
  partition->note_in_sync(contains(state.isr, config_.node_id));
  if (state.leader == config_.node_id) {
    if (state.replicas.size() > 1) {
      replication_.lead(partition);
    } else {
      replication_.forget(partition);
    }
    return;
  }
  const bool news = partition->leader_epoch() != state.leader_epoch ||
                    partition->role() != partition::Partition::Role::follower;
  partition->follow(state.leader_epoch, state.leader);
  retry_role_of(*partition);
  if (news || !replication_.follows(partition, state.leader)) replication_.follow(partition, state.leader);
}

void Broker::retry_role_of(const partition::Partition& partition) {
  if (partition.waits_for_room()) unopened_[partition.topic_id()].insert(partition.name().partition.v);
}

// Who may join an ISR, and as which incarnation, has changed.
void Broker::tell_leaders_of_brokers(const meta::Image& image) {
  view_->hosted.for_each([&](const Uuid& id, const std::shared_ptr<const HostedTopic>& hosted) {
    const meta::Topic* topic = image.topic(id);
    if (topic == nullptr) return;
    const size_t count = std::min(hosted->partitions.size(), topic->partitions.size());
    for (size_t i = 0; i < count; ++i) {
      const meta::Partition& state = topic->partitions[i];
      if (!hosted->partitions[i] || state.leader != config_.node_id || state.replicas.size() < 2) continue;
      (void)hosted->partitions[i]->on_assignment(leadership_of(image, state));  // of another epoch: planned
    }
  });
}

Replication::Environment Broker::replication_environment() {
  Replication::Environment e;
  e.loop = env_.control_loop;
  e.data_loops = env_.loops;
  e.network = env_.network;
  e.disk = env_.disk;
  e.clock = env_.clock;
  e.trace = env_.trace.named("replication");
  e.self = config_.node_id;
  e.address = [this](BrokerId broker) -> std::optional<io::Endpoint> {
    if (!config_.internal) return std::nullopt;
    const meta::Endpoint* at = endpoint_of(*view_->image, broker, config_.internal->name);
    return at == nullptr ? std::nullopt : std::optional(io::Endpoint{at->host, at->port});
  };
  e.throttle = follower_throttle_;
  e.settings = [this] { return fetcher_settings(); };
  e.on_news = [this](BrokerId node, link::PeerNews news) { on_peer_news(node, news); };
  e.alter = [this](control::AlterPartition request,
                   std::function<void(Result<control::AlterPartitionReply>)> done) {
    ask_controller(*env_.control_loop, std::move(request), std::move(done));
  };
  return e;
}

partition::ReplicaFetcher::Settings Broker::fetcher_settings() const {
  const meta::Image& image = *view_->image;
  partition::ReplicaFetcher::Settings s;
  s.wait_max_ms = setting_int(image, "replica.fetch.wait.max.ms");
  s.bytes_min = static_cast<int32_t>(setting_int(image, "replica.fetch.min.bytes"));
  s.response_bytes_max = static_cast<int32_t>(setting_int(image, "replica.fetch.response.max.bytes"));
  s.partition_bytes_max = static_cast<int32_t>(setting_int(image, "replica.fetch.max.bytes"));
  s.backoff_ms = setting_int(image, "replica.fetch.backoff.ms");
  s.socket_timeout_ms = setting_int(image, "replica.socket.timeout.ms");
  return s;
}

void Broker::run_change(std::shared_ptr<Change> change) {
  const size_t jobs = change->to_open.size() + change->to_remove.size() + change->to_lead.size();
  if (jobs == 0) {
    finish_change(change);
    return;
  }
  for (size_t i = 0; i < change->to_open.size(); ++i)
    change->opened.emplace_back(ErrorCode::unknown_server_error);
  change->workers = std::min(jobs, std::max<size_t>(config_.recovery_threads * config_.log_dirs.size(), 1));
  const size_t workers = change->workers;
  for (size_t w = 0; w < workers; ++w) {
    env_.disk->run(
        *env_.control_loop,
        [this, change, jobs] {
          for (size_t job = change->next_job++; job < jobs; job = change->next_job++) {
            if (job < change->to_open.size()) {
              change->opened[job] = host_.open(change->to_open[job]);
              continue;
            }
            size_t i = job - change->to_open.size();
            if (i < change->to_remove.size()) {
              const Status removed = change->to_remove[i]->remove(change->tombstones[i]);
              if (!removed.ok()) trace_.error("{}", removed.error().message);
              continue;
            }
            i -= change->to_remove.size();
            const Status led = change->to_lead[i].first->lead(change->to_lead[i].second);
            if (!led.ok())
              trace_.error("{}: {}", change->to_lead[i].first->name().text(), led.error().message);
          }
        },
        [this, change] {
          if (--change->workers == 0) finish_change(change);
        });
  }
}

void Broker::finish_change(const std::shared_ptr<Change>& change) {
  for (size_t i = 0; i < change->to_open.size(); ++i) {
    const PartitionHost::Spec& spec = change->to_open[i].spec;
    if (!change->opened[i].ok()) {
      trace_.error("{}: {}; the partition is offline", spec.name.text(), change->opened[i].error().message);
      if (change->to_open[i].create) host_.abandon(change->to_open[i]);
      if (change->opened[i].code() == ErrorCode::corrupt) {
        host_.found_damaged({spec.topic_id, spec.name.partition});
        // Others have it: the next try begins anew.
        if (spec.expendable && !change->to_open[i].anew)
          unopened_[spec.topic_id].insert(spec.name.partition.v);
      }
      // For want of space, or as what is known of the metadata is too old.
      if (change->opened[i].code() == ErrorCode::no_space ||
          change->opened[i].code() == ErrorCode::unknown_leader_epoch)
        unopened_[spec.topic_id].insert(spec.name.partition.v);
      continue;
    }
    const PartitionRef& opened = change->topics[spec.topic_id][static_cast<size_t>(spec.name.partition.v)] =
        std::move(*change->opened[i]);
    host_.opened(change->to_open[i], *opened);
    const meta::Partition* state = change->image->partition(spec.topic_id, spec.name.partition);
    if (state != nullptr && !withheld_.contains(spec.topic_id)) settle_role(opened, *state);
  }
  for (const auto& [partition, leadership] : change->to_lead) retry_role_of(*partition);
  auto next = std::make_shared<View>(*view_);
  next->image = change->image;
  for (auto& [id, row] : change->topics) {
    auto hosted = std::make_shared<HostedTopic>();
    hosted->id = id;
    hosted->partitions = std::move(row);
    next->hosted.insert_or_assign(id, std::move(hosted));
  }
  for (const Uuid& id : change->gone) next->hosted.erase(id);
  note_departures(*change, *next);
  note_addresses(*change);
  partitions_gone_ = partitions_gone_ || !change->gone.empty();
  update_groups(*next);
  publish(std::move(next));
  hand_over_.on_published();
  report_directories(*change);
  if (change->published) change->published();
  // The trees of deleted topics go when nobody waits for it.
  std::vector<std::string> trees = std::move(change->tombstones);
  std::erase_if(trees, [](const std::string& t) { return t.ends_with(kPutAside); });
  for (std::string& leftover : host_.take_leftovers()) trees.push_back(std::move(leftover));
  if (!trees.empty()) {
    env_.disk->run(
        *env_.control_loop,
        [this, trees] {
          for (const std::string& t : trees) {
            if (const Status s = env_.disk->remove_tree(t); !s.ok())
              trace_.warn("{}: {}", t, s.error().message);
          }
        },
        [] {});
  }
  next_change();
}

void Broker::note_departures(const Change& change, View& next) const {
  const int64_t now_ms = env_.clock->now().mono_ms;
  std::erase_if(next.departed, [&](const View::Departed& d) { return d.named_until_mono_ms <= now_ms; });
  for (const BrokerId id : change.delta.brokers) {
    const meta::Broker* before = view_->image->broker(id);
    const meta::Broker* after = change.image->broker(id);
    if (before == nullptr || after == nullptr || before->fenced || !after->fenced) continue;
    next.departed.push_back({id, after->epoch, now_ms + kDepartedMs});
  }
}

// Whoever comes to lead the metadata log has to reach those who follow it, also those who joined another
// leader: until it does they hear nobody, and their sessions end.
void Broker::note_addresses(const Change& change) {
  if (!config_.internal) return;
  for (const BrokerId id : change.delta.brokers) {
    const meta::Endpoint* at = endpoint_of(*change.image, id, config_.internal->name);
    if (at != nullptr && !peers_.knows(id)) peers_.set_address(id, {at->host, at->port});
  }
}

// Partitions that could not be opened on a full disk, or are to be begun anew.
void Broker::retry_unopened() {
  if (unopened_.empty() || changing_ || stopping_) return;
  auto change = std::make_shared<Change>();
  change->image = view_->image;
  for (const auto& [id, partitions] : std::exchange(unopened_, {})) {
    if (view_->image->topic(id) != nullptr) change->delta.topics.insert(id);
  }
  changes_.push_back(std::move(change));
  next_change();
}

void Broker::publish(std::shared_ptr<const View> view) {
  view_ = view;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    shard->loop->post([s = shard.get(), view] { s->show(view); });
  }
  check_serving();
}

// A coordinator per partition of __consumer_offsets that is led here, on the loop its number names.
void Broker::update_groups(View& view) {
  const meta::Topic* topic = view.image->topic(kOffsetsTopic);
  const HostedTopic* hosted = topic == nullptr ? nullptr : view.hosted_topic(topic->id);
  const std::shared_ptr<const GroupShards> old = view.groups;
  if (hosted == nullptr) {
    view.groups = nullptr;
  } else {
    auto next = std::make_shared<GroupShards>();
    next->by_partition.resize(hosted->partitions.size());
    next->epochs.resize(hosted->partitions.size(), kNoLeaderEpoch);
    for (size_t i = 0; i < hosted->partitions.size(); ++i) {
      const PartitionRef& p = hosted->partitions[i];
      if (!p || i >= topic->partitions.size() || topic->partitions[i].leader != config_.node_id ||
          p->role() == partition::Partition::Role::follower) {
        continue;
      }
      next->epochs[i] = topic->partitions[i].leader_epoch;
      if (old) next->by_partition[i] = old->kept(i, p, next->epochs[i]);
      if (next->by_partition[i]) continue;
      const meta::ConfigView settings(*view.image, config_.node_id, *config_.settings);
      const group::GroupLimits limits = group_limits(settings);
      GroupRunner::Environment environment{env_.loops[i % env_.loops.size()], env_.disk, env_.clock,
                                           env_.trace.named("group")};
      auto runner = std::make_shared<GroupRunner>(std::move(environment), p,
                                                  [limits, trace = env_.trace.named("group")] {
                                                    return std::make_unique<group::GroupShard>(limits, trace);
                                                  });
      runner->loop().post([runner] { runner->start(); });
      next->by_partition[i] = std::move(runner);
    }
    view.groups = std::move(next);
  }
  if (!old) return;
  for (size_t i = 0; i < old->by_partition.size(); ++i) {
    const std::shared_ptr<GroupRunner>& runner = old->by_partition[i];
    if (!runner ||
        (view.groups && i < view.groups->by_partition.size() && view.groups->by_partition[i] == runner))
      continue;
    runner->loop().post([runner] { runner->stop(ErrorCode::not_coordinator); });
  }
}

std::shared_ptr<const partition::PartitionConfig> Broker::partition_config(const meta::Image& image,
                                                                           std::string_view topic) const {
  const meta::ConfigView settings(image, config_.node_id, *config_.settings);
  partition::PartitionConfig c = partition_config_of(meta::topic_config(settings, topic), config_.node_id);
  if (config_.segment_bytes) c.log.segment_bytes = *config_.segment_bytes;
  return std::make_shared<const partition::PartitionConfig>(std::move(c));
}

}  // namespace millrace::broker
