// A unix socket in a directory, through which other processes of the same user ask this one for something: a
// line each, a text back. One thread serves one asker after the other.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"

namespace millrace::server {

class ControlSocket {
 public:
  /// The answer to a line; on the socket's thread.
  using Handler = std::function<std::string(std::string_view line)>;

  /// Listens in `directory`; what a process that is gone has left there is replaced. `line_max` and
  /// `timeout_ms` bound what an asker may send and how long that may take. Errors: already_exists (another
  /// process serves it), io_error.
  static Result<std::unique_ptr<ControlSocket>> listen(const std::string& directory, size_t line_max,
                                                       int timeout_ms, Handler handler);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  ControlSocket() = default;
  void serve();
  void answer(int connection) const;

  std::string path_;  // of the socket, as far as it may be too long for an address
  size_t line_max_ = 0;
  int timeout_ms_ = 0;
  Handler handler_;
  int listening_ = -1;
  int wake_ = -1;  // readable: end
  std::thread thread_;
};

/// Asks whoever listens in `directory`; at most `answer_max` bytes, within `timeout_ms`. Errors: not_found
/// (nobody listens there), timed_out, limit_exceeded, io_error.
Result<std::string> ask_control_socket(const std::string& directory, std::string_view line, size_t answer_max,
                                       int timeout_ms);

}  // namespace millrace::server
