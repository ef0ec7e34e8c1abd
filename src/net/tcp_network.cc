#include "net/tcp_network.h"

#include <utility>

#include "base/assert.h"
#include "net/tcp_connector.h"
#include "net/tcp_listener.h"

namespace millrace::net {

TcpNetwork::TcpNetwork(LoopThread& home, TcpOptions options, io::Disk* disk, Trace trace)
    : home_(home), options_(std::move(options)), disk_(disk), trace_(std::move(trace)) {}

Result<std::unique_ptr<io::Listener>> TcpNetwork::start_listener(
    const io::Endpoint& endpoint, FirstBytes first, std::function<io::Loop&(ByteView)> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  TRY_ASSIGN(SocketDescriptor socket, open_listening_socket(endpoint, options_.backlog));
  const io::Endpoint bound = local_address(socket.get()).endpoint();
  auto acceptor = std::make_shared<Acceptor>(home_, std::move(socket), options_, disk_, trace_, first,
                                             std::move(choose), std::move(accepted));
  home_.post([acceptor] { acceptor->start(); });
  return std::unique_ptr<io::Listener>(std::make_unique<TcpListener>(std::move(acceptor), bound));
}

Result<std::unique_ptr<io::Listener>> TcpNetwork::listen(
    const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  return start_listener(
      endpoint, {}, [choose = std::move(choose)](ByteView) -> io::Loop& { return choose(); },
      std::move(accepted));
}

Result<std::unique_ptr<io::Listener>> TcpNetwork::listen_by_first_bytes(
    const io::Endpoint& endpoint, size_t count, int64_t timeout_ms, std::function<io::Loop&(ByteView)> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  ASSERT(count > 0 && count <= kFirstBytesMax);
  return start_listener(endpoint, {count, timeout_ms}, std::move(choose), std::move(accepted));
}

void TcpNetwork::connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
                         std::function<void(Result<std::unique_ptr<io::Stream>>)> done) {
  auto* thread = dynamic_cast<LoopThread*>(&loop);
  ASSERT(thread != nullptr);
  const auto connector =
      std::make_shared<Connector>(*thread, options_, disk_, endpoint, timeout_ms, std::move(done));
  thread->post([connector] { connector->start(); });
}

}  // namespace millrace::net
