#include "net/tcp_network.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <optional>
#include <thread>

#include "rig.h"

namespace millrace::net {
namespace {

/// Connects and waits; the code, `none` if it worked.
ErrorCode connect_code(Rig& rig, const io::Endpoint& endpoint, int64_t timeout_ms) {
  std::promise<ErrorCode> code;
  rig.network.connect(rig.loop, endpoint, timeout_ms, [&](Result<std::unique_ptr<io::Stream>> r) {
    code.set_value(rig.loop.is_here() ? r.code() : ErrorCode::internal);
  });
  return code.get_future().get();
}

void ignore_frame(FrameConnection&, MutableByteView) {}

}  // namespace

TEST_CASE("both ends are ours", "[network]") {
  Rig rig(echo);
  std::promise<Bytes> answer;
  std::unique_ptr<FrameConnection> client;
  const Bytes body = pattern(500'000);
  rig.network.connect(rig.loop, {.host = "127.0.0.1", .port = rig.port()}, 5000,
                      [&](Result<std::unique_ptr<io::Stream>> r) {
                        if (!r.ok()) {
                          answer.set_value({});
                          return;
                        }
                        client = std::make_unique<FrameConnection>(
                            std::move(r).value(),
                            [&](FrameConnection&, MutableByteView b) { answer.set_value(to_bytes(b)); });
                        client->stream->send(Payload(frame(body)));
                      });
  REQUIRE(answer.get_future().get() == body);
  on_loop(rig.loop, [&] {
    CHECK(client->stream->peer().host == "127.0.0.1");
    CHECK(client->stream->peer().port == rig.port());
    CHECK(client->stream->local().port == rig.connections[0]->stream->peer().port);
    CHECK(rig.connections[0]->stream->local().port == rig.port());
    client.reset();
  });
  CHECK(rig.wait_for_end() == ErrorCode::none);
}

TEST_CASE("connecting to nobody", "[network]") {
  Rig rig(ignore_frame);
  uint16_t free_port = 0;
  {
    const auto socket = open_listening_socket({.host = "127.0.0.1", .port = 0}, 1);
    REQUIRE(socket.ok());
    free_port = local_address(socket.value().get()).endpoint().port;
  }
  CHECK(connect_code(rig, {.host = "127.0.0.1", .port = free_port}, 5000) == ErrorCode::closed);
  // All addresses of a name are tried.
  CHECK(connect_code(rig, {.host = "localhost", .port = free_port}, 5000) == ErrorCode::closed);
  CHECK(connect_code(rig, {.host = "localhost", .port = rig.port()}, 5000) == ErrorCode::none);
  const ErrorCode unknown = connect_code(rig, {.host = "no-such-host.invalid", .port = 1}, 3000);
  CHECK((unknown == ErrorCode::not_found || unknown == ErrorCode::timed_out));
}

TEST_CASE("connecting to somebody who does not answer", "[network]") {
  Rig rig(ignore_frame);
  // A queue of length 0 that is full: the kernel drops further attempts.
  const auto socket = open_listening_socket({.host = "127.0.0.1", .port = 0}, 0);
  REQUIRE(socket.ok());
  const io::Endpoint endpoint = local_address(socket.value().get()).endpoint();
  Address address;
  REQUIRE(Address::parse(endpoint.host, endpoint.port, address));
  std::vector<SocketDescriptor> fill;
  for (int i = 0; i < 4; ++i) {
    fill.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)::connect(fill.back().get(), address.get(), address.length);
  }
  CHECK(connect_code(rig, endpoint, 60) == ErrorCode::timed_out);
}

TEST_CASE("a listener says what is wrong with its address", "[network]") {
  Rig rig(ignore_frame);
  const auto listen = [&](const std::string& host, uint16_t port) {
    return rig.network
        .listen(
            {.host = host, .port = port}, [&]() -> io::Loop& { return rig.loop; }, [](auto&, auto) {})
        .code();
  };
  CHECK(listen("127.0.0.1", rig.port()) == ErrorCode::already_exists);
  CHECK(listen("192.0.2.1", 0) == ErrorCode::invalid_argument);
  CHECK(listen("no-such-host.invalid", 0) == ErrorCode::invalid_argument);
  CHECK(listen("localhost", 0) == ErrorCode::none);
  CHECK(listen("", 0) == ErrorCode::none);
}

TEST_CASE("one listener for both families", "[network]") {
  Rig rig(ignore_frame);
  std::promise<io::Endpoint> peer;
  auto listener = rig.network.listen(
      {.host = "", .port = 0}, [&]() -> io::Loop& { return rig.loop; },
      [&](io::Loop&, std::unique_ptr<io::Stream> s) { peer.set_value(s->peer()); });
  REQUIRE(listener.ok());
  const uint16_t port = listener.value()->bound().port;
  CHECK(port != 0);
  const RawClient v4(port);
  CHECK(v4.connected());
  CHECK(peer.get_future().get().host == "127.0.0.1");
  if (listener.value()->bound().host == "::") {
    peer = std::promise<io::Endpoint>();
    CHECK(connect_code(rig, {.host = "::1", .port = port}, 5000) == ErrorCode::none);
    CHECK(peer.get_future().get().host == "::1");
  }
}

TEST_CASE("a destroyed listener has freed its port", "[network]") {
  Rig rig(ignore_frame);
  const uint16_t port = rig.port();
  CHECK(RawClient(port).connected());
  for (int i = 0; i < 50; ++i) {
    rig.listener.reset();
    CHECK_FALSE(RawClient(port).connected());
    auto again = rig.network.listen(
        {.host = "127.0.0.1", .port = port}, [&]() -> io::Loop& { return rig.loop; }, [](auto&, auto) {});
    REQUIRE(again.ok());
    rig.listener = std::move(again).value();
    CHECK(RawClient(port).connected());
  }
}

TEST_CASE("streams go to the loops that were chosen", "[network]") {
  LoopGroup loops(2, {.name = "data"});
  LoopThread home({.name = "home"});
  TcpNetwork network(home, {});
  std::array<std::atomic<int>, 2> streams{};
  std::atomic<int> wrong{0};
  std::promise<void> all;
  std::vector<std::unique_ptr<FrameConnection>> connections[2];
  auto listener = network.listen(
      {.host = "127.0.0.1", .port = 0}, [&]() -> io::Loop& { return loops.next(); },
      [&](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
        if (!loop.is_here()) ++wrong;
        const size_t i = &loop == &loops.at(0) ? 0 : 1;
        connections[i].push_back(std::make_unique<FrameConnection>(std::move(stream), echo));
        ++streams[i];
        if (streams[0] + streams[1] == 10) all.set_value();
      });
  REQUIRE(listener.ok());
  home.start();
  loops.start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(std::make_unique<RawClient>(listener.value()->bound().port));
  all.get_future().get();
  CHECK(streams[0] == 5);
  CHECK(streams[1] == 5);
  CHECK(wrong == 0);
  for (const auto& client : clients) {
    const Bytes f = frame(pattern(100));
    REQUIRE(client->write(f));
    CHECK(client->read(f.size()) == f);
  }
  // Stopped with everything open: silent, and destroyed from here.
  listener.value().reset();
  loops.stop();
  home.stop();
  for (auto& c : connections) {
    for (const auto& one : c) CHECK(one->closed == 0);
    c.clear();
  }
}

TEST_CASE("out of descriptors, connections wait", "[network]") {
  Rig rig(echo);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const RawClient first(rig.port());
  REQUIRE(first.connected());
  while (true) {
    size_t n = 0;
    on_loop(rig.loop, [&] { n = rig.connections.size(); });
    if (n == 1) break;
  }
  // The client gets the last descriptor.
  RawClient* waiting = nullptr;
  {
    const int lowest = ::fcntl(0, F_DUPFD, 0);
    REQUIRE(lowest >= 0);
    ::close(lowest);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(lowest) + 1;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    waiting = new RawClient(rig.port());
  }
  const std::unique_ptr<RawClient> client(waiting);
  const bool connected = client->connected();
  for (int i = 0; i < 50; ++i) on_loop(rig.loop, [] {});
  size_t connections = 0;
  on_loop(rig.loop, [&] { connections = rig.connections.size(); });
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(connected);
  CHECK(connections == 1);
  const Bytes f = frame(pattern(100));
  REQUIRE(client->write(f));
  CHECK(client->read(f.size()) == f);
}

}  // namespace millrace::net
