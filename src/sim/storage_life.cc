// Starts, stops and crashes.
#include "log/file_names.h"
#include "log/verify.h"
#include "sim/storage_run.h"

namespace millrace::sim {

namespace {

constexpr int kStartsMax = 12;  // in a row that trouble may fall into

}  // namespace

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
    slot->model.promise(std::min(usage.durable_end.v, slot->cutting_to));
    if (slot->config->fsync && !slot->follows) slot->model.promise(slot->high_watermark);
  }
}

void StorageSim::crash(Stop how) {
  ++out_.crashes;
  probe();
  say("{}", how == Stop::power_cut ? "POWER CUT" : "KILL");
  loop_.kill();
  for (const auto& slot : slots_) {
    slot->compaction = nullptr;
    slot->ref = nullptr;
  }
  host_ = nullptr;
  waits_.clear();
  disk_.clear_faults();
  if (how == Stop::power_cut) {
    disk_.power_cycle();
  } else {
    disk_.kill_process();
  }
  if (may_damage_ && dice_.percent(25)) {
    if (dice_.percent(50)) {
      damage_small_file();
    } else {
      damage_tail();
    }
  }
  scheduler_.run_until(scheduler_.now_us() + dice_.between(0, 1'000'000));
}

void StorageSim::clean_stop() {
  say("clean stop");
  auto all = std::make_shared<std::vector<PartitionRef>>();
  for (const auto& slot : slots_) {
    slot->compaction = nullptr;
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
  std::vector<bool> was_open;
  for (const auto& slot : slots_) {
    was_open.push_back(slot->ref != nullptr);
    fenced = fenced || slot->failed;
    slot->ref = nullptr;
  }
  host_ = nullptr;
  waits_.clear();
  disk_.clear_faults();
  if (was_clean && !fenced && !page_cache_lies()) {
    // Everything is durable now: the machine may go too.
    for (size_t i = 0; i < slots_.size(); ++i) {
      PartitionModel& model = slots_[i]->model;
      if (was_open[i] && !model.damaged) model.promise(model.end());
    }
    if (dice_.percent(30)) verify_offline(was_open);
  }
  const bool power_off = dice_.percent(50);
  if (power_off) {
    say("  and power off");
    disk_.power_cycle();
    for (size_t i = 0; i < slots_.size(); ++i)
      slots_[i]->cut_unseen = slots_[i]->cut_unseen || !was_open[i];  // nobody synced it
  } else {
    disk_.kill_process();
  }
  if (may_damage_ && dice_.percent(25)) damage_small_file();
  if (power_off) {
    start(was_clean && !fenced && !page_cache_lies() ? Stop::clean : Stop::power_cut);
  } else {
    if (page_cache_lies()) saw("process ended after a failed sync");
    start(was_clean ? Stop::clean : Stop::process_kill);
  }
}

void StorageSim::forget_swaps(const std::string& directory) {
  for (const std::string& f : disk_.files_under(directory)) {
    if (f.ends_with(log::kSwapSuffix)) disk_.lose_file(f);
  }
}

// What `verify disk` says of a directory that was closed cleanly.
void StorageSim::verify_offline(const std::vector<bool>& was_open) {
  saw("verified offline");
  for (const std::string& root : roots_) {
    if (!disk_.exists(io::join_path(root, "meta.properties"))) continue;  // was never there
    const Result<log::DirectoryVerdict> directory = log::verify_directory(disk_, root);
    if (!directory.ok()) {
      if (!tampered_ && !small_files_damaged_) fail("{}: {}", root, directory.error().message);
      return;
    }
    if (directory->findings.damages > 0 && !tampered_ && !small_files_damaged_) {
      fail("after a clean stop: {}", log::text_of(directory->findings.list.front()));
      return;
    }
    for (const log::PartitionDirectory& p : directory->partitions) {
      const auto slot =
          std::find_if(slots_.begin(), slots_.end(), [&](const auto& s) { return s->path == p.path; });
      if (slot == slots_.end() || (*slot)->model.damaged || (*slot)->model.suspect) continue;
      if (!was_open[static_cast<size_t>(slot - slots_.begin())]) continue;  // nobody closed it
      log::PartitionCheck check = log::check_of(*directory, p);
      check.records = true;
      check.topic_id = (*slot)->id;
      check.holes_are_damage = !(*slot)->model.compacted;
      const Result<log::PartitionVerdict> verdict = log::verify_partition(disk_, p.path, check);
      if (!verdict.ok()) {
        fail("after a clean stop, {}: {}", p.path, verdict.error().message);
        return;
      }
      if (verdict->findings.damages == 0) continue;
      for (const log::Finding& f : verdict->findings.list) {
        if (f.severity == log::Severity::damage) fail("after a clean stop: {}", log::text_of(f));
      }
      return;
    }
  }
}

void StorageSim::start(Stop after) {
  for (int attempt = 0; ok(); ++attempt) {
    if (attempt < kStartsMax && dice_.percent(20)) {
      disk_.cut_power_after(dice_.below(60));
    }
    if (attempt < kStartsMax && may_fault_ && dice_.percent(15)) break_start();
    const bool up = start_once(after);
    const bool troubled = std::exchange(start_trouble_, false);
    if (disk_.power_is_out() || (!up && troubled && ok())) {
      const bool cut = disk_.power_is_out();
      saw(cut ? "power cut in a start" : "start refused by a failing disk");
      ++out_.crashes;
      say("{}", cut ? "POWER CUT in the start" : "the process ends");
      loop_.kill();
      for (const auto& slot : slots_) slot->ref = nullptr;
      host_ = nullptr;
      waits_.clear();
      disk_.clear_faults();
      if (cut) {
        disk_.power_cycle();
        after = Stop::power_cut;
      } else {
        disk_.kill_process();
        if (after == Stop::clean) after = Stop::process_kill;
      }
      continue;
    }
    disk_.cancel_cut();
    if (!up) return;
    if (troubled && dice_.percent(70)) {
      disk_.clear_faults();
      say("the disks are well again");
    }
    if (attempt < kStartsMax && dice_.percent(10)) {
      // Again at once: what was recovered must be found as it is.
      saw("recovered twice");
      probe();
      for (const auto& slot : slots_) {
        if (slot->ref && !slot->follows) slot->model.promise(slot->model.end());  // leading synced it
      }
      crash(dice_.percent(50) ? Stop::power_cut : Stop::process_kill);
      after = Stop::power_cut;
      continue;
    }
    return;
  }
}

// Whether a partition or a directory may refuse to open with this error.
bool StorageSim::excused(const Slot& slot, const Error& error) {
  const bool storage = error.code == ErrorCode::kafka_storage_error || error.code == ErrorCode::io_error ||
                       error.code == ErrorCode::no_space;
  if (start_trouble_ && (storage || (flips_bits(slot) && (error.code == ErrorCode::corrupt ||
                                                          error.code == ErrorCode::parse_error)))) {
    saw("partition offline: failing disk");
    return true;
  }
  if (tampered_ && !slot.model.damaged && storage) return true;
  if (!slot.model.damaged && !slot.model.suspect) return false;
  if (error.code != ErrorCode::corrupt && !storage) return false;
  saw(slot.model.damaged ? "damage found at the start" : "damaged small file found at the start");
  if (error.message.find(slot.path) == std::string::npos && error.message.find("/d") == std::string::npos) {
    fail("{}: damage without a name: {}", slot.name(), error.message);
  }
  return true;
}

bool StorageSim::start_once(Stop after) {
  for (const auto& slot : slots_) {
    slot->cut_unseen = slot->cut_unseen || after == Stop::power_cut;
    slot->told_leader = false;
  }
  say("start");
  trouble_since_start_ = start_trouble_;
  checkpointing_ = false;
  sync_errors_at_start_ = disk_.counters.sync_errors;
  host_ = std::make_unique<PartitionHost>(
      disk_, clock_, random_, trace_.named("host"),
      [this](const std::string& path, const Error& why) { on_storage_failure(path, why); });
  disk_.watch_failures([this](const std::string& path, const Error& why) { on_storage_failure(path, why); });
  host_->set_loop(loop_);
  for (const auto& slot : slots_) slot->failed = false;
  PartitionHost::Params params;
  params.log_dirs = roots_;
  params.cluster_id = kClusterId;
  params.node_id = BrokerId(1);
  Status status = host_->open_directories(params);
  if (status.ok()) {
    host_->expect(registered_);
    status = host_->begin_serving();
  }
  if (disk_.power_is_out()) return false;
  if (!status.ok()) {
    say("the directories do not open: {}", status.error().message);
    if (!start_trouble_) fail("the directories do not open: {}", status.error().message);
    return false;
  }
  for (const auto& slot : slots_) {
    open_slot(*slot, after);
    if (!ok() || disk_.power_is_out()) return false;
  }
  registered_ = host_->ids_to_register();
  return true;
}

void StorageSim::open_slot(Slot& slot, Stop after) {
  if (slot.follows && dice_.percent(40)) slot.follows = false;
  if (!slot.follows) ++slot.leader_epoch;
  PartitionHost::Spec spec{{slot.topic, PartitionId(slot.number)},
                           slot.id,
                           given_config(slot),
                           {LeaderEpoch(slot.leader_epoch), {BrokerId(1)}, 1}};
  spec.existing = !registered_.empty();
  spec.leads = !slot.follows;
  Result<PartitionHost::OpenPlan> plan = host_->plan(std::move(spec));
  if (!plan.ok()) {
    // A directory that cannot be read takes its partitions along.
    say("  {}: {}", slot.name(), plan.error().message);
    if (!excused(slot, plan.error())) fail("{}: no plan: {}", slot.name(), plan.error().message);
    return;
  }
  if (options_.bugs.always_clean) plan->clean = true;
  if (options_.bugs.forget_checkpoints) plan->recovery_point = plan->durable_end = Offset(0);
  if (options_.bugs.forget_log_start) {
    plan->log_start = Offset(0);
    plan->log_start_exact = false;
  }
  std::optional<FoundLog> found;
  if (!plan->create) {
    if (options_.bugs.checkpoint_ahead) plan->recovery_point = Offset(slot.model.end());
    if (options_.bugs.forget_swaps) forget_swaps(plan->path);
    found = find_log(disk_, plan->path, slot.model.compacted, plan->clean ? 0 : plan->log_start.v);
    if (found && found->end < plan->log_start.v) found->end = plan->log_start.v;
    if (plan->rest || flips_bits(slot)) found.reset();
  }
  if (plan->rest && !plan->create) saw("log at rest at the start");
  slot.path = plan->path;
  slot.failed = host_->state_of(slot.path)->failed();
  say("  {}: recovery point {}, durable end {}, log start {}{}{}{}", slot.name(), plan->recovery_point.v,
      plan->durable_end.v, plan->log_start.v, plan->log_start_exact ? " exactly" : "",
      plan->clean ? ", clean" : "",
      plan->create ? ", new"
      : plan->rest ? ", at rest"
                   : "");
  if (const Bytes* epochs = disk_.content(io::join_path(plan->path, log::kEpochCheckpointName))) {
    std::string line(as_text(*epochs));
    std::replace(line.begin(), line.end(), '\n', ',');
    say("  {}: leader epochs {}", slot.name(), line);
  }
  Result<PartitionRef> opened = host_->open(*plan);
  if (disk_.power_is_out()) return;
  if (!opened.ok()) {
    say("  {}: {}", slot.name(), opened.error().message);
    if (options_.bugs.heal_by_emptying && opened.code() == ErrorCode::corrupt) {
      (void)disk_.remove_tree(plan->path);
      plan->create = true;
      plan->durable_end = plan->recovery_point = Offset(0);
      opened = host_->open(*plan);
    }
    if (!opened.ok()) {
      if (!excused(slot, opened.error())) fail("{}: does not open: {}", slot.name(), opened.error().message);
      return;
    }
  }
  slot.ref = std::move(*opened);
  if (plan->create && slot.model.promised > slot.model.log_start && slot.model.promised > 0 &&
      plan->log_start.v < slot.model.promised) {
    fail("{}: was made anew, but reached offset {}", slot.name(), slot.model.promised);
    return;
  }
  if (flips_bits(slot) && after != Stop::clean) {
    // What nobody has recorded as synced looks like a torn tail when a bit of it flips on the way.
    slot.cut_unseen = true;
    slot.model.promised =
        std::min(slot.model.promised, std::max(plan->durable_end.v, plan->recovery_point.v));
  }
  verify(slot, plan->log_start.v, found);
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
  if (end < model.promised && !(emptied && start >= model.promised) && !(model.damaged && model.suspect)) {
    fail("{}: ends at {}, but {} was promised", slot.name(), end, model.promised);
    return;
  }
  // A cut that was not finished may have come to pass.
  if (!slot.cut_unseen && end < std::min(model.end(), slot.cutting_to)) {
    fail("{}: ends at {} after a stop that loses nothing, it reached {}", slot.name(), end, model.end());
    return;
  }
  if (start < model.promised_start && !model.suspect && !model.damaged) {
    fail("{}: starts at {}, everything below {} was deleted", slot.name(), start, model.promised_start);
    return;
  }
  const bool twice_damaged = model.damaged && model.suspect;
  const bool nothing_promised = start == end && model.promised <= model.log_start;
  if (start > model.log_start && !emptied && !slot.restarting && !twice_damaged && !nothing_promised) {
    fail("{}: starts at {}, it started at {}", slot.name(), start, model.log_start);
    return;
  }
  if (start < model.log_start) saw("log start rolled back");
  if (end < model.end()) saw("unsynced records lost");
  if (found && !model.damaged && !model.suspect) {
    if (found->torn) saw("torn tail cut");
    if (found->segments_lost) saw("segments beyond a torn tail removed");
    if (found->end != end && !emptied) {
      fail("{}: ends at {}, the longest valid prefix of its files at {}", slot.name(), end, found->end);
      return;
    }
  }
  const bool began_anew = std::exchange(slot.restarting, false) && start == end;
  slot.cutting_to = INT64_MAX;
  model.deleted_below = std::max(model.deleted_below, model.log_start);
  model.log_start = start;
  slot.high_watermark = 0;
  const bool complete = read_all(slot, true);
  if (!ok() || disk_.power_is_out()) return;
  if (!complete && (end > model.end() || slot.failed)) {
    // What could not be read cannot be judged: not before the next start.
    slot.ref = nullptr;
    return;
  }
  if (end > model.end() && !model.damaged) {
    if (!emptied && !began_anew)
      fail("{}: ends at {}, only {} was ever written", slot.name(), end, model.end());
  }
  if (!ok()) return;
  model.cut_to(start, end);
  slot.cut_unseen = false;
  if (slot.follows) return;
  model.settled();  // leading began with a sync
  model.promise(end);
}

}  // namespace millrace::sim
