// TCP of this machine as io::Network, over the loops of this room.
#pragma once

#include <functional>
#include <memory>

#include "base/trace.h"
#include "io/disk.h"
#include "io/network.h"
#include "net/asio_loop.h"
#include "net/socket.h"

namespace millrace::net {

struct TcpOptions {
  SocketOptions socket;
  int backlog = 1024;             // connections the kernel holds until they are accepted
  int64_t flush_ms_max = 30'000;  // how long a close with flush waits for a peer that does not read
};

/// What a connection must have sent before its loop is chosen.
struct FirstBytes {
  size_t count = 0;
  int64_t timeout_ms = 0;
};

/// Loops that are given to it (by `choose`, to connect) must be LoopThreads. They must outlive the listeners;
/// streams must be gone before their loop is destroyed.
class TcpNetwork final : public io::Network {
 public:
  /// `home` watches the listeners. `disk` reads file regions that are not in the page cache; without one the
  /// loops do it themselves.
  TcpNetwork(LoopThread& home, TcpOptions options, io::Disk* disk = nullptr, Trace trace = {});

  /// As io::Network. An empty host means every address of the machine, "::" both families. Blocks if the host
  /// is a name. From any thread. When the listener has been destroyed, `accepted` does not run any more.
  Result<std::unique_ptr<io::Listener>> listen(
      const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(
      const io::Endpoint& endpoint, size_t count, int64_t timeout_ms,
      std::function<io::Loop&(ByteView)> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  /// As io::Network. From any thread; names are resolved on a thread of their own. Should the loop stop
  /// before, `done` is dropped.
  void connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
               std::function<void(Result<std::unique_ptr<io::Stream>>)> done) override;

 private:
  Result<std::unique_ptr<io::Listener>> start_listener(
      const io::Endpoint& endpoint, FirstBytes first, std::function<io::Loop&(ByteView)> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted);

  LoopThread& home_;
  const TcpOptions options_;
  io::Disk* const disk_;
  Trace trace_;
};

}  // namespace millrace::net
