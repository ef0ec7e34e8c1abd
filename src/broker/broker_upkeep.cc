// What a broker does unasked: retention, checkpoints, disks that fail or fill, and its metrics.
#include "broker/broker.h"

#include <algorithm>

#include "base/plants.h"
#include "broker/group_shards.h"

namespace millrace::broker {
namespace {

constexpr std::string_view kCheckpointInterval = "log.flush.offset.checkpoint.interval.ms";
constexpr int64_t kHousekeepingStepMs = 1'000;
constexpr size_t kTopicSeriesMax = 2'000;  // metrics by topic: beyond it only their sum

}  // namespace

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
  if (planted(Plant::retry_failed_sync) || planted(Plant::ignore_failed_sync)) return;
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

std::string Broker::ailment() const {
  std::string text;
  for (const auto& state : host_.states()) {
    if (state->failed()) text += (text.empty() ? "" : "; ") + state->usable().error().message;
  }
  if (!ledger_.failure().empty())
    text += (text.empty() ? "" : "; ") + ("the metadata log failed: " + ledger_.failure());
  return text;
}

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
