#include "sim/storage_sim.h"

#include <array>

#include "sim/storage_run.h"

namespace millrace::sim {

namespace {

constexpr uint64_t kOperationsMin = 200;
constexpr uint64_t kOperationsSpread = 80;

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
    BugName{"forget-log-start", &StorageBugs::forget_log_start},
    BugName{"forget-swaps", &StorageBugs::forget_swaps},
    BugName{"heal-by-emptying", &StorageBugs::heal_by_emptying},
    BugName{"serve-uncommitted", &StorageBugs::serve_uncommitted},
    BugName{"serve-open-transactions", &StorageBugs::serve_open_transactions},
    BugName{"cut-to-mark", &StorageBugs::cut_to_mark},
    BugName{"forget-tombstones", &StorageBugs::forget_tombstones},
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
    DiskBugName{"swallow-no-space", &DiskBugs::swallow_no_space},
    DiskBugName{"swallow-write-error", &DiskBugs::swallow_write_error},
    DiskBugName{"flip-on-write", &DiskBugs::flip_on_write},
    DiskBugName{"forget-caps", &DiskBugs::forget_caps},
    DiskBugName{"forget-starts", &DiskBugs::forget_starts},
    DiskBugName{"keep-old-epochs", &DiskBugs::keep_old_epochs},
    DiskBugName{"cold-unverified", &DiskBugs::cold_unverified},
    DiskBugName{"keep-old-checkpoints", &DiskBugs::keep_old_checkpoints},
};

}  // namespace

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
    add_topic(fmt::format("t{}", t), static_cast<int32_t>(1 + dice_.index(2)));
  }
}

Policy StorageSim::random_policy() {
  const uint64_t roll = dice_.below(10);
  return roll < 6 ? Policy::remove : roll < 9 ? Policy::compact : Policy::both;
}

