// LeaveGroup (13): members go, or are sent away by their instance id (an admin's removeMembers).
// Below v3 one member and its error at the top; v3: several, each with its own; v5: reason.
#include <utility>
#include <vector>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {

void GroupShard::handle(Token token, const LeaveGroupRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  constexpr int16_t kSeveralMembersFrom = 3;
  LeaveGroupResponse response;
  const auto it = groups_.find(request.group_id);
  if (it == groups_.end()) {
    response.error_code =
        wire_number(request.group_id.empty() ? ErrorCode::invalid_group_id : ErrorCode::unknown_member_id);
    return out.reply(token, std::move(response));
  }
  ClassicGroup& group = it->second;
  bool changed = false;
  const auto leave = [&](const std::string& member_id, const std::optional<std::string>& group_instance_id) {
    std::string id = member_id;
    if (id.empty()) {
      const std::string* holder = group_instance_id ? group.static_member(*group_instance_id) : nullptr;
      if (holder == nullptr) return ErrorCode::unknown_member_id;
      id = *holder;
    } else if (group.pending().erase(id) > 0) {
      changed = true;
      return ErrorCode::none;
    } else if (const ErrorCode code = check_member(group, id, group_instance_id); code != ErrorCode::none) {
      return code;
    }
    expel(group, id, ErrorCode::unknown_member_id, out);
    changed = true;
    return ErrorCode::none;
  };
  const size_t size_before = group.size();
  if (client.api_version < kSeveralMembersFrom) {
    response.error_code = wire_number(leave(request.member_id, std::nullopt));
  } else {
    for (const auto& m : request.members) {
      auto& result = response.members.emplace_back();
      result.member_id = m.member_id;
      result.group_instance_id = m.group_instance_id;
      result.error_code = wire_number(leave(m.member_id, m.group_instance_id));
    }
  }
  // One reaction for all of them. That a mere promise to join is withdrawn matters only to a rebalance that
  // waits.
  if (changed && (group.size() != size_before || group.state == GroupState::preparing_rebalance)) {
    after_removal(group, now, out);
  }
  out.reply(token, std::move(response));
  settle(request.group_id);
}

}  // namespace millrace::group
