// One partition as a replica: roles, the leader's ear for its followers, and what a follower does with its
// leader's answers. The decisions are the machines' (replica/); here they meet the log, under the lock.
#include <algorithm>

#include "base/contains.h"
#include "base/plants.h"
#include "partition/partition.h"
#include "partition/partition_notices.h"
#include "record/batch_iterator.h"

namespace millrace::partition {
namespace {

replica::Assignment assignment_of(const Partition::Leadership& l) {
  replica::Assignment a;
  a.partition_epoch = l.partition_epoch;
  a.isr = l.isr;
  a.replicas = l.brokers;
  if (a.replicas.empty()) {
    for (const BrokerId id : l.isr) a.replicas.push_back({id, replica::kNoBrokerEpoch, true});
  }
  return a;
}

// What the leader sent, judged before a byte of it is written. Nothing: no whole batch in it. A batch that is
// cut off at the end is left to the next fetch.
Result<std::optional<replica::FetchedRange>> judge_records(ByteView& records) {
  std::optional<replica::FetchedRange> range;
  record::BatchIterator batches(records);
  while (true) {
    TRY_ASSIGN(const std::optional<record::BatchView> batch, batches.next());
    if (!batch) break;
    if (!batch->crc_matches()) return Error(ErrorCode::corrupt_message, "checksum does not match");
    if (!range) {
      range = replica::FetchedRange{batch->base_offset(), batch->next_offset(), batch->leader_epoch(),
                                    batch->leader_epoch()};
      continue;
    }
    if (batch->base_offset() < range->next_offset || batch->leader_epoch() < range->last_epoch)
      return Error(ErrorCode::corrupt_message, "offsets or epochs out of order");
    range->next_offset = batch->next_offset();
    range->last_epoch = batch->leader_epoch();
  }
  records = records.first(batches.position());
  return range;
}

}  // namespace

// --- roles ---

Status Partition::lead(const Leadership& leadership) {
  // With others it has to know its log: it stays open.
  if (leadership.replicas > 1) TRY(open_if_resting(true));
  Notices notices;
  Status synced;
  {
    // A checkpoint on its way must not put older leader epochs back behind what is synced here.
    const std::lock_guard files(files_mutex_);
    const std::lock_guard lock(mutex_);
    if (leader_ && leader_->epoch() == leadership.epoch) return {};
    const LeaderEpoch known = leader_ ? leader_->epoch() : follower_ ? follower_->epoch() : kNoLeaderEpoch;
    if (leadership.epoch < known || !contains(leadership.isr, env_.self)) {
      return Error(
          ErrorCode::not_leader_or_follower,
          name_.text() + ": epoch " + std::to_string(leadership.epoch.v) + " is over, or not its own");
    }
    if (log_) {
      log_->begin_epoch(leadership.epoch);
      if (!planted(Plant::lead_without_sync)) synced = flush_locked();
    }
    if (synced.ok()) {
      if (leader_) known_mark_ = std::max(known_mark_, leader_->high_watermark());
      if (follower_) known_mark_ = std::max(known_mark_, follower_->high_watermark());
      follower_.reset();
      cut_.reset();
      replicas_ = leadership.replicas;
      const replica::LeaderSettings settings{
          std::min(static_cast<size_t>(config_->min_insync_replicas), replicas_), leadership.lag_time_max_ms};
      // On its own a broker commits what it holds durably; the leader machine knows who else must have it.
      leader_.emplace(env_.self, leadership.epoch, assignment_of(leadership), settings,
                      replica::Ends{log_end_locked(), log_end_locked()},
                      std::max(known_mark_, log_start_locked()), env_.clock->now());
      told_isr_ = leader_->isr();
      stopped_ = ErrorCode::none;
      note_durable_locked();
      // Of an epoch that follows its own: the flush above was the sync that they wait for.
      flush_waits_.take_up_to(durable_end_locked(), notices.commits);
      flush_commit_waits_.move_up_to(durable_end_locked(), commit_waits_);
      on_mark_locked(notices);
    } else {
      fail_locked(synced.error(), notices);
    }
  }
  tell(std::move(notices));
  return synced;
}

bool Partition::on_assignment(const Leadership& leadership) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (!leader_ || leader_->epoch() != leadership.epoch) return false;
    bool moved = leader_->on_assignment(assignment_of(leadership), env_.clock->now());
    leader_->set_lag_time_max_ms(leadership.lag_time_max_ms);
    if (replicas_ != leadership.replicas) {
      replicas_ = leadership.replicas;
      if (leader_->set_min_insync(std::min(static_cast<size_t>(config_->min_insync_replicas), replicas_)))
        moved = true;
    }
    note_isr_locked();
    if (moved) on_mark_locked(notices);
  }
  tell(std::move(notices));
  return true;
}

