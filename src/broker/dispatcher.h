// From a frame to a handler: version check, decoding, the table of handlers. The ApiVersions exception
// (KIP-511) lives in its handler.
#pragma once

#include <memory>

#include "broker/call.h"
#include "broker/shard.h"
#include "ledger/quorum_messages.h"
#include "link/service.h"

namespace millrace::broker {

class Dispatcher final : public link::Service {
 public:
  explicit Dispatcher(Broker& broker) : broker_(broker) {}
  void on_request(const std::shared_ptr<link::ConnectionContext>& context, link::Request request) override;
  void on_connection_closed(const link::ConnectionContext& context) override;

 private:
  Broker& broker_;
};

/// Runs a request that another node passed on, on `shard`'s loop: the same handler, the response's body to
/// `sink`. What is not passed on, cannot be decoded or is of a version that is not served drops the sink.
void run_forwarded(Shard& shard, const ledger::ForwardRequest& request, ForwardSink sink);

/// Whether some handler serves this API: what ApiVersions may advertise.
bool is_handled(int16_t api_key);

}  // namespace millrace::broker
