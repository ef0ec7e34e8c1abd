// FindCoordinator (10), versions 0-4.
//   1 key type | 3 flexible | 4 a batch of keys in another shape
// Only groups (type 0) have coordinators so far; transactions answer UNSUPPORTED_VERSION.
#include "broker/broker.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using CoordinatorAnswer = wire::FindCoordinatorResponse::Coordinator;

constexpr int8_t kGroupKey = 0;
constexpr int8_t kTransactionKey = 1;

CoordinatorAnswer coordinator_of(const Call& call, const std::string& key, int8_t type) {
  CoordinatorAnswer a;
  a.key = key;
  a.node_id = -1;
  a.port = -1;
  const auto refuse = [&](ErrorCode code, std::string message) {
    a.error_code = static_cast<int16_t>(code);
    a.error_message = std::move(message);
    return a;
  };
  if (type != kGroupKey && type != kTransactionKey)
    return refuse(ErrorCode::invalid_request, "unknown key type");
  if (type == kTransactionKey) {
    return refuse(ErrorCode::unsupported_version, "transactions are not served yet");
  }
  if (key.empty()) return refuse(ErrorCode::invalid_group_id, "the group id is empty");
  const meta::Image& image = *call.view().image;
  const meta::Topic* topic = image.topic(kOffsetsTopic);
  if (topic == nullptr || topic->partitions.size() == 0) {
    call.broker().ensure_offsets_topic();
    return refuse(ErrorCode::coordinator_not_available, "the offsets topic is being created");
  }
  const int32_t number = group::partition_for(key, static_cast<int32_t>(topic->partitions.size()));
  const meta::Partition& p = topic->partitions[static_cast<size_t>(number)];
  if (call.view().live_broker(p.leader) == nullptr)
    return refuse(ErrorCode::coordinator_not_available, "the group's partition has no leader now");
  const PartitionRef* here = call.view().partition(topic->id, number);
  if (here != nullptr && (*here)->in_doubt(call.now()))
    return refuse(ErrorCode::coordinator_not_available, "another may coordinate this group by now");
  const meta::Endpoint* at = endpoint_of(image, p.leader, call.connection().listener);
  if (at == nullptr)
    return refuse(ErrorCode::coordinator_not_available, "the coordinator has no such listener");
  a.node_id = p.leader.v;
  a.host = at->host;
  a.port = at->port;
  a.error_message.reset();
  return a;
}

}  // namespace

void handle(Call call, wire::FindCoordinatorRequest& request) {
  wire::FindCoordinatorResponse r;
  const int8_t type = call.version() == 0 ? kGroupKey : request.key_type;
  if (call.version() >= 4) {
    for (const std::string& key : request.coordinator_keys)
      r.coordinators.push_back(coordinator_of(call, key, type));
  } else {
    CoordinatorAnswer a = coordinator_of(call, request.key, type);
    r.error_code = a.error_code;
    r.error_message = std::move(a.error_message);
    r.node_id = a.node_id;
    r.host = std::move(a.host);
    r.port = a.port;
  }
  call.reply(r);
}

}  // namespace millrace::broker
