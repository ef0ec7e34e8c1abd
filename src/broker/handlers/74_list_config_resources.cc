// ListConfigResources (74), versions 0-1: what has, or may have, configuration.
//   0 client metrics only | 1 topics (2), brokers (4), broker loggers (8), client metrics (16), groups (32)
#include "base/contains.h"
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::ListConfigResourcesRequest& request) {
  constexpr auto kTopic = static_cast<int8_t>(meta::ResourceType::topic);
  constexpr auto kBroker = static_cast<int8_t>(meta::ResourceType::broker);
  wire::ListConfigResourcesResponse r;
  const auto wants = [&](int8_t type) {
    if (call.version() == 0) return false;  // asks for client metrics, of which there are none
    const auto& types = request.resource_types;
    return types.empty() || contains(types, type);
  };
  for (const int8_t type : request.resource_types) {
    if (type != kTopic && type != kBroker && type != 8 && type != 16 && type != 32) {
      r.error_code = static_cast<int16_t>(ErrorCode::unsupported_version);
      call.reply(r);
      return;
    }
  }
  if (wants(kTopic)) {
    call.view().image->topics().for_each([&](const std::string& name, const meta::TopicRef&) {
      r.config_resources.push_back({name, kTopic});
    });
  }
  if (wants(kBroker)) {
    call.view().image->brokers().for_each([&](BrokerId id, const meta::BrokerRef&) {
      r.config_resources.push_back({std::to_string(id.v), kBroker});
    });
  }
  call.reply(r);
}

}  // namespace millrace::broker
