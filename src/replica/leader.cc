#include "replica/leader.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/contains.h"
#include "base/plants.h"

namespace millrace::replica {
namespace {

// Between two attempts to tell the controller the same thing, and after it refused one.
constexpr int64_t kProposalBackoffMs = 200;
// Lag is looked at so often within replica.lag.time.max.ms.
constexpr int64_t kLagChecks = 2;

Assignment fixed_assignment(const std::vector<BrokerId>& isr) {
  Assignment a;
  a.isr = isr;
  for (const BrokerId id : isr) a.replicas.push_back({id, kNoBrokerEpoch, true});
  return a;
}

}  // namespace

Leader::Leader(BrokerId self, LeaderEpoch epoch, const Assignment& assignment, LeaderSettings settings,
               Ends local, Offset high_watermark, Now now)
    : self_(self),
      epoch_(epoch),
      settings_(settings),
      local_(local),
      epoch_start_(local.log_end),
      high_watermark_(std::min(high_watermark, local.log_end)),
      now_ms_(now.mono_ms),
      last_tick_ms_(now.mono_ms) {
  ASSERT(local.durable_end <= local.log_end);
  confirm(assignment.partition_epoch, assignment.isr);
  adopt(assignment.replicas);
  ASSERT(isr_.contains(self_));
  (void)advance();  // nobody waits yet
}

Leader::Leader(BrokerId self, LeaderEpoch epoch, const std::vector<BrokerId>& isr, size_t min_insync,
               Ends local, Offset high_watermark)
    : Leader(self, epoch, fixed_assignment(isr), {.min_insync = min_insync}, local, high_watermark, Now{}) {}

bool Leader::on_local(Ends ends) {
  ASSERT(ends.durable_end <= ends.log_end);
  ASSERT(local_.durable_end <= ends.durable_end);
  local_ = ends;
  return advance();
}

bool Leader::set_min_insync(size_t min_insync) {
  settings_.min_insync = min_insync;
  return advance();
}

FetchOutcome Leader::on_fetch(const FollowerFetch& fetch, Offset log_start, const log::EpochCache& epochs,
                              Now now) {
  now_ms_ = std::max(now_ms_, now.mono_ms);
  FetchOutcome out;
  const auto refuse = [&out](ErrorCode error) {
    out.error = error;
    return out;
  };
  const bool any_epoch = planted(Plant::no_fence_by_epoch);
  if (fetch.leader_epoch < epoch_ && !any_epoch) return refuse(ErrorCode::fenced_leader_epoch);
  if (fetch.leader_epoch > epoch_ && !any_epoch) return refuse(ErrorCode::unknown_leader_epoch);
  const auto found = followers_.find(fetch.follower);
  // Not assigned, as far as is known here: the image may be behind, so it may ask again.
  if (found == followers_.end()) return refuse(ErrorCode::unknown_leader_epoch);
  Follower& f = found->second;
  // Of an incarnation that is over: what it held may be lost.
  if (fetch.broker_epoch < std::max(f.fetched_as, f.broker.epoch) && !planted(Plant::trust_old_incarnation)) {
    return refuse(ErrorCode::stale_broker_epoch);
  }
  if (fetch.fetch_offset < Offset(0) || fetch.last_fetched_epoch > epoch_) {
    return refuse(ErrorCode::invalid_request);
  }
  if (fetch.fetch_offset < log_start) return refuse(ErrorCode::offset_out_of_range);
  if (fetch.last_fetched_epoch != kNoLeaderEpoch && !planted(Plant::no_divergence_check)) {
    const log::EpochEnd end = epochs.end_offset_for(fetch.last_fetched_epoch, local_.log_end);
    if (end.end_offset == kNoOffset) return refuse(ErrorCode::offset_out_of_range);
    if (end.epoch < fetch.last_fetched_epoch || end.end_offset < fetch.fetch_offset) {
      out.diverging = end;
      return out;
    }
  }
  if (fetch.fetch_offset > local_.log_end) return refuse(ErrorCode::offset_out_of_range);

  // Its log up to `fetch_offset` is a prefix of this one: its ends may be believed.
  f.fetched_as = fetch.broker_epoch;
  const Offset durable_end = std::clamp(fetch.durable_end, Offset(0), fetch.fetch_offset);
  note_fetch(f, {fetch.fetch_offset, durable_end}, local_, now.mono_ms);
  out.high_watermark_advanced = advance();
  const bool has_all =
      durable_end >= std::max(high_watermark_, epoch_start_) || planted(Plant::join_isr_behind);
  if (has_all && !in_maximal_isr(fetch.follower) && may_join(f)) {
    std::set<BrokerId> isr = isr_;
    isr.insert(fetch.follower);
    propose(std::move(isr));
  }
  return out;
}

void Leader::note_fetch(Follower& f, Ends ends, Ends leader, int64_t now_ms) {
  const auto caught_up_at = [&f](int64_t at) {
    f.last_caught_up_ms = std::max(f.last_caught_up_ms.value_or(at), at);
  };
  // Kafka's definition: it has all of now, or all there was when it asked the last time.
  if (ends.durable_end >= leader.durable_end) {
    caught_up_at(now_ms);
  } else if (f.last_fetch_ms && ends.durable_end >= f.leader_end_at_last_fetch) {
    caught_up_at(*f.last_fetch_ms);
  }
  f.ends = ends;
  f.last_fetch_ms = now_ms;
  f.leader_end_at_last_fetch = leader.durable_end;
}

bool Leader::tick(Now now) {
  now_ms_ = std::max(now_ms_, now.mono_ms);
  last_tick_ms_ = now_ms_;
  if (pending_) {
    if (pending_->send_again_ms <= now_ms_) {
      pending_->send_again_ms = kNoDeadline;
      pending_->to_send = true;
    }
  } else {
    std::set<BrokerId> isr = isr_;
    std::erase_if(isr, [this](BrokerId id) { return id != self_ && !caught_up(followers_.at(id)); });
    // Who was in sync when it fetched and may join only now: a fetch that has nothing new to say is not sent.
    if (isr.size() == isr_.size()) {
      for (const auto& [id, f] : followers_)
        if (f.ends && f.ends->durable_end >= std::max(high_watermark_, epoch_start_) && caught_up(f) &&
            may_join(f))
          isr.insert(id);
    }
    if (isr != isr_) propose(std::move(isr));
  }
  return advance();
}

int64_t Leader::next_deadline_mono_ms() const {
  if (pending_ && pending_->send_again_ms != kNoDeadline) return pending_->send_again_ms;
  if (followers_.empty()) return kNoDeadline;
  return last_tick_ms_ + std::max<int64_t>(1, settings_.lag_time_max_ms / kLagChecks);
}

std::optional<IsrProposal> Leader::take_proposal() {
  if (!pending_ || !pending_->to_send) return std::nullopt;
  pending_->to_send = false;
  return pending_->proposal;
}

bool Leader::on_answer(const IsrAnswer& answer, Now now) {
  now_ms_ = std::max(now_ms_, now.mono_ms);
  if (!pending_ || answer.number != pending_->proposal.number) return false;  // decided meanwhile
  switch (answer.error) {
    case ErrorCode::none:
      // Of a later reign, or older than what is known: the image decides.
      if (answer.leader_epoch != epoch_ || answer.partition_epoch <= partition_epoch_) return false;
      if (!contains(answer.isr, self_)) return false;
      confirm(answer.partition_epoch, answer.isr);
      return advance();
    case ErrorCode::ineligible_replica:
    case ErrorCode::operation_not_attempted:
      // The partition epoch was right and nothing was applied: back to what is confirmed.
      pending_.reset();
      propose_after_ms_ = now_ms_ + kProposalBackoffMs;
      return advance();
    case ErrorCode::invalid_update_version:
    case ErrorCode::fenced_leader_epoch:
    case ErrorCode::new_leader_elected:
    case ErrorCode::unknown_topic_or_partition:
    case ErrorCode::unknown_topic_id:
    case ErrorCode::invalid_request:
      // The controller knows more: an image will tell. Until then whom it adds counts.
      pending_->send_again_ms = kNoDeadline;
      return false;
    default:
      pending_->send_again_ms = now_ms_ + kProposalBackoffMs;
      return false;
  }
}

bool Leader::on_assignment(const Assignment& assignment, Now now) {
  now_ms_ = std::max(now_ms_, now.mono_ms);
  // One partition epoch has one assignment; what changes within it is the brokers' state.
  if (assignment.partition_epoch < partition_epoch_) return false;
  if (assignment.partition_epoch > partition_epoch_) {
    // Without this broker in it, it is the image of a reign that the door has yet to hear of.
    if (!contains(assignment.isr, self_)) return false;
    confirm(assignment.partition_epoch, assignment.isr);
  }
  adopt(assignment.replicas);
  return advance();
}

void Leader::adopt(const std::vector<BrokerState>& replicas) {
  std::set<BrokerId> known = isr_;
  if (pending_) known.insert(pending_->isr.begin(), pending_->isr.end());
  for (const BrokerState& b : replicas) {
    known.insert(b.id);
    if (b.id == self_) {
      self_epoch_ = b.epoch;
    } else {
      followers_[b.id].broker = b;
    }
  }
  std::erase_if(followers_, [&known](const auto& e) { return !known.contains(e.first); });
}

/// The controller's word: whatever was proposed before it can no longer be applied.
void Leader::confirm(int32_t partition_epoch, const std::vector<BrokerId>& isr) {
  partition_epoch_ = partition_epoch;
  isr_ = {isr.begin(), isr.end()};
  pending_.reset();
  for (const BrokerId id : isr_) {
    if (id == self_) continue;
    Follower& f = followers_[id];
    f.broker.id = id;
    // Time to be heard, from now on.
    if (!f.last_caught_up_ms) f.last_caught_up_ms = now_ms_;
  }
}

void Leader::propose(std::set<BrokerId> isr) {
  if (pending_ || now_ms_ < propose_after_ms_) return;
  ASSERT(isr.contains(self_));
  Pending p;
  // Never that of another reign, whose answers may still be under way.
  p.proposal.number = (static_cast<uint64_t>(epoch_.v) << 32) + ++proposals_;
  p.proposal.leader_epoch = epoch_;
  p.proposal.partition_epoch = partition_epoch_;
  for (const BrokerId id : isr) {
    p.proposal.isr.push_back({id, id == self_ ? self_epoch_ : followers_.at(id).fetched_as});
  }
  p.isr = std::move(isr);
  pending_ = std::move(p);
}

bool Leader::in_maximal_isr(BrokerId id) const {
  if (planted(Plant::shrink_unconfirmed) && pending_) return pending_->isr.contains(id);
  return isr_.contains(id) || (pending_ && pending_->isr.contains(id));
}

std::vector<BrokerId> Leader::maximal_isr() const {
  std::set<BrokerId> all = isr_;
  if (pending_) all.insert(pending_->isr.begin(), pending_->isr.end());
  return {all.begin(), all.end()};
}

std::vector<BrokerId> Leader::known_replicas() const {
  std::vector<BrokerId> all;
  for (const auto& [id, f] : followers_) all.push_back(id);
  return all;
}

bool Leader::may_join(const Follower& f) const {
  return f.broker.may_join && f.fetched_as == f.broker.epoch;
}

bool Leader::caught_up(const Follower& f) const {
  if (f.ends && f.ends->durable_end >= local_.durable_end) return true;
  return f.last_caught_up_ms && now_ms_ - *f.last_caught_up_ms <= settings_.lag_time_max_ms;
}

std::optional<Ends> Leader::ends_of(BrokerId id) const {
  if (id == self_) return local_;
  const auto f = followers_.find(id);
  return f == followers_.end() ? std::nullopt : f->second.ends;
}

std::optional<int64_t> Leader::last_caught_up_mono_ms(BrokerId id) const {
  const auto f = followers_.find(id);
  return f == followers_.end() ? std::nullopt : f->second.last_caught_up_ms;
}

bool Leader::advance() {
  if (!enough_in_sync()) return false;
  Offset smallest = planted(Plant::ack_before_sync) ? local_.log_end : local_.durable_end;
  for (const auto& [id, f] : followers_) {
    if (planted(Plant::ack_before_isr)) break;
    // Also one that is about to join: it could never reach a mark that runs ahead of it.
    if (!in_maximal_isr(id) && !(f.ends && may_join(f) && caught_up(f))) continue;
    Offset end = f.ends ? f.ends->durable_end : Offset(0);
    if (planted(Plant::follower_ack_before_sync) && f.ends) end = f.ends->log_end;
    smallest = std::min(smallest, end);
  }
  if (smallest <= high_watermark_) return false;
  high_watermark_ = smallest;
  return true;
}

}  // namespace millrace::replica
