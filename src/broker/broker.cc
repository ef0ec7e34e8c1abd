#include "broker/broker.h"

#include <algorithm>
#include <atomic>

#include "base/contains.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"
#include "broker/topic_settings.h"
#include "control/features.h"

namespace millrace::broker {
namespace {

constexpr std::string_view kCheckpointInterval = "log.flush.offset.checkpoint.interval.ms";
constexpr int64_t kHousekeepingStepMs = 1'000;
constexpr size_t kTopicSeriesMax = 2'000;  // metrics by topic: beyond it only their sum
// In the first data directory: how the quorum of this node began.
constexpr std::string_view kFoundingFile = "quorum-founding";
constexpr size_t kFoundingFileMax = 64 * 1024;
constexpr int64_t kJoinEveryMs = 500;
constexpr int64_t kLearnerSilenceMs = 10'000;
constexpr size_t kJoinedMax = 10'000;
constexpr int64_t kJoinTimeoutMs = 2'000;
constexpr int64_t kAskTimeoutMs = 10'000;
constexpr int64_t kLeaveTimeoutMs = 10'000;
constexpr int64_t kHandOverTimeoutMs = 1'500;
constexpr int64_t kHandOverStepMs = 20;
constexpr int64_t kStandingStepMs = 250;
constexpr int64_t kGoneMs = 2'000;          // what the controller does not confirm is forgotten
constexpr int64_t kDepartedMs = 10'000;     // View::names
constexpr int64_t kDoubtMs = 500;           // clients wait so long for a leader in place of one that is gone
constexpr int64_t kRefusalHoldsMs = 5'000;  // for whoever comes to lead the metadata log meanwhile
constexpr std::string_view kMinInsyncReplicas = "min.insync.replicas";
constexpr size_t kClosersMax = 16;  // partitions closed at a time: their syncs share the disk's journal

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

// The partitions on their way to a clean end.
struct Broker::Closing {
  std::vector<PartitionRef> partitions;
  std::vector<Status> outcomes;  // as partitions
  std::atomic<size_t> next{0};
  size_t workers = 0;
  std::function<void(Status)> done;
};

Broker::Broker(BrokerEnvironment environment, BrokerConfig config)
    : env_(std::move(environment)),
      config_(std::move(config)),
      trace_(env_.trace.named("broker")),
      host_(*env_.disk, *env_.clock, *env_.random, env_.trace.named("storage"),
            [this](const std::string& path, const Error& error) { on_storage_failure(path, error); }),
      peers_({env_.control_loop, env_.network, env_.clock, env_.trace.named("peers")}, config_.node_id),
      ledger_({env_.control_loop, env_.disk, env_.clock, env_.random, env_.trace.named("metadata")}, peers_),
      convergence_(
          *env_.clock,
          [this](BrokerId broker, LogIndex index, int64_t timeout_ms, std::function<void(bool)> done) {
            peers_.ask(broker, ledger::kPublishedApi, ledger::encode(ledger::PublishedRequest{index}),
                       timeout_ms,
                       [done = std::move(done)](Result<MutableByteView> said) { done(said.ok()); });
          }),
      replication_(replication_environment()),
      cleaner_(cleaner_environment()),
      disk_watch_({env_.control_loop, env_.disk, env_.clock, env_.trace.named("storage")}),
      hand_over_(*env_.control_loop, *env_.clock),
      directory_reports_(*env_.control_loop,
                         [this](control::AssignDirectories request, DirectoryReports::Done done) {
                           ask(std::move(request), std::move(done));
                         }) {
  ASSERT(!env_.loops.empty() && env_.control_loop != nullptr && config_.settings != nullptr);
  host_.set_loop(*env_.control_loop);
  host_.set_standing(standing_);
  auto first = std::make_shared<View>();
  first->image = std::make_shared<meta::Image>();
  view_ = first;
  for (size_t i = 0; i < env_.loops.size(); ++i) {
    shards_.push_back(std::unique_ptr<Shard>(
        new Shard{*this, i, env_.loops[i], view_, {}, {}, env_.trace.named("broker")}));
  }
  fetch_session_slots_ = setting_int(*view_->image, "max.incremental.fetch.session.cache.slots");
  register_metrics();
  peers_.on_news([this](BrokerId node, link::PeerNews news) { on_peer_news(node, news); });
  scrubber_ = std::make_unique<Scrubber>(
      Scrubber::Environment{env_.control_loop, env_.disk, env_.clock, env_.random, env_.metrics,
                            env_.trace.named("scrub")},
      [this] { return hosted_partitions(); },
      [this] {
        return Scrubber::Settings{setting_int(*view_->image, "log.scrub.bytes.per.second"),
                                  setting_int(*view_->image, "log.scrub.interval.ms")};
      });
}

Broker::~Broker() {
  // One that was never stopped: whoever still waits for a peer is told while everything is there.
  stopping_ = true;
  peers_.close();
  env_.disk->watch_failures(nullptr);
}

Cleaner::Environment Broker::cleaner_environment() {
  Cleaner::Environment e;
  e.loop = env_.control_loop;
  e.disk = env_.disk;
  e.clock = env_.clock;
  e.random = env_.random;
  e.metrics = env_.metrics;
  e.trace = env_.trace.named("cleaner");
  e.partitions = [this] { return hosted_partitions(); };
  e.settings = [this] {
    return cleaner_settings(meta::ConfigView(*view_->image, config_.node_id, *config_.settings));
  };
  e.on_cleaned = [this] { request_checkpoint(); };
  return e;
}

// --- start ---

void Broker::start(std::function<void(Status)> ready) {
  env_.control_loop->post([this, ready = std::move(ready)]() mutable {
    ready_ = std::move(ready);
    struct Found {
      Status status;
      std::optional<ledger::Founding> founding;
    };
    auto found = std::make_shared<Found>();
    run_at_start(
        [this, found] {
          found->status = [&]() -> Status {
            const Status opened =
                host_.open_directories({config_.log_dirs, config_.cluster_id, config_.node_id});
            env_.disk->watch_failures(
                [this](const std::string& path, const Error& error) { on_storage_failure(path, error); });
            TRY(opened);
            // From here on files are written: whoever comes after a crash must not take them for cleanly
            // closed.
            TRY(host_.begin_serving());
            TRY(ledger_.open(host_.metadata_path()));
            const std::string path = io::join_path(host_.metadata_directory().path(), kFoundingFile);
            if (!env_.disk->exists(path)) return {};
            TRY_ASSIGN(const Bytes bytes, env_.disk->read_file(path, kFoundingFileMax));
            Result<ledger::Founding> founding = ledger::decode_founding(bytes);
            if (!founding.ok()) return Error(ErrorCode::corrupt, path + ": " + founding.error().message);
            found->founding = std::move(*founding);
            return {};
          }();
        },
        [this, found] {
          founding_ = std::move(found->founding);
          on_directories_open(found->status);
        });
  });
}

// A stop that comes meanwhile waits: what is being opened cannot be closed.
void Broker::run_at_start(std::function<void()> job, std::function<void()> then) {
  starting_job_ = true;
  env_.disk->run(*env_.control_loop, std::move(job), [this, then = std::move(then)] {
    starting_job_ = false;
    if (stop_wanted_) return std::exchange(stop_wanted_, nullptr)();
    then();
  });
}

void Broker::on_directories_open(const Status& status) {
  if (!status.ok()) return started(status);
  for (const ledger::NodeAddress& v : config_.voters) peers_.set_address(v.node, v.endpoint);
  QuorumFounding::Params params;
  params.self = config_.node_id;
  params.directory = host_.metadata_directory().id();
  if (!host_.cluster_id().empty()) {
    const Result<Uuid> id = Uuid::parse(host_.cluster_id());
    if (!id.ok()) {
      return started(Error(ErrorCode::invalid_config,
                           "cluster.id " + host_.cluster_id() + " is not a 22-character uuid"));
    }
    params.configured_cluster = *id;
  }
  watch_disks();
  params.proposed_cluster = env_.random->uuid();
  params.voters = config_.voters;
  params.bootstrap = config_.bootstrap;
  params.may_found = config_.is_controller;
  finding_ =
      std::make_unique<QuorumFounding>(peers_, *env_.control_loop, *env_.clock, trace_, std::move(params));
  find_quorum();
}

void Broker::find_quorum() {
  const Uuid directory = host_.metadata_directory().id();
  const bool blank = ledger_.runner().is_blank();
  if (founding_) {
    const std::vector<BrokerId> voters = founding_->nodes();
    const bool voter = contains(voters, config_.node_id);
    if (voter && founding_->may_vote && !founding_->names(config_.node_id, directory)) {
      return started(Error(ErrorCode::invalid_config, host_.metadata_directory().path() +
                                                          " is not the directory that node " +
                                                          std::to_string(config_.node_id.v) + " votes with"));
    }
    if (!blank) return start_quorum(*founding_);
    if (voters.size() == 1 && voter) {
      return started(
          Error(ErrorCode::corrupt, host_.metadata_path() +
                                        ": the metadata log is missing; without it the partitions in "
                                        "the data directories belong to no topic"));
    }
    trace_.warn(
        "{}: the metadata log is missing; it is fetched anew, and this node does not vote until it has "
        "been replaced (millrace cluster replace {})",
        host_.metadata_path(), config_.node_id.v);
    ledger::Founding again = *founding_;
    again.may_vote = again.may_vote && !voter;
    return take_part(std::move(again));
  }
  if (!blank) {
    // Written by a version that knew only single voters.
    const Result<Uuid> cluster = Uuid::parse(host_.cluster_id());
    if (!cluster.ok()) return started(Error(ErrorCode::corrupt, "meta.properties: no cluster.id"));
    return take_part({*cluster, {{config_.node_id, directory}}, true});
  }
  finding_->begin([this](Result<ledger::Founding> found) {
    if (!found.ok()) return started(found.error());
    take_part(std::move(*found));
  });
}

// Written down before the first vote or word of it.
void Broker::take_part(ledger::Founding founding) {
  auto status = std::make_shared<Status>();
  run_at_start(
      [this, founding, status] {
        *status = [&]() -> Status {
          TRY(host_.claim(founding.cluster_id.to_string()));
          if (ledger_.runner().is_blank()) TRY(ledger_.runner().take_part());
          return env_.disk->replace_file(io::join_path(host_.metadata_directory().path(), kFoundingFile),
                                         ledger::encode(founding));
        }();
      },
      [this, founding, status] {
        if (!status->ok()) return started(*status);
        start_quorum(founding);
      });
}

void Broker::start_quorum(const ledger::Founding& founding) {
  if (stopping_) return;
  founding_ = founding;
  finding_->settled(founding);
  MetadataLedger::Start start;
  start.quorum.self = config_.node_id;
  start.quorum.initial.voters = founding.nodes();
  start.quorum.may_vote = founding.may_vote;
  start.quorum.directory = host_.metadata_directory().id();
  start.quorum.election_timeout_ms = config_.election_timeout_ms;
  start.quorum.heartbeat_ms = std::max<int64_t>(config_.election_timeout_ms / 5, 1);
  start.cluster_id = founding.cluster_id;
  start.settings = config_.settings;
  start.on_committed = [this](std::shared_ptr<const meta::Image> image, meta::Delta delta,
                              std::function<void()> published) {
    on_committed(std::move(image), std::move(delta), std::move(published));
  };
  start.on_leader = [this](BrokerId leader) { on_leader(leader); };
  start.on_failure = [this](const Error& why) { started(why); };
  leader_heard_ms_ = env_.clock->now().mono_ms;
  ledger_.start(std::move(start));
  keep_joined();
}

// A node that is not in the quorum's membership asks to be let in, and again when it hears nothing. Every one
// that does not vote tells each leader which directory it follows with: so does a voter that has lost its
// own.
void Broker::keep_joined() {
  if (stopping_ || !ledger_.runner().started()) return;
  env_.control_loop->call_after(kJoinEveryMs, [this] { keep_joined(); });
  forget_silent_learners();
  const raft::Membership& members = ledger_.runner().membership();
  const int64_t silent_ms = env_.clock->now().mono_ms - leader_heard_ms_;
  const bool outside = !members.contains(config_.node_id);
  const bool votes = members.is_voter(config_.node_id) && ledger_.runner().may_vote();
  if (votes || joining_ || !config_.internal || leader_ == config_.node_id) return;
  const bool untold = leader_ != kNoBroker && told_leader_ != leader_;
  const bool silent = silent_ms >= config_.election_timeout_ms;
  if (!outside && !untold && !silent) return;
  std::vector<ledger::NodeAddress> known = peers_.addresses();
  // A leader that is not heard of any more is no longer the one to ask.
  if (silent && known.size() > 1) {
    std::erase_if(known, [this](const ledger::NodeAddress& a) { return a.node == leader_; });
  }
  BrokerId ask = join_hint_.value_or(untold && !silent ? leader_ : kNoBroker);
  join_hint_.reset();
  if (ask == kNoBroker && !known.empty()) ask = known[env_.random->next_u64() % known.size()].node;
  if (ask == kNoBroker) return;
  ledger::JoinRequest request;
  request.cluster_id = founding_->cluster_id;
  request.directory = host_.metadata_directory().id();
  request.address = {config_.node_id, {config_.internal->host, config_.internal->port}};
  joining_ = true;
  peers_.ask(ask, ledger::kJoinApi, ledger::encode(request), kJoinTimeoutMs,
             [this, ask](Result<MutableByteView> answer) {
               joining_ = false;
               if (!answer.ok()) return;
               const Result<ledger::JoinReply> reply = ledger::decode_join_reply(*answer);
               if (!reply.ok()) return;
               if (reply->error == ErrorCode::none) {
                 told_leader_ = ask;
                 return;
               }
               if (reply->error == ErrorCode::not_controller && reply->leader != kNoBroker) {
                 join_hint_ = reply->leader;
               } else if (reply->error != ErrorCode::not_controller) {
                 trace_.warn("the quorum does not let this node in: {}", reply->message);
               }
             });
}

// Who neither votes nor is registered, and says nothing, has gone for good; if not, it asks to be let in
// again.
void Broker::forget_silent_learners() {
  if (!ledger_.leading()) return;
  const int64_t now_ms = env_.clock->now().mono_ms;
  const raft::Membership& members = ledger_.runner().membership();
  for (const raft::PeerStatus& p : ledger_.runner().peers()) {
    if (!members.is_learner(p.node) || now_ms - p.last_heard_mono_ms < kLearnerSilenceMs) continue;
    if (ledger_.controller()->image().broker(p.node) != nullptr) continue;
    trace_.info("node {} follows the metadata log no more", p.node.v);
    (void)ledger_.runner().change_membership(raft::ChangeKind::remove, p.node);  // or next time
    return;                                                                      // one change at a time
  }
}

void Broker::on_raft_message(raft::Message message) {
  if (stopping_ || !ledger_.runner().started()) return;
  if (message.from == leader_) leader_heard_ms_ = env_.clock->now().mono_ms;
  ledger_.runner().step(std::move(message));
}

ledger::HelloReply Broker::on_hello(const ledger::HelloRequest&) {
  if (!finding_) return {config_.node_id, {}, {}, {}, {}, kNoBroker, {}};  // the directories are not open yet
  ledger::HelloReply reply = finding_->hello(leader_);
  if (config_.internal) {
    reply.addresses.push_back({config_.node_id, {config_.internal->host, config_.internal->port}});
  }
  return reply;
}

ledger::JoinReply Broker::on_join(const ledger::JoinRequest& request) {
  if (!founding_ || !ledger_.leading()) return {ErrorCode::not_controller, "not the leader", leader_};
  if (request.cluster_id != founding_->cluster_id) {
    return {ErrorCode::inconsistent_cluster_id, "this is cluster " + founding_->cluster_id.to_string(),
            config_.node_id};
  }
  const BrokerId node = request.address.node;
  if (node == config_.node_id) return {ErrorCode::invalid_request, "the leader has this node id", node};
  peers_.set_address(node, request.address.endpoint);
  if (joined_directories_.size() < kJoinedMax) joined_directories_[node] = request.directory;
  if (ledger_.runner().membership().contains(node)) {
    ledger_.runner().restart_peer(node);
    return {};
  }
  const Result<LogIndex> added = ledger_.runner().change_membership(raft::ChangeKind::add_learner, node);
  if (!added.ok() && added.code() != ErrorCode::concurrent_transactions) {
    return {added.code(), added.error().message, config_.node_id};
  }
  return {};
}

// --- the controller, here or elsewhere ---

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
void Broker::on_heard(int64_t asked_mono_ms) {
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

// --- metadata ---

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
    spec.expendable = !withheld && state.leader != kNoBroker && state.leader != config_.node_id &&
                      !contains(state.isr, config_.node_id) && !contains(state.elr, config_.node_id);
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
  if (news || !replication_.follows(partition, state.leader)) replication_.follow(partition, state.leader);
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
      if (change->opened[i].code() == ErrorCode::no_space)
        unopened_[spec.topic_id].insert(spec.name.partition.v);
      continue;
    }
    const PartitionRef& opened = change->topics[spec.topic_id][static_cast<size_t>(spec.name.partition.v)] =
        std::move(*change->opened[i]);
    host_.opened(change->to_open[i], *opened);
    const meta::Partition* state = change->image->partition(spec.topic_id, spec.name.partition);
    if (state != nullptr && !withheld_.contains(spec.topic_id)) settle_role(opened, *state);
  }
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
  return std::make_shared<const partition::PartitionConfig>(
      partition_config_of(meta::topic_config(settings, topic), config_.node_id));
}

