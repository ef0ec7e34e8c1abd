#include "broker/call.h"

#include "broker/broker.h"

namespace millrace::broker {

Now Call::now() const {
  return broker().environment().clock->now();
}

bool Call::connected() const {
  return responder_.connected();
}

void Call::no_reply() {
  record_latency();
  responder_.no_reply();
}

void Call::close_connection() {
  responder_.close_connection();
}

void Call::finish(Payload framed, int64_t mute_ms) {
  ASSERT(loop().is_here());
  record_latency();
  responder_.reply(std::move(framed), mute_ms);
}

void Call::record_latency() {
  const ApiMetrics& m = shard_->metrics.apis[static_cast<size_t>(api_->key)];
  if (m.requests == nullptr) return;
  m.requests->add();
  m.latency->observe_ns(broker().environment().clock->mono_ns() - start_ns_);
}

}  // namespace millrace::broker
