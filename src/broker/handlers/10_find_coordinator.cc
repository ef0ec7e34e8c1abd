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
  const Result<std::shared_ptr<GroupRunner>> runner = find_group_runner(call, key);
  if (!runner.ok()) return refuse(ErrorCode::coordinator_not_available, runner.error().message);
  const std::optional<io::Endpoint> self =
      call.broker().advertised_endpoint(call.connection().listener, call.broker().config().node_id);
  if (!self) return refuse(ErrorCode::coordinator_not_available, "the coordinator has no such listener");
  a.node_id = call.broker().config().node_id.v;
  a.host = self->host;
  a.port = self->port;
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
