// What a server connection hands its requests to, and how they are answered.
#pragma once

#include <memory>
#include <utility>

#include "base/bytes.h"
#include "link/connection_context.h"
#include "wire/headers.h"

namespace millrace::link {

class ServerConnection;

/// Answers one request, once, on the connection's loop; replies leave in the order the requests came. Dropped
/// without an answer it closes the connection: an unanswered slot would block every later reply.
class Responder {
 public:
  Responder() = default;
  Responder(std::weak_ptr<ServerConnection> connection, uint64_t slot)
      : connection_(std::move(connection)), slot_(slot), armed_(true) {}
  Responder(Responder&& other) noexcept
      : connection_(std::move(other.connection_)),
        slot_(other.slot_),
        armed_(std::exchange(other.armed_, false)) {}
  Responder& operator=(Responder&& other) noexcept {
    if (this != &other) {
      release();
      connection_ = std::move(other.connection_);
      slot_ = other.slot_;
      armed_ = std::exchange(other.armed_, false);
    }
    return *this;
  }
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;
  ~Responder() { release(); }

  bool armed() const { return armed_; }
  /// Whether the connection is still there.
  bool connected() const { return !connection_.expired(); }
  /// `framed` is the whole response: size, header and body. With `mute_ms` the connection is not read for
  /// that long after the reply left (KIP-219).
  void reply(Payload framed, int64_t mute_ms = 0);
  /// The request gets no response (Produce with acks=0).
  void no_reply();
  /// Sends what earlier requests are owed, then closes.
  void close_connection();

 private:
  void release();

  std::weak_ptr<ServerConnection> connection_;
  uint64_t slot_ = 0;
  bool armed_ = false;
};

struct Request {
  wire::RequestHeader header;
  MutableByteView body;  // in the receive buffer: gone when Service::on_request returns
  size_t frame_bytes = 0;
  Responder responder;
};

class Service {
 public:
  virtual ~Service() = default;
  /// Called on the connection's loop, in the order of arrival.
  virtual void on_request(const std::shared_ptr<ConnectionContext>& context, Request request) = 0;
  virtual void on_connection_closed(const ConnectionContext& context) = 0;
};

}  // namespace millrace::link
