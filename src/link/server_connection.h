// One client connection: frames in, requests to the Service, replies out in order.
//
// Owned by the ConnectionSet of its loop; everything runs on that loop. Requests are pipelined: later ones
// are handed on while earlier ones wait, up to `in_flight_max`, then the stream is not read until replies
// leave. Frame: i32 size (of what follows), request header, body.
#pragma once

#include <deque>
#include <memory>

#include "base/trace.h"
#include "io/clock.h"
#include "io/network.h"
#include "link/service.h"

namespace millrace::link {

struct ConnectionLimits {
  size_t frame_bytes_max = 100 * 1024 * 1024;   // socket.request.max.bytes
  size_t in_flight_max = 1000;                  // requests handed on and not answered
  size_t unsent_bytes_max = 128 * 1024 * 1024;  // replies queued for a slow reader before reading stops
  int64_t idle_ms_max = 600'000;                // connections.max.idle.ms
};

class ConnectionSet;

class ServerConnection final : public io::StreamHandler,
                               public std::enable_shared_from_this<ServerConnection> {
 public:
  ServerConnection(ConnectionSet& set, std::shared_ptr<ConnectionContext> context,
                   std::unique_ptr<io::Stream> stream);
  ~ServerConnection() override;

  /// Begins reading. After construction, once, when the set holds the connection.
  void start();

  size_t on_bytes(MutableByteView bytes) override;
  void on_closed(const Status& why) override;
  void on_drained() override;
  size_t wanted() const override { return wanted_; }

  /// Closes at once (`flush` false) or after queued replies have left.
  void close(bool flush);
  int64_t last_active_ms() const { return last_active_ms_; }
  bool idle() const { return slots_.empty(); }
  const ConnectionContext& context() const { return *context_; }

 private:
  friend class Responder;
  struct Slot {
    bool ready = false;
    bool silent = false;  // no response frame
    bool last = false;    // close after this one
    int64_t mute_ms = 0;
    Payload response;
  };

  /// False: the connection is being closed, stop parsing.
  bool accept_frame(MutableByteView frame);
  void refuse(std::string_view why, ByteView evidence);
  void fill(uint64_t slot, Slot answer);
  void schedule_flush();
  void flush();
  /// Sends the replies whose turn it is. True: the connection closes behind the last of them.
  bool send_ready(int64_t& mute_ms);
  void update_reading();

  ConnectionSet& set_;
  std::shared_ptr<ConnectionContext> context_;
  std::unique_ptr<io::Stream> stream_;
  std::deque<Slot> slots_;
  uint64_t first_slot_ = 0;
  size_t wanted_ = 0;
  int64_t last_active_ms_ = 0;
  bool reading_ = true;
  bool muted_ = false;
  bool flush_scheduled_ = false;
  bool closing_ = false;
  bool closed_ = false;
};

}  // namespace millrace::link
