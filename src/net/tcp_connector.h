// One attempt to connect: the name is resolved, its addresses are tried in order, each with its share of the
// time that is left. Lives on the loop of the stream to be, held by what it waits for.
#pragma once

#include <asio/ip/tcp.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "io/disk.h"
#include "io/network.h"
#include "net/asio_loop.h"
#include "net/socket.h"
#include "net/tcp_network.h"

namespace millrace::net {

class Connector final : public std::enable_shared_from_this<Connector> {
 public:
  using Done = std::function<void(Result<std::unique_ptr<io::Stream>>)>;

  Connector(LoopThread& loop, const TcpOptions& options, io::Disk* disk, io::Endpoint endpoint,
            int64_t timeout_ms, Done done);

  /// On the loop, once.
  void start();

 private:
  void resolved(const asio::error_code& failed, const asio::ip::tcp::resolver::results_type& found);
  void try_next();
  void on_writable();
  void failed(Error why);
  void finish(Result<std::unique_ptr<io::Stream>> result);
  std::string what() const;

  LoopThread& loop_;
  const TcpOptions options_;
  io::Disk* const disk_;
  const io::Endpoint endpoint_;
  const int64_t timeout_ms_;
  Done done_;

  asio::ip::tcp::resolver resolver_;
  asio::posix::stream_descriptor socket_;
  std::deque<Address> addresses_;
  uint64_t attempt_ = 0;
  io::TimerId total_timer_ = 0;
  io::TimerId attempt_timer_ = 0;
  int64_t deadline_ms_ = 0;
  Error last_error_{ErrorCode::not_found};
};

}  // namespace millrace::net
