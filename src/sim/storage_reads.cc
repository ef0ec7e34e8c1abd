// Consumers.
#include "base/endian.h"
#include "record/batch_iterator.h"
#include "sim/storage_run.h"

namespace millrace::sim {

// --- reading ---

void StorageSim::fetch(Slot& slot) {
  if (!slot.ref) return;
  partition::Offsets offsets;
  const int64_t end = slot.model.end();
  const int64_t from = dice_.percent(5) ? end + 1 + static_cast<int64_t>(dice_.below(3))
                                        : dice_.between(std::min(slot.model.log_start, end), end);
  const auto bytes_max = static_cast<size_t>(dice_.skewed(1, 64 * 1024));
  const bool committed = dice_.percent(30);
  partition::Isolation isolation =
      committed ? partition::Isolation::read_committed : partition::Isolation::read_uncommitted;
  if (options_.bugs.serve_uncommitted) isolation = partition::Isolation::replica;
  if (options_.bugs.serve_open_transactions && committed) isolation = partition::Isolation::read_uncommitted;
  const partition::EpochCheck check{kNoLeaderEpoch, slot.follows};
  Result<partition::Fetched> fetched = ErrorCode::unknown_server_error;
  loop_.in_tick([&] {
    fetched = slot.ref->fetch(Offset(from), bytes_max, dice_.percent(70), isolation, check, offsets);
  });
  // What is cold is read where blocking is allowed, its checksums verified.
  if (fetched.ok() && fetched->cold) {
    saw("fetch of what is cold");
    fetched = slot.ref->fetch_cold(Offset(from), bytes_max, true, isolation, check, offsets);
  }
  if (!fetched.ok()) {
    say("{}: fetch from {}: error {} {}", slot.name(), from, static_cast<int>(fetched.code()),
        fetched.error().message);
    if (fetched.code() == ErrorCode::offset_out_of_range) {
      if (from >= offsets.log_start.v && from <= end) fail("{}: offset {} is in range", slot.name(), from);
      return;
    }
    if (fetched.code() == ErrorCode::offset_not_available && slot.follows && from > end) return;
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
  slot.committed = std::max(slot.committed, slot.high_watermark);
  if (offsets.high_watermark.v > end || offsets.last_stable > offsets.high_watermark ||
      offsets.log_end.v != end) {
    fail("{}: log end {}, high watermark {}, last stable {}; the model ends at {}", slot.name(),
         offsets.log_end.v, offsets.high_watermark.v, offsets.last_stable.v, end);
    return;
  }
  const int64_t stable = slot.model.last_stable(offsets.high_watermark.v);
  const bool as_decided = slot.follows &&
                          offsets.last_stable.v <= slot.model.last_stable(offsets.high_watermark.v, true) &&
                          offsets.last_stable.v >= stable;
  // The beginning of an open transaction whose marker was lost may have been compacted away meanwhile.
  const bool begins_later =
      offsets.last_stable.v > stable &&
      (slot.model.nothing_between(stable, offsets.last_stable.v) ||
       offsets.last_stable.v <= slot.model.last_stable(offsets.high_watermark.v, slot.follows, true));
  if (stable >= slot.model.log_start && offsets.last_stable.v != stable && !as_decided && !begins_later &&
      !slot.model.damaged && !slot.model.suspect) {
    fail("{}: last stable offset {}, expected {}", slot.name(), offsets.last_stable.v, stable);
    return;
  }
  Bytes all = fetched->verified;
  for (const auto& region : fetched->regions) {
    // The network sends it from the page cache.
    const std::optional<Bytes> piece = disk_.cached_content(*region->file, region->position, region->length);
    if (!piece) {
      if (!slot.model.damaged) fail("{}: a region is shorter than it was", slot.name());
      return;
    }
    all.insert(all.end(), piece->begin(), piece->end());
  }
  int64_t next = -1;
  record::BatchIterator batches(all);
  std::vector<record::BatchView> views;
  while (true) {
    const auto batch = batches.next();
    if (!batch.ok() || (!*batch && batches.torn_bytes() > 0)) {
      if (slot.model.cut_short) return;  // a hole where it was written: the reader sees it
      fail("{}: a fetch from {} gives broken bytes", slot.name(), from);
      return;
    }
    if (!*batch) break;
    const record::BatchView& view = **batch;
    if (slot.model.cut_short && !view.crc_matches()) return;
    const std::string wrong = slot.model.judge(view, false);
    if (!wrong.empty()) {
      fail("{}: fetch: {}", slot.name(), wrong);
      return;
    }
    views.push_back(view);
    const int64_t expected = next < 0 ? from : next;
    const bool order = next < 0 ? view.last_offset().v >= from : view.base_offset().v >= next;
    if (!order || !slot.model.nothing_between(expected, view.base_offset().v)) {
      fail("{}: fetch from {} gives a batch at {} after {}", slot.name(), from, view.base_offset().v, next);
      return;
    }
    next = view.next_offset().v;
    if (next > bound) {
      fail("{}: fetch gives offset {}, beyond {}", slot.name(), next - 1, bound);
      return;
    }
  }
  if (committed && !slot.model.damaged && !slot.model.suspect) {
    if (const std::string wrong = slot.model.judge_committed(views, fetched->aborted); !wrong.empty()) {
      fail("{}: fetch: {}", slot.name(), wrong);
      return;
    }
    if (!fetched->aborted.empty()) saw("aborted transactions told");
  }
  say("{}: fetch from {} of {} bytes: up to {} of {}", slot.name(), from, bytes_max, next, bound);
  if (next >= 0 && slot.config->fsync && !slot.follows) slot.model.promise(next);
}

// Everything there is. False: not all of it could be read.
bool StorageSim::read_all(Slot& slot, bool adopt) {
  const Partition::Usage usage = slot.ref->usage();
  int64_t at = usage.offsets.log_start.v;
  const int64_t end = usage.offsets.log_end.v;
  int32_t epoch = -1;
  std::map<std::pair<int64_t, int16_t>, int32_t> sequences;
  const bool compacted = slot.model.compacted;
  slot.model.begin_survey();
  bool complete = false;
  while (at < end) {
    partition::Offsets offsets;
    Result<partition::Fetched> fetched = slot.ref->fetch_cold(
        Offset(at), 1u << 20, true, partition::Isolation::replica, {kNoLeaderEpoch, slot.follows}, offsets);
    if (!fetched.ok()) {
      (void)judge_error(slot, fetched.error(), "reading everything");
      break;
    }
    if (fetched->verified.empty() && slot.model.damaged && compacted) break;  // a segment that is missing
    if (fetched->verified.empty()) {
      fail("{}: nothing at {}, the log ends at {}", slot.name(), at, end);
      break;
    }
    record::BatchIterator batches(fetched->verified);
    while (ok()) {
      const auto batch = batches.next();
      if (!batch.ok()) {
        fail("{}: broken bytes at {}", slot.name(), at);
        break;
      }
      if (!*batch) break;
      const record::BatchView& view = **batch;
      if (const std::string wrong = slot.model.judge(view, adopt); !wrong.empty()) {
        fail("{}: {}", slot.name(), wrong);
        break;
      }
      // A segment that is missing of a topic that may be compacted looks like what compaction leaves.
      const bool holes = compacted || (slot.model.damaged && slot.config->log.compact_policy);
      if (view.next_offset().v <= at || (view.base_offset().v > at && !holes)) {
        fail("{}: offsets {}..{} where {} was expected", slot.name(), view.base_offset().v,
             view.last_offset().v, at);
        break;
      }
      at = view.next_offset().v;
      if (view.leader_epoch().v < epoch) {
        fail("{}: epoch {} after {}", slot.name(), view.leader_epoch().v, epoch);
        break;
      }
      epoch = view.leader_epoch().v;
      if (!view.has_producer() || view.is_control() || compacted) continue;
      const auto [it, first] = sequences.try_emplace({view.producer_id().v, view.producer_epoch().v}, 0);
      if (!first && it->second != view.base_sequence()) {
        fail("{}: producer {} goes from sequence {} to {} at offset {}", slot.name(), view.producer_id().v,
             it->second, view.base_sequence(), view.base_offset().v);
        break;
      }
      it->second = record::advance_sequence(view.base_sequence(), view.record_count());
    }
    if (!ok()) break;
  }
  complete = at >= end;
  // What could not be read is nobody's evidence.
  const std::string wrong = slot.model.end_survey(end, complete, clock_.now().wall_ms);
  if (ok() && !wrong.empty()) fail("{}: {}", slot.name(), wrong);
  return complete && ok();
}

void StorageSim::look_up(Slot& slot) {
  if (!slot.ref || slot.model.batches().empty()) return;
  const auto& batches = slot.model.batches();
  const ModelBatch& target = batches[dice_.index(batches.size())];
  const int64_t timestamp =
      target.records[dice_.index(target.records.size())].timestamp + dice_.between(-3, 3);
  const partition::EpochCheck check{kNoLeaderEpoch, slot.follows};
  loop_.in_tick([&] {
    const Result<partition::Offsets> offsets = slot.ref->offsets(check);
    const auto answer =
        slot.ref->offset_for_timestamp(timestamp, partition::Isolation::read_uncommitted, check);
    if (!answer.ok()) {
      (void)judge_error(slot, answer.error(), "a look-up by timestamp");
      return;
    }
    const int64_t expected = slot.model.offset_for_timestamp(timestamp, offsets->high_watermark.v);
    say("{}: timestamp {}: offset {}", slot.name(), timestamp, answer->offset.v);
    if (answer->offset.v != expected && !slot.model.damaged && !slot.model.stale && !slot.model.suspect) {
      for (const std::string& f : disk_.files_under(slot.path)) {
        if (!f.ends_with(".timeindex")) continue;
        const Bytes& c = *disk_.content(f);
        for (size_t at = 0; at + 12 <= c.size(); at += 12)
          say("    {}: {} +{}", f, load_be<int64_t>(&c[at]), load_be<int32_t>(&c[at + 8]));
      }
      for (const ModelBatch& b : batches) {
        for (size_t r = 0; r < b.records.size() && b.base < 40; ++r)
          say("    {} at {}{}", b.base + static_cast<int64_t>(r), b.records[r].timestamp,
              b.records[r].gone ? " gone" : "");
      }
      fail("{}: timestamp {} found at {}, it is at {}", slot.name(), timestamp, answer->offset.v, expected);
      return;
    }
    // Epochs: what belongs to a later one lies at or beyond the end of this one.
    if (slot.follows) return;
    const int32_t asked = static_cast<int32_t>(dice_.between(0, slot.leader_epoch));
    const auto end = slot.ref->end_offset_for_epoch(LeaderEpoch(asked), {});
    if (!end.ok()) {
      (void)judge_error(slot, end.error(), "a look-up by epoch");
      return;
    }
    if (slot.model.damaged || slot.model.suspect || end->end_offset.v < 0) return;
    for (const ModelBatch& b : batches) {
      const bool gone =
          std::all_of(b.records.begin(), b.records.end(), [](const ModelRecord& r) { return r.gone; });
      if (b.base < slot.model.log_start || gone) continue;
      if ((b.epoch <= asked) != (b.last < end->end_offset.v)) {
        fail("{}: epoch {} ends at {}, but the batch at {} is of epoch {}", slot.name(), asked,
             end->end_offset.v, b.base, b.epoch);
        return;
      }
    }
  });
}

}  // namespace millrace::sim
