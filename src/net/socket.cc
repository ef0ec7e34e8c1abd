#include "net/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "io/posix_error.h"

namespace millrace::net {
namespace {

void set_number(int socket, int level, int name, int value) {
  // An option that does not exist here costs its benefit, not the connection.
  (void)::setsockopt(socket, level, name, &value, sizeof(value));
}

Address address_of(int socket, int (*ask)(int, sockaddr*, socklen_t*)) {
  Address address;
  address.length = sizeof(address.storage);
  if (ask(socket, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) address = Address();
  return address;
}

Error listen_error(int number, const io::Endpoint& endpoint) {
  ErrorCode code = ErrorCode::io_error;
  if (number == EADDRINUSE) code = ErrorCode::already_exists;
  if (number == EADDRNOTAVAIL || number == EAFNOSUPPORT) code = ErrorCode::invalid_argument;
  if (number == EACCES) code = ErrorCode::permission_denied;
  return Error(code, "listen on " + endpoint.host + ":" + std::to_string(endpoint.port) + ": " +
                         io::posix_message(number));
}

Result<SocketDescriptor> listen_at(const Address& address, const io::Endpoint& endpoint, int backlog) {
  SocketDescriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return listen_error(errno, endpoint);
  const int on = 1;
  const int off = 0;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // "::" takes IPv4, too.
  if (address.family() == AF_INET6)
    (void)::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (::bind(socket.get(), address.get(), address.length) != 0) return listen_error(errno, endpoint);
  if (::listen(socket.get(), backlog) != 0) return listen_error(errno, endpoint);
  return socket;
}

}  // namespace

SocketDescriptor::~SocketDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

SocketDescriptor& SocketDescriptor::operator=(SocketDescriptor&& other) noexcept {
  SocketDescriptor before(std::exchange(fd_, std::exchange(other.fd_, -1)));
  return *this;
}

bool Address::parse(const std::string& host, uint16_t port, Address& out) {
  out = Address();
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.length = sizeof(sockaddr_in);
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.length = sizeof(sockaddr_in6);
    return true;
  }
  return false;
}

io::Endpoint Address::endpoint() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return {.host = text.data(), .port = ntohs(v4->sin_port)};
  }
  if (family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
      ::inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text.data(), text.size());
    } else {
      ::inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
    }
    return {.host = text.data(), .port = ntohs(v6->sin6_port)};
  }
  return {};
}

void apply(const SocketOptions& options, int socket) {
  if (options.no_delay) set_number(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  if (options.keep_alive) {
    set_number(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_number(socket, IPPROTO_TCP, TCP_KEEPIDLE, options.keep_alive_idle_s);
    set_number(socket, IPPROTO_TCP, TCP_KEEPINTVL, options.keep_alive_interval_s);
    set_number(socket, IPPROTO_TCP, TCP_KEEPCNT, options.keep_alive_probes);
  }
  if (options.send_buffer_bytes > 0) set_number(socket, SOL_SOCKET, SO_SNDBUF, options.send_buffer_bytes);
  if (options.receive_buffer_bytes > 0)
    set_number(socket, SOL_SOCKET, SO_RCVBUF, options.receive_buffer_bytes);
  if (!options.congestion_control.empty()) {
    (void)::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, options.congestion_control.data(),
                       static_cast<socklen_t>(options.congestion_control.size()));
  }
}

bool prefers_sendfile(int socket) {
  std::array<char, 16> name{};
  socklen_t length = name.size() - 1;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0) return true;
  return std::string_view(name.data()) != "bbr";
}

Address local_address(int socket) {
  return address_of(socket, ::getsockname);
}

Address peer_address(int socket) {
  return address_of(socket, ::getpeername);
}

Result<SocketDescriptor> open_listening_socket(const io::Endpoint& endpoint, int backlog) {
  Address address;
  if (endpoint.host.empty()) {
    // All addresses of the machine: both families if there are two.
    (void)Address::parse("::", endpoint.port, address);
    Result<SocketDescriptor> both = listen_at(address, endpoint, backlog);
    if (both.ok() || both.code() != ErrorCode::invalid_argument) return both;
    (void)Address::parse("0.0.0.0", endpoint.port, address);
    return listen_at(address, endpoint, backlog);
  }
  if (Address::parse(endpoint.host, endpoint.port, address)) return listen_at(address, endpoint, backlog);

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failed =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
  if (failed != 0) {
    return Error(ErrorCode::invalid_argument,
                 "listen on " + endpoint.host + ": " + std::string(::gai_strerror(failed)));
  }
  Result<SocketDescriptor> result = Error(ErrorCode::invalid_argument, "no address of " + endpoint.host);
  for (const addrinfo* a = found; a != nullptr && !result.ok(); a = a->ai_next) {
    address = Address();
    if (a->ai_addrlen > sizeof(address.storage)) continue;
    std::memcpy(&address.storage, a->ai_addr, a->ai_addrlen);
    address.length = a->ai_addrlen;
    result = listen_at(address, endpoint, backlog);
  }
  ::freeaddrinfo(found);
  return result;
}

Error socket_error(int number, std::string_view what) {
  ErrorCode code = ErrorCode::io_error;
  switch (number) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
      code = ErrorCode::closed;
      break;
    case ETIMEDOUT:
      code = ErrorCode::timed_out;
      break;
    default:
      break;
  }
  return Error(code, std::string(what) + ": " + io::posix_message(number));
}

}  // namespace millrace::net
