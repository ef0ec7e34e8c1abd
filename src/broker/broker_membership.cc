// This broker among the others: what it asks the controller, here or elsewhere, its registration and its
// session, and the news of others.
#include "broker/broker.h"

#include <algorithm>

#include "control/features.h"

namespace millrace::broker {
namespace {

constexpr int64_t kAskTimeoutMs = 10'000;
constexpr int64_t kStandingStepMs = 250;
constexpr int64_t kGoneMs = 2'000;          // what the controller does not confirm is forgotten
constexpr int64_t kDoubtMs = 500;           // clients wait so long for a leader in place of one that is gone
constexpr int64_t kRefusalHoldsMs = 5'000;  // for whoever comes to lead the metadata log meanwhile
constexpr std::string_view kMinInsyncReplicas = "min.insync.replicas";

}  // namespace

void Broker::on_broker_request(control::BrokerRequest request,
                               std::function<void(control::BrokerAnswer)> done) {
  std::visit(
      [&](auto& m) {
        ledger_.submit(
            std::move(m),
            [this, done = std::move(done)](auto r) {
              control::BrokerAnswer answer;
              answer.applied = ledger_.committed();
              if (r.ok()) {
                answer.reply = control::BrokerReply(std::move(*r));
              } else {
                answer.reply = std::move(r).error();
              }
              done(std::move(answer));
            },
            MetadataLedger::Until::committed);
      },
      request);
}

void Broker::ask_remote(const control::BrokerRequest& request, int64_t seen_timeout_ms,
                        std::function<void(Result<control::BrokerReply>)> done) {
  if (leader_ == kNoBroker || leader_ == config_.node_id || stopping_) {
    done(ledger_.failed()
             ? Error(ErrorCode::kafka_storage_error, "the metadata log failed: " + ledger_.failure())
             : Error(ErrorCode::not_controller, "no leader of the metadata log is known now"));
    return;
  }
  peers_.ask(leader_, ledger::kControllerApi, control::encode(request), kAskTimeoutMs,
             [this, seen_timeout_ms, done = std::move(done)](Result<MutableByteView> bytes) {
               if (!bytes.ok()) return done(bytes.error());
               Result<control::BrokerAnswer> answer = control::decode_broker_answer(*bytes);
               if (!answer.ok()) return done(answer.error());
               if (!answer->reply.ok()) return done(answer->reply.error());
               answered_at_ = answer->applied;
               if (seen_timeout_ms == kNoWait) return done(std::move(*answer->reply));
               auto reply = std::make_shared<control::BrokerReply>(std::move(*answer->reply));
               ledger_.when_published(answer->applied, seen_timeout_ms,
                                      [done, reply] { done(std::move(*reply)); });
             });
}

void Broker::on_leader(BrokerId leader) {
  leader_ = leader;
  told_leader_ = kNoBroker;
  joined_directories_.clear();  // each leader is told anew
  leader_heard_ms_ = env_.clock->now().mono_ms;
  if (leader != kNoBroker) trace_.info("node {} leads the metadata log", leader.v);
  const bool known = leader != kNoBroker;
  auto view = std::make_shared<View>(*view_);
  view->controller = leader;
  publish(std::move(view));
  if (!config_.is_broker) {
    if (known) started({});
  } else if (known && !lifecycle_) {
    incarnation_ = env_.random->uuid();
    lifecycle_ = std::make_unique<Lifecycle>(*env_.control_loop, *env_.clock, trace_, config_.node_id,
                                             lifecycle_links());
    if (is_whole_cluster()) {
      register_alone();
    } else {
      lifecycle_->begin();
    }
  }
  if (lifecycle_) lifecycle_->on_controller_changed(known, leader == config_.node_id);
  report_refusals();
}

// Then its registration gives leadership away to nobody, as nobody else has a copy of anything.
bool Broker::is_whole_cluster() const {
  if (founding_->voters.size() != 1 || !ledger_.leading()) return false;
  bool others = false;
  ledger_.controller()->image().brokers().for_each(
      [&](BrokerId id, const meta::BrokerRef&) { others = others || id != config_.node_id; });
  return !others;
}

void Broker::started(Status status) {
  if (ready_) {
    std::exchange(ready_, nullptr)(std::move(status));
  }
}

std::string Broker::waiting_for() const {
  if (!ready_) return {};
  if (!founding_) return "the metadata quorum";
  return lifecycle_ ? lifecycle_->waiting_for() : "a leader of the metadata log";
}

bool Broker::is_registered(const meta::Image& image) const {
  const meta::Broker* self = image.broker(config_.node_id);
  return self != nullptr && self->incarnation == incarnation_ && !incarnation_.is_zero();
}

control::RegisterBroker Broker::registration() const {
  control::RegisterBroker request;
  request.id = config_.node_id;
  request.cluster_id = founding_->cluster_id;
  request.incarnation = incarnation_;
  request.endpoints = config_.advertised;
  if (config_.internal) request.endpoints.push_back(*config_.internal);
  request.features = control::supported_features();
  request.rack = config_.rack;
  // What lay in a directory that is gone is led and vouched for by others.
  for (const PartitionHost::DirectoryInfo& d : host_.directories()) {
    if (!d.state->failed() && !d.id.is_zero()) request.log_dirs.push_back(d.id);
  }
  // Others lead what was led here of them; then they are copied from there.
  for (const log::CommitKey& k : host_.damaged()) request.damaged.push_back({k.topic_id, k.partition});
  for (const log::CommitKey& k : host_.unsynced()) request.unsynced.push_back({k.topic_id, k.partition});
  request.clean_epoch = host_.clean_epoch();
  if (const auto given = config_.settings->find(kMinInsyncReplicas); given != config_.settings->end()) {
    const Result<int64_t> value = meta::parse_config_int(given->second);
    if (value.ok()) request.min_insync_replicas = static_cast<int32_t>(*value);
  }
  return request;
}

// A node that is the whole quorum is unfenced at once: nobody else could do anything for its partitions.
void Broker::register_alone() {
  control::RegisterBroker request = registration();
  request.alone = true;
  request.log_dirs = host_.ids_to_register();
  ledger_.submit(std::move(request), [this](Result<control::RegisterBrokerReply> r) {
    if (!r.ok() || !r->outcome.ok()) {
      started(r.ok() ? Error(r->outcome.error, r->outcome.message) : r.error());
      return;
    }
    standing_->hold_until(kNoDeadline, 0);
    lifecycle_->adopt(r->epoch);
    on_registered(r->epoch);
    started({});
  });
}

Lifecycle::Links Broker::lifecycle_links() {
  Lifecycle::Links links;
  links.register_broker = [this](control::RegisterBroker request, auto done) {
    request.own = ledger_.leading();
    ask(std::move(request), std::move(done));
  };
  links.heartbeat = [this](control::BrokerHeartbeat request, auto done) {
    const bool catching_up = request.epoch.v < 0;
    if (ledger_.leading()) {
      ledger_.submit(
          std::move(request),
          [this, done = std::move(done)](Result<control::BrokerHeartbeatReply> r) {
            answered_at_ = ledger_.committed();
            done(std::move(r));
          },
          catching_up ? MetadataLedger::Until::published : MetadataLedger::Until::committed);
      return;
    }
    ask_remote(request, catching_up ? kWaitForEver : kNoWait,
               [done = std::move(done)](Result<control::BrokerReply> r) {
                 if (!r.ok()) {
                   done(std::move(r).error());
                 } else if (auto* reply = std::get_if<control::BrokerHeartbeatReply>(&*r)) {
                   done(std::move(*reply));
                 } else {
                   done(Error(ErrorCode::corrupt, "a reply to another question"));
                 }
               });
  };
  links.registration = [this] { return registration(); };
  links.published = [this] { return ledger_.published(); };
  links.offline_log_dirs = [this] {
    std::vector<Uuid> offline;
    for (const PartitionHost::DirectoryInfo& d : host_.directories()) {
      if (d.state->failed() && !d.id.is_zero()) offline.push_back(d.id);
    }
    return offline;
  };
  links.damaged = [this] { return damaged_replicas(); };
  links.interval_ms = [this] { return setting_int(*view_->image, "broker.heartbeat.interval.ms"); };
  links.on_heard = [this](int64_t asked_mono_ms) { on_heard(asked_mono_ms); };
  links.on_registered = [this](BrokerEpoch epoch) { on_registered(epoch); };
  links.on_serving = [this] { check_serving(); };
  links.on_refused = [this](const Error& why) { started(why); };
  return links;
}

void Broker::on_registered(BrokerEpoch epoch) {
  const bool first = broker_epoch_.v < 0;
  broker_epoch_ = epoch;
  next_id_ = ids_end_;
  directory_reports_.send(config_.node_id, epoch);
  replication_.set_broker_epoch(epoch);
  if (!first) return;
  host_.report_strays([this](const Uuid& id) { return view_->image->topic(id) != nullptr; });
  host_.forget_manifests();
  arm_housekeeping();
  cleaner_.start();
  scrubber_->start();
  watch_standing();
}

// An answer counts when what the controller had decided by then is seen here: it may be that this broker was
// fenced meanwhile, and that others lead.
// A controller in this very process answers at once, also one that was stopped for a while and does not know
// yet that another leads: its word counts from the time at which a majority followed it.
void Broker::on_heard(int64_t asked_mono_ms) {
  if (ledger_.leading()) asked_mono_ms = std::min(asked_mono_ms, ledger_.runner().led_until_mono_ms());
  const int64_t session_ms = setting_int(*view_->image, "broker.session.timeout.ms");
  const int64_t silence_ms = session_ms + setting_int(*view_->image, "replica.fetch.wait.max.ms");
  const int64_t until_ms = asked_mono_ms + session_ms;
  ledger_.when_published(answered_at_, session_ms, [this, until_ms, silence_ms, index = answered_at_] {
    const int64_t so_far_ms = standing_->session_ends_mono_ms();
    if (ledger_.published() < index || (so_far_ms != kNoDeadline && until_ms <= so_far_ms)) return;
    standing_->hold_until(until_ms, silence_ms);
  });
}

// A broker without a session that leads nothing but what is in doubt is of no use to clients.
void Broker::watch_standing() {
  if (stopping_) return;
  env_.control_loop->call_after(kStandingStepMs, [this] { watch_standing(); });
  const Now now = env_.clock->now();
  const bool over = standing_->session_over(now.mono_ms);
  if (over != std::exchange(session_over_, over)) {
    if (over) {
      trace_.warn(
          "the controller has not answered for the time of a session: what is led here and cannot be "
          "committed is refused");
    } else {
      trace_.info("the controller answers again");
    }
  }
  bool aside = over;
  if (over) {
    const std::vector<PartitionRef> all = hosted_partitions();
    aside = std::none_of(all.begin(), all.end(), [&](const PartitionRef& p) {
      return p->role() == partition::Partition::Role::leader && !p->in_doubt(now);
    });
  }
  standing_->set_aside(aside);
}

void Broker::report_directories(const Change& change) {
  if (!has_peers() || config_.log_dirs.size() < 2 || !is_registered(*change.image)) return;
  std::map<std::string, Uuid> ids;
  for (const PartitionHost::DirectoryInfo& d : host_.directories()) ids[d.path] = d.id;
  for (const auto& [id, row] : change.topics) {
    const meta::Topic* topic = change.image->topic(id);
    const HostedTopic* hosted = view_->hosted_topic(id);
    if (topic == nullptr || hosted == nullptr) continue;
    for (size_t i = 0; i < hosted->partitions.size() && i < topic->partitions.size(); ++i) {
      if (!hosted->partitions[i]) continue;
      const meta::Partition& p = topic->partitions[i];
      const auto at = std::find(p.replicas.begin(), p.replicas.end(), config_.node_id);
      if (at == p.replicas.end()) continue;
      const auto position = static_cast<size_t>(at - p.replicas.begin());
      const Uuid& here = ids[hosted->partitions[i]->directory()];
      if (here.is_zero() || (position < p.directories.size() && p.directories[position] == here)) continue;
      directory_reports_.note({id, PartitionId(static_cast<int32_t>(i))}, here);
    }
  }
  directory_reports_.send(config_.node_id, broker_epoch_);
}

// Clients are answered when what they are told and what the cluster thinks of this broker agree.
void Broker::check_serving() {
  if (!ready_ || !lifecycle_ || !lifecycle_->waiting_for().empty()) return;
  const meta::Broker* self = view_->image->broker(config_.node_id);
  if (self != nullptr && !self->fenced && is_registered(*view_->image)) started({});
}

// A refusal: its process is gone, though its machine answers; no need to wait for the end of its session. If
// this node does not lead the metadata log it may soon: the one that is gone may have led it.
void Broker::on_peer_news(BrokerId node, link::PeerNews news) {
  if (stopping_) return;
  if (news == link::PeerNews::reached) return unmark_gone(node);
  if (news == link::PeerNews::refused) ledger_.runner().node_gone(node);
  const meta::Broker* known = view_->image->broker(node);
  if (known == nullptr || known->fenced) return;
  mark_gone(node, known->epoch);
  if (news != link::PeerNews::refused) return;
  refusals_[node] = {known->epoch, env_.clock->now().mono_ms};
  report_refusals();
}

// Until the controller has said so, clients are not told that it leads anything: who is sent to a leader that
// is gone asks again only after long. Should it live after all, that is forgotten.
void Broker::mark_gone(BrokerId node, BrokerEpoch epoch) {
  const int64_t now_ms = env_.clock->now().mono_ms;
  gone_until_[node] = now_ms + kGoneMs;
  if (view_->live_broker(node) == nullptr) return;
  auto view = std::make_shared<View>(*view_);
  std::erase_if(view->gone, [&](const View::Gone& g) { return g.id == node; });
  view->gone.push_back({node, epoch, now_ms + kDoubtMs});
  publish(std::move(view));
  arm_unmark(node);
}

void Broker::unmark_gone(BrokerId node) {
  if (gone_until_.erase(node) == 0) return;
  auto view = std::make_shared<View>(*view_);
  if (std::erase_if(view->gone, [&](const View::Gone& g) { return g.id == node; }) == 0) return;
  publish(std::move(view));
}

void Broker::arm_unmark(BrokerId node) {
  env_.control_loop->call_after(kGoneMs, [this, node] {
    const auto until = gone_until_.find(node);
    if (until == gone_until_.end() || stopping_) return;
    if (env_.clock->now().mono_ms < until->second) return arm_unmark(node);
    unmark_gone(node);
  });
}

void Broker::report_refusals() {
  if (!ledger_.leading() || (config_.is_broker && broker_epoch_.v < 0)) return;
  const BrokerId reporter = config_.is_broker ? config_.node_id : kNoBroker;
  const int64_t now_ms = env_.clock->now().mono_ms;
  for (const auto& [node, refusal] : std::exchange(refusals_, {})) {
    if (now_ms - refusal.at_ms > kRefusalHoldsMs) continue;
    ask(control::BrokerUnreachable{node, refusal.epoch, reporter, broker_epoch_},
        [this, refused = node](const Result<control::BrokerUnreachableReply>& r) {
          if (r.ok() && r->fenced) trace_.warn("broker {} refuses connections: it is fenced", refused.v);
        });
  }
}

}  // namespace millrace::broker