std::shared_ptr<const partition::PartitionConfig> StorageSim::random_config(bool fsync, Policy policy) {
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
  c.delete_policy = policy != Policy::compact;
  c.compact_policy = policy != Policy::remove;
  if (c.compact_policy) {
    c.segment_bytes = static_cast<int32_t>(dice_.skewed(1024, 8 * 1024));
    c.delete_retention_ms = dice_.percent(50) ? dice_.between(0, 20'000) : 86'400'000;
    if (dice_.percent(20)) c.min_compaction_lag_ms = dice_.between(0, 20'000);
    if (dice_.percent(20)) c.max_compaction_lag_ms = dice_.between(100, 20'000);
  }
  return config;
}

// What the model has to know of a configuration.
void StorageSim::take_config(Slot& slot, const std::shared_ptr<const partition::PartitionConfig>& config) {
  slot.config = config;
  slot.model.relaxed = !config->fsync;
  if (!config->log.compact_policy) return;
  slot.model.compacted = true;
  slot.model.tombstones_kept_ms = std::min(slot.model.tombstones_kept_ms, config->log.delete_retention_ms);
}

std::shared_ptr<const partition::PartitionConfig> StorageSim::given_config(const Slot& slot) const {
  if (!options_.bugs.forget_tombstones) return slot.config;
  auto config = std::make_shared<partition::PartitionConfig>(*slot.config);
  config->log.delete_retention_ms = 0;
  return config;
}

void StorageSim::add_topic(const std::string& name, int32_t partitions) {
  const Uuid id = random_.uuid();
  const auto config = random_config(dice_.percent(65), random_policy());
  for (int32_t i = 0; i < partitions; ++i) {
    auto slot = std::make_unique<Slot>();
    slot->topic = name;
    slot->number = i;
    slot->id = id;
    slot->incarnation = ++last_incarnation_;
    take_config(*slot, config);
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
  if (roll < 500) {
    Slot& slot = any_slot();
    if (slot.follows) {
      replicate(slot);
    } else {
      append(slot);
    }
  } else if (roll < 540) {
    Slot& slot = any_slot();
    for (Producer& p : slot.producers) {
      if (!slot.follows && p.transactional && (p.in_transaction || dice_.percent(5))) {
        end_transaction(slot, p);
        break;
      }
    }
  } else if (roll < 660) {
    fetch(any_slot());
  } else if (roll < 710) {
    look_up(any_slot());
  } else if (roll < 735) {
    delete_records(any_slot());
  } else if (roll < 770) {
    keep_house();
  } else if (roll < 815) {
    checkpoint();
  } else if (roll < 850) {
    compact(any_slot());
  } else if (roll < 860) {
    scrub(any_slot());
  } else if (roll < 870) {
    verify_live(any_slot());
  } else if (roll < 885) {
    Slot& slot = any_slot();
    if (slot.follows && dice_.percent(60)) {
      lead(slot);
    } else {
      follow(slot);
    }
  } else if (roll < 893) {
    configure(any_slot());
  } else if (roll < 899) {
    recreate_topic(any_slot());
  } else if (roll < 914) {
    clean_stop();
  } else if (roll < 926) {
    crash(Stop::power_cut);
    start(Stop::power_cut);
  } else if (roll < 934) {
    // After a failed sync the page cache shows what is not on the disk.
    if (page_cache_lies()) saw("process killed after a failed sync");
    crash(Stop::process_kill);
    start(Stop::process_kill);
  } else if (roll < 950) {
    disk_.cut_power_after(static_cast<uint64_t>(dice_.skewed(0, 200)));
  } else if (roll < 968) {
    if (may_fault_) break_disk();
  } else if (roll < 976) {
    if (may_damage_) damage();
  } else if (roll < 986) {
    evict();
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
  for (const auto& slot : slots_) {
    slot->compaction = nullptr;
    slot->ref = nullptr;
  }
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
      {"disk: bit flipped on the way", c.read_flips},
      {"disk: file let go of by the page cache", c.evictions},
      {"disk: file cut short", c.files_cut},
      {"disk: device gone at the start", c.dead_devices},
  };
  constexpr std::array<std::string_view, kCalls> kCallNames{
      "open",           "create", "rename",   "remove", "list", "make",
      "sync_directory", "write",  "truncate", "sync",   "read"};
  for (size_t i = 0; i < kCalls; ++i) {
    if (c.refused[i] > 0) out_.sightings[fmt::format("disk: {} refused", kCallNames[i])] += c.refused[i];
    if (c.without_room[i] > 0)
      out_.sightings[fmt::format("disk: {} without room", kCallNames[i])] += c.without_room[i];
  }
  for (const auto& [name, count] : counted) {
    if (count > 0) out_.sightings[std::string(name)] += count;
  }
  scheduler_.note(last_value_);
  out_.hash = scheduler_.hash();
  return std::move(out_);
}

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
  return {"aborted transactions told",
          "acks=all acknowledged",
          "acks=all timed out",
          "append in doubt: a write failed",
          "batch above segment.bytes refused",
          "bit flipped",
          "clean stop",
          "compaction: began",
          "compaction: done",
          "damage found at the start",
          "damage found by scrub",
          "damage found while serving",
          "damaged small file found at the start",
          "directory fenced",
          "disk: create without room",
          "disk: device gone at the start",
          "disk: file cut short",
          "disk: list refused",
          "disk: lossless power cut",
          "disk: name rolled back",
          "disk: open refused",
          "disk: page of a moment between",
          "disk: page of garbage",
          "disk: page torn",
          "disk: process killed",
          "disk: read error",
          "disk: rename refused",
          "disk: rename rolled back",
          "disk: short write",
          "disk: size without data",
          "disk: slow sync",
          "disk: sync error",
          "disk: sync_directory refused",
          "disk: truncate refused",
          "disk: write without room",
          "duplicate answered",
          "file cut short",
          "file lost",
          "follower: appended",
          "follower: became the leader",
          "follower: began anew",
          "follower: cut",
          "follower: leader begins beyond the end",
          "log at rest at the start",
          "log start rolled back",
          "log woken",
          "partition offline: failing disk",
          "power cut in a clean stop",
          "power cut in a start",
          "power cut in the midst of work",
          "process ended after a failed sync",
          "process killed after a failed sync",
          "records deleted",
          "recovered twice",
          "sector lost",
          "segment scrubbed",
          "segments beyond a torn tail removed",
          "segments expired",
          "sequence refused",
          "small file damaged",
          "space came back",
          "start refused by a failing disk",
          "tail damaged",
          "topic made again",
          "torn tail cut",
          "transaction aborted",
          "transaction committed",
          "unsynced records lost",
          "verified offline",
          "verified while serving"};
}

StorageSimOutcome run_storage_sim(const StorageSimOptions& options) {
  return StorageSim(options).run();
}

}  // namespace millrace::sim
