// What this node answers to the other nodes of the cluster on the internal listener, private APIs
// 20000-20099: Raft messages, hello, join. Its connections live on the control loop, so that a busy data loop
// or a slow disk does not cost leadership; replication (Kafka's Fetch) arrives at the same listener and is
// served by the data loops.
#pragma once

#include <memory>

#include "base/trace.h"
#include "link/service.h"

namespace millrace::broker {

class Broker;

/// Whether a connection that begins with these bytes (frame size, api key, ...) speaks private APIs; at least
/// kFirstBytes of them.
inline constexpr size_t kFirstBytes = 6;
bool begins_private(ByteView first_bytes);

class InternalService final : public link::Service {
 public:
  explicit InternalService(Broker& broker) : broker_(broker) {}
  void on_request(const std::shared_ptr<link::ConnectionContext>& context, link::Request request) override;
  void on_connection_closed(const link::ConnectionContext&) override {}

 private:
  Broker& broker_;
  TraceLimit complaints_{5, 10'000};
};

}  // namespace millrace::broker
