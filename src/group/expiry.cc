// What time takes away: silent members, promises to join that were not kept, offsets nobody uses, empty
// groups.
#include <utility>
#include <vector>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {

void GroupShard::expire_group(ClassicGroup& group, Now now, Output& out) {
  bool changed = false;
  for (auto it = group.pending().begin(); it != group.pending().end();) {
    if (it->second > now.mono_ms) {
      ++it;
      continue;
    }
    it = group.pending().erase(it);
    changed = group.state == GroupState::preparing_rebalance || changed;
  }
  std::vector<std::string> silent;
  for (const auto& [id, member] : group.members()) {
    if (member.deadline_ms() <= now.mono_ms) silent.push_back(id);
  }
  for (const std::string& id : silent) {
    ++counters_.members_expired;
    trace_.info("group {}: member {} is silent and out", group.group_id(), id);
    expel(group, id, ErrorCode::unknown_member_id, out);
    changed = true;
  }
  if (changed) after_removal(group, now, out);
  if (group.state == GroupState::preparing_rebalance && group.join_phase_deadline_ms <= now.mono_ms) {
    on_join_phase_deadline(group, now, out);
  }
  if (group.sync_phase_deadline_ms <= now.mono_ms) on_sync_phase_deadline(group, now, out);
}

void GroupShard::sweep_offsets(Now now, Output& out) {
  constexpr size_t kGroupsPerSweepStep = 1'000;
  size_t visited = 0;
  for (auto id = next_group(sweep_at_); id; id = next_group(sweep_at_)) {
    if (out.records.size() >= limits_.records_per_tick_max || ++visited > kGroupsPerSweepStep) return;
    sweep_offsets_of(*id, now, out);
    // Stopped in the middle of a group: the next step begins with it again.
    if (out.records.size() >= limits_.records_per_tick_max) return;
    sweep_at_ = std::move(id);
  }
  sweep_at_.reset();
  next_sweep_ms_ = now.mono_ms + limits_.offsets_retention_check_interval_ms;
}

void GroupShard::sweep_offsets_of(const std::string& group_id, Now now, Output& out) {
  const ClassicGroup* group = live(group_id);
  const GroupMetadata* record = record_of(group_id);
  const GroupState state = state_of(group_id);
  const bool simple =
      (group == nullptr || !group->protocol_type) && (record == nullptr || record->protocol_type.empty());
  // In a group with members an offset is in use unless its topic is known not to be read.
  if (!simple && state != GroupState::empty && !(state == GroupState::stable && group->is_consumer_group()))
    return;
  const auto expired = [&](const CommittedOffset& o) {
    if (o.expire_timestamp_ms >= 0) return now.wall_ms >= o.expire_timestamp_ms;
    int64_t since = o.commit_timestamp_ms;
    if (!simple && state == GroupState::empty && record != nullptr &&
        record->current_state_timestamp_ms >= 0) {
      since = record->current_state_timestamp_ms;
    }
    return now.wall_ms - since >= limits_.offsets_retention_ms;
  };
  bool all_gone = !offsets_.has_pending(group_id);
  if (const OffsetStore::Topics* topics = offsets_.topics_of(group_id)) {
    for (const auto& [topic, partitions] : *topics) {
      if (is_subscribed(group_id, topic)) {
        all_gone = false;
        continue;
      }
      for (const auto& [partition, offset] : partitions) {
        if (!expired(offset) || offsets_.has_pending(group_id, topic, partition)) {
          all_gone = false;
          continue;
        }
        if (out.records.size() >= limits_.records_per_tick_max) return;
        out.records.push_back({encode_key(OffsetKey{group_id, topic, partition}), std::nullopt});
        ++counters_.offsets_expired;
      }
    }
  }
  if (!all_gone || group != nullptr || record == nullptr) return;
  out.records.push_back({encode_key(GroupKey{group_id}), std::nullopt});
  ++counters_.groups_expired;
  trace_.info("group {} was empty and unused, and is forgotten", group_id);
}

}  // namespace millrace::group