// --- what handlers ask ---

std::optional<std::string> Broker::setting(const meta::Image& image, std::string_view key) const {
  return meta::ConfigView(image, config_.node_id, *config_.settings).broker_value(key);
}

bool Broker::setting_bool(const meta::Image& image, std::string_view key) const {
  const std::optional<std::string> text = setting(image, key);
  ASSERT(text.has_value());
  const Result<bool> value = meta::parse_config_bool(*text);
  ASSERT(value.ok());
  return *value;
}

int64_t Broker::setting_int(const meta::Image& image, std::string_view key) const {
  const std::optional<std::string> text = setting(image, key);
  ASSERT(text.has_value());
  const Result<int64_t> value = meta::parse_config_int(*text);
  ASSERT(value.ok());
  return *value;
}

void Broker::ensure_offsets_topic() {
  create_automatically(std::string(kOffsetsTopic));
}

void Broker::create_automatically(const std::string& topic) {
  env_.control_loop->post([this, topic] {
    if (stopping_ || view_->image->topic(topic) != nullptr || being_created_.contains(topic)) return;
    being_created_[topic] = true;
    ask(control::CreateTopics{{automatic_topic(*this, *view_->image, topic)}, false},
        [this, topic](Result<control::CreateTopicsReply> r) {
          being_created_.erase(topic);
          if (r.ok() && r->topics.size() == 1 && r->topics.front().outcome.ok()) return;
          if (r.ok() && r->topics.size() == 1 &&
              r->topics.front().outcome.error == ErrorCode::topic_already_exists)
            return;  // another broker was quicker
          trace_.warn("{} could not be created: {}", topic,
                      r.ok() && !r->topics.empty() ? r->topics.front().outcome.message
                                                   : std::string("the controller does not answer"));
        });
  });
}