void Partition::follow(LeaderEpoch epoch, BrokerId leader) {
  if (!open_if_resting(true).ok()) return;  // which said why
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (!log_ || (leader_ && epoch <= leader_->epoch())) return;
    if (stopped_ != ErrorCode::none && stopped_ != ErrorCode::not_leader_or_follower) return;
    if (offline() || log_->failed()) return;
    end_tenure_locked(notices);
    stopped_ = ErrorCode::not_leader_or_follower;
    if (!follower_) {
      follower_.emplace(local_log_locked(), std::max(known_mark_, log_->log_start_offset()));
      log_->on_high_watermark(follower_->high_watermark());
    }
    if (follower_->on_leader(epoch, leader, env_.clock->now())) cut_.reset();
    fetcher_told_ = false;
  }
  tell(std::move(notices));
}

// What waits was appended: only "timed out" is true about it (it may or may not survive).
void Partition::end_tenure_locked(Notices& notices) {
  if (leader_) known_mark_ = std::max(known_mark_, leader_->high_watermark());
  if (leader_) ++tenure_;
  leader_.reset();
  take_waits_locked(notices);
  data_watches_.take_armed(notices.data);
  replica_watches_.take_armed(notices.data);
}

Partition::Role Partition::role() const {
  const std::lock_guard lock(mutex_);
  return leader_ ? Role::leader : follower_ ? Role::follower : Role::none;
}

bool Partition::waits_for_room() const {
  if (!needs_opening() || offline()) return false;
  const std::lock_guard lock(mutex_);
  return !leader_ && !follower_ && stopped_ == ErrorCode::not_leader_or_follower;
}

bool Partition::in_doubt(Now now) const {
  if (!env_.standing || !env_.standing->session_over(now.mono_ms)) return false;
  const std::lock_guard lock(mutex_);
  return in_doubt_locked(now.mono_ms);
}

// While the whole ISR fetches nobody else was elected: who follows another asks that one. With nobody else in
// the ISR nobody else can be.
bool Partition::in_doubt_locked(int64_t now_mono_ms) const {
  if (!leader_ || !env_.standing || !env_.standing->session_over(now_mono_ms)) return false;
  const std::vector<BrokerId> isr = leader_->isr();
  return std::any_of(isr.begin(), isr.end(),
                     [&](BrokerId id) { return id != env_.self && !env_.standing->hears(id, now_mono_ms); });
}

// --- leader ---

replica::FetchOutcome Partition::on_replica_fetch(const replica::FollowerFetch& fetch, Now now,
                                                  bool& proposes) {
  if (needs_opening()) (void)open_if_resting();  // it has just got others; if it cannot, it says so below
  Notices notices;
  replica::FetchOutcome outcome;
  {
    const std::lock_guard lock(mutex_);
    ErrorCode code = serving_locked({});
    if (code == ErrorCode::none && !log_) code = ErrorCode::not_leader_or_follower;
    if (code != ErrorCode::none) {
      outcome.error = code;
      return outcome;
    }
    const bool before = leader_->proposal_pending();
    outcome = leader_->on_fetch(fetch, log_->log_start_offset(), log_->epochs(), now);
    proposes = !before && leader_->proposal_pending();
    if (outcome.high_watermark_advanced) on_mark_locked(notices);
  }
  tell(std::move(notices));
  return outcome;
}

