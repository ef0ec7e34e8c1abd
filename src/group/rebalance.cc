// The rebalance: from the first reason for one, through the wait for everybody's JoinGroup, to the next
// generation.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {

void GroupShard::prepare_rebalance(ClassicGroup& group, Now now, Output& out) {
  ASSERT(group.state != GroupState::preparing_rebalance);
  if (group.state == GroupState::completing_rebalance) {
    // The assignment that these wait for will never come.
    std::vector<std::string> waiting;
    for (const auto& [id, member] : group.members()) {
      if (member.sync) waiting.push_back(id);
    }
    for (const std::string& id : waiting) {
      Member& member = *group.find(id);
      SyncGroupResponse response;
      response.error_code = wire_number(ErrorCode::rebalance_in_progress);
      answer_sync(member, std::move(response), out);
      member.touch(now);
      arm(group, member.deadline_ms());
    }
  }
  ++counters_.rebalances_started;
  group.sync_phase_deadline_ms = kNoDeadline;
  group.initial_rebalance = group.state == GroupState::empty;
  group.new_member_added = false;
  group.state = GroupState::preparing_rebalance;
  trace_.debug("group {} prepares generation {} with {} members", group.group_id(), group.generation + 1,
               group.size());

  const int32_t timeout_ms = group.rebalance_timeout_ms();
  if (group.initial_rebalance) {
    const int32_t delay_ms = std::min(limits_.initial_rebalance_delay_ms, timeout_ms);
    group.initial_delay_left_ms = timeout_ms - delay_ms;
    group.join_phase_deadline_ms = now.mono_ms + delay_ms;
    if (delay_ms == 0 && group.all_joined()) return complete_join(group, now, out);
  } else {
    group.join_phase_deadline_ms = now.mono_ms + timeout_ms;
    if (group.all_joined()) return complete_join(group, now, out);
  }
  arm(group, group.join_phase_deadline_ms);
}

void GroupShard::rebalance_if_idle_else_complete(ClassicGroup& group, Now now, Output& out) {
  if (group.state == GroupState::preparing_rebalance) return complete_join_if_all_joined(group, now, out);
  prepare_rebalance(group, now, out);
}

void GroupShard::complete_join_if_all_joined(ClassicGroup& group, Now now, Output& out) {
  ASSERT(group.state == GroupState::preparing_rebalance);
  // The first rebalance of an empty group waits its time out, unless nobody is left to wait for.
  if (group.initial_rebalance && !group.members().empty()) return;
  if (group.all_joined()) complete_join(group, now, out);
}

void GroupShard::on_join_phase_deadline(ClassicGroup& group, Now now, Output& out) {
  ASSERT(group.state == GroupState::preparing_rebalance);
  if (group.initial_rebalance && group.new_member_added && group.initial_delay_left_ms > 0) {
    const int32_t delay_ms = std::min(limits_.initial_rebalance_delay_ms, group.initial_delay_left_ms);
    group.new_member_added = false;
    group.initial_delay_left_ms -= delay_ms;
    group.join_phase_deadline_ms = now.mono_ms + delay_ms;
    return arm(group, group.join_phase_deadline_ms);
  }
  complete_join(group, now, out);
}

void GroupShard::complete_join(ClassicGroup& group, Now now, Output& out) {
  ASSERT(group.state == GroupState::preparing_rebalance);
  std::vector<std::string> absent;
  for (const auto& [id, member] : group.members()) {
    if (!member.join && !member.group_instance_id) absent.push_back(id);
  }
  for (const std::string& id : absent) {
    ++counters_.members_expired;
    trace_.info("group {}: member {} did not rejoin in time and is out", group.group_id(), id);
    expel(group, id, ErrorCode::unknown_member_id, out);
  }
  group.initial_rebalance = false;
  if (!group.members().empty() && !group.elect_joined_leader()) {
    // Only static members are left, and none is back: wait on, until one comes or their sessions end.
    group.join_phase_deadline_ms = now.mono_ms + group.rebalance_timeout_ms();
    return arm(group, group.join_phase_deadline_ms);
  }

  ++counters_.rebalances_completed;
  group.join_phase_deadline_ms = kNoDeadline;
  group.generation = group.generation == INT32_MAX ? 1 : group.generation + 1;
  if (group.members().empty()) {
    group.state = GroupState::empty;
    group.protocol.reset();
    group.leader.reset();
    group.refresh_subscribed_topics();
    out.records.push_back({encode_key(GroupKey{group.group_id()}), encode_value(metadata_of(group, now))});
    return;
  }
  group.state = GroupState::completing_rebalance;
  group.protocol = group.vote();
  group.refresh_subscribed_topics();
  group.sync_phase_deadline_ms = now.mono_ms + group.rebalance_timeout_ms();
  arm(group, group.sync_phase_deadline_ms);
  std::vector<std::string> ids;
  for (const auto& [id, member] : group.members()) ids.push_back(id);
  for (const std::string& id : ids) {
    Member& member = *group.find(id);
    // A static member that is away keeps its place for its session timeout and owes no SyncGroup.
    member.must_sync = member.join.has_value();
    member.is_new = false;
    if (member.join) {
      answer_join(group, member, joined(group, member), out);
      member.touch(now);
    }
    arm(group, member.deadline_ms());
  }
}

void GroupShard::on_sync_phase_deadline(ClassicGroup& group, Now now, Output& out) {
  ASSERT(group.state == GroupState::completing_rebalance || group.state == GroupState::stable);
  group.sync_phase_deadline_ms = kNoDeadline;
  std::vector<std::string> silent;
  for (const auto& [id, member] : group.members()) {
    if (member.must_sync) silent.push_back(id);
  }
  // Somebody has synced and waits for a leader who has synced too: not possible.
  ASSERT(!silent.empty() || group.state == GroupState::stable);
  if (silent.empty()) return;
  for (const std::string& id : silent) {
    ++counters_.members_expired;
    trace_.info("group {}: member {} sent no SyncGroup in time and is out", group.group_id(), id);
    expel(group, id, ErrorCode::unknown_member_id, out);
  }
  prepare_rebalance(group, now, out);
}

void GroupShard::expel(ClassicGroup& group, const std::string& member_id, ErrorCode code, Output& out) {
  const Member gone = group.remove(member_id);
  answer(gone.join, gone.sync, code, member_id, out);
}

void GroupShard::after_removal(ClassicGroup& group, Now now, Output& out) {
  switch (group.state) {
    case GroupState::empty:
      return;
    case GroupState::preparing_rebalance:
      return complete_join_if_all_joined(group, now, out);
    case GroupState::completing_rebalance:
    case GroupState::stable:
      return prepare_rebalance(group, now, out);
  }
}

}  // namespace millrace::group