void Broker::next_producer_id(io::Loop& home, std::function<void(Result<ProducerId>)> done) {
  env_.control_loop->post([this, &home, done = std::move(done)]() mutable {
    auto deliver = [&home, done = std::move(done)](Result<ProducerId> id) {
      home.post([done, id = std::move(id)]() mutable { done(std::move(id)); });
    };
    if (next_id_ < ids_end_) {
      const ProducerId id = next_id_;
      ++next_id_;
      deliver(id);
      return;
    }
    id_waiters_.push_back(std::move(deliver));
    if (id_waiters_.size() > 1) return;  // a block is on its way
    ask(control::AllocateProducerIds{config_.node_id, broker_epoch_},
        [this](Result<control::AllocateProducerIdsReply> r) {
          std::vector<std::function<void(Result<ProducerId>)>> waiters = std::exchange(id_waiters_, {});
          if (r.ok() && r->outcome.ok()) {
            next_id_ = r->first;
            ids_end_ = r->first + r->count;
          }
          for (auto& w : waiters) {
            if (!r.ok() || !r->outcome.ok()) {
              w(Error(ErrorCode::coordinator_not_available, "no producer ids can be had now"));
            } else if (next_id_ < ids_end_) {
              w(next_id_);
              ++next_id_;
            } else {
              w(Error(ErrorCode::coordinator_load_in_progress, "ask again"));
            }
          }
        });
  });
}

