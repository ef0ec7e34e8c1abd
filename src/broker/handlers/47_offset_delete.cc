// OffsetDelete (47), version 0: forgets committed offsets of topics that nobody in the group subscribes to.
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::OffsetDeleteRequest& request) {
  const std::string group = request.group_id;
  forward_to_group(std::move(call), group, std::move(request), [](ErrorCode code) {
    wire::OffsetDeleteResponse r;
    r.error_code = static_cast<int16_t>(code);
    return r;
  });
}

}  // namespace millrace::broker
