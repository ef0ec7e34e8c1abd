// The asking end of a connection: typed requests out, responses matched in order. On its loop only.
//
// Kafka answers in the order asked, so a response whose correlation id is not the oldest outstanding one
// breaks the connection. A request that times out also breaks it: what came after could not be told apart.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "io/loop.h"
#include "io/network.h"
#include "wire/headers.h"

namespace millrace::link {

/// What becomes of a connection to another node. Refused: its machine answers, its process is gone.
enum class PeerNews : uint8_t { reached, lost, refused };

class ClientConnection final : public io::StreamHandler,
                               public std::enable_shared_from_this<ClientConnection> {
 public:
  static std::shared_ptr<ClientConnection> create(io::Loop& loop, std::unique_ptr<io::Stream> stream,
                                                  std::string client_id, size_t frame_bytes_max);
  ~ClientConnection() override;

  /// Sends `request` at `version`; `done` runs on the loop with the response or an error: closed (connection
  /// lost), timed_out, corrupt (the response does not parse). The response's records are views into a buffer
  /// that lives during the callback only.
  template <class Request>
  void send(int16_t version, const Request& request, int64_t timeout_ms,
            std::function<void(Result<typename Request::Response>)> done) {
    wire::Writer writer;
    wire::encode_request_header(writer, header(Request::kApiKey, version));
    encode(writer, version, request);
    send_frame(Request::kApiKey, version, writer.take_framed(), timeout_ms,
               [version, done = std::move(done)](Result<MutableByteView> body) {
                 if (!body.ok()) return done(std::move(body).error());
                 wire::Reader reader(*body);
                 typename Request::Response response;
                 const Status parsed = decode(reader, version, response);
                 if (!parsed.ok()) return done(parsed.error());
                 done(std::move(response));
               });
  }
  /// Sends a private request whose body is `body` as it is (the internal listener's protobuf); `done` gets
  /// the bytes of the response's body, which live during the callback only.
  void send_bytes(wire::ApiKey api, int16_t version, ByteView body, int64_t timeout_ms,
                  std::function<void(Result<MutableByteView>)> done);
  /// The same without a response.
  void send_bytes_only(wire::ApiKey api, int16_t version, ByteView body);
  /// Sends a request that gets no response (Produce with acks=0).
  template <class Request>
  void send_only(int16_t version, const Request& request) {
    wire::Writer writer;
    wire::encode_request_header(writer, header(Request::kApiKey, version));
    encode(writer, version, request);
    stream_->send(writer.take_framed());
  }

  bool open() const { return !closed_; }
  /// Fails what is outstanding with `closed`.
  void close();
  /// Told once when the connection is lost.
  void on_lost(std::function<void()> f) { lost_ = std::move(f); }
  size_t outstanding() const { return waiting_.size(); }
  size_t unsent_bytes() const { return stream_->unsent_bytes(); }

  size_t on_bytes(MutableByteView bytes) override;
  void on_closed(const Status& why) override;
  size_t wanted() const override { return wanted_; }

 private:
  using BodyDone = std::function<void(Result<MutableByteView>)>;
  struct Waiting {
    int32_t correlation_id = 0;
    wire::ApiKey api{};
    int16_t version = 0;
    io::TimerId timer = 0;
    BodyDone done;
  };

  ClientConnection(io::Loop& loop, std::unique_ptr<io::Stream> stream, std::string client_id,
                   size_t frame_bytes_max);
  wire::RequestHeader header(wire::ApiKey api, int16_t version);
  void send_frame(wire::ApiKey api, int16_t version, Payload frame, int64_t timeout_ms, BodyDone done);
  void fail(const Error& why);

  io::Loop& loop_;
  std::unique_ptr<io::Stream> stream_;
  const std::string client_id_;
  const size_t frame_bytes_max_;
  std::deque<Waiting> waiting_;
  std::function<void()> lost_;
  int32_t next_correlation_id_ = 1;
  size_t wanted_ = 0;
  bool closed_ = false;
};

}  // namespace millrace::link