// --- housekeeping ---

std::vector<PartitionRef> Broker::hosted_partitions() const {
  std::vector<PartitionRef> all;
  view_->hosted.for_each([&](const Uuid&, const std::shared_ptr<const HostedTopic>& t) {
    for (const PartitionRef& p : t->partitions) {
      if (p) all.push_back(p);
    }
  });
  return all;
}

size_t Broker::offline_partitions() const {
  size_t offline = 0;
  view_->image->topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
    int32_t number = 0;
    for (const meta::Partition& state : topic->partitions) {
      const PartitionRef* p = view_->partition(topic->id, number++);
      if (state.leader == config_.node_id && (p == nullptr || !(*p)->offsets().ok())) ++offline;
    }
  });
  return offline;
}

void Broker::arm_housekeeping() {
  struct Due {
    int64_t retention_ms;
    int64_t checkpoint_ms;
  };
  const int64_t now = env_.clock->now().mono_ms;
  auto due = std::make_shared<Due>(Due{now + setting_int(*view_->image, "log.retention.check.interval.ms"),
                                       now + setting_int(*view_->image, kCheckpointInterval)});
  auto step = std::make_shared<std::function<void()>>();
  *step = [this, due, weak = std::weak_ptr<std::function<void()>>(step)] {
    if (stopping_) return;
    const int64_t at = env_.clock->now().mono_ms;
    if (at >= due->retention_ms) {
      due->retention_ms = at + setting_int(*view_->image, "log.retention.check.interval.ms");
      run_retention();
    }
    retry_unopened();
    if (at >= due->checkpoint_ms || checkpoint_wanted_) {
      due->checkpoint_ms = at + setting_int(*view_->image, kCheckpointInterval);
      checkpoint_wanted_ = false;
      run_checkpoint([] {});
    }
    if (auto self = weak.lock()) env_.control_loop->call_after(kHousekeepingStepMs, [self] { (*self)(); });
  };
  env_.control_loop->call_after(kHousekeepingStepMs, [step] { (*step)(); });
}

