#include "sim/storage_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "broker/partition_host.h"
#include "log/checkpoints.h"
#include "log/file_names.h"
#include "record/batch_iterator.h"
#include "record/builder.h"
#include "record/control_batch.h"
#include "sim/log_files.h"
#include "sim/partition_model.h"

namespace millrace::sim {

namespace {

using broker::PartitionHost;
using broker::PartitionRef;
using partition::Partition;

constexpr const char* kClusterId = "AAAAAAAAAAAAAAAAAAAAAQ";
constexpr uint64_t kOperationsMin = 200;
constexpr uint64_t kOperationsSpread = 80;
constexpr size_t kRetryWindow = 5;
constexpr int kStartsMax = 12;  // in a row that a cut may fall into

struct BugName {
  std::string_view name;
  bool StorageBugs::* flag;
};
constexpr std::array kProgramBugs{
    BugName{"checkpoint-ahead", &StorageBugs::checkpoint_ahead},
    BugName{"always-clean", &StorageBugs::always_clean},
    BugName{"ack-early", &StorageBugs::ack_early},
    BugName{"forget-retry", &StorageBugs::forget_retry},
    BugName{"forget-checkpoints", &StorageBugs::forget_checkpoints},
};
struct DiskBugName {
  std::string_view name;
  bool DiskBugs::* flag;
};
constexpr std::array kDiskBugs{
    DiskBugName{"skip-directory-sync", &DiskBugs::skip_directory_sync},
    DiskBugName{"skip-file-sync", &DiskBugs::skip_file_sync},
    DiskBugName{"skip-small-file-sync", &DiskBugs::skip_small_file_sync},
    DiskBugName{"sync-before-write", &DiskBugs::sync_before_write},
    DiskBugName{"swallow-sync-error", &DiskBugs::swallow_sync_error},
    DiskBugName{"skip-truncate", &DiskBugs::skip_truncate},
    DiskBugName{"keep-clean-marker", &DiskBugs::keep_clean_marker},
    DiskBugName{"misdirected-write", &DiskBugs::misdirected_write},
    DiskBugName{"stale-read", &DiskBugs::stale_read},
};

/// A client's batch, kept for retries.
struct Sent {
  ModelBatch batch;
  bool all = false;  // acks=all
};

struct Producer {
  int64_t id = -1;
  int16_t epoch = 0;
  int32_t next_sequence = 0;
  bool transactional = false;
  bool in_transaction = false;
  std::deque<Sent> window;
};

struct Slot {
  std::string topic;
  int32_t number = 0;
  Uuid id;
  int32_t leader_epoch = 0;
  uint64_t incarnation = 0;  // of the topic; waits of an earlier one count for nothing
  std::shared_ptr<const partition::PartitionConfig> config;
  PartitionRef ref;  // null: offline
  std::string path;
  PartitionModel model;
  std::vector<Producer> producers;
  bool failed = false;      // its directory was fenced
  bool cut_unseen = false;  // power was cut while it was offline, or before it was opened again
  int64_t high_watermark = 0;

  std::string name() const { return topic + "-" + std::to_string(number); }
};

enum class Stop : uint8_t { power_cut, process_kill, clean };

class StorageSim;

struct Acks final : partition::CommitWaiter {
  explicit Acks(StorageSim& s) : sim(s) {}
  io::Loop& loop() override;
  void on_commit(uint64_t tag, ErrorCode outcome) override;
  StorageSim& sim;
};

struct Narrator final : TraceSink {
  std::function<void(const std::string&)> tell;
  void write(TraceLevel, std::string_view component, std::string_view message) override {
    tell(fmt::format("      | {}: {}", component, message));
  }
};

class StorageSim {
 public:
  explicit StorageSim(const StorageSimOptions& options)
      : options_(options),
        disk_(scheduler_, Dice(options.seed, "disk")),
        dice_(options.seed, "workload"),
        random_(Dice(options.seed, "ids")) {
    disk_.bugs = options.bugs.disk;
    if (options.narrate) narrator_.tell = options.narrate;
    trace_ = options.narrate ? Trace(&narrator_, "sim", TraceLevel::debug) : Trace();
  }

  StorageSimOutcome run();

 private:
  friend struct Acks;
  struct Wait {
    size_t slot = 0;
    uint64_t incarnation = 0;
    int64_t end = 0;
  };

  // --- the run ---
  void choose_knobs();
  void add_topic(const std::string& name, int32_t partitions, bool fsync);
  std::shared_ptr<const partition::PartitionConfig> random_config(bool fsync);
  void start(Stop after);
  bool start_once(Stop after);
  void verify(Slot& slot, int64_t planned_start, const std::optional<FoundLog>& found);
  void crash(Stop how);
  void clean_stop();
  void probe();
  void step();
  void let_pass(int64_t us);
  void check_power();

  // --- operations ---
  void append(Slot& slot);
  void send(Slot& slot, Producer* producer, Sent sent, bool retry);
  ModelBatch make_batch(Slot& slot, Producer* producer);
  void end_transaction(Slot& slot, Producer& producer);
  void fetch(Slot& slot);
  void read_all(Slot& slot, bool adopt);
  void look_up(Slot& slot);
  void delete_records(Slot& slot);
  void keep_house();
  void checkpoint();
  void configure(Slot& slot);
  void recreate_topic(Slot& slot);
  void break_disk();
  void damage();
  void settle();
  void on_storage_failure(const std::string& path, const Error& why);
  bool judge_error(const Slot& slot, const Error& error, std::string_view what);