std::optional<replica::IsrProposal> Partition::tick(Now now) {
  Notices notices;
  std::optional<replica::IsrProposal> proposal;
  {
    const std::lock_guard lock(mutex_);
    if (!leader_) return std::nullopt;
    if (leader_->tick(now)) on_mark_locked(notices);
    proposal = leader_->take_proposal();
    // What waits was appended, and may or may not survive.
    const bool doubted = in_doubt_locked(now.mono_ms);
    if (doubted) take_waits_locked(notices);
    if (doubted && !doubted_) data_watches_.take_armed(notices.data);
    doubted_ = doubted;
  }
  tell(std::move(notices));
  return proposal;
}

void Partition::on_isr_answer(const replica::IsrAnswer& answer, Now now) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    if (!leader_) return;
    if (leader_->on_answer(answer, now)) on_mark_locked(notices);
    note_isr_locked();
  }
  tell(std::move(notices));
}

void Partition::note_isr_locked() {
  std::vector<BrokerId> isr = leader_->isr();
  if (isr == told_isr_) return;
  for (const BrokerId id : told_isr_)
    if (!contains(isr, id)) {
      ++isr_shrinks_;
      break;
    }
  for (const BrokerId id : isr)
    if (!contains(told_isr_, id)) {
      ++isr_expands_;
      break;
    }
  std::string text;
  for (const BrokerId id : isr) text += (text.empty() ? "" : ", ") + std::to_string(id.v);
  env_.trace.info("{}: in sync are now {}", name_.text(), text);
  told_isr_ = std::move(isr);
}

std::vector<ReplicaState> Partition::replica_states() const {
  const std::lock_guard lock(mutex_);
  std::vector<ReplicaState> out;
  if (!leader_) return out;
  const int64_t now_ms = env_.clock->now().mono_ms;
  const std::vector<BrokerId> isr = leader_->isr();
  for (const BrokerId id : leader_->known_replicas()) {
    ReplicaState& r = out.emplace_back();
    r.id = id;
    r.in_sync = contains(isr, id);
    if (const auto ends = leader_->ends_of(id)) {
      r.log_end = ends->log_end;
      r.durable_end = ends->durable_end;
    }
    if (const auto at = leader_->last_caught_up_mono_ms(id)) r.behind_ms = std::max<int64_t>(now_ms - *at, 0);
  }
  return out;
}

// --- follower ---

replica::LocalLog Partition::local_log_locked() const {
  replica::LocalLog local;
  local.ends.log_end = log_->log_end_offset();
  local.ends.durable_end =
      config_->fsync ? std::min(log_->durable_end(), local.ends.log_end) : local.ends.log_end;
  local.log_start = log_->log_start_offset();
  if (local.log_start < local.ends.log_end) local.last_epoch = log_->epoch_of(local.ends.log_end - 1);
  return local;
}

void Partition::on_follower_log_locked(Notices& notices) {
  if (!log_) return;
  if (follower_->on_local(local_log_locked())) {
    log_->on_high_watermark(follower_->high_watermark());
    data_watches_.take_armed(notices.data);
  }
  known_mark_ = std::min(follower_->high_watermark(), log_->log_end_offset());
  if (fetcher_ && !fetcher_told_ && follower_->durable_end_untold()) {
    fetcher_told_ = true;
    notices.fetcher = fetcher_;
    notices.fetcher_tag = fetcher_tag_;
  }
}

void Partition::set_fetcher(std::shared_ptr<DataWaiter> fetcher, uint64_t tag) {
  const std::lock_guard lock(mutex_);
  fetcher_ = std::move(fetcher);
  fetcher_tag_ = tag;
  fetcher_told_ = false;
  if (follower_) follower_->give_up_fetch();
}

void Partition::sync_tail(io::Loop& loop) {
  {
    const std::lock_guard lock(mutex_);
    if (!log_ || !config_->fsync || sync_scheduled_ || log_->durable_end() >= log_->log_end_offset()) return;
  }
  begin_sync(loop, log::SyncScope::records);
}

std::optional<replica::FetchPosition> Partition::next_fetch(Now now, const DataWaiter* asker) {
  const std::lock_guard lock(mutex_);
  if (!follower_ || offline() || cut_ || fetcher_.get() != asker) return std::nullopt;
  fetcher_told_ = false;
  return follower_->next_fetch(now);
}