void Broker::run_retention() {
  auto all = std::make_shared<std::vector<PartitionRef>>(hosted_partitions());
  env_.disk->run(
      *env_.control_loop,
      [this, all] {
        for (const PartitionRef& p : *all) p->keep_house(env_.clock->now());
      },
      [this] { request_checkpoint(); });
}

void Broker::request_checkpoint() {
  env_.control_loop->post([this] { checkpoint_wanted_ = true; });
}

void Broker::run_checkpoint(std::function<void()> done) {
  if (checkpointing_) {
    done();
    return;
  }
  checkpointing_ = true;
  auto all = std::make_shared<std::vector<PartitionRef>>(hosted_partitions());
  bool changed = std::exchange(partitions_gone_, false);
  for (const PartitionRef& p : *all) {
    changed = p->take_changed() || changed;
    p->checkpoint(*env_.control_loop);
  }
  if (!changed) {
    checkpointing_ = false;
    done();
    return;
  }
  env_.disk->run(
      *env_.control_loop,
      [this, all] {
        if (const Status s = host_.write_checkpoints(*all); !s.ok())
          trace_.error("checkpoints: {}", s.error().message);
      },
      [this, done = std::move(done)] {
        checkpointing_ = false;
        done();
      });
}

// --- disks ---

void Broker::watch_disks() {
  DiskWatch::Handlers handlers;
  handlers.floor_setting = [this] { return setting_int(*view_->image, "log.dirs.free.bytes.min"); };
  handlers.on_low = [this](const std::string& directory) { make_room(directory); };
  disk_watch_.start(host_.states(), std::move(handlers));
}

