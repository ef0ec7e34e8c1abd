// One connection of a load: a non-blocking socket under the epoll of the run, and what the two kinds of
// connections (calls that repeat, fetches) have in common.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/result.h"
#include "cli/perf/histogram.h"
#include "io/network.h"

namespace millrace::cli::perf {

/// What one direction of a load did since the window began.
struct Tally {
  uint64_t requests = 0;  // answered
  uint64_t records = 0;
  uint64_t bytes = 0;  // of batches, as they lie in the log
  uint64_t empty = 0;  // fetches that brought nothing
  std::map<ErrorCode, uint64_t> errors;
  Histogram latency;     // of a request, from the time it was due
  Histogram end_to_end;  // from the time a record was due to when it was read

  uint64_t error_count() const;
  void clear() { *this = Tally(); }
};

/// Monotonic nanoseconds.
int64_t now_ns();

/// A socket that is connected. `congestion`: the algorithm, empty for the machine's. Errors: closed,
/// timed_out, invalid_argument (the machine has no such algorithm), io_error.
Result<int> connect_socket(const io::Endpoint& endpoint, const std::string& congestion, int timeout_ms);
/// The congestion control of a socket.
std::string congestion_of(int socket);

class Channel {
 public:
  explicit Channel(int socket) : socket_(socket) {}
  virtual ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int socket() const { return socket_; }
  /// Something can be read, or `writable`. Errors end the run: closed, corrupt, io_error.
  virtual Status on_ready(bool readable, bool writable) = 0;
  /// Sends what is queued. Errors as on_ready().
  virtual Status flush() = 0;
  /// Something is queued that the socket has not taken.
  virtual bool wants_write() const = 0;
  /// Begins no more requests.
  virtual void stop() = 0;
  /// Nothing is under way.
  virtual bool quiet() const = 0;

 protected:
  /// Bytes sent; 0 when the socket is full.
  Result<size_t> send_some(ByteView bytes);
  /// Bytes received, 0 if there are none now. Errors: closed (by the peer), io_error. `discard`: they are
  /// dropped by the kernel.
  Result<size_t> receive_some(MutableByteView room, bool discard = false);

 private:
  const int socket_;
};

}  // namespace millrace::cli::perf