int64_t Partition::next_fetch_mono_ms() const {
  const std::lock_guard lock(mutex_);
  return follower_ && !cut_ ? follower_->next_deadline_mono_ms() : kNoDeadline;
}

std::optional<replica::FetchPosition> Partition::owed_durable_end(const DataWaiter* asker) {
  const std::lock_guard lock(mutex_);
  if (fetcher_.get() != asker) return std::nullopt;
  fetcher_told_ = false;
  return follower_ ? follower_->tell_durable_end() : std::nullopt;
}

Partition::Followed Partition::on_replica_answer(const ReplicaAnswer& answer, io::Loop& loop, Now now,
                                                 ErrorCode& problem) {
  problem = ErrorCode::none;
  replica::FetchAnswer told{answer.number, answer.leader_epoch,   answer.error,    answer.diverging,
                            std::nullopt,  answer.high_watermark, answer.log_start};
  ByteView records = answer.records;
  if (told.error == ErrorCode::none && !told.diverging) {
    const auto judged = judge_records(records);
    if (judged.ok()) {
      told.records = *judged;
    } else {
      told.error = ErrorCode::corrupt_message;
    }
  }
  Notices notices;
  Followed outcome = Followed::done;
  {
    const std::lock_guard lock(mutex_);
    if (!follower_ || !log_ || log_->failed() || log_->closed()) return Followed::done;
    changed_ = true;
    const replica::Step step = follower_->on_answer(told, log_->epochs(), now);
    problem = step.problem;
    if (step.lost_committed) {
      env_.trace.error("{}: the leader of epoch {} has lost committed records; they are cut here, too",
                       name_.text(), follower_->epoch().v);
    }
    if (step.truncate_to || step.reset_to) {
      cut_ = step;
      cut_epoch_ = follower_->epoch();
      outcome = Followed::cut;
    } else {
      Status done;
      if (step.append) done = append_followed_locked(records, loop, now, notices);
      if (done.ok() && step.advance_log_start) done = log_->advance_log_start(*step.advance_log_start);
      if (!done.ok()) {
        problem = done.code();
        if (log_->failed()) {
          fail_locked(done.error(), notices);
        } else {
          follower_->on_failed_step(now);
        }
      }
      if (follower_) on_follower_log_locked(notices);
      // A mark that moved without a change of the log is news for who reads here, too.
      if (follower_ && !step.append && step.problem == ErrorCode::none) {
        log_->on_high_watermark(follower_->high_watermark());
        data_watches_.take_armed(notices.data);
      }
    }
  }
  tell(std::move(notices));
  return outcome;
}

Status Partition::append_followed_locked(ByteView records, io::Loop& loop, Now now, Notices&) {
  TRY(usable());
  const Result<log::AppendResult> appended = log_->append_as_follower(records, now);
  if (!appended.ok()) {
    if (appended.code() == ErrorCode::no_space && env_.directory_state) env_.directory_state->note_no_space();
    return appended.error();
  }
  ++batches_appended_;
  // The leader's producers wait for it.
  request_sync_locked(loop, config_->fsync);
  return {};
}

void Partition::cut_log(Now now) {
  Notices notices;
  {
    const std::lock_guard lock(mutex_);
    const std::optional<replica::Step> step = std::exchange(cut_, std::nullopt);
    if (!step || !follower_ || !log_ || follower_->epoch() != cut_epoch_) return;
    changed_ = true;
    const Offset before = log_->log_end_offset();
    const LeaderEpoch ended_in = log_->latest_epoch();
    const Status done =
        step->reset_to ? restart_locked(*step->reset_to, now) : truncate_locked(*step->truncate_to, now);
    if (done.ok()) {
      env_.trace.info("{}: cut from {}, in epoch {}, to {}, as the leader of epoch {} has it", name_.text(),
                      before.v, ended_in.v, log_->log_end_offset().v, follower_->epoch().v);
    } else {
      env_.trace.error("{}: could not be cut: {}", name_.text(), done.error().message);
      if (log_->failed()) {
        fail_locked(done.error(), notices);
      } else {
        follower_->on_failed_step(now);
      }
    }
    if (follower_) on_follower_log_locked(notices);
  }
  tell(std::move(notices));
}

}  // namespace millrace::partition
