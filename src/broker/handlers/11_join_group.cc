// JoinGroup (11), versions 0-9: the rules live in group/.
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::JoinGroupRequest& request) {
  const std::string group = request.group_id;
  forward_to_group(std::move(call), group, std::move(request), [](ErrorCode code) {
    wire::JoinGroupResponse r;
    r.error_code = static_cast<int16_t>(code);
    r.generation_id = -1;
    r.protocol_name.emplace();
    return r;
  });
}

}  // namespace millrace::broker
