// Faults and damage.
#include "log/checkpoints.h"
#include "log/commit_file.h"
#include "log/file_names.h"
#include "sim/storage_run.h"

namespace millrace::sim {

SimDisk::Device& StorageSim::device_of(const std::string& path) {
  for (size_t i = 0; i < roots_.size(); ++i) {
    if (path.starts_with(disk_.device(i).root + "/")) return disk_.device(i);
  }
  return disk_.device(0);
}

bool StorageSim::faulty(const Slot& slot) const {
  return slot.failed || tampered_ || trouble_since_start_;
}

bool StorageSim::flips_bits(const Slot& slot) const {
  return !slot.path.empty() && const_cast<StorageSim*>(this)->device_of(slot.path).read_flip > 0;
}

// Whether a call may have failed with this code.
bool StorageSim::judge_error(const Slot& slot, const Error& error, std::string_view what) {
  const ErrorCode code = error.code;
  if (disk_.power_is_out()) return true;
  // A write that failed in part is in doubt until its cut is on disk.
  const bool in_doubt = code == ErrorCode::request_timed_out && what == "append";
  const bool storage = code == ErrorCode::kafka_storage_error || code == ErrorCode::io_error ||
                       code == ErrorCode::no_space || in_doubt;
  if (storage && faulty(slot)) return true;
  if (slot.failed && code == ErrorCode::not_leader_or_follower)
    return true;  // its directory failed in the start
  if ((slot.model.damaged || slot.model.suspect) && (storage || code == ErrorCode::corrupt)) {
    saw("damage found while serving");
    // Once it is offline for it, who asks later is told the code alone.
    const bool told = slot.ref->role() == Partition::Role::none || error.message.empty();
    if (!told && error.message.find(slot.path) == std::string::npos && !slot.failed && !faulty(slot))
      fail("{}: {}: damage without a name: {}", slot.name(), what, error.message);
    return true;
  }
  if (code == ErrorCode::corrupt && trouble_since_start_ && disk_.counters.read_flips > 0) return true;
  fail("{}: {} failed with {}: {}", slot.name(), what, static_cast<int>(code), error.message);
  return false;
}

// --- trouble ---

void StorageSim::break_disk() {
  trouble_since_start_ = true;
  SimDisk::Device& device = disk_.device(dice_.index(disk_.devices()));
  switch (dice_.below(10)) {
    case 0:
      device.capacity = device.used + static_cast<uint64_t>(dice_.skewed(0, 20'000));
      say("{} is almost full", device.root);
      break;
    case 1:
      device.syncs_until_error = static_cast<uint64_t>(dice_.between(1, 5));
      say("{}: a sync is going to fail", device.root);
      break;
    case 2:
    case 3: {
      const size_t call = dice_.index(kCalls);
      device.errors[call] = 100'000;
      say("{}: calls of kind {} fail", device.root, call);
      break;
    }
    case 4: {
      const std::array calls{Call::create, Call::rename, Call::make, Call::write};
      const auto call = static_cast<size_t>(calls[dice_.index(calls.size())]);
      device.no_space[call] = 200'000;
      say("{}: calls of kind {} find no room", device.root, call);
      break;
    }
    case 5:
      if (options_.flips_on_the_way) {
        flip_on_the_way(device);
        break;
      }
      [[fallthrough]];
    case 6:
      disk_.timing.slow_per_million = 300'000;
      say("the disks are slow");
      break;
    default:
      if (device.capacity != UINT64_MAX) saw("space came back");
      device.capacity = UINT64_MAX;
      device.errors = device.no_space = {};
      if (device.read_flip > 0) disk_.evict_all();
      device.read_flip = 0;
      say("{} is well again", device.root);
      break;
  }
}

void StorageSim::flip_on_the_way(SimDisk::Device& device) {
  device.read_flip = 50'000;
  for (const auto& slot : slots_) slot->model.loose_epochs = true;
  say("{}: bits flip on the way", device.root);
}

// Trouble that is there when the broker starts.
void StorageSim::break_start() {
  SimDisk::Device& device = disk_.device(dice_.index(disk_.devices()));
  start_trouble_ = true;
  switch (dice_.below(4)) {
    case 0:
      device.dead = true;
      ++disk_.counters.dead_devices;
      say("{} is gone", device.root);
      break;
    case 1: {
      const size_t call = dice_.index(kCalls);
      device.errors[call] = 50'000;
      say("{}: calls of kind {} fail", device.root, call);
      break;
    }
    case 2:
      if (options_.flips_on_the_way) {
        flip_on_the_way(device);
        break;
      }
      [[fallthrough]];
    default:
      device.no_space[static_cast<size_t>(Call::create)] = device.no_space[static_cast<size_t>(Call::write)] =
          device.no_space[static_cast<size_t>(Call::rename)] = 50'000;
      say("{} is almost full", device.root);
      break;
  }
}

// Cold files are read from the medium again. The active segment stays: what was just written is in the cache.
void StorageSim::evict() {
  const Slot& slot = any_slot();
  if (slot.path.empty()) return;
  std::vector<std::string> files = disk_.files_under(slot.path);
  std::string active;
  for (const std::string& f : files) {
    if (f.ends_with(log::kLogSuffix)) active = std::max(active, f);
  }
  for (const std::string& f : files) {
    if (f != active) disk_.evict(f);
  }
  say("{}: leaves the page cache", slot.name());
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
  const uint64_t roll = dice_.below(12);
  if (roll < 6) {
    const uint64_t at = victim->position + 16 + dice_.below(victim->size - 16);
    disk_.flip_bit(victim->path, at, static_cast<uint32_t>(dice_.below(8)));
    say("{}: a bit flips in {} at {}", slot.name(), victim->path, at);
    saw("bit flipped");
  } else if (roll < 8) {
    disk_.lose_sector(victim->path, victim->position);
    say("{}: a sector of {} at {} is unreadable", slot.name(), victim->path, victim->position);
    saw("sector lost");
  } else if (roll < 10) {
    disk_.lose_file(victim->path);
    say("{}: {} is lost", slot.name(), victim->path);
    saw("file lost");
  } else {
    const uint64_t size = victim->position + dice_.below(victim->size);
    disk_.cut_file(victim->path, size);
    slot.model.cut_short = true;
    say("{}: {} ends at {}", slot.name(), victim->path, size);
    saw("file cut short");
  }
  // What the broker wrote last is taken to be in the page cache: see evict().
  const std::vector<std::string> files = disk_.files_under(slot.path);
  const bool active = std::none_of(files.begin(), files.end(), [&](const std::string& f) {
    return f.ends_with(log::kLogSuffix) && f > victim->path;
  });
  if (!active && dice_.percent(70)) disk_.evict(victim->path);
}

// The durable end in the commit file; 0: none.
int64_t StorageSim::recorded_end(const Slot& slot) {
  const Bytes* file = disk_.durable_content(io::join_path(device_of(slot.path).root, log::kCommitFileName));
  if (file == nullptr) return 0;
  const log::CommitFile::Replayed known = log::CommitFile::replay(*file);
  const auto it = known.ends.find({slot.id, PartitionId(slot.number)});
  return it == known.ends.end() ? 0 : it->second.v;
}

bool StorageSim::on_record(const std::string& path) {
  return std::any_of(slots_.begin(), slots_.end(), [&](const auto& slot) {
    return path.starts_with(slot->path + "/") && recorded_end(*slot) > 0;
  });
}

// One of the files beside the records, while nobody is looking.
void StorageSim::damage_small_file() {
  std::vector<std::string> files;
  for (const std::string& root : roots_) {
    for (const std::string& f : disk_.files_under(root)) {
      const bool named = f.ends_with("-checkpoint") || f.ends_with("commit-file") ||
                         f.ends_with("log-manifest") || f.ends_with("cleanshutdown") ||
                         f.ends_with("partition.metadata") || f.ends_with("index") ||
                         f.ends_with(log::kSnapshotSuffix);
      // Whose a directory is, is only known besides once a durable end of it is on record.
      const bool recorded = !f.ends_with("partition.metadata") || on_record(f);
      if (named && recorded && !disk_.content(f)->empty()) files.push_back(f);
    }
  }
  if (files.empty()) return;
  const std::string file = files[dice_.index(files.size())];
  bool inside = false;
  for (const auto& slot : slots_) inside = inside || file.starts_with(slot->path + "/");
  for (const auto& slot : slots_) {
    const bool concerned = inside ? file.starts_with(slot->path + "/") : true;
    slot->model.suspect = slot->model.suspect || concerned;
  }
  small_files_damaged_ = true;
  const uint64_t size = disk_.content(file)->size();
  const uint64_t roll = dice_.below(10);
  if (roll < 5) {
    const uint64_t at = dice_.below(size);
    disk_.flip_bit(file, at, static_cast<uint32_t>(dice_.below(8)));
    say("a bit flips in {} at {}", file, at);
  } else if (roll < 7) {
    disk_.cut_file(file, dice_.below(size));
    say("{} is cut short", file);
  } else if (roll < 8) {
    disk_.fill_with(file, 0);
    say("{} is all zeros", file);
  } else {
    disk_.lose_file(file);
    say("{} is lost", file);
  }
  saw("small file damaged");
}

// Beyond what was promised damage looks as what a power cut leaves.
void StorageSim::damage_tail() {
  Slot& slot = any_slot();
  if (slot.path.empty() || slot.model.damaged) return;
  // What a leader had it cut is promised no more, and yet on record until the cut is.
  const std::optional<FoundBatch> victim =
      find_batch_below(disk_, slot.path, std::max(slot.model.promised, recorded_end(slot)), INT64_MAX, dice_);
  if (!victim) return;
  disk_.flip_bit(victim->path, victim->position + 16 + dice_.below(victim->size - 16),
                 static_cast<uint32_t>(dice_.below(8)));
  disk_.evict(victim->path);
  slot.cut_unseen = true;
  say("{}: a bit flips in {}, beyond what is durable", slot.name(), victim->path);
  saw("tail damaged");
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
    if (!slot->ref || slot->follows || slot->failed || faulty(*slot)) continue;
    const Result<partition::Offsets> offsets = slot->ref->offsets();
    if (offsets.ok() && offsets->high_watermark != offsets->log_end) {
      fail("{}: left alone, the high watermark stays at {} of {}", slot->name(), offsets->high_watermark.v,
           offsets->log_end.v);
      return;
    }
  }
}

}  // namespace millrace::sim
