// SyncGroup (14): the leader brings the assignment, everybody gets a share once it is written.
// v3: group instance id; v5: protocol type and name, checked and echoed.
#include <utility>
#include <vector>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {

void GroupShard::handle(Token token, const SyncGroupRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  const auto refuse = [&](ErrorCode code) {
    SyncGroupResponse response;
    response.error_code = wire_number(code);
    out.reply(token, std::move(response));
  };
  if (request.group_id.empty()) return refuse(ErrorCode::invalid_group_id);
  const auto it = groups_.find(request.group_id);
  if (it == groups_.end()) return refuse(ErrorCode::unknown_member_id);
  ClassicGroup& group = it->second;
  if (const ErrorCode code = check_member(group, request.member_id, request.group_instance_id);
      code != ErrorCode::none) {
    return refuse(code);
  }
  if (request.generation_id != group.generation) return refuse(ErrorCode::illegal_generation);
  if ((request.protocol_type && request.protocol_type != group.protocol_type) ||
      (request.protocol_name && group.protocol && request.protocol_name != group.protocol)) {
    return refuse(ErrorCode::inconsistent_group_protocol);
  }
  Member& member = *group.find(request.member_id);
  const auto share = [&group](Bytes assignment) {
    SyncGroupResponse response;
    response.protocol_type = group.protocol_type;
    response.protocol_name = group.protocol;
    response.assignment = std::move(assignment);
    return response;
  };
  switch (group.state) {
    case GroupState::empty:
      ASSERT(false);  // check_member found a member
      return;
    case GroupState::preparing_rebalance:
      return refuse(ErrorCode::rebalance_in_progress);
    case GroupState::stable: {
      const GroupMetadata* record = record_of(request.group_id);
      ASSERT(record != nullptr && record->members.contains(request.member_id));
      member.must_sync = false;
      member.touch(now);
      return out.reply(token, share(record->members.at(request.member_id).assignment));
    }
    case GroupState::completing_rebalance:
      break;
  }

  member.must_sync = false;
  if (!group.is_leader(request.member_id)) {
    answer(std::nullopt, std::exchange(member.sync, std::nullopt), ErrorCode::rebalance_in_progress,
           request.member_id, out);
    return park_sync(group, member, token, client);
  }

  GroupMetadata metadata = metadata_of(group, now);
  for (const auto& a : request.assignments) {
    const auto m = metadata.members.find(a.member_id);
    if (m != metadata.members.end()) m->second.assignment = a.assignment;
  }
  Bytes value = encode_value(metadata);
  if (value.size() > limits_.group_record_bytes_max) {
    ++counters_.limit_refusals;
    trace_.error("group {}: its record of {} bytes is larger than {}", request.group_id, value.size(),
                 limits_.group_record_bytes_max);
    refuse(ErrorCode::unknown_server_error);
    for (const auto& [id, m] : metadata.members) {
      Member& waiting = *group.find(id);
      if (!waiting.sync) continue;
      SyncGroupResponse response;
      response.error_code = wire_number(ErrorCode::unknown_server_error);
      answer_sync(waiting, std::move(response), out);
      waiting.touch(now);
      arm(group, waiting.deadline_ms());
    }
    return prepare_rebalance(group, now, out);
  }
  out.records.push_back({encode_key(GroupKey{group.group_id()}), std::move(value)});
  group.state = GroupState::stable;
  member.touch(now);
  arm(group, member.deadline_ms());
  out.reply(token, share(metadata.members.at(request.member_id).assignment));
  for (auto& [id, m] : metadata.members) {
    Member& waiting = *group.find(id);
    if (!waiting.sync) continue;
    answer_sync(waiting, share(std::move(m.assignment)), out);
    waiting.touch(now);
    arm(group, waiting.deadline_ms());
  }
}

}  // namespace millrace::group