  template <class... A>
  void say(fmt::format_string<A...> f, A&&... a) {
    if (options_.narrate)
      options_.narrate(fmt::format("{:>10} us  ", scheduler_.now_us()) +
                       fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void fail(fmt::format_string<A...> f, A&&... a) {
    if (!out_.failure.empty()) return;
    out_.failure = fmt::format("operation {}: ", out_.operations) + fmt::format(f, std::forward<A>(a)...);
    say("FAILED {}", out_.failure);
  }
  bool ok() const { return out_.failure.empty(); }
  void saw(std::string_view what) {
    const auto it = out_.sightings.find(what);
    if (it != out_.sightings.end()) {
      ++it->second;
    } else {
      out_.sightings.emplace(what, 1);
    }
  }
  bool faulty(const Slot& slot) const;
  /// A sync failed in this life: pages that are taken for clean are not on the medium.
  bool page_cache_lies() const { return disk_.counters.sync_errors > sync_errors_at_start_; }
  Slot& any_slot() { return *slots_[dice_.index(slots_.size())]; }
  size_t index_of(const Slot& slot) const {
    size_t i = 0;
    while (slots_[i].get() != &slot) ++i;
    return i;
  }

  const StorageSimOptions& options_;
  StorageSimOutcome out_;
  Scheduler scheduler_;
  SimDisk disk_;
  Dice dice_;
  NodeRandom random_;
  NodeClock clock_{scheduler_};
  NodeLoop loop_{scheduler_};
  Narrator narrator_;
  Trace trace_;
  std::shared_ptr<Acks> acks_ = std::make_shared<Acks>(*this);
  std::vector<std::string> roots_;
  std::unique_ptr<PartitionHost> host_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<uint64_t, Wait> waits_;
  uint64_t last_tag_ = 0;
  uint64_t last_value_ = 0;
  int64_t last_producer_ = 0;
  uint64_t last_incarnation_ = 0;
  bool may_damage_ = false;
  bool may_fault_ = false;
  bool tampered_ = false;
  bool trouble_since_start_ = false;  // faults were switched on in this life
  uint64_t sync_errors_at_start_ = 0;
  bool checkpointing_ = false;
};

io::Loop& Acks::loop() {
  return sim.loop_;
}

void Acks::on_commit(uint64_t tag, ErrorCode outcome) {
  const auto it = sim.waits_.find(tag);
  if (it == sim.waits_.end()) {
    sim.fail("a commit wait was told twice");
    return;
  }
  const StorageSim::Wait wait = it->second;
  sim.waits_.erase(it);
  Slot& slot = *sim.slots_[wait.slot];
  sim.say("  {}: committed below {}: {}", slot.name(), wait.end, static_cast<int>(outcome));
  if (slot.incarnation != wait.incarnation) return;
  if (outcome != ErrorCode::none) {
    sim.saw("acks=all timed out");
    if (outcome != ErrorCode::request_timed_out && outcome != ErrorCode::not_enough_replicas_after_append) {
      sim.fail("{}: an appended batch was refused with {}", slot.name(), static_cast<int>(outcome));
    }
    return;
  }
  if (sim.disk_.power_is_out()) return;
  sim.saw("acks=all acknowledged");
  if (slot.config->fsync) slot.model.promise(wait.end);
}

// --- knobs ---

void StorageSim::choose_knobs() {
  const size_t directories = 1 + dice_.index(3);
  for (size_t i = 0; i < directories; ++i) {
    roots_.push_back(fmt::format("/d{}", i));
    disk_.add_device(roots_.back());
  }
  disk_.timing.work_us_max = dice_.skewed(1, 20'000);
  disk_.timing.done_us_max = dice_.skewed(1, 5'000);
  disk_.timing.slow_per_million = dice_.percent(20) ? 50'000 : 0;
  may_fault_ = dice_.percent(40);
  may_damage_ = dice_.percent(15);
  const size_t topics = 1 + dice_.index(3);
  for (size_t t = 0; t < topics; ++t) {
    add_topic(fmt::format("t{}", t), static_cast<int32_t>(1 + dice_.index(2)), dice_.percent(65));
  }
}

std::shared_ptr<const partition::PartitionConfig> StorageSim::random_config(bool fsync) {
  auto config = std::make_shared<partition::PartitionConfig>();
  config->fsync = fsync;
  log::LogConfig& c = config->log;
  c.segment_bytes = static_cast<int32_t>(dice_.skewed(1024, 64 * 1024));
  c.index_interval_bytes = static_cast<int32_t>(dice_.skewed(1, 4096));
  if (dice_.percent(10)) c.segment_index_bytes = static_cast<int32_t>(dice_.between(24, 240));
  if (dice_.percent(20)) c.segment_ms = dice_.between(1'000, 60'000);
  if (dice_.percent(30)) c.retention_bytes = dice_.between(0, 64 * 1024);
  if (dice_.percent(15)) c.retention_ms = dice_.between(1'000, 600'000);
  c.file_delete_delay_ms = dice_.percent(50) ? 0 : dice_.between(0, 60'000);
  c.preallocate = dice_.percent(20);
  return config;
}

void StorageSim::add_topic(const std::string& name, int32_t partitions, bool fsync) {
  const Uuid id = random_.uuid();
  const auto config = random_config(fsync);
  for (int32_t i = 0; i < partitions; ++i) {
    auto slot = std::make_unique<Slot>();
    slot->topic = name;
    slot->number = i;
    slot->id = id;
    slot->config = config;
    slot->incarnation = ++last_incarnation_;
    const size_t producers = dice_.index(4);
    for (size_t p = 0; p < producers; ++p) {
      Producer producer;
      producer.id = ++last_producer_;
      producer.transactional = dice_.percent(30);
      slot->producers.push_back(std::move(producer));
    }
    slots_.push_back(std::move(slot));
  }
}

// --- life and death ---

// As the broker does it: the directory is marked at once, its partitions are stopped on the loop.
void StorageSim::on_storage_failure(const std::string& path, const Error& why) {
  if (disk_.power_is_out() || !host_) return;
  const std::shared_ptr<partition::DirectoryState> state = host_->state_of(path);
  if (!state || !state->fail(why)) return;
  saw("directory fenced");
  const std::string directory = state->path();
  say("  storage failure in {}: {}", directory, why.message);
  for (const auto& slot : slots_) {
    if (slot->path.starts_with(directory + "/")) slot->failed = true;
  }
  loop_.post([this, directory] {
    for (const auto& slot : slots_) {
      if (slot->ref && slot->ref->directory() == directory) slot->ref->stop(ErrorCode::kafka_storage_error);
    }
  });
}

// What partitions say of themselves at the end is what a power cut must leave.
void StorageSim::probe() {
  for (const auto& slot : slots_) {
    if (!slot->ref) continue;
    const Partition::Usage usage = slot->ref->usage();
    slot->model.promise(usage.durable_end.v);
    if (slot->config->fsync) slot->model.promise(slot->high_watermark);
  }
}

void StorageSim::crash(Stop how) {
  ++out_.crashes;
  probe();
  say("{}", how == Stop::power_cut ? "POWER CUT" : "KILL");
  loop_.kill();
  for (const auto& slot : slots_) slot->ref = nullptr;
  host_ = nullptr;
  waits_.clear();
  disk_.clear_faults();
  if (how == Stop::power_cut) {
    disk_.power_cycle();
  } else {
    disk_.kill_process();
  }
  scheduler_.run_until(scheduler_.now_us() + dice_.between(0, 1'000'000));
}

void StorageSim::clean_stop() {
  say("clean stop");
  auto all = std::make_shared<std::vector<PartitionRef>>();
  for (const auto& slot : slots_) {
    if (slot->ref) all->push_back(slot->ref);
  }
  loop_.in_tick([&] {
    for (const PartitionRef& p : *all) p->stop(ErrorCode::not_leader_or_follower);
  });
  auto closed = std::make_shared<Status>();
  auto open = std::make_shared<size_t>(all->size());
  auto finished = std::make_shared<bool>(false);
  const auto finish = [this, all, closed, finished] {
    disk_.run(
        loop_,
        [this, all, closed] {
          if (const Status s = host_->write_checkpoints(*all); !s.ok()) *closed = s;
          if (closed->ok()) *closed = host_->write_clean_markers(*all, BrokerEpoch(1));
        },
        [finished] { *finished = true; });
  };
  for (const PartitionRef& p : *all) {
    disk_.run(
        loop_,
        [p, closed] {
          if (const Status s = p->close(); !s.ok()) *closed = s;
        },
        [open, finish] {
          if (--*open == 0) finish();
        });
  }
  if (all->empty()) finish();
  const int64_t deadline = scheduler_.now_us() + 600'000'000;
  while (!*finished && !disk_.power_is_out() && scheduler_.run_one(deadline) && ok()) {
  }
  if (!*finished && !disk_.power_is_out()) {
    fail("a clean stop did not end");
    return;
  }
  if (disk_.power_is_out()) {
    saw("power cut in a clean stop");
    crash(Stop::power_cut);
    start(Stop::power_cut);
    return;
  }
  probe();
  const bool was_clean = closed->ok();
  say("  stopped{}", was_clean ? "" : ": " + closed->error().message);
  if (was_clean) saw("clean stop");
  if (!was_clean && !tampered_) {
    bool excused = false;
    for (const auto& slot : slots_) excused = excused || faulty(*slot);
    if (!excused) fail("a stop without faults was not clean: {}", closed->error().message);
  }
  loop_.kill();
  bool fenced = false;
  for (const auto& slot : slots_) {
    fenced = fenced || slot->failed;
    slot->ref = nullptr;
  }
  host_ = nullptr;
  waits_.clear();
  disk_.clear_faults();
  if (was_clean && !fenced && !page_cache_lies()) {
    // Everything is durable now: the machine may go too.
    for (const auto& slot : slots_) {
      if (!slot->failed && !slot->model.damaged) slot->model.promise(slot->model.end());
    }
  }
  if (dice_.percent(50)) {
    say("  and power off");
    disk_.power_cycle();
    start(was_clean && !fenced && !page_cache_lies() ? Stop::clean : Stop::power_cut);
  } else {
    disk_.kill_process();
    if (page_cache_lies()) saw("process ended after a failed sync");
    start(was_clean ? Stop::clean : Stop::process_kill);
  }
}

void StorageSim::start(Stop after) {
  for (int attempt = 0; ok(); ++attempt) {
    if (attempt < kStartsMax && dice_.percent(20)) {
      disk_.cut_power_after(dice_.below(60));
    }
    const bool up = start_once(after);
    if (disk_.power_is_out()) {
      saw("power cut in a start");
      ++out_.crashes;
      say("POWER CUT in the start");
      loop_.kill();
      for (const auto& slot : slots_) slot->ref = nullptr;
      host_ = nullptr;
      waits_.clear();
      disk_.clear_faults();
      disk_.power_cycle();
      after = Stop::power_cut;
      continue;
    }
    disk_.cancel_cut();
    if (!up) return;
    if (attempt < kStartsMax && dice_.percent(10)) {
      // Again at once: what was recovered must be found as it is.
      saw("recovered twice");
      std::vector<int64_t> ends;
      for (const auto& slot : slots_) ends.push_back(slot->model.end());
      probe();
      for (const auto& slot : slots_) {
        if (slot->ref) slot->model.promise(slot->model.end());  // leading synced it
      }
      crash(dice_.percent(50) ? Stop::power_cut : Stop::process_kill);
      after = Stop::power_cut;
      continue;
    }
    return;
  }
}

bool StorageSim::start_once(Stop after) {
  for (const auto& slot : slots_) slot->cut_unseen = slot->cut_unseen || after == Stop::power_cut;
  say("start");
  trouble_since_start_ = checkpointing_ = false;
  sync_errors_at_start_ = disk_.counters.sync_errors;
  host_ = std::make_unique<PartitionHost>(
      disk_, clock_, random_, trace_.named("host"),
      [this](const std::string& path, const Error& why) { on_storage_failure(path, why); });
  disk_.watch_failures([this](const std::string& path, const Error& why) { on_storage_failure(path, why); });
  for (const auto& slot : slots_) slot->failed = false;
  PartitionHost::Params params;
  params.log_dirs = roots_;
  params.cluster_id = kClusterId;
  params.node_id = BrokerId(1);
  Status status = host_->open_directories(params);
  if (status.ok()) status = host_->begin_serving();
  if (disk_.power_is_out()) return false;
  if (!status.ok()) {
    fail("the directories do not open: {}", status.error().message);
    return false;
  }
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    ++slot.leader_epoch;
    PartitionHost::Spec spec{{slot.topic, PartitionId(slot.number)},
                             slot.id,
                             slot.config,
                             {LeaderEpoch(slot.leader_epoch), {BrokerId(1)}, 1}};
    Result<PartitionHost::OpenPlan> plan = host_->plan(std::move(spec));
    if (!plan.ok()) {
      // A directory that cannot be read takes its partitions along.
      if (plan.code() == ErrorCode::kafka_storage_error && tampered_) continue;
      fail("{}: no plan: {}", slot.name(), plan.error().message);
      return false;
    }
    if (options_.bugs.always_clean) plan->clean = true;
    if (options_.bugs.forget_checkpoints) plan->recovery_point = plan->durable_end = Offset(0);
    std::optional<FoundLog> found;
    if (!plan->create) {
      if (options_.bugs.checkpoint_ahead) plan->recovery_point = Offset(slot.model.end());
      found = find_log(disk_, plan->path, plan->clean ? 0 : plan->log_start.v);
      if (found->end < plan->log_start.v) found->end = plan->log_start.v;
    }
    slot.path = plan->path;
    Result<PartitionRef> opened = host_->open(*plan);
    if (disk_.power_is_out()) return false;
    if (!opened.ok()) {
      say("  {}: {}", slot.name(), opened.error().message);
      if (tampered_ && !slot.model.damaged &&
          (opened.code() == ErrorCode::kafka_storage_error || opened.code() == ErrorCode::io_error)) {
        continue;
      }
      if (slot.model.damaged &&
          (opened.code() == ErrorCode::corrupt || opened.code() == ErrorCode::io_error ||
           opened.code() == ErrorCode::kafka_storage_error)) {
        saw("damage found at the start");
        if (opened.error().message.find(slot.path) == std::string::npos) {
          fail("{}: damage without a name: {}", slot.name(), opened.error().message);
        }
        continue;
      }
      fail("{}: does not open: {}", slot.name(), opened.error().message);
      return false;
    }
    slot.ref = std::move(*opened);
    if (plan->create && slot.model.promised > 0) {
      fail("{}: was made anew, but reached offset {}", slot.name(), slot.model.promised);
      return false;
    }
    verify(slot, plan->log_start.v, found);
    if (!ok() || disk_.power_is_out()) return false;
  }
  return true;
}

// The recovered partition against the model: nothing promised is missing, nothing else came in.
void StorageSim::verify(Slot& slot, int64_t planned_start, const std::optional<FoundLog>& found) {
  const Partition::Usage usage = slot.ref->usage();
  const int64_t start = usage.offsets.log_start.v;
  const int64_t end = usage.offsets.log_end.v;
  PartitionModel& model = slot.model;
  say("  {}: {}..{} (model {}..{}, promised {})", slot.name(), start, end, model.log_start, model.end(),
      model.promised);
  const bool emptied = start == end && start == planned_start;
  // Of a log whose file was taken away while it was open, what is above the recorded start may be as unknown.
  if (end < model.promised && !(emptied && (start >= model.promised || model.damaged))) {
    fail("{}: ends at {}, but {} was promised", slot.name(), end, model.promised);
    return;
  }
  if (!slot.cut_unseen && end < model.end()) {
    fail("{}: ends at {} after a stop that loses nothing, it reached {}", slot.name(), end, model.end());
    return;
  }
  if (start > model.log_start && !emptied) {
    fail("{}: starts at {}, it started at {}", slot.name(), start, model.log_start);
    return;
  }
  if (start < model.log_start) saw("log start rolled back");
  if (end < model.end()) saw("unsynced records lost");
  if (found && !model.damaged) {
    if (found->torn) saw("torn tail cut");
    if (found->segments_lost) saw("segments beyond a torn tail removed");
    if (found->end != end && !emptied) {
      fail("{}: ends at {}, the longest valid prefix of its files at {}", slot.name(), end, found->end);
      return;
    }
  }
  model.log_start = start;
  slot.high_watermark = 0;
  read_all(slot, true);
  if (!ok() || disk_.power_is_out()) return;
  if (end > model.end() && !model.damaged) {
    if (!emptied) fail("{}: ends at {}, only {} was ever written", slot.name(), end, model.end());
  }
  if (!ok()) return;
  model.cut_to(start, end);
  slot.cut_unseen = false;
  model.promise(end);  // leading began with a sync
}

bool StorageSim::faulty(const Slot& slot) const {
  if (slot.failed || tampered_ || trouble_since_start_) return true;
  for (size_t i = 0; i < roots_.size(); ++i) {
    const SimDisk::Device& d = const_cast<SimDisk&>(disk_).device(i);
    if (!slot.path.starts_with(d.root + "/")) continue;
    return d.capacity != UINT64_MAX || d.write_error > 0 || d.sync_error > 0 || d.read_error > 0 ||
           d.syncs_until_error > 0;
  }
  return false;
}

// Whether a call may have failed with this code.
bool StorageSim::judge_error(const Slot& slot, const Error& error, std::string_view what) {
  const ErrorCode code = error.code;
  if (disk_.power_is_out()) return true;
  const bool storage =
      code == ErrorCode::kafka_storage_error || code == ErrorCode::io_error || code == ErrorCode::no_space;
  if (storage && faulty(slot)) return true;
  if (slot.model.damaged && (storage || code == ErrorCode::corrupt)) {
    saw("damage found while serving");
    return true;
  }
  fail("{}: {} failed with {}: {}", slot.name(), what, static_cast<int>(code), error.message);
  return false;
}

// --- writing ---

ModelBatch StorageSim::make_batch(Slot& slot, Producer* producer) {
  ModelBatch m;
  record::BatchOptions options;
  if (producer != nullptr) {
    m.producer = producer->id;
    m.producer_epoch = producer->epoch;
    m.sequence = producer->next_sequence;
    m.transactional = producer->transactional;
    options.producer_id = ProducerId(m.producer);
    options.producer_epoch = ProducerEpoch(m.producer_epoch);
    options.base_sequence = m.sequence;
    options.transactional = m.transactional;
  }
  record::BatchBuilder builder(options);
  const size_t count = 1 + dice_.index(dice_.percent(20) ? 20 : 3);
  std::string value;
  for (size_t i = 0; i < count; ++i) {
    value.assign(static_cast<size_t>(dice_.skewed(0, 1500)), 'v');
    value += fmt::format("{}/{}", slot.name(), ++last_value_);
    const std::string key = fmt::format("k{}", dice_.below(20));
    m.timestamps.push_back(clock_.now().wall_ms - dice_.between(0, 50));
    builder.append(m.timestamps.back(), as_bytes(key), as_bytes(value));
  }
  m.bytes = builder.build();
  return m;
}

void StorageSim::append(Slot& slot) {
  if (slot.producers.empty() || dice_.percent(25)) {
    send(slot, nullptr, Sent{make_batch(slot, nullptr), dice_.percent(60)}, false);
    return;
  }
  Producer& producer = slot.producers[dice_.index(slot.producers.size())];
  if (!producer.window.empty() && dice_.percent(25)) {
    Sent again =
        producer.window[dice_.percent(60) ? producer.window.size() - 1 : dice_.index(producer.window.size())];
    send(slot, &producer, std::move(again), true);
    return;
  }
  if (dice_.percent(3)) {
    ++producer.epoch;
    producer.next_sequence = 0;
    producer.window.clear();
  }
  Sent sent{make_batch(slot, &producer), dice_.percent(70)};
  producer.next_sequence = sent.batch.next_sequence();
  producer.window.push_back(sent);
  if (producer.window.size() > kRetryWindow) producer.window.pop_front();
  send(slot, &producer, std::move(sent), false);
}

void StorageSim::send(Slot& slot, Producer* producer, Sent sent, bool retry) {
  if (!slot.ref) return;
  ModelBatch& m = sent.batch;
  const ModelBatch* original = nullptr;
  const Expect expected = slot.model.expect(m, &original);
  Bytes bytes = m.bytes;
  if (retry && options_.bugs.forget_retry && bytes.size() > record::kBatchHeaderSize) {
    record::BatchBuilder builder;
    builder.append(m.timestamps.front(), as_bytes("k"), as_bytes("again"));
    bytes = builder.build();
  }
  Result<partition::Appended> result = ErrorCode::unknown_server_error;
  const bool failed_before = slot.failed;
  bool at_once = false;
  uint64_t tag = 0;
  loop_.in_tick([&] {
    result = slot.ref->append(bytes, sent.all, loop_, clock_.now());
    if (!result.ok() || !sent.all) return;
    tag = ++last_tag_;
    waits_[tag] = Wait{index_of(slot), slot.incarnation, result->last_offset.v + 1};
    at_once = slot.ref->await_commit(result->last_offset + 1, acks_, tag);
    if (at_once) waits_.erase(tag);
  });
  say("{}: {} of {} records, {} bytes, producer {}/{} sequence {}, acks={}: {}", slot.name(),
      retry ? "retry" : "append", m.timestamps.size(), m.bytes.size(), m.producer, m.producer_epoch,
      m.sequence, sent.all ? "all" : "1",
      result.ok() ? fmt::format("offset {}{}{}", result->base_offset.v,
                                result->duplicate ? ", duplicate" : "", at_once ? ", committed" : "")
                  : fmt::format("error {} {}", static_cast<int>(result.code()), result.error().message));
  if (!result.ok()) {
    const ErrorCode code = result.code();
    if (disk_.power_is_out()) {
      slot.model.may_appear(m);
      return;
    }
    if (code == ErrorCode::record_list_too_large) {
      if (m.bytes.size() <= static_cast<size_t>(slot.config->log.segment_bytes)) {
        fail("{}: {} bytes are too large for a segment of {}", slot.name(), m.bytes.size(),
             slot.config->log.segment_bytes);
      }
      saw("batch above segment.bytes refused");
      return;
    }
    if (code == ErrorCode::out_of_order_sequence_number || code == ErrorCode::invalid_producer_epoch ||
        code == ErrorCode::duplicate_sequence_number) {
      if ((expected == Expect::append || expected == Expect::duplicate) && !slot.model.damaged) {
        fail("{}: sequence {} of producer {} refused with {}", slot.name(), m.sequence, m.producer,
             static_cast<int>(code));
      }
      saw("sequence refused");
      // What a client does: a new epoch, or what was lost sent again.
      if (producer != nullptr && !retry) {
        ++producer->epoch;
        producer->next_sequence = 0;
        producer->window.clear();
      }
      return;
    }
    if (code == ErrorCode::no_space) saw("append refused: disk full");
    if (code == ErrorCode::io_error) saw("append refused: write error");
    (void)judge_error(slot, result.error(), "append");
    return;
  }
  if (failed_before && !disk_.power_is_out()) {
    fail("{}: an append to a failed directory was accepted", slot.name());
    return;
  }
  if (result->duplicate) {
    if (slot.model.damaged) {
      // What rebuilt the producers' state may have been what was tampered with.
    } else if (expected == Expect::append || expected == Expect::refusal) {
      fail("{}: sequence {} of producer {} taken for a duplicate", slot.name(), m.sequence, m.producer);
    } else if (original != nullptr &&
               (original->base != result->base_offset.v || original->last != result->last_offset.v)) {
      fail("{}: duplicate answered with {}, the original lies at {}", slot.name(), result->base_offset.v,
           original->base);
    }
    saw("duplicate answered");
  } else {
    if ((expected == Expect::duplicate || expected == Expect::duplicate_or_refusal) && !slot.model.damaged) {
      fail("{}: sequence {} of producer {} was appended twice", slot.name(), m.sequence, m.producer);
      return;
    }
    if (expected == Expect::refusal && !slot.model.damaged) {
      fail("{}: sequence {} of producer {} follows nothing and was appended", slot.name(), m.sequence,
           m.producer);
      return;
    }
    if (result->base_offset.v != slot.model.end()) {
      fail("{}: appended at {}, the log ended at {}", slot.name(), result->base_offset.v, slot.model.end());
      return;
    }
    m.base = result->base_offset.v;
    m.last = result->last_offset.v;
    m.epoch = slot.leader_epoch;
    if (m.last - m.base + 1 != static_cast<int64_t>(m.timestamps.size())) {
      fail("{}: offsets {}..{} for {} records", slot.name(), m.base, m.last, m.timestamps.size());
      return;
    }
    if (producer != nullptr && m.transactional) producer->in_transaction = !m.control;
    slot.model.append(m);
  }
  if (at_once || (options_.bugs.ack_early && sent.all)) {
    saw("acks=all acknowledged");
    if (slot.config->fsync) slot.model.promise(result->last_offset.v + 1);
  }
}

void StorageSim::end_transaction(Slot& slot, Producer& producer) {
  if (!slot.ref) return;
  record::EndTransactionMarker marker;
  marker.producer_id = ProducerId(producer.id);
  marker.producer_epoch = ProducerEpoch(producer.epoch);
  marker.commit = dice_.percent(60);
  marker.coordinator_epoch = 1;
  Sent sent;
  ModelBatch& m = sent.batch;
  m.timestamps.push_back(clock_.now().wall_ms);
  m.bytes = record::build_marker(marker, m.timestamps.front());
  m.producer = producer.id;
  m.producer_epoch = producer.epoch;
  m.transactional = m.control = true;
  sent.all = dice_.percent(80);
  saw(marker.commit ? "transaction committed" : "transaction aborted");
  send(slot, &producer, std::move(sent), false);
}

// --- reading ---

void StorageSim::fetch(Slot& slot) {
  if (!slot.ref) return;
  partition::Offsets offsets;
  const int64_t end = slot.model.end();
  const int64_t from = dice_.percent(5) ? end + 1 + static_cast<int64_t>(dice_.below(3))
                                        : dice_.between(std::min(slot.model.log_start, end), end);
  const auto bytes_max = static_cast<size_t>(dice_.skewed(1, 64 * 1024));
  const bool committed = dice_.percent(30);
  Result<partition::Fetched> fetched = ErrorCode::unknown_server_error;
  loop_.in_tick([&] {
    fetched = slot.ref->fetch(
        Offset(from), bytes_max, dice_.percent(70),
        committed ? partition::Isolation::read_committed : partition::Isolation::read_uncommitted, {},
        offsets);
  });
  // What is cold is read where blocking is allowed, its checksums verified.
  if (fetched.ok() && fetched->cold) {
    fetched = slot.ref->fetch_cold(
        Offset(from), bytes_max, true,
        committed ? partition::Isolation::read_committed : partition::Isolation::read_uncommitted, {},
        offsets);
  }
  if (!fetched.ok()) {
    say("{}: fetch from {}: error {}", slot.name(), from, static_cast<int>(fetched.code()));
    if (fetched.code() == ErrorCode::offset_out_of_range) {
      if (from >= offsets.log_start.v && from <= end) fail("{}: offset {} is in range", slot.name(), from);
      return;
    }
    (void)judge_error(slot, fetched.error(), "fetch");
    return;
  }
  if (from > end) {
    fail("{}: fetch beyond the end {} from {}", slot.name(), end, from);
    return;
  }
  const int64_t bound = committed ? offsets.last_stable.v : offsets.high_watermark.v;
  if (offsets.high_watermark.v < slot.high_watermark) {
    fail("{}: the high watermark went from {} to {}", slot.name(), slot.high_watermark,
         offsets.high_watermark.v);
    return;
  }
  slot.high_watermark = offsets.high_watermark.v;
  if (offsets.high_watermark.v > end || offsets.last_stable > offsets.high_watermark ||
      offsets.log_end.v != end) {
    fail("{}: log end {}, high watermark {}, last stable {}; the model ends at {}", slot.name(),
         offsets.log_end.v, offsets.high_watermark.v, offsets.last_stable.v, end);
    return;
  }
  const int64_t stable = slot.model.last_stable(offsets.high_watermark.v);
  if (stable >= slot.model.log_start && offsets.last_stable.v != stable && !slot.model.damaged) {
    fail("{}: last stable offset {}, expected {}", slot.name(), offsets.last_stable.v, stable);
    return;
  }
  Bytes all = fetched->verified;
  for (const auto& region : fetched->regions) {
    Bytes piece(region->length);
    const Result<size_t> got = region->file->read_at(region->position, piece);
    if (!got.ok()) {
      (void)judge_error(slot, got.error(), "reading a region");
      return;
    }
    if (*got != piece.size()) {
      fail("{}: a region is shorter than it was", slot.name());
      return;
    }
    all.insert(all.end(), piece.begin(), piece.end());
  }
  int64_t next = -1;
  record::BatchIterator batches(all);
  while (true) {
    const auto batch = batches.next();
    if (!batch.ok() || (!*batch && batches.torn_bytes() > 0)) {
      if (!slot.model.damaged) fail("{}: a fetch from {} gives broken bytes", slot.name(), from);
      return;
    }
    if (!*batch) break;
    const record::BatchView& view = **batch;
    const std::string wrong = slot.model.judge(view, false);
    if (!wrong.empty()) {
      fail("{}: fetch: {}", slot.name(), wrong);
      return;
    }
    if (slot.model.damaged) continue;
    if (next < 0 ? view.base_offset().v > from || view.last_offset().v < from
                 : view.base_offset().v != next) {
      fail("{}: fetch from {} gives a batch at {} after {}", slot.name(), from, view.base_offset().v, next);
      return;
    }
    next = view.next_offset().v;
    if (next > bound) {
      fail("{}: fetch gives offset {}, beyond {}", slot.name(), next - 1, bound);
      return;
    }
  }
  say("{}: fetch from {} of {} bytes: up to {} of {}", slot.name(), from, bytes_max, next, bound);
  if (next >= 0 && slot.config->fsync) slot.model.promise(next);
}

// Everything there is, as a recovery leaves it.
void StorageSim::read_all(Slot& slot, bool adopt) {
  const Partition::Usage usage = slot.ref->usage();
  int64_t at = usage.offsets.log_start.v;
  const int64_t end = usage.offsets.high_watermark.v;
  int32_t epoch = -1;
  std::map<std::pair<int64_t, int16_t>, int32_t> sequences;
  while (at < end) {
    partition::Offsets offsets;
    Result<partition::Fetched> fetched =
        slot.ref->fetch_cold(Offset(at), 1u << 20, true, partition::Isolation::read_uncommitted, {}, offsets);
    if (!fetched.ok()) {
      (void)judge_error(slot, fetched.error(), "reading everything");
      return;
    }
    if (fetched->verified.empty()) {
      fail("{}: nothing at {}, the log ends at {}", slot.name(), at, end);
      return;
    }
    for (const Bytes& piece : {fetched->verified}) {
      record::BatchIterator batches(piece);
      while (true) {
        const auto batch = batches.next();
        if (!batch.ok()) {
          (void)judge_error(slot, Error(ErrorCode::corrupt), "reading a batch");
          return;
        }
        if (!*batch) break;
        const record::BatchView& view = **batch;
        if (const std::string wrong = slot.model.judge(view, adopt); !wrong.empty()) {
          fail("{}: {}", slot.name(), wrong);
          return;
        }
        if (slot.model.damaged) {
          at = std::max(at, view.next_offset().v);
          continue;
        }
        if (view.next_offset().v <= at || (view.base_offset().v > at)) {
          fail("{}: offsets {}..{} where {} was expected", slot.name(), view.base_offset().v,
               view.last_offset().v, at);
          return;
        }
        at = view.next_offset().v;
        if (view.leader_epoch().v < epoch) {
          fail("{}: epoch {} after {}", slot.name(), view.leader_epoch().v, epoch);
          return;
        }
        epoch = view.leader_epoch().v;
        if (!view.has_producer() || view.is_control()) continue;
        const auto [it, first] = sequences.try_emplace({view.producer_id().v, view.producer_epoch().v}, 0);
        if (!first && it->second != view.base_sequence()) {
          fail("{}: producer {} goes from sequence {} to {} at offset {}", slot.name(), view.producer_id().v,
               it->second, view.base_sequence(), view.base_offset().v);
          return;
        }
        it->second = record::advance_sequence(view.base_sequence(), view.record_count());
      }
    }
    if (slot.model.damaged) return;
  }
}

void StorageSim::look_up(Slot& slot) {
  if (!slot.ref || slot.model.batches().empty()) return;
  const auto& batches = slot.model.batches();
  const ModelBatch& target = batches[dice_.index(batches.size())];
  const int64_t timestamp = target.timestamps[dice_.index(target.timestamps.size())] + dice_.between(-3, 3);
  loop_.in_tick([&] {
    const Result<partition::Offsets> offsets = slot.ref->offsets();
    const auto answer = slot.ref->offset_for_timestamp(timestamp, partition::Isolation::read_uncommitted, {});
    if (!answer.ok()) {
      (void)judge_error(slot, answer.error(), "a look-up by timestamp");
      return;
    }
    const int64_t expected = slot.model.offset_for_timestamp(timestamp, offsets->high_watermark.v);
    say("{}: timestamp {}: offset {}", slot.name(), timestamp, answer->offset.v);
    if (answer->offset.v != expected && !slot.model.damaged) {
      fail("{}: timestamp {} found at {}, it is at {}", slot.name(), timestamp, answer->offset.v, expected);
      return;
    }
    // Epochs: what belongs to a later one lies at or beyond the end of this one.
    const int32_t asked = static_cast<int32_t>(dice_.between(0, slot.leader_epoch));
    const auto end = slot.ref->end_offset_for_epoch(LeaderEpoch(asked), {});
    if (!end.ok()) {
      (void)judge_error(slot, end.error(), "a look-up by epoch");
      return;
    }
    if (slot.model.damaged || end->end_offset.v < 0) return;
    for (const ModelBatch& b : batches) {
      if (b.base < slot.model.log_start) continue;
      if ((b.epoch <= asked) != (b.last < end->end_offset.v)) {
        fail("{}: epoch {} ends at {}, but the batch at {} is of epoch {}", slot.name(), asked,
             end->end_offset.v, b.base, b.epoch);
        return;
      }
    }
  });
}

// --- housekeeping ---

void StorageSim::delete_records(Slot& slot) {
  if (!slot.ref) return;
  loop_.in_tick([&] {
    const Result<partition::Offsets> offsets = slot.ref->offsets();
    if (!offsets.ok()) {
      (void)judge_error(slot, offsets.error(), "offsets");
      return;
    }
    const int64_t low = slot.model.log_start;
    const int64_t before =
        dice_.percent(20) ? -1 : low + dice_.skewed(0, offsets->high_watermark.v + 1 - low);
    const Result<Offset> start = slot.ref->delete_records(Offset(before));
    say("{}: delete records before {}: {}", slot.name(), before,
        start.ok() ? fmt::format("starts at {}", start->v) : start.error().message);
    if (!start.ok()) {
      if (start.code() == ErrorCode::offset_out_of_range && before > offsets->high_watermark.v) return;
      slot.model.log_start = slot.ref->usage().offsets.log_start.v;  // whether it is durable nobody knows
      (void)judge_error(slot, start.error(), "delete records");
      return;
    }
    const int64_t expected = before < 0 ? offsets->high_watermark.v : std::max(before, low);
    if (start->v != expected) {
      fail("{}: starts at {} after deleting before {}", slot.name(), start->v, before);
      return;
    }
    slot.model.log_start = start->v;
    saw("records deleted");
  });
}

void StorageSim::keep_house() {
  loop_.in_tick([&] {
    for (const auto& slot : slots_) {
      if (!slot->ref) continue;
      slot->ref->keep_house(clock_.now());
      const Partition::Usage usage = slot->ref->usage();
      const int64_t start = usage.offsets.log_start.v;
      if (start < slot->model.log_start) {
        fail("{}: the log start went from {} to {}", slot->name(), slot->model.log_start, start);
        return;
      }
      if (start > slot->model.log_start) saw("segments expired");
      if (start > slot->model.log_start && slot->config->fsync && start > slot->model.promised &&
          start > std::max(slot->high_watermark, usage.durable_end.v)) {
        fail("{}: the log starts at {}, beyond what is durable", slot->name(), start);
        return;
      }
      slot->model.log_start = start;
    }
  });
  say("retention");
}

void StorageSim::checkpoint() {
  if (checkpointing_) return;  // one at a time, as in the broker
  checkpointing_ = true;
  say("checkpoint");
  auto all = std::make_shared<std::vector<PartitionRef>>();
  loop_.in_tick([&] {
    for (const auto& slot : slots_) {
      if (!slot->ref) continue;
      slot->ref->checkpoint(loop_);
      all->push_back(slot->ref);
    }
    disk_.run(
        loop_,
        [this, all] {
          if (!host_) return;
          const Status s = host_->write_checkpoints(*all);
          if (!s.ok()) say("  checkpoints: {}", s.error().message);
        },
        [this] { checkpointing_ = false; });
  });
}

void StorageSim::configure(Slot& slot) {
  const auto config = random_config(slot.config->fsync);
  say("{}: new configuration, segment.bytes {}", slot.topic, config->log.segment_bytes);
  loop_.in_tick([&] {
    for (const auto& other : slots_) {
      if (other->id != slot.id) continue;
      other->config = config;
      if (other->ref) other->ref->configure(config, 1);
    }
  });
}

void StorageSim::recreate_topic(Slot& chosen) {
  const std::string topic = chosen.topic;
  say("{}: deleted and made again", topic);
  saw("topic made again");
  const Uuid id = random_.uuid();
  const auto config = random_config(dice_.percent(65));
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    if (slot.topic != topic) continue;
    // The image says so first: whatever happens, the old records are gone.
    slot.id = id;
    slot.config = config;
    slot.incarnation = ++last_incarnation_;
    slot.leader_epoch = 0;
    slot.model.reset(0);
    slot.high_watermark = 0;
    for (Producer& p : slot.producers) {
      p.window.clear();
      p.next_sequence = 0;
      p.epoch = 0;
      p.id = ++last_producer_;
    }
    const PartitionRef old = std::exchange(slot.ref, nullptr);
    if (old) {
      std::string tombstone;
      loop_.in_tick([&] {
        old->stop(ErrorCode::unknown_topic_or_partition);
        tombstone = host_->tombstone(*old);
        host_->forget(*old);
        const Status removed = old->remove(tombstone);
        if (!removed.ok()) say("  {}", removed.error().message);
      });
      disk_.run(loop_, [this, tombstone] { (void)disk_.remove_tree(tombstone); }, [] {});
      if (disk_.power_is_out()) return;
    }
    ++slot.leader_epoch;
    Result<PartitionHost::OpenPlan> plan = host_->plan({{slot.topic, PartitionId(slot.number)},
                                                        slot.id,
                                                        slot.config,
                                                        {LeaderEpoch(slot.leader_epoch), {BrokerId(1)}, 1}});
    if (!plan.ok()) {
      if (plan.code() != ErrorCode::kafka_storage_error) fail("{}: {}", slot.name(), plan.error().message);
      continue;
    }
    slot.path = plan->path;
    slot.failed = false;  // a failed directory is not chosen
    Result<PartitionRef> opened = ErrorCode::unknown_server_error;
    loop_.in_tick([&] { opened = host_->open(*plan); });
    if (disk_.power_is_out()) return;
    if (!opened.ok()) {
      (void)judge_error(slot, opened.error(), "making the topic again");
      continue;
    }
    slot.ref = std::move(*opened);
    slot.model.promise(0);
  }
}

// --- trouble ---

void StorageSim::break_disk() {
  trouble_since_start_ = true;
  SimDisk::Device& device = disk_.device(dice_.index(disk_.devices()));
  switch (dice_.below(6)) {
    case 0:
      device.capacity = device.used + static_cast<uint64_t>(dice_.skewed(0, 20'000));
      say("{} is almost full", device.root);
      break;
    case 1:
      device.syncs_until_error = static_cast<uint64_t>(dice_.between(1, 5));
      say("{}: a sync is going to fail", device.root);
      break;
    case 2:
      device.write_error = 100'000;
      say("{}: writes fail", device.root);
      break;
    case 3:
      device.read_error = 100'000;
      say("{}: reads fail", device.root);
      break;
    default:
      if (device.capacity != UINT64_MAX) saw("space came back");
      device.capacity = UINT64_MAX;
      device.write_error = device.read_error = device.sync_error = 0;
      say("{} is well again", device.root);
      break;
  }
}

// Below a recorded end, so that it cannot be taken for what a power cut left.
void StorageSim::damage() {
  Slot& slot = any_slot();
  if (!slot.ref || slot.model.damaged) return;
  const std::string root = slot.ref->directory();
  const Bytes* sheet = disk_.durable_content(io::join_path(root, log::kRecoveryPointCheckpoint));
  if (sheet == nullptr) return;
  const Result<log::OffsetCheckpoint> points = log::parse_checkpoint(as_text(*sheet));
  if (!points.ok()) return;
  const Bytes* ids = disk_.durable_content(io::join_path(root, log::kTopicIdCheckpoint));
  const Result<log::TopicIdCheckpoint> topics = ids == nullptr
                                                    ? Result<log::TopicIdCheckpoint>(ErrorCode::not_found)
                                                    : log::parse_topic_ids(as_text(*ids));
  if (!topics.ok()) return;
  const auto topic = topics->find({slot.topic, PartitionId(slot.number)});
  if (topic == topics->end() || topic->second != slot.id) return;
  const auto it = points->find({slot.topic, PartitionId(slot.number)});
  if (it == points->end()) return;
  const std::optional<FoundBatch> victim =
      find_batch_below(disk_, slot.path, std::max<int64_t>(slot.model.log_start, 0), it->second.v, dice_);
  if (!victim) return;
  slot.model.damaged = tampered_ = true;
  const uint64_t roll = dice_.below(10);
  if (roll < 6) {
    const uint64_t at = victim->position + 16 + dice_.below(victim->size - 16);
    disk_.flip_bit(victim->path, at, static_cast<uint32_t>(dice_.below(8)));
    say("{}: a bit flips in {} at {}", slot.name(), victim->path, at);
    saw("bit flipped");
  } else if (roll < 8) {
    disk_.lose_sector(victim->path, victim->position);
    say("{}: a sector of {} at {} is unreadable", slot.name(), victim->path, victim->position);
    saw("sector lost");
  } else {
    disk_.lose_file(victim->path);
    say("{}: {} is lost", slot.name(), victim->path);
    saw("file lost");
  }
}

// Left alone long enough, everything that waits is told.
void StorageSim::settle() {
  say("settle");
  let_pass(20'000'000);
  if (disk_.power_is_out() || !ok()) return;
  for (const auto& [tag, wait] : waits_) {
    fail("{}: nobody was told about the commit of {}", slots_[wait.slot]->name(), wait.end);
    return;
  }
  for (const auto& slot : slots_) {
    if (!slot->ref || slot->failed || faulty(*slot)) continue;
    const Result<partition::Offsets> offsets = slot->ref->offsets();
    if (offsets.ok() && offsets->high_watermark != offsets->log_end) {
      fail("{}: left alone, the high watermark stays at {} of {}", slot->name(), offsets->high_watermark.v,
           offsets->log_end.v);
      return;
    }
  }
}

void StorageSim::let_pass(int64_t us) {
  const int64_t until = scheduler_.now_us() + us;
  while (ok() && !disk_.power_is_out() && scheduler_.run_one(until)) {
  }
}

void StorageSim::check_power() {
  if (!disk_.power_is_out() || !ok()) return;
  saw("power cut in the midst of work");
  crash(Stop::power_cut);
  start(Stop::power_cut);
}

void StorageSim::step() {
  ++out_.operations;
  const uint64_t roll = dice_.below(1000);
  if (roll < 560) {
    append(any_slot());
  } else if (roll < 600) {
    Slot& slot = any_slot();
    for (Producer& p : slot.producers) {
      if (p.transactional && (p.in_transaction || dice_.percent(5))) {
        end_transaction(slot, p);
        break;
      }
    }
  } else if (roll < 740) {
    fetch(any_slot());
  } else if (roll < 800) {
    look_up(any_slot());
  } else if (roll < 830) {
    delete_records(any_slot());
  } else if (roll < 860) {
    keep_house();
  } else if (roll < 905) {
    checkpoint();
  } else if (roll < 915) {
    configure(any_slot());
  } else if (roll < 922) {
    recreate_topic(any_slot());
  } else if (roll < 935) {
    clean_stop();
  } else if (roll < 945) {
    crash(Stop::power_cut);
    start(Stop::power_cut);
  } else if (roll < 952) {
    // After a failed sync the page cache shows what is not on the disk.
    if (page_cache_lies()) saw("process killed after a failed sync");
    crash(Stop::process_kill);
    start(Stop::process_kill);
  } else if (roll < 965) {
    disk_.cut_power_after(static_cast<uint64_t>(dice_.skewed(0, 200)));
  } else if (roll < 980) {
    if (may_fault_) break_disk();
  } else if (roll < 990) {
    if (may_damage_) damage();
  } else {
    settle();
  }
  if (!ok()) return;
  check_power();
  const uint64_t pause = dice_.below(100);
  if (pause < 40) {
    let_pass(dice_.between(0, 300));
  } else if (pause < 85) {
    let_pass(dice_.between(300, 20'000));
  } else if (pause < 99) {
    let_pass(dice_.between(20'000, 500'000));
  } else {
    let_pass(dice_.between(500'000, 60'000'000));
  }
  check_power();
}

StorageSimOutcome StorageSim::run() {
  choose_knobs();
  start(Stop::power_cut);
  const uint64_t operations = kOperationsMin + dice_.below(kOperationsSpread);
  while (ok() && out_.operations < operations) step();
  if (ok()) {
    disk_.clear_faults();
    disk_.cancel_cut();
    crash(Stop::power_cut);
    start(Stop::power_cut);
  }
  loop_.kill();
  for (const auto& slot : slots_) slot->ref = nullptr;
  host_ = nullptr;
  const DiskCounters& c = disk_.counters;
  const std::initializer_list<std::pair<std::string_view, uint64_t>> counted{
      {"disk: power cut", c.power_cuts},
      {"disk: lossless power cut", c.lossless_cuts},
      {"disk: process killed", c.process_kills},
      {"disk: page kept", c.pages_kept},
      {"disk: page dropped", c.pages_dropped},
      {"disk: page of a moment between", c.pages_between},
      {"disk: page torn", c.pages_torn},
      {"disk: page of garbage", c.pages_garbage},
      {"disk: size without data", c.sizes_without_data},
      {"disk: name rolled back", c.names_rolled_back},
      {"disk: rename rolled back", c.renames_rolled_back},
      {"disk: short write", c.short_writes},
      {"disk: write error", c.write_errors},
      {"disk: sync error", c.sync_errors},
      {"disk: read error", c.read_errors},
      {"disk: slow sync", c.slow_syncs},
  };
  for (const auto& [name, count] : counted) {
    if (count > 0) out_.sightings[std::string(name)] += count;
  }
  scheduler_.note(last_value_);
  out_.hash = scheduler_.hash();
  return std::move(out_);
}

}  // namespace

bool plant(StorageBugs& bugs, std::string_view name) {
  for (const BugName& b : kProgramBugs) {
    if (b.name == name) return bugs.*(b.flag) = true;
  }
  for (const DiskBugName& b : kDiskBugs) {
    if (b.name == name) return bugs.disk.*(b.flag) = true;
  }
  return false;
}

std::vector<std::string_view> plantable_bugs() {
  std::vector<std::string_view> out;
  for (const DiskBugName& b : kDiskBugs) out.push_back(b.name);
  for (const BugName& b : kProgramBugs) out.push_back(b.name);
  return out;
}

std::vector<std::string_view> expected_sightings() {
  return {"acks=all acknowledged",
          "acks=all timed out",
          "append refused: disk full",
          "append refused: write error",
          "batch above segment.bytes refused",
          "bit flipped",
          "clean stop",
          "damage found at the start",
          "directory fenced",
          "disk: lossless power cut",
          "disk: name rolled back",
          "disk: page of a moment between",
          "disk: page of garbage",
          "disk: page torn",
          "disk: process killed",
          "disk: read error",
          "disk: rename rolled back",
          "disk: short write",
          "disk: size without data",
          "disk: slow sync",
          "disk: sync error",
          "duplicate answered",
          "file lost",
          "log start rolled back",
          "power cut in a clean stop",
          "power cut in a start",
          "power cut in the midst of work",
          "process ended after a failed sync",
          "process killed after a failed sync",
          "records deleted",
          "recovered twice",
          "sector lost",
          "segments beyond a torn tail removed",
          "segments expired",
          "sequence refused",
          "space came back",
          "topic made again",
          "torn tail cut",
          "transaction aborted",
          "transaction committed",
          "unsynced records lost"};
}

StorageSimOutcome run_storage_sim(const StorageSimOptions& options) {
  return StorageSim(options).run();
}

}  // namespace millrace::sim
