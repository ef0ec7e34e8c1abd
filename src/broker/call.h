// One request being answered. A handler replies through it exactly once, now or later, on the connection's
// loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/time.h"
#include "broker/shard.h"
#include "link/service.h"
#include "wire/api_table.h"
#include "wire/headers.h"
#include "wire/writer.h"

namespace millrace::broker {

/// Takes the body of the response to a request that another node passed on; dropped without one it says so.
class ForwardSink {
 public:
  using Taken = std::function<void(std::optional<Bytes> body)>;

  ForwardSink() = default;
  explicit ForwardSink(Taken taken) : taken_(std::make_unique<Taken>(std::move(taken))) {}
  ForwardSink(ForwardSink&&) = default;
  ForwardSink& operator=(ForwardSink&&) = default;
  ~ForwardSink() {
    if (taken_) (*taken_)(std::nullopt);
  }

  bool armed() const { return taken_ != nullptr; }
  void take(Bytes body) { (*std::exchange(taken_, nullptr))(std::move(body)); }

 private:
  std::unique_ptr<Taken> taken_;
};

class Call {
 public:
  Call(Shard& shard, std::shared_ptr<link::ConnectionContext> connection, const wire::ApiInfo& api,
       wire::RequestHeader header, link::Responder responder, int64_t start_ns)
      : shard_(&shard),
        connection_(std::move(connection)),
        api_(&api),
        header_(std::move(header)),
        responder_(std::move(responder)),
        start_ns_(start_ns) {}
  /// Of a request that another node passed on.
  Call(Shard& shard, std::shared_ptr<link::ConnectionContext> connection, const wire::ApiInfo& api,
       wire::RequestHeader header, ForwardSink sink, int64_t start_ns)
      : shard_(&shard),
        connection_(std::move(connection)),
        api_(&api),
        header_(std::move(header)),
        sink_(std::move(sink)),
        start_ns_(start_ns) {}
  Call(Call&&) = default;
  Call& operator=(Call&&) = default;

  int16_t version() const { return header_.request_api_version; }
  const wire::ApiInfo& api() const { return *api_; }
  /// Empty when the client gave none.
  std::string client_id() const { return header_.client_id.value_or(""); }
  link::ConnectionContext& connection() const { return *connection_; }
  Shard& shard() const { return *shard_; }
  Broker& broker() const { return shard_->broker; }
  const View& view() const { return *shard_->view; }
  io::Loop& loop() const { return *shard_->loop; }
  Now now() const;
  /// Whether the client is still there.
  bool connected() const;

  template <class Response>
  void reply(const Response& response, int64_t mute_ms = 0) {
    wire::Writer writer;
    if (sink_.armed()) {
      encode(writer, version(), response);
      finish_forwarded(writer.take_bytes());
      return;
    }
    wire::encode_response_header(writer, api_->key, version(), header_.correlation_id);
    encode(writer, version(), response);
    finish(writer.take_framed(), mute_ms);
  }
  /// The body as another node encoded it.
  void reply_encoded(ByteView body);
  /// Produce with acks=0.
  void no_reply();
  void close_connection();

 private:
  void finish(Payload framed, int64_t mute_ms);
  void finish_forwarded(Bytes body);
  void record_latency();

  Shard* shard_;
  std::shared_ptr<link::ConnectionContext> connection_;
  const wire::ApiInfo* api_;
  wire::RequestHeader header_;
  link::Responder responder_;
  ForwardSink sink_;
  int64_t start_ns_;
};

/// A Call on the heap, for handlers that answer later (std::function wants copyable captures).
using SharedCall = std::shared_ptr<Call>;
inline SharedCall share(Call call) {
  return std::make_shared<Call>(std::move(call));
}

}  // namespace millrace::broker
