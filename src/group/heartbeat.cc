// Heartbeat (12): keeps a session alive and tells of rebalances. v3: group instance id.
#include <utility>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {

void GroupShard::handle(Token token, const HeartbeatRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  (void)client;
  const auto reply = [&](ErrorCode code) {
    HeartbeatResponse response;
    response.error_code = wire_number(code);
    out.reply(token, std::move(response));
  };
  if (request.group_id.empty()) return reply(ErrorCode::invalid_group_id);
  const auto it = groups_.find(request.group_id);
  if (it == groups_.end()) return reply(ErrorCode::unknown_member_id);
  ClassicGroup& group = it->second;
  if (const ErrorCode code = check_member(group, request.member_id, request.group_instance_id);
      code != ErrorCode::none) {
    return reply(code);
  }
  if (request.generation_id != group.generation) return reply(ErrorCode::illegal_generation);
  // A session only moves later, so that the group's timer may stay as it is.
  group.find(request.member_id)->touch(now);
  reply(group.state == GroupState::preparing_rebalance ? ErrorCode::rebalance_in_progress : ErrorCode::none);
}

}  // namespace millrace::group
