#include "net/tcp_connector.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "net/tcp_stream.h"

namespace millrace::net {
namespace {

// Addresses of one name that are tried.
constexpr size_t kAddressesMax = 8;

int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Connector::Connector(LoopThread& loop, const TcpOptions& options, io::Disk* disk, io::Endpoint endpoint,
                     int64_t timeout_ms, Done done)
    : loop_(loop),
      options_(options),
      disk_(disk),
      endpoint_(std::move(endpoint)),
      timeout_ms_(timeout_ms),
      done_(std::move(done)),
      resolver_(loop.context()),
      socket_(loop.context()) {}

std::string Connector::what() const {
  return "connect to " + endpoint_.host + ":" + std::to_string(endpoint_.port);
}

void Connector::start() {
  deadline_ms_ = steady_ms() + timeout_ms_;
  total_timer_ = loop_.call_after(timeout_ms_, [self = shared_from_this()] {
    self->total_timer_ = 0;
    self->finish(Error(ErrorCode::timed_out,
                       self->what() + ": no answer in " + std::to_string(self->timeout_ms_) + " ms"));
  });
  Address address;
  if (Address::parse(endpoint_.host, endpoint_.port, address)) {
    addresses_.push_back(address);
    try_next();
    return;
  }
  resolver_.async_resolve(endpoint_.host, std::to_string(endpoint_.port),
                          asio::ip::resolver_base::numeric_service,
                          [self = shared_from_this()](const asio::error_code& failed,
                                                      const asio::ip::tcp::resolver::results_type& found) {
                            self->resolved(failed, found);
                          });
}

void Connector::resolved(const asio::error_code& failed, const asio::ip::tcp::resolver::results_type& found) {
  if (!done_) return;  // timed out meanwhile
  if (failed) {
    finish(Error(ErrorCode::not_found, what() + ": " + failed.message()));
    return;
  }
  for (const auto& entry : found) {
    if (addresses_.size() == kAddressesMax) break;
    Address address;
    const asio::ip::tcp::endpoint endpoint = entry.endpoint();
    ASSERT(endpoint.size() <= sizeof(address.storage));
    std::memcpy(&address.storage, endpoint.data(), endpoint.size());
    address.length = static_cast<socklen_t>(endpoint.size());
    addresses_.push_back(address);
  }
  try_next();
}

void Connector::try_next() {
  asio::error_code ignored;  // an attempt that failed
  socket_.close(ignored);
  if (attempt_timer_ != 0) loop_.cancel(std::exchange(attempt_timer_, 0));
  const uint64_t attempt = ++attempt_;
  if (addresses_.empty()) {
    finish(last_error_);
    return;
  }
  const Address address = addresses_.front();
  if (addresses_.size() > 1) {
    const int64_t share =
        std::max<int64_t>(deadline_ms_ - steady_ms(), 0) / static_cast<int64_t>(addresses_.size());
    attempt_timer_ = loop_.call_after(share, [self = shared_from_this()] {
      self->attempt_timer_ = 0;
      self->failed(Error(ErrorCode::timed_out, self->what() + ": no answer"));
    });
  }
  addresses_.pop_front();

  SocketDescriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) {
    failed(socket_error(errno, what()));
    return;
  }
  apply(options_.socket, socket.get());
  const int result = ::connect(socket.get(), address.get(), address.length);
  if (result != 0 && errno != EINPROGRESS && errno != EINTR) {
    failed(socket_error(errno, what()));
    return;
  }
  asio::error_code refused;
  socket_.assign(socket.get(), refused);
  if (refused) {
    failed(socket_error(refused.value(), what()));
    return;
  }
  (void)socket.release();
  socket_.async_wait(asio::posix::descriptor_base::wait_write,
                     [self = shared_from_this(), attempt](const asio::error_code& stopped) {
                       if (!stopped && attempt == self->attempt_ && self->done_) self->on_writable();
                     });
}

void Connector::on_writable() {
  int number = 0;
  socklen_t length = sizeof(number);
  if (::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &number, &length) != 0) number = errno;
  if (number != 0) {
    failed(socket_error(number, what()));
    return;
  }
  // A free local port can be drawn that equals the one asked for; then one talks to oneself.
  const Address local = local_address(socket_.native_handle());
  const Address peer = peer_address(socket_.native_handle());
  if (peer.length == 0 ||
      (local.length == peer.length && std::memcmp(local.get(), peer.get(), peer.length) == 0)) {
    failed(Error(ErrorCode::closed, what() + ": nobody listens"));
    return;
  }
  auto connection = std::make_shared<TcpConnection>(loop_, SocketDescriptor(socket_.release()), disk_,
                                                    options_.flush_ms_max);
  finish(std::unique_ptr<io::Stream>(std::make_unique<TcpStream>(std::move(connection))));
}

void Connector::failed(Error why) {
  if (!done_) return;
  last_error_ = std::move(why);
  // From the loop: attempts may fail at once, and there may be several.
  loop_.post([self = shared_from_this()] {
    if (self->done_) self->try_next();
  });
}

void Connector::finish(Result<std::unique_ptr<io::Stream>> result) {
  if (!done_) return;
  ++attempt_;
  if (total_timer_ != 0) loop_.cancel(std::exchange(total_timer_, 0));
  if (attempt_timer_ != 0) loop_.cancel(std::exchange(attempt_timer_, 0));
  resolver_.cancel();
  asio::error_code ignored;  // of no use any more
  socket_.close(ignored);
  const Done done = std::exchange(done_, nullptr);
  done(std::move(result));
}

}  // namespace millrace::net