// Retention at once, and without file.delete.delay.ms.
void Broker::make_room(const std::string& directory) {
  if (making_room_ || stopping_) return;
  making_room_ = true;
  auto partitions = std::make_shared<std::vector<PartitionRef>>(hosted_partitions());
  std::erase_if(*partitions, [&](const PartitionRef& p) { return p->directory() != directory; });
  env_.disk->run(
      *env_.control_loop,
      [this, partitions] {
        for (const PartitionRef& p : *partitions) p->keep_house(env_.clock->now(), true);
      },
      [this] { making_room_ = false; });
}

void Broker::on_storage_failure(const std::string& path, const Error& error) {
  const std::shared_ptr<partition::DirectoryState> state = host_.state_of(path);
  // From here on nothing is appended or acknowledged in it; the rest is tidying up.
  if (state == nullptr || !state->fail(error)) return;
  trace_.error("{} is offline: {}", state->path(), error.message);
  env_.control_loop->post([this, state] { take_offline(state->path()); });
}

// A failed directory is never written again: every partition in it stops, and its coordinators.
void Broker::take_offline(const std::string& directory) {
  for (const PartitionRef& p : hosted_partitions()) {
    if (p->directory() == directory) p->stop(ErrorCode::kafka_storage_error);
  }
  if (view_->groups) {
    for (const auto& runner : view_->groups->by_partition) {
      if (runner && runner->partition().directory() == directory)
        runner->loop().post([runner] { runner->stop(ErrorCode::not_coordinator); });
    }
  }
  const auto& states = host_.states();
  if (states.front()->failed()) ledger_.abandon(states.front()->usable().error());
  const bool all = std::all_of(states.begin(), states.end(), [](const auto& s) { return s->failed(); });
  if (all && !stopping_ && env_.on_all_directories_failed)
    std::exchange(env_.on_all_directories_failed, nullptr)();
}

// Partitions that could not be opened on a full disk.
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

std::string Broker::ailment() const {
  std::string text;
  for (const auto& state : host_.states()) {
    if (state->failed()) text += (text.empty() ? "" : "; ") + state->usable().error().message;
  }
  if (!ledger_.failure().empty())
    text += (text.empty() ? "" : "; ") + ("the metadata log failed: " + ledger_.failure());
  return text;
}

// --- stop ---

void Broker::leave(std::function<void()> done) {
  env_.control_loop->post([this, done = std::move(done)]() mutable {
    bool others = false;
    view_->image->brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
      others = others || (id != config_.node_id && !b->fenced);
    });
    if (!lifecycle_ || !others || ledger_.failed()) return hand_over_quorum(std::move(done));
    hand_over_.begin(hosted_partitions(), [this, done = std::move(done)]() mutable {
      lifecycle_->leave(kLeaveTimeoutMs, [this, done = std::move(done)]() mutable {
        hand_over_.end();
        hand_over_quorum(std::move(done));
      });
    });
  });
}

// To the voter that has most of the log; the next election then does not wait for this one's silence.
void Broker::hand_over_quorum(std::function<void()> done) {
  BrokerId to = kNoBroker;
  if (ledger_.leading()) {
    LogIndex best{-1};
    for (const raft::PeerStatus& p : ledger_.runner().peers()) {
      if (!ledger_.runner().membership().is_voter(p.node) || p.match <= best) continue;
      best = p.match;
      to = p.node;
    }
  }
  if (to == kNoBroker || !ledger_.runner().transfer_leadership(to).ok()) return done();
  const int64_t until_ms = env_.clock->now().mono_ms + kHandOverTimeoutMs;
  auto wait = std::make_shared<std::function<void()>>();
  *wait = [this, until_ms, done = std::move(done), weak = std::weak_ptr<std::function<void()>>(wait)] {
    const auto self = weak.lock();
    if (!ledger_.leading() || env_.clock->now().mono_ms >= until_ms || !self) return done();
    env_.control_loop->call_after(kHandOverStepMs, [self] { (*self)(); });
  };
  env_.control_loop->call_after(kHandOverStepMs, [wait] { (*wait)(); });
}

