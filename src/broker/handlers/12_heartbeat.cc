// Heartbeat (12), versions 0-4: the rules live in group/.
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::HeartbeatRequest& request) {
  const std::string group = request.group_id;
  forward_to_group(std::move(call), group, std::move(request), [](ErrorCode code) {
    wire::HeartbeatResponse r;
    // A coordinator that loads its groups tells nobody to go: as Kafka does it; not every client takes the
    // error for one that passes.
    if (code == ErrorCode::coordinator_load_in_progress) code = ErrorCode::none;
    r.error_code = static_cast<int16_t>(code);
    return r;
  });
}

}  // namespace millrace::broker
