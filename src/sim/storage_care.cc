// Housekeeping, and what changes under it.
#include "base/endian.h"
#include "log/file_names.h"
#include "log/scrub.h"
#include "log/verify.h"
#include "sim/storage_run.h"

namespace millrace::sim {

// --- housekeeping ---

void StorageSim::delete_records(Slot& slot) {
  if (!slot.ref || slot.follows) return;
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
    slot.model.promised_start = std::max(slot.model.promised_start, start->v);
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
  const Policy policy = dice_.percent(15)                                                   ? random_policy()
                        : slot.config->log.compact_policy && slot.config->log.delete_policy ? Policy::both
                        : slot.config->log.compact_policy                                   ? Policy::compact
                                                                                            : Policy::remove;
  const auto config = random_config(slot.config->fsync, policy);
  say("{}: new configuration, segment.bytes {}", slot.topic, config->log.segment_bytes);
  loop_.in_tick([&] {
    for (const auto& other : slots_) {
      if (other->id != slot.id) continue;
      take_config(*other, config);
      if (other->ref) other->ref->configure(given_config(*other), 1);
    }
  });
}

void StorageSim::recreate_topic(Slot& chosen) {
  const std::string topic = chosen.topic;
  say("{}: deleted and made again", topic);
  saw("topic made again");
  const Uuid id = random_.uuid();
  const auto config = random_config(dice_.percent(65), random_policy());
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    if (slot.topic != topic) continue;
    // The image says so first: whatever happens, the old records are gone.
    slot.id = id;
    slot.incarnation = ++last_incarnation_;
    slot.leader_epoch = 0;
    slot.model.reset(0);
    take_config(slot, config);
    slot.follows = slot.restarting = false;
    slot.committed = 0;
    slot.cutting_to = INT64_MAX;
    slot.compaction = nullptr;
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
                                                        given_config(slot),
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

// --- compaction, scrub, offline check ---

void StorageSim::compact(Slot& slot) {
  if (!slot.ref || !slot.config->log.compact_policy) return;
  slot.committed = std::max(slot.committed, slot.ref->usage().offsets.high_watermark.v);
  if (!slot.compaction) {
    const Result<log::CompactionNeed> need = slot.ref->compaction_need(clock_.now());
    if (!need.ok()) {
      (void)judge_error(slot, need.error(), "looking at what is dirty");
      return;
    }
    log::CompactionLimits limits;
    limits.map_bytes = static_cast<size_t>(dice_.skewed(16 * 1024, 256 * 1024));
    limits.read_bytes = static_cast<size_t>(dice_.skewed(1024, 64 * 1024));
    Result<std::unique_ptr<log::Compaction>> begun = slot.ref->begin_compaction(limits, clock_.now());
    if (!begun.ok()) {
      (void)judge_error(slot, begun.error(), "beginning compaction");
      return;
    }
    slot.compaction = std::move(*begun);
    if (!slot.compaction) return;
    saw("compaction: began");
  }
  bool swapped = false, done = false;
  for (int64_t steps = dice_.between(1, 12); steps > 0 && slot.compaction; --steps) {
    const uint32_t before = slot.compaction->stats().segments_after;
    const Result<bool> more =
        slot.ref->compact(*slot.compaction, static_cast<uint64_t>(dice_.skewed(1, 64 * 1024)), clock_.now());
    if (!more.ok()) {
      say("{}: compaction: {}", slot.name(), more.error().message);
      slot.compaction = nullptr;
      if (disk_.power_is_out()) return;
      if (more.code() == ErrorCode::not_found && slot.model.damaged) {
        saw("compaction: a lost file");
      } else if (more.code() == ErrorCode::cancelled) {
        saw("compaction: cancelled");
      } else if (more.code() != ErrorCode::limit_exceeded) {
        (void)judge_error(slot, more.error(), "compaction");
      }
      swapped = true;
      break;
    }
    swapped = swapped || slot.compaction->stats().segments_after != before;
    if (!*more) {
      done = swapped = true;
      slot.compaction = nullptr;
    }
  }
  if (!swapped || slot.failed || disk_.power_is_out()) return;
  const Partition::Usage usage = slot.ref->usage();
  say("{}: compaction{}, clean below {}", slot.name(), done ? " done" : "", usage.cleaned_end.v);
  if (!read_all(slot, false) || !done) {
    if (ok()) return;
    for (const std::string& f : disk_.files_under(slot.path)) {
      const Bytes& content = *disk_.content(f);
      say("  {} of {} bytes", f, content.size());
      if (!f.ends_with("txnindex")) continue;
      for (size_t at = 0; at + 34 <= content.size(); at += 34)
        say("    producer {} {}..{} stable {}", load_be<int64_t>(&content[at + 2]),
            load_be<int64_t>(&content[at + 10]), load_be<int64_t>(&content[at + 18]),
            load_be<int64_t>(&content[at + 26]));
    }
    for (const ModelBatch& b : slot.model.batches())
      say("    {}..{} producer {}{}{}, keys from {}", b.base, b.last, b.producer,
          b.transactional ? " transactional" : "", b.control ? b.commit ? " commit" : " abort" : "",
          b.records.front().key);
    return;
  }
  saw("compaction: done");
  if (slot.model.damaged || slot.model.suspect) return;
  if (const std::string wrong = slot.model.judge_cleaned(usage.cleaned_end.v); !wrong.empty())
    fail("{}: after compaction: {}", slot.name(), wrong);
}

// Every closed segment, while the partition serves.
void StorageSim::scrub(Slot& slot) {
  if (!slot.ref) return;
  const bool healthy = !slot.model.damaged && !faulty(slot);
  Offset from(0);
  while (ok() && !disk_.power_is_out()) {
    const std::optional<log::ScrubTarget> target = slot.ref->scrub_target(from);
    if (!target) return;
    from = target->next_base;
    log::SegmentScrub run(disk_, *target);
    while (true) {
      const Result<bool> done = run.step(static_cast<size_t>(dice_.skewed(512, 64 * 1024)));
      if (!done.ok()) {
        (void)judge_error(slot, done.error(), "scrub");
        return;
      }
      if (*done) break;
    }
    saw("segment scrubbed");
    for (const log::DamagedRange& range : run.damaged()) {
      if (healthy) fail("{}: scrub: {}", slot.name(), range.what);
      saw("damage found by scrub");
      (void)slot.ref->note_damage(range, target->file);
    }
    if (run.index_problem().empty()) continue;
    if (healthy && !slot.model.suspect) fail("{}: scrub: {}", slot.name(), run.index_problem());
    saw("index made anew by scrub");
    if (const Status made = slot.ref->rebuild_indexes_of(target->base); !made.ok())
      (void)judge_error(slot, made.error(), "making an index anew");
  }
}

// The offline check of a partition that serves: it may find what is not finished, never damage.
void StorageSim::verify_live(Slot& slot) {
  if (!slot.ref || slot.path.empty() || !disk_.exists(slot.path)) return;
  const Partition::Usage usage = slot.ref->usage();
  log::PartitionCheck check;
  check.records = true;
  check.recovery_point = usage.recovery_point;
  check.durable_end = usage.durable_end;
  check.log_start = usage.offsets.log_start;
  check.topic_id = slot.id;
  check.holes_are_damage = !slot.model.compacted;
  const Result<log::PartitionVerdict> verdict = log::verify_partition(disk_, slot.path, check);
  if (!verdict.ok()) {
    (void)judge_error(slot, verdict.error(), "verifying while it serves");
    return;
  }
  saw("verified while serving");
  if (slot.model.damaged || slot.model.suspect || faulty(slot)) return;
  for (const log::Finding& f : verdict->findings.list) {
    // Until the next checkpoint the file may be behind; a start makes it good.
    if (f.path.ends_with(log::kEpochCheckpointName)) continue;
    if (f.severity == log::Severity::damage) fail("{}: while it serves: {}", slot.name(), log::text_of(f));
  }
  if (usage.segments > 0 && verdict->end.v != usage.offsets.log_end.v) {
    fail("{}: ends at {} by its files, at {} by itself", slot.name(), verdict->end.v,
         usage.offsets.log_end.v);
  }
}

}  // namespace millrace::sim
