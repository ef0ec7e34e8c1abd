#include "broker/call.h"

#include "broker/broker.h"

namespace millrace::broker {

Now Call::now() const {
  return broker().environment().clock->now();
}

bool Call::connected() const {
  return sink_.armed() || responder_.connected();
}

void Call::no_reply() {
  ASSERT(!sink_.armed());  // nothing of the kind is passed on
  record_latency();
  responder_.no_reply();
}

void Call::close_connection() {
  sink_ = {};
  responder_.close_connection();
}

void Call::reply_encoded(ByteView body) {
  wire::Writer writer;
  wire::encode_response_header(writer, api_->key, version(), header_.correlation_id);
  writer.write_raw(body);
  finish(writer.take_framed(), 0);
}

void Call::finish_forwarded(Bytes body) {
  ASSERT(loop().is_here());  // counted where the client asked
  sink_.take(std::move(body));
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
