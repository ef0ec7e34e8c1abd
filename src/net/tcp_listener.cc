#include "net/tcp_listener.h"

#include <errno.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <utility>

#include "io/posix_error.h"
#include "net/tcp_stream.h"

namespace millrace::net {
namespace {

constexpr size_t kAcceptsPerEvent = 64;
// Out of descriptors: connections wait in the kernel's queue until some are closed.
constexpr int64_t kRetryMs = 100;
constexpr int64_t kLookAgainMs = 5;

}  // namespace

Acceptor::Acceptor(LoopThread& home, SocketDescriptor socket, const TcpOptions& options, io::Disk* disk,
                   Trace trace, FirstBytes first, std::function<io::Loop&(ByteView)> choose,
                   std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted)
    : home_(home),
      options_(options),
      disk_(disk),
      trace_(std::move(trace)),
      first_(first),
      unwatched_(std::move(socket)),
      socket_(home.context()),
      descriptor_(unwatched_.get()),
      choose_(std::move(choose)),
      accepted_(std::move(accepted)) {}

void Acceptor::start() {
  const std::lock_guard lock(mutex_);
  if (!open_) return;
  asio::error_code failed;
  socket_.assign(unwatched_.get(), failed);
  if (failed) {
    trace_.error("a listener cannot be watched: {}", failed.message());
    return;
  }
  (void)unwatched_.release();
  arm();
}

void Acceptor::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(open_, false)) return;
    // Ends listening at once; the descriptor itself belongs to the home loop.
    if (descriptor_ >= 0) ::shutdown(descriptor_, SHUT_RDWR);
  }
  home_.post([self = shared_from_this()] {
    const std::lock_guard lock(self->mutex_);
    self->descriptor_ = -1;
    asio::error_code ignored;  // nothing was written to it
    self->socket_.close(ignored);
    self->unwatched_ = SocketDescriptor();
  });
}

void Acceptor::arm() {
  socket_.async_wait(asio::posix::descriptor_base::wait_read,
                     [self = shared_from_this()](const asio::error_code& failed) {
                       if (!failed) self->on_readable();
                     });
}

void Acceptor::on_readable() {
  for (size_t i = 0; i < kAcceptsPerEvent; ++i) {
    if (!socket_.is_open()) return;
    SocketDescriptor socket(
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket) {
      if (first_.count == 0) {
        hand_over(std::move(socket), {});
      } else {
        look(std::move(socket));
      }
      continue;
    }
    const int number = errno;
    if (number == EAGAIN) break;
    if (number == EMFILE || number == ENFILE || number == ENOBUFS || number == ENOMEM) {
      uint64_t held_back = 0;
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      if (complaints_.admit(std::chrono::duration_cast<std::chrono::milliseconds>(now).count(), held_back))
        trace_.warn("connections are not accepted for now: {}", io::posix_message(number));
      home_.call_after(kRetryMs, [self = shared_from_this()] {
        {
          const std::lock_guard lock(self->mutex_);
          if (!self->open_) return;
        }
        self->arm();
      });
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      if (!open_) return;  // it does not listen any more
    }
    // Anything else is the fate of that one connection (accept(2): network errors are handed on).
  }
  arm();
}

// Connections that have not said what they are for wait here; more than a few are not normal.
constexpr size_t kUndecidedMax = 1'000;

void Acceptor::look(SocketDescriptor socket) {
  if (undecided_ >= kUndecidedMax) return;
  const auto undecided =
      std::make_shared<Undecided>(Undecided{asio::posix::stream_descriptor(home_.context())});
  asio::error_code failed;
  undecided->socket.assign(socket.get(), failed);
  if (failed) return;
  (void)socket.release();
  ++undecided_;
  undecided->timer = home_.call_after(first_.timeout_ms, [self = shared_from_this(), undecided] {
    if (std::exchange(undecided->over, true)) return;
    --self->undecided_;
    asio::error_code ignored;
    undecided->socket.close(ignored);
  });
  look_again(undecided);
}

void Acceptor::look_again(const std::shared_ptr<Undecided>& undecided) {
  undecided->socket.async_wait(
      asio::posix::descriptor_base::wait_read,
      [self = shared_from_this(), undecided](const asio::error_code& failed) {
        if (undecided->over) return;
        std::array<uint8_t, kFirstBytesMax> bytes{};
        const ssize_t seen =
            failed ? 0
                   : ::recv(undecided->socket.native_handle(), bytes.data(), self->first_.count, MSG_PEEK);
        const bool wait = seen < 0 ? errno == EAGAIN || errno == EINTR
                                   : seen > 0 && static_cast<size_t>(seen) < self->first_.count;
        if (wait) {
          // Readable already, so waiting for it would spin: a peer that sends a frame's head in pieces is
          // looked at again a little later.
          self->home_.call_after(kLookAgainMs, [self, undecided] {
            if (!undecided->over) self->look_again(undecided);
          });
          return;
        }
        undecided->over = true;
        --self->undecided_;
        self->home_.cancel(undecided->timer);
        SocketDescriptor socket(undecided->socket.release());
        if (seen > 0) self->hand_over(std::move(socket), ByteView(bytes).first(static_cast<size_t>(seen)));
      });
}

void Acceptor::hand_over(SocketDescriptor socket, ByteView first) {
  LoopThread* loop = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (!open_) return;
    loop = dynamic_cast<LoopThread*>(&choose_(first));
  }
  ASSERT(loop != nullptr);  // streams of this network live on its loops
  apply(options_.socket, socket.get());
  // Posted functions must be copyable; the connection is closed if the loop is not there any more.
  const auto held = std::make_shared<SocketDescriptor>(std::move(socket));
  loop->post([self = shared_from_this(), loop, held] {
    const std::lock_guard lock(self->mutex_);
    if (!self->open_) return;
    auto connection =
        std::make_shared<TcpConnection>(*loop, std::move(*held), self->disk_, self->options_.flush_ms_max);
    self->accepted_(*loop, std::make_unique<TcpStream>(std::move(connection)));
  });
}

}  // namespace millrace::net
