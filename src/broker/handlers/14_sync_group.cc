// SyncGroup (14), versions 0-5: the rules live in group/.
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::SyncGroupRequest& request) {
  const std::string group = request.group_id;
  forward_to_group(std::move(call), group, std::move(request), [](ErrorCode code) {
    wire::SyncGroupResponse r;
    r.error_code = static_cast<int16_t>(code);
    return r;
  });
}

}  // namespace millrace::broker
