#include "broker/broker.h"

#include <algorithm>
#include <atomic>

#include "broker/group_shards.h"
#include "broker/topic_settings.h"

namespace millrace::broker {
namespace {

constexpr size_t kFoundingFileMax = 64 * 1024;
constexpr int64_t kLeaveTimeoutMs = 10'000;
constexpr int64_t kHandOverTimeoutMs = 1'500;
constexpr int64_t kHandOverStepMs = 20;
constexpr size_t kClosersMax = 16;  // partitions closed at a time: their syncs share the disk's journal

}  // namespace

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
  if (finding_) finding_->stop();  // what its questions are answered now decides nothing
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
        // Others lead what was led here: first let them hear of it, in case that the next election takes
        // long.
        if (!ledger_.leading()) return done();
        convergence_.when_published(
            ledger_.committed(), living_others(),
            [this, done = std::move(done)]() mutable { hand_over_quorum(std::move(done)); });
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

}  // namespace millrace::broker
