// Socket descriptors, addresses and options, below asio.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <utility>

#include "base/result.h"
#include "io/network.h"

namespace millrace::net {

class SocketDescriptor {
 public:
  SocketDescriptor() = default;
  explicit SocketDescriptor(int fd) : fd_(fd) {}
  SocketDescriptor(SocketDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  SocketDescriptor& operator=(SocketDescriptor&& other) noexcept;
  ~SocketDescriptor();

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// An IPv4 or IPv6 address with its port.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  /// From a numeric address; false if `host` is a name.
  static bool parse(const std::string& host, uint16_t port, Address& out);
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  /// IPv4 inside IPv6 is shown as IPv4.
  io::Endpoint endpoint() const;
};

struct SocketOptions {
  bool no_delay = true;
  bool keep_alive = true;
  int keep_alive_idle_s = 60;      // silence before the first probe
  int keep_alive_interval_s = 10;  // between probes
  int keep_alive_probes = 3;       // lost ones until the connection is given up
  int send_buffer_bytes = 0;       // 0: the kernel tunes it
  int receive_buffer_bytes = 0;    // 0: the kernel tunes it
  std::string congestion_control;  // "": the system's
};

/// Sets the options of a connection. A congestion control the kernel does not know is ignored.
void apply(const SocketOptions& options, int socket);
/// Whether sendfile is worth while there: with bbr copying is cheaper.
bool prefers_sendfile(int socket);

Address local_address(int socket);
Address peer_address(int socket);

/// A bound and listening socket. Blocks if the host is a name. Errors as io::Network::listen.
Result<SocketDescriptor> open_listening_socket(const io::Endpoint& endpoint, int backlog);

/// errno of a failed connect, send or receive as an Error: closed (refused, reset, broken pipe), timed_out,
/// io_error.
Error socket_error(int number, std::string_view what);

}  // namespace millrace::net
