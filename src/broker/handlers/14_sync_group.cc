// SyncGroup (14), versions 0-5: the rules live in group/.
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::SyncGroupRequest& request) {
  const std::string group = request.group_id;
  forward_to_group(std::move(call), group, std::move(request), [](ErrorCode code) {
    wire::SyncGroupResponse r;
    // The rebalance that it belongs to was lost with the coordinator before: as Kafka does it.
    if (code == ErrorCode::coordinator_load_in_progress) code = ErrorCode::rebalance_in_progress;
    r.error_code = static_cast<int16_t>(code);
    return r;
  });
}

}  // namespace millrace::broker