void Broker::stop(std::function<void(Status)> done) {
  env_.control_loop->post([this, done = std::move(done)]() mutable {
    if (stopping_) return;
    stopping_ = true;
    if (starting_job_ || changing_) {
      stop_wanted_ = [this, done = std::move(done)]() mutable { stop_all(std::move(done)); };
    } else {
      stop_all(std::move(done));
    }
  });
}

void Broker::stop_all(std::function<void(Status)> done) {
  ready_ = nullptr;
  if (finding_) finding_->stop();
  hand_over_.stop();
  if (lifecycle_) lifecycle_->stop();
  directory_reports_.stop();
  ledger_.stop();
  disk_watch_.stop();
  scrubber_->stop();
  replication_.close();
  peers_.close();
  if (view_->groups) {
    for (const auto& runner : view_->groups->by_partition) {
      if (runner) runner->loop().post([runner] { runner->stop(ErrorCode::not_coordinator); });
    }
  }
  for (const PartitionRef& p : hosted_partitions()) p->stop(ErrorCode::not_leader_or_follower);
  cleaner_.stop([this, done = std::move(done)]() mutable { close_partitions(std::move(done)); });
}

void Broker::close_partitions(std::function<void(Status)> done) {
  auto closing = std::make_shared<Closing>();
  closing->partitions = hosted_partitions();
  closing->outcomes.resize(closing->partitions.size());
  closing->workers = std::clamp<size_t>(closing->partitions.size(), 1, kClosersMax);
  closing->done = std::move(done);
  const size_t workers = closing->workers;
  for (size_t w = 0; w < workers; ++w) {
    env_.disk->run(
        *env_.control_loop,
        [closing] {
          const size_t count = closing->partitions.size();
          for (size_t i = closing->next++; i < count; i = closing->next++)
            closing->outcomes[i] = closing->partitions[i]->close();
        },
        [this, closing] {
          if (--closing->workers == 0) finish_stop(closing);
        });
  }
}

// Every partition is closed.
void Broker::finish_stop(const std::shared_ptr<Closing>& closing) {
  auto status = std::make_shared<Status>();
  for (size_t i = 0; i < closing->outcomes.size(); ++i) {
    if (closing->outcomes[i].ok()) continue;
    trace_.error("{}: {}", closing->partitions[i]->name().text(), closing->outcomes[i].error().message);
    *status = closing->outcomes[i];
  }
  env_.disk->run(
      *env_.control_loop,
      [this, closing, status] {
        if (const Status s = host_.write_checkpoints(closing->partitions); !s.ok()) *status = s;
        if (const Status s = ledger_.close(); !s.ok()) *status = s;
        // Who never registered has appended nothing: what the last stop vouched for still holds.
        const std::optional<BrokerEpoch> epoch =
            broker_epoch_.v >= 0 ? std::optional(broker_epoch_) : host_.clean_epoch();
        if (status->ok() && epoch) *status = host_.write_clean_markers(closing->partitions, *epoch);
      },
      [closing, status] { closing->done(*status); });
}

// --- metrics ---

