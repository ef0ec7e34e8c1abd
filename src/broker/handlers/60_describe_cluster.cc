// DescribeCluster (60), versions 0-2.
//   1 endpoint type (controllers are not served on a client listener) | 2 fenced brokers
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::DescribeClusterRequest& request) {
  constexpr int8_t kBrokers = 1;
  wire::DescribeClusterResponse r;
  r.endpoint_type = request.endpoint_type;
  if (request.endpoint_type != kBrokers) {
    r.error_code = static_cast<int16_t>(request.endpoint_type == 2 ? ErrorCode::mismatched_endpoint_type
                                                                   : ErrorCode::unsupported_endpoint_type);
    r.error_message = "this listener serves brokers (endpoint type 1)";
    call.reply(r);
    return;
  }
  r.cluster_id = call.broker().cluster_id();
  r.controller_id = controller_for_clients(call.view(), call.broker().config().node_id).v;
  call.view().image->brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    if (b->fenced && !request.include_fenced_brokers) return;
    for (const meta::Endpoint& e : b->endpoints) {
      if (e.name == call.connection().listener)
        r.brokers.push_back({id.v, e.host, e.port, b->rack, b->fenced});
    }
  });
  call.reply(r);
}

}  // namespace millrace::broker
