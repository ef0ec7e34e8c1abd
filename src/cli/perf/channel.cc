#include "cli/perf/channel.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace millrace::cli::perf {
namespace {

Error errno_error(const std::string& what, int number) {
  const bool gone = number == ECONNREFUSED || number == ECONNRESET || number == EPIPE;
  return Error(gone ? ErrorCode::closed : ErrorCode::io_error, what + ": " + std::strerror(number));
}

Status wait_connected(int socket, int timeout_ms) {
  pollfd p{.fd = socket, .events = POLLOUT, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&p, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return Error(ErrorCode::timed_out, "connect: no answer");
  int failed = 0;
  socklen_t size = sizeof(failed);
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &failed, &size) != 0) failed = errno;
  if (failed != 0) return errno_error("connect", failed);
  return {};
}

Status set_up(int socket, const std::string& congestion) {
  const int on = 1;
  if (::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
    return errno_error("TCP_NODELAY", errno);
  }
  if (!congestion.empty() && ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                                          static_cast<socklen_t>(congestion.size())) != 0) {
    return Error(ErrorCode::invalid_argument,
                 "congestion control " + congestion + ": " + std::strerror(errno));
  }
  return {};
}

}  // namespace

uint64_t Tally::error_count() const {
  uint64_t sum = 0;
  for (const auto& [code, n] : errors) sum += n;
  return sum;
}

int64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

Result<int> connect_socket(const io::Endpoint& endpoint, const std::string& congestion, int timeout_ms) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
  if (failed != 0) return Error(ErrorCode::not_found, endpoint.host + ": " + ::gai_strerror(failed));
  Status last = Error(ErrorCode::not_found, endpoint.host + ": no address");
  int connected = -1;
  for (const addrinfo* a = found; a != nullptr && connected < 0; a = a->ai_next) {
    const int s = ::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0) {
      last = errno_error("socket", errno);
      continue;
    }
    last = set_up(s, congestion);
    if (last.ok() && ::connect(s, a->ai_addr, a->ai_addrlen) != 0) {
      last = errno == EINPROGRESS ? wait_connected(s, timeout_ms) : Status(errno_error("connect", errno));
    }
    if (last.ok()) {
      connected = s;
    } else {
      ::close(s);
    }
  }
  ::freeaddrinfo(found);
  if (connected < 0) {
    return Error(last.code(),
                 endpoint.host + ":" + std::to_string(endpoint.port) + ": " + last.error().message);
  }
  return connected;
}

std::string congestion_of(int socket) {
  std::array<char, 32> name{};
  socklen_t size = name.size() - 1;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0) return "unknown";
  return name.data();
}

Channel::~Channel() {
  ::close(socket_);
}

Result<size_t> Channel::send_some(ByteView bytes) {
  ssize_t n = 0;
  do {
    n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno != EAGAIN) return errno_error("send", errno);
  return n < 0 ? size_t{0} : static_cast<size_t>(n);
}

Result<size_t> Channel::receive_some(MutableByteView room, bool discard) {
  ssize_t n = 0;
  do {
    n = ::recv(socket_, room.data(), room.size(), MSG_DONTWAIT | (discard ? MSG_TRUNC : 0));
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return size_t{0};
  if (n < 0) return errno_error("receive", errno);
  if (n == 0) return Error(ErrorCode::closed, "the broker closed the connection");
  return static_cast<size_t>(n);
}

}  // namespace millrace::cli::perf
