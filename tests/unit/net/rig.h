// What the tests of this room share: a loop with a network, a server of length-prefixed frames, and a plain
// blocking client that can misbehave.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "base/endian.h"
#include "net/asio_loop.h"
#include "net/tcp_network.h"
#include "support/catch.h"

namespace millrace::net {

inline void on_loop(LoopThread& loop, const std::function<void()>& f) {
  std::promise<void> done;
  loop.post([&] {
    f();
    done.set_value();
  });
  done.get_future().get();
}

// A blocking socket of the test's thread.
class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(); }

  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  bool write(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  /// Up to n bytes; fewer only at the end of the stream or after an error.
  Bytes read(size_t n) {
    Bytes out(n);
    size_t have = 0;
    while (have < n) {
      const ssize_t got = ::recv(fd_, out.data() + have, n - have, 0);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    out.resize(have);
    return out;
  }
  void end_writing() { ::shutdown(fd_, SHUT_WR); }
  void reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
  bool connected_ = false;
};

inline Bytes frame(ByteView body) {
  Bytes out(4 + body.size());
  store_be(out.data(), static_cast<uint32_t>(body.size()));
  std::copy(body.begin(), body.end(), out.begin() + 4);
  return out;
}

/// One server connection. What it does with a frame is the test's choice.
class FrameConnection final : public io::StreamHandler {
 public:
  using OnFrame = std::function<void(FrameConnection&, MutableByteView)>;

  FrameConnection(std::unique_ptr<io::Stream> s, OnFrame on_frame)
      : stream(std::move(s)), on_frame_(std::move(on_frame)) {
    stream->set_handler(this);
  }
  ~FrameConnection() override {
    if (stream) stream->set_handler(nullptr);
  }

  size_t on_bytes(MutableByteView bytes) override {
    ++calls;
    size_t used = 0;
    wanted_ = 0;
    while (!stop && bytes.size() - used >= 4) {
      const size_t size = load_be<uint32_t>(bytes.data() + used);
      if (bytes.size() - used - 4 < size) {
        wanted_ = 4 + size;
        break;
      }
      ++frames;
      on_frame_(*this, bytes.subspan(used + 4, size));
      used += 4 + size;
    }
    return used;
  }
  void on_closed(const Status& why) override {
    ++closed;
    close_code = why.code();
    if (on_end) on_end();
  }
  void on_drained() override { ++drained; }
  size_t wanted() const override { return wanted_; }

  std::unique_ptr<io::Stream> stream;
  std::function<void()> on_end;
  bool stop = false;  // leaves further frames unconsumed
  size_t calls = 0;
  size_t frames = 0;
  int drained = 0;
  int closed = 0;
  ErrorCode close_code = ErrorCode::unknown_server_error;

 private:
  OnFrame on_frame_;
  size_t wanted_ = 0;
};

/// A loop, a network and a listener on a port of its own, whose connections the tests look at on the loop.
class Rig {
 public:
  explicit Rig(FrameConnection::OnFrame on_frame, io::Disk* disk = nullptr, TcpOptions options = {})
      : loop({.name = "rig"}), network(loop, std::move(options), disk) {
    loop.start();
    auto result = network.listen(
        {.host = "127.0.0.1", .port = 0}, [this]() -> io::Loop& { return loop; },
        [this, on_frame](io::Loop&, std::unique_ptr<io::Stream> stream) {
          connections.push_back(std::make_unique<FrameConnection>(std::move(stream), on_frame));
          FrameConnection* c = connections.back().get();
          c->on_end = [this, c] {
            ended.push_back(c->close_code);
            ends_.release();
          };
        });
    REQUIRE(result.ok());
    listener = std::move(result).value();
  }
  ~Rig() {
    listener.reset();
    loop.stop();
    connections.clear();
  }

  uint16_t port() const { return listener->bound().port; }
  /// Waits for the next connection to end; its code.
  ErrorCode wait_for_end() {
    ends_.acquire();
    ErrorCode code{};
    on_loop(loop, [&] { code = ended[ends_seen_++]; });
    return code;
  }

  LoopThread loop;
  TcpNetwork network;
  std::unique_ptr<io::Listener> listener;
  std::vector<std::unique_ptr<FrameConnection>> connections;  // on the loop
  std::vector<ErrorCode> ended;                               // on the loop

 private:
  std::counting_semaphore<> ends_{0};
  size_t ends_seen_ = 0;
};

inline void echo(FrameConnection& c, MutableByteView body) {
  c.stream->send(Payload(frame(body)));
}

/// Bytes that differ at every position and by seed.
inline Bytes pattern(size_t n, uint32_t seed = 1) {
  Bytes out(n);
  uint32_t x = seed * 2654435761U + 1;
  for (uint8_t& b : out) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    b = static_cast<uint8_t>(x);
  }
  return out;
}

}  // namespace millrace::net
