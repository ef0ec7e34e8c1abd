// A listening socket. It is watched on one loop; connections are handed to the loops that `choose` names.
#pragma once

#include <asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <mutex>

#include "base/trace.h"
#include "io/disk.h"
#include "io/network.h"
#include "net/asio_loop.h"
#include "net/socket.h"
#include "net/tcp_network.h"

namespace millrace::net {

inline constexpr size_t kFirstBytesMax = 64;

/// A connection whose loop is not chosen yet.
struct Undecided {
  asio::posix::stream_descriptor socket;
  io::TimerId timer = 0;
  bool over = false;
};

/// The part that the reactor and posted functions hold on to.
class Acceptor final : public std::enable_shared_from_this<Acceptor> {
 public:
  /// `socket` listens already; nothing is accepted before start().
  Acceptor(LoopThread& home, SocketDescriptor socket, const TcpOptions& options, io::Disk* disk, Trace trace,
           FirstBytes first, std::function<io::Loop&(ByteView)> choose,
           std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted);

  /// On the home loop.
  void start();
  /// Thread-safe. After it returned the port is free and `accepted` neither runs nor will, unless the caller
  /// is inside it.
  void stop();

 private:
  void arm();
  void on_readable();
  void hand_over(SocketDescriptor socket, ByteView first);
  void look(SocketDescriptor socket);
  void look_again(const std::shared_ptr<Undecided>& undecided);

  LoopThread& home_;
  const TcpOptions options_;
  io::Disk* const disk_;
  Trace trace_;
  const FirstBytes first_;
  size_t undecided_ = 0;
  TraceLimit complaints_;
  SocketDescriptor unwatched_;  // until start()
  asio::posix::stream_descriptor socket_;

  // Held while `choose_` and `accepted_` run, so that stop() can wait for it. Recursive: it may be stopped
  // from inside.
  std::recursive_mutex mutex_;
  bool open_ = true;
  int descriptor_;  // the listening socket, -1 when closed
  std::function<io::Loop&(ByteView)> choose_;
  std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted_;
};

class TcpListener final : public io::Listener {
 public:
  TcpListener(std::shared_ptr<Acceptor> acceptor, io::Endpoint bound)
      : acceptor_(std::move(acceptor)), bound_(std::move(bound)) {}
  ~TcpListener() override { acceptor_->stop(); }
  io::Endpoint bound() const override { return bound_; }

 private:
  const std::shared_ptr<Acceptor> acceptor_;
  const io::Endpoint bound_;
};

}  // namespace millrace::net
