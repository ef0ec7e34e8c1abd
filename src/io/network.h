// The one door to peers: byte streams. A stream belongs to one loop; all its callbacks run there and all its
// methods are called there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "io/loop.h"

namespace millrace::io {

struct Endpoint {
  std::string host;  // name or address; IPv6 without brackets
  uint16_t port = 0;
};

/// What a stream tells its owner.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  /// Bytes that arrived and were not consumed yet. Returns how many are consumed from the front; the rest
  /// comes again, at the front, with the next bytes. The bytes may be changed in place; they are gone after
  /// the call as far as they were consumed. The stream never offers more than wanted() + one read beyond what
  /// is kept.
  virtual size_t on_bytes(MutableByteView bytes) = 0;
  /// The stream is gone: closed by the peer (ok) or broken. Called once, after it no other callback.
  virtual void on_closed(const Status& why) = 0;
  /// Everything given to send() has been handed to the kernel.
  virtual void on_drained() {}
  /// How many bytes the unconsumed front needs to be useful (a frame's size), so that the receive buffer can
  /// be grown once. 0: no opinion. Must be within the owner's own limit.
  virtual size_t wanted() const { return 0; }
};

class Stream {
 public:
  virtual ~Stream() = default;
  /// Sends the pieces in order after what was sent before. Never blocks; unsent bytes are queued.
  virtual void send(Payload payload) = 0;
  /// Bytes queued and not yet taken by the kernel.
  virtual size_t unsent_bytes() const = 0;
  /// Stops and resumes reading (throttling, back-pressure). While paused on_bytes is not called; resuming
  /// offers the kept bytes again, from the loop (never from inside resume_reading), even if no new ones
  /// arrive.
  virtual void pause_reading() = 0;
  virtual void resume_reading() = 0;
  /// Closes; with `flush`, after what is queued has been sent. on_closed follows, unless the handler is
  /// detached.
  virtual void close(bool flush) = 0;
  /// Replaces the handler; nullptr detaches (no more callbacks).
  virtual void set_handler(StreamHandler* handler) = 0;
  virtual Endpoint peer() const = 0;
  virtual Endpoint local() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;  // stops accepting
  /// The bound endpoint (the port chosen, if 0 was asked for).
  virtual Endpoint bound() const = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  /// Accepts on `endpoint`. `choose` names the loop for each new stream; `accepted` then runs on that loop.
  /// Errors: already_exists (address in use), invalid_argument (no such address), permission_denied,
  /// io_error.
  virtual Result<std::unique_ptr<Listener>> listen(
      const Endpoint& endpoint, std::function<Loop&()> choose,
      std::function<void(Loop&, std::unique_ptr<Stream>)> accepted) = 0;
  /// As listen(), but the loop of a stream is chosen when its first `count` bytes (at most 64) have arrived;
  /// they are seen, not taken. A peer that does not send them within `timeout_ms` is closed.
  virtual Result<std::unique_ptr<Listener>> listen_by_first_bytes(
      const Endpoint& endpoint, size_t count, int64_t timeout_ms, std::function<Loop&(ByteView)> choose,
      std::function<void(Loop&, std::unique_ptr<Stream>)> accepted) = 0;
  /// Connects; `done` runs on `loop` with the stream or an error (closed: refused, timed_out, not_found:
  /// name).
  virtual void connect(Loop& loop, const Endpoint& endpoint, int64_t timeout_ms,
                       std::function<void(Result<std::unique_ptr<Stream>>)> done) = 0;
};

}  // namespace millrace::io
