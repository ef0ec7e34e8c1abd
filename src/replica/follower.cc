#include "replica/follower.h"

#include <algorithm>

#include "base/assert.h"
#include "base/plants.h"

namespace millrace::replica {

Follower::Follower(LocalLog local, Offset high_watermark, FollowerSettings settings)
    : local_(local), high_watermark_(std::min(high_watermark, local.ends.log_end)), settings_(settings) {
  ASSERT(local.ends.durable_end <= local.ends.log_end);
}

bool Follower::on_leader(LeaderEpoch epoch, BrokerId leader, Now now) {
  if (epoch < epoch_ || (epoch == epoch_ && leader == leader_)) return false;
  epoch_ = epoch;
  leader_ = leader;
  leader_high_watermark_ = Offset(0);
  fetching_ = false;
  told_durable_end_ = kNoOffset;
  backoff_ms_ = 0;
  fetch_at_ms_ = now.mono_ms;
  return true;
}

bool Follower::on_local(const LocalLog& local) {
  ASSERT(local.ends.durable_end <= local.ends.log_end);
  local_ = local;
  const Offset before = high_watermark_;
  // What retention took was committed.
  const Offset known = std::max({high_watermark_, leader_high_watermark_, local_.log_start});
  high_watermark_ = std::min(known, local_.ends.log_end);
  return high_watermark_ > before;
}

std::optional<FetchPosition> Follower::next_fetch(Now now) {
  if (leader_ == kNoBroker || fetching_ || now.mono_ms < fetch_at_ms_) return std::nullopt;
  fetching_ = true;
  told_durable_end_ = local_.ends.durable_end;
  asked_offset_ = local_.ends.log_end;
  return FetchPosition{++fetches_,        epoch_,          local_.ends.log_end, local_.ends.durable_end,
                       local_.last_epoch, local_.log_start};
}

int64_t Follower::next_deadline_mono_ms() const {
  return leader_ == kNoBroker || fetching_ ? kNoDeadline : fetch_at_ms_;
}

bool Follower::owes_durable_end() const {
  return fetching_ && told_durable_end_ < local_.ends.durable_end &&
         leader_high_watermark_ < local_.ends.durable_end;
}

std::optional<FetchPosition> Follower::tell_durable_end() {
  if (!durable_end_untold()) return std::nullopt;
  told_durable_end_ = local_.ends.durable_end;
  return FetchPosition{fetches_,          epoch_,          asked_offset_, local_.ends.durable_end,
                       local_.last_epoch, local_.log_start};
}

Step Follower::back_off(Step step, ErrorCode problem, Now now) {
  step.problem = problem;
  backoff_ms_ = std::clamp(backoff_ms_ * 2, settings_.backoff_min_ms, settings_.backoff_max_ms);
  fetch_at_ms_ = now.mono_ms + backoff_ms_;
  return step;
}

void Follower::on_failed_step(Now now) {
  (void)back_off({}, ErrorCode::none, now);
}

Step Follower::on_answer(const FetchAnswer& answer, const log::EpochCache& epochs, Now now) {
  if (!fetching_ || answer.leader_epoch != epoch_ || answer.number != fetches_) return {};
  fetching_ = false;
  // The log moved under the question (a step that came late, or half done).
  if (asked_offset_ != local_.ends.log_end) return back_off({}, ErrorCode::none, now);
  if (answer.error == ErrorCode::offset_out_of_range) return on_out_of_range(answer, now);
  if (answer.error != ErrorCode::none) return back_off({}, answer.error, now);
  if (answer.diverging) return on_diverging(answer, epochs, now);
  return on_records(answer, now);
}

Step Follower::on_diverging(const FetchAnswer& answer, const log::EpochCache& epochs, Now now) {
  const Offset end = local_.ends.log_end;
  const log::EpochEnd theirs = *answer.diverging;
  if (theirs.end_offset < Offset(0) || theirs.epoch > epoch_) {
    return back_off({}, ErrorCode::corrupt_message, now);
  }
  // The largest own epoch that is not above the leader's. If it is smaller, the leader is asked again from
  // there: the two logs may part even earlier.
  const log::EpochEnd ours = epochs.end_offset_for(theirs.epoch, end);
  Offset target = theirs.end_offset;
  if (ours.end_offset != kNoOffset) {
    target = ours.epoch == theirs.epoch ? std::min(ours.end_offset, theirs.end_offset) : ours.end_offset;
  }
  if (planted(Plant::truncate_to_high_watermark)) target = std::min(target, high_watermark_);
  // Nothing to cut: the leader says that the logs differ where they cannot.
  if (target >= end) return back_off({}, ErrorCode::corrupt_message, now);
  Step step;
  step.lost_committed = target < high_watermark_;
  if (target <= local_.log_start) {
    step.reset_to = target;
  } else {
    step.truncate_to = target;
  }
  high_watermark_ = std::min(high_watermark_, target);
  backoff_ms_ = 0;
  fetch_at_ms_ = now.mono_ms;
  return step;
}

Step Follower::on_out_of_range(const FetchAnswer& answer, Now now) {
  const Offset end = local_.ends.log_end;
  const bool empty = local_.log_start == end;
  // Retention at the leader has overtaken this log, or it is empty and stands where the leader is not: all
  // over from the leader's log start. In any other case the leader is in range and epochs decide.
  if (answer.log_start == kNoOffset || answer.log_start == end || (answer.log_start < end && !empty)) {
    return back_off({}, answer.error, now);
  }
  Step step;
  step.reset_to = answer.log_start;
  step.lost_committed = answer.log_start < high_watermark_;
  high_watermark_ = std::min(high_watermark_, answer.log_start);
  backoff_ms_ = 0;
  fetch_at_ms_ = now.mono_ms;
  return step;
}

Step Follower::on_records(const FetchAnswer& answer, Now now) {
  Step step;
  Offset end = local_.ends.log_end;
  if (answer.records) {
    const FetchedRange& r = *answer.records;
    // An empty log stands in the midst of a batch: the leader's log start did, when it was taken over from
    // there. The batch comes whole, so the log begins where it does; the log start follows the leader's.
    if (local_.log_start == end && r.base_offset < end && r.next_offset > end) {
      step.reset_to = r.base_offset;
      high_watermark_ = std::min(high_watermark_, r.base_offset);
      backoff_ms_ = 0;
      fetch_at_ms_ = now.mono_ms;
      return step;
    }
    // Beyond the own end is a gap that compaction left at the leader. Epochs never decrease along a log, and
    // none is above the leader's own (KAFKA-18723: an answer read while the leader lost its place).
    if (r.base_offset < end || r.next_offset <= r.base_offset || r.first_epoch < local_.last_epoch ||
        r.last_epoch < r.first_epoch || r.last_epoch > epoch_) {
      return back_off(step, ErrorCode::corrupt_message, now);
    }
    step.append = true;
    end = r.next_offset;
  }
  learn(answer, step, end);
  backoff_ms_ = 0;
  fetch_at_ms_ = now.mono_ms;
  return step;
}

/// High watermark and log start of an answer that fits; `end`: where the log ends once it is appended.
void Follower::learn(const FetchAnswer& answer, Step& step, Offset end) {
  leader_high_watermark_ = std::max(leader_high_watermark_, answer.high_watermark);
  if (!step.append) {
    high_watermark_ = std::max(high_watermark_, std::min(leader_high_watermark_, end));
  }
  if (answer.log_start > local_.log_start && answer.log_start <= end) {
    step.advance_log_start = answer.log_start;
  }
}

}  // namespace millrace::replica