// The computed ones are read on the control loop, where the exposition runs.
void Broker::register_metrics() {
  MetricsRegistry& m = *env_.metrics;
  using Samples = MetricsRegistry::Samples;
  m.gauge("millrace_topics", "Topics of the cluster.",
          [this](Samples& s) { s.push_back({{}, static_cast<double>(view_->image->topics().size())}); });
  m.gauge("millrace_partitions", "Partitions that this broker hosts.", [this](Samples& s) {
    size_t count = 0;
    view_->hosted.for_each([&](const Uuid&, const std::shared_ptr<const HostedTopic>& t) {
      for (const PartitionRef& p : t->partitions) count += p ? size_t{1} : size_t{0};
    });
    s.push_back({{}, static_cast<double>(count)});
  });
  m.gauge("millrace_offline_partitions", "Partitions that this broker should lead and does not serve.",
          [this](Samples& s) { s.push_back({{}, static_cast<double>(offline_partitions())}); });
  m.gauge("millrace_damaged_ranges",
          "Places in closed segments that are known to be damaged, of partitions that have any.",
          [this](Samples& s) {
            for (const PartitionRef& p : hosted_partitions()) {
              const size_t count = p->damaged_ranges();
              if (count == 0) continue;
              s.push_back({{{"partition", std::to_string(p->name().partition.v)}, {"topic", p->name().topic}},
                           static_cast<double>(count)});
            }
          });
  using Usage = partition::Partition::Usage;
  const auto over_partitions = [this](Samples& s, const std::function<double(const Usage&)>& value) {
    double sum = 0;
    for (const PartitionRef& p : hosted_partitions()) sum += value(p->usage());
    s.push_back({{}, sum});
  };
  m.gauge("millrace_under_replicated_partitions", "Partitions led here whose ISR lacks a replica.",
          [over_partitions](Samples& s) {
            over_partitions(s, [](const Usage& u) { return u.under_replicated ? 1.0 : 0.0; });
          });
  m.gauge("millrace_under_min_isr_partitions", "Partitions led here that refuse acks=all.",
          [over_partitions](Samples& s) {
            over_partitions(s, [](const Usage& u) { return u.under_min_isr ? 1.0 : 0.0; });
          });
  m.gauge("millrace_isr_shrinks", "Times that an ISR shrank while it was led here.",
          [over_partitions](Samples& s) {
            over_partitions(s, [](const Usage& u) { return static_cast<double>(u.isr_shrinks); });
          });
  m.gauge("millrace_isr_expands", "Times that an ISR grew while it was led here.",
          [over_partitions](Samples& s) {
            over_partitions(s, [](const Usage& u) { return static_cast<double>(u.isr_expands); });
          });
  m.gauge("millrace_replica_lag_records", "Committed records that followers here do not have yet.",
          [over_partitions](Samples& s) {
            over_partitions(s, [](const Usage& u) { return static_cast<double>(u.replica_lag); });
          });
  m.gauge("millrace_log_bytes", "Bytes of the logs, by topic; of all topics (\"*\") if there are many.",
          [this](Samples& s) {
            const bool by_topic = view_->image->topics().size() <= kTopicSeriesMax;
            uint64_t total = 0;
            view_->image->topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
              const HostedTopic* hosted = view_->hosted_topic(topic->id);
              if (hosted == nullptr) return;
              uint64_t bytes = 0;
              for (const PartitionRef& p : hosted->partitions) {
                if (p) bytes += p->usage().bytes;
              }
              total += bytes;
              if (by_topic) s.push_back({{{"topic", name}}, static_cast<double>(bytes)});
            });
            if (!by_topic) s.push_back({{{"topic", "*"}}, static_cast<double>(total)});
          });
  m.gauge("millrace_durability_fsync",
          "1 if topics are fsynced before acks=all is answered, unless they say otherwise.",
          [this](Samples& s) {
            s.push_back({{}, setting(*view_->image, "log.durability") == "fsync" ? 1.0 : 0.0});
          });
  register_directory_metrics(m, [this] { return host_.states(); });
  for (const std::string& directory : config_.log_dirs) {
    const Labels labels{{"directory", directory}};
    partition::SyncMetrics sync;
    sync.seconds =
        &m.histogram("millrace_sync_seconds",
                     "Time of one group commit: fdatasync of what one partition had dirty.", labels);
    sync.records =
        &m.counter("millrace_synced_records_total",
                   "Records made durable by group commit; by the count of syncs: records per sync.", labels);
    sync.batches =
        &m.counter("millrace_synced_batches_total", "Batches made durable by group commit.", labels);
    sync.damages = &m.counter("millrace_damaged_batches_total",
                              "Places in log files that reading found damaged; the log names them.", labels);
    host_.set_sync_metrics(directory, sync);
  }
  for (const std::unique_ptr<Shard>& shard : shards_) {
    ShardMetrics& s = shard->metrics;
    s.bytes_in = &m.counter("millrace_produced_bytes_total", "Record batch bytes accepted from producers.");
    s.bytes_out = &m.counter("millrace_fetched_bytes_total", "Record batch bytes sent to consumers.");
    s.records_in = &m.counter("millrace_produced_records_total", "Records accepted from producers.");
    s.batches_in = &m.counter("millrace_produced_batches_total", "Record batches accepted from producers.");
    s.produce_rejected =
        &m.counter("millrace_produce_rejected_total", "Produce requests' partitions answered with an error.");
    s.fetch_rejected =
        &m.counter("millrace_fetch_rejected_total", "Fetch requests' partitions answered with an error.");
    s.requests_refused =
        &m.counter("millrace_requests_refused_total",
                   "Requests refused by closing the connection: unknown, unserved or unparsable.");
    for (const wire::ApiInfo& api : wire::all_apis()) {
      if (!api.served()) continue;
      ApiMetrics& a = s.apis[static_cast<size_t>(api.key)];
      const Labels labels{{"api", std::string(api.name)}};
      a.requests = &m.counter("millrace_requests_total", "Requests answered.", labels);
      a.latency = &m.histogram("millrace_request_seconds",
                               "Time from the request's parsing to its reply, waits included.", labels);
    }
  }
}

}  // namespace millrace::broker
