// The partition as a follower. The simulation plays its leader: a log that is the follower's own up to where
// the two part, and what the leader has appended since.
#include "record/builder.h"
#include "record/control_batch.h"
#include "sim/storage_run.h"

namespace millrace::sim {

namespace {

constexpr BrokerId kOther{2};

// As it stands in the leader's log: offsets and epoch are the leader's.
Bytes placed(const ModelBatch& batch) {
  Bytes bytes = batch.bytes;
  store_be<int64_t>(bytes.data(), batch.base);
  store_be<int32_t>(bytes.data() + 12, batch.epoch);
  return bytes;
}

}  // namespace

void StorageSim::follow(Slot& slot) {
  if (!slot.ref) return;
  const Partition::Usage usage = slot.ref->usage();
  // A clean election keeps what was committed; what was compacted was.
  const bool unclean = !slot.model.compacted && dice_.percent(15);
  const int64_t low =
      std::max(slot.model.log_start, unclean ? 0 : std::max(slot.committed, usage.offsets.high_watermark.v));
  std::vector<int64_t> places{slot.model.end()};
  for (const ModelBatch& b : slot.model.batches()) {
    if (b.base >= low) places.push_back(b.base);
  }
  ++slot.leader_epoch;
  slot.follows = slot.told_leader = true;
  slot.leader = LeaderLog{};
  slot.leader.parts_at = dice_.percent(40) ? slot.model.end() : places[dice_.index(places.size())];
  slot.leader.log_start = slot.model.log_start;
  slot.leader.high_watermark = std::min(usage.offsets.high_watermark.v, slot.leader.parts_at);
  if (slot.leader.parts_at == slot.model.log_start && !slot.model.compacted && dice_.percent(50)) {
    // A leader that has nothing in common with it.
    slot.leader.log_start = slot.leader.parts_at = slot.leader.high_watermark =
        slot.model.end() + static_cast<int64_t>(dice_.below(20));
    saw("follower: leader begins beyond the end");
  }
  for (Producer& p : slot.producers) {
    ++p.epoch;
    p.next_sequence = 0;
    p.window.clear();
  }
  say("{}: follows a leader of epoch {} whose log parts at {}", slot.name(), slot.leader_epoch,
      slot.leader.parts_at);
  saw("follower: began");
  slot.ref->follow(LeaderEpoch(slot.leader_epoch), kOther);
}

void StorageSim::lead(Slot& slot) {
  if (!slot.ref) return;
  ++slot.leader_epoch;
  const Status led = slot.ref->lead({LeaderEpoch(slot.leader_epoch), {BrokerId(1)}, 1});
  say("{}: leads in epoch {}: {}", slot.name(), slot.leader_epoch, led.ok() ? "" : led.error().message);
  if (!led.ok()) {
    (void)judge_error(slot, led.error(), "leading");
    return;
  }
  saw("follower: became the leader");
  slot.follows = false;
  slot.high_watermark = 0;
  slot.model.settled();  // leading began with a sync
  slot.model.promise(slot.model.end());
}

// The leader appends.
void StorageSim::extend_leader(Slot& slot) {
  Producer* producer = nullptr;
  if (!slot.producers.empty() && dice_.percent(70))
    producer = &slot.producers[dice_.index(slot.producers.size())];
  ModelBatch m;
  if (producer != nullptr && producer->transactional && producer->in_transaction && dice_.percent(40)) {
    m = make_marker(slot, *producer);
    producer->in_transaction = false;
  } else {
    m = make_batch(slot, producer);
    if (producer != nullptr) {
      producer->next_sequence = m.next_sequence();
      producer->in_transaction = producer->transactional;
    }
  }
  m.base = slot.leader.end();
  m.last = m.base + static_cast<int64_t>(m.records.size()) - 1;
  m.epoch = slot.leader_epoch;
  slot.leader.own.push_back(std::move(m));
}

// The largest epoch of the leader's log that is not above `epoch`, and where it ends.
log::EpochEnd StorageSim::leader_epoch_end(const Slot& slot, int32_t epoch) const {
  const LeaderLog& leader = slot.leader;
  if (epoch == slot.leader_epoch) return {LeaderEpoch(epoch), Offset(leader.end())};
  log::EpochEnd answer{LeaderEpoch(epoch), Offset(leader.log_start)};
  const auto pass = [&](const ModelBatch& b) {
    if (b.last < leader.log_start || b.epoch > epoch) return;
    answer.epoch = LeaderEpoch(b.epoch);
    answer.end_offset = Offset(b.last + 1);
  };
  for (const ModelBatch& b : slot.model.batches()) {
    if (b.last < leader.parts_at) pass(b);
  }
  for (const ModelBatch& b : leader.own) pass(b);
  return answer;
}

// Whole batches from `from` on, and maybe the beginning of one more.
Bytes StorageSim::leader_records(Slot& slot, int64_t from, std::vector<ModelBatch>& given) {
  Bytes bytes;
  const size_t count = 1 + dice_.index(4);
  const auto give = [&](const ModelBatch& b) {
    if (b.last < from || given.size() == count) return;
    const Bytes whole = placed(b);
    bytes.insert(bytes.end(), whole.begin(), whole.end());
    given.push_back(b);
  };
  for (const ModelBatch& b : slot.model.batches()) {
    if (b.last < slot.leader.parts_at) give(b);
  }
  for (const ModelBatch& b : slot.leader.own) give(b);
  if (!given.empty() && dice_.percent(20)) {
    const Bytes part = given.front().bytes;
    bytes.insert(bytes.end(), part.begin(),
                 part.begin() + static_cast<std::ptrdiff_t>(dice_.index(part.size())));
  }
  return bytes;
}

// One fetch of the follower and its answer.
void StorageSim::replicate(Slot& slot) {
  if (!slot.ref) return;
  if (!slot.told_leader) {
    follow(slot);  // after a start
    return;
  }
  if (options_.bugs.cut_to_mark && slot.ref->role() == Partition::Role::follower && dice_.percent(20))
    (void)slot.ref->truncate_to(slot.ref->usage().offsets.high_watermark, clock_.now());
  const std::optional<replica::FetchPosition> position = slot.ref->next_fetch(clock_.now(), nullptr);
  if (!position) return;
  PartitionModel& model = slot.model;
  if (position->fetch_offset.v != model.end()) {
    fail("{}: fetches from {}, the log ends at {}", slot.name(), position->fetch_offset.v, model.end());
    return;
  }
  if (position->durable_end > position->fetch_offset) {
    fail("{}: tells a durable end of {}, the log ends at {}", slot.name(), position->durable_end.v,
         model.end());
    return;
  }
  // The leader counts on it.
  if (slot.config->fsync) model.promise(position->durable_end.v);
  const bool empty = model.batches().empty() || model.batches().back().last < model.log_start;
  if (!empty && !model.suspect && !model.damaged &&
      position->last_fetched_epoch.v != model.batches().back().epoch) {
    fail("{}: says that its last epoch is {}, it is {}", slot.name(), position->last_fetched_epoch.v,
         model.batches().back().epoch);
    return;
  }
  partition::ReplicaAnswer answer;
  answer.number = position->number;
  answer.leader_epoch = position->leader_epoch;
  answer.high_watermark = Offset(slot.leader.high_watermark);
  answer.log_start = Offset(slot.leader.log_start);
  std::vector<ModelBatch> given;
  Bytes records;
  const int64_t from = position->fetch_offset.v;
  if (from < slot.leader.log_start) {
    answer.error = ErrorCode::offset_out_of_range;
  } else if (const log::EpochEnd theirs = leader_epoch_end(slot, position->last_fetched_epoch.v);
             !empty && (theirs.epoch < position->last_fetched_epoch || theirs.end_offset.v < from)) {
    answer.diverging = theirs;
  } else if (from > slot.leader.end()) {
    answer.error = ErrorCode::offset_out_of_range;
  } else {
    while (slot.leader.end() <= from || dice_.percent(40)) extend_leader(slot);
    if (dice_.percent(60))
      slot.leader.high_watermark = dice_.between(slot.leader.high_watermark, slot.leader.end());
    if (dice_.percent(5) && slot.leader.high_watermark > slot.leader.log_start)
      slot.leader.log_start = dice_.between(slot.leader.log_start, slot.leader.high_watermark);
    answer.high_watermark = Offset(slot.leader.high_watermark);
    answer.log_start = Offset(std::min(slot.leader.log_start, from));
    if (!dice_.percent(10)) records = leader_records(slot, from, given);
    answer.records = records;
  }
  const bool failed_before = slot.failed;
  ErrorCode problem = ErrorCode::none;
  Partition::Followed followed = Partition::Followed::done;
  loop_.in_tick([&] { followed = slot.ref->on_replica_answer(answer, loop_, clock_.now(), problem); });
  if (followed == Partition::Followed::cut) {
    cut_as_told(slot, answer, given);
    return;
  }
  const Partition::Usage usage = slot.ref->usage();
  say("{}: fetched from {}: {} batches, problem {}, ends at {}", slot.name(), from, given.size(),
      static_cast<int>(problem), usage.offsets.log_end.v);
  if (disk_.power_is_out()) {
    for (ModelBatch& b : given) model.may_appear(std::move(b));
    return;
  }
  const int64_t end = given.empty() ? model.end() : given.back().last + 1;
  if (slot.failed && usage.offsets.log_end.v == model.end()) {
    for (const ModelBatch& b : given) model.may_appear(b);  // the first of them may be there whole
  }
  if (usage.offsets.log_end.v == end) {
    if (!given.empty()) saw("follower: appended");
    if (failed_before && !given.empty())
      fail("{}: a failed directory took what the leader sent", slot.name());
    for (ModelBatch& b : given) model.append(std::move(b));
  } else if (usage.offsets.log_end.v != model.end()) {
    fail("{}: ends at {} after an answer that ends at {}", slot.name(), usage.offsets.log_end.v, end);
    return;
  } else if (!faulty(slot) && !model.damaged && problem == ErrorCode::none) {
    if (slot.ref->role() == Partition::Role::follower)
      fail("{}: took nothing of what the leader sent", slot.name());
    return;
  } else if (!faulty(slot) && !model.damaged && problem != ErrorCode::record_list_too_large) {
    fail("{}: refused what the leader sent with {}", slot.name(), static_cast<int>(problem));
    return;
  }
  if (usage.offsets.log_start.v > model.log_start) {
    if (usage.offsets.log_start.v > answer.log_start.v) {
      fail("{}: starts at {}, the leader at {}", slot.name(), usage.offsets.log_start.v, answer.log_start.v);
      return;
    }
    model.log_start = usage.offsets.log_start.v;
  }
  if (usage.offsets.high_watermark.v >
          std::max({slot.leader.high_watermark, slot.high_watermark, model.log_start}) &&
      !slot.failed) {
    fail("{}: high watermark {}, the leader's is {}", slot.name(), usage.offsets.high_watermark.v,
         slot.leader.high_watermark);
  }
}

// The follower cuts its log, but nothing that the leader has, too.
void StorageSim::cut_as_told(Slot& slot, const partition::ReplicaAnswer& answer,
                             const std::vector<ModelBatch>& given) {
  PartitionModel& model = slot.model;
  const int64_t before = model.end();
  const int64_t shared = !given.empty()     ? given.front().base  // an empty log, in the midst of a batch
                         : answer.diverging ? std::min(slot.leader.parts_at, before)
                                            : answer.log_start.v;
  const bool restarts = shared <= model.log_start || shared > before || !given.empty();
  model.promised = std::min(model.promised, shared);
  slot.cutting_to = restarts ? 0 : shared;
  slot.committed = std::min(slot.committed, shared);
  slot.high_watermark = std::min(slot.high_watermark, shared);
  if (restarts) {
    slot.restarting = true;
    model.promised = model.promised_start = 0;
  }
  slot.ref->cut_log(clock_.now());
  if (disk_.power_is_out()) return;
  const Partition::Usage usage = slot.ref->usage();
  const int64_t start = usage.offsets.log_start.v, end = usage.offsets.log_end.v;
  say("{}: cut from {} to {}..{}, the logs part at {}", slot.name(), before, start, end, shared);
  slot.high_watermark = std::min(slot.high_watermark, end);
  if (start == end && restarts && end == shared) {
    saw("follower: began anew");
    model.restart_at(end);
    slot.cutting_to = slot.failed ? 0 : INT64_MAX;
    slot.restarting = slot.failed;  // that it begins there may not be on disk
    model.promised = 0;
    slot.leader.log_start = std::max(slot.leader.log_start, end);
    slot.leader.parts_at = std::max(slot.leader.parts_at, end);
    if (slot.config->fsync) model.promise(0);
    return;
  }
  if (faulty(slot) && end == before) {
    if (!slot.failed) slot.cutting_to = INT64_MAX;
    return;
  }
  // With a damaged checkpoint of leader epochs the logs seem to part earlier: what was cut is copied again.
  if (slot.failed || model.damaged || model.suspect) {
    if (end < before) model.truncate(end);
    return;
  }
  if (end == before) {
    fail("{}: was told to cut its log at {} and did not", slot.name(), shared);
    return;
  }
  if (end < shared) {
    fail("{}: cut to {}, but the leader has everything below {}", slot.name(), end, shared);
    return;
  }
  saw("follower: cut");
  slot.cutting_to = INT64_MAX;
  model.truncate(end);
}

}  // namespace millrace::sim
