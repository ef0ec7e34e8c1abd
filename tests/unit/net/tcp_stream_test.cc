#include <fcntl.h>
#include <poll.h>

#include <atomic>
#include <thread>

#include "rig.h"

namespace millrace::net {
namespace {

// Gives up if the other side does not end the stream; the tests' watchdog.
Bytes read_to_end(RawClient& client, size_t limit = size_t{1} << 30) {
  return client.read(limit == 0 ? 1 : std::min<size_t>(limit, size_t{64} << 20));
}

}  // namespace

TEST_CASE("frames survive any fragmentation", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  REQUIRE(client.connected());
  const Bytes body = pattern(300);
  const Bytes whole = frame(body);
  for (const size_t step : {1U, 2U, 3U, 5U, 7U, 100U, 303U, 304U}) {
    for (size_t at = 0; at < whole.size(); at += step)
      REQUIRE(client.write(ByteView(whole).subspan(at, std::min(step, whole.size() - at))));
    CHECK(client.read(whole.size()) == whole);
  }
  // Three frames and a half, then the other half.
  Bytes several;
  for (int i = 0; i < 4; ++i) several.insert(several.end(), whole.begin(), whole.end());
  REQUIRE(client.write(ByteView(several).first(several.size() - 150)));
  CHECK(client.read(3 * whole.size()) == to_bytes(ByteView(several).first(3 * whole.size())));
  REQUIRE(client.write(ByteView(several).last(150)));
  CHECK(client.read(whole.size()) == whole);
}

TEST_CASE("ten thousand small messages in flight", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  Bytes all;
  for (uint32_t i = 0; i < 10'000; ++i) {
    const Bytes one = frame(pattern(20 + i % 50, i + 1));
    all.insert(all.end(), one.begin(), one.end());
  }
  std::thread writer([&] { client.write(all); });
  const Bytes answer = client.read(all.size());
  writer.join();
  CHECK(answer == all);
  size_t calls = 0;
  on_loop(rig.loop, [&] {
    CHECK(rig.connections[0]->frames == 10'000);
    CHECK(rig.connections[0]->stream->unsent_bytes() == 0);
    CHECK(rig.connections[0]->drained >= 1);
    calls = rig.connections[0]->calls;
  });
  CHECK(calls < 5'000);  // many frames by each read
}

TEST_CASE("large frames grow the buffer, small ones follow", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  for (const size_t size : {size_t{10}, size_t{1} << 20, size_t{9} << 20, size_t{100}, size_t{3} << 20}) {
    const Bytes whole = frame(pattern(size));
    std::thread writer([&] { client.write(whole); });
    const Bytes answer = client.read(whole.size());
    writer.join();
    CHECK(answer == whole);
  }
  // Whatever was needed has gone back.
  on_loop(rig.loop, [&] { CHECK(rig.loop.buffers().idle_bytes() <= size_t{16} << 20); });
}

TEST_CASE("a claimed size costs nothing until its bytes come", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  // 1 GiB announced, little sent: the handler's own limit is not ours, but memory is not touched.
  const Bytes head{0x3f, 0xff, 0xff, 0xff, 1, 2, 3};
  REQUIRE(client.write(head));
  RawClient other(rig.port());
  const Bytes whole = frame(pattern(10));
  REQUIRE(other.write(whole));
  CHECK(other.read(whole.size()) == whole);
  client.close();
  CHECK(rig.wait_for_end() == ErrorCode::none);
}

TEST_CASE("a client that ends its writing still gets its answers", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  const Bytes whole = frame(pattern(2'000'000));
  std::thread writer([&] {
    client.write(whole);
    client.end_writing();
  });
  CHECK(read_to_end(client) == whole);
  writer.join();
  CHECK(rig.wait_for_end() == ErrorCode::none);
  on_loop(rig.loop, [&] { CHECK(rig.connections[0]->closed == 1); });
}

TEST_CASE("a reset ends the stream once, with an error", "[tcp]") {
  Rig rig([](FrameConnection&, MutableByteView) {});
  RawClient client(rig.port());
  const Bytes part{0, 0, 1, 0, 7};
  REQUIRE(client.write(part));
  while (true) {  // until the server has read it
    size_t calls = 0;
    on_loop(rig.loop, [&] { calls = rig.connections.empty() ? 0 : rig.connections[0]->calls; });
    if (calls > 0) break;
  }
  client.reset();
  CHECK(rig.wait_for_end() == ErrorCode::closed);
  on_loop(rig.loop, [&] {
    rig.connections[0]->stream->send(Payload(pattern(10)));  // into the void
    rig.connections[0]->stream->close(true);
    rig.connections[0]->stream->close(false);
  });
  on_loop(rig.loop, [&] {
    CHECK(rig.connections[0]->closed == 1);
    CHECK(rig.connections[0]->stream->unsent_bytes() == 0);
  });
}

TEST_CASE("closing with flush sends everything first", "[tcp]") {
  const Bytes content = pattern(8'000'000);
  std::atomic<bool> told_inside{true};
  Rig rig([&](FrameConnection& c, MutableByteView) {
    c.stream->send(Payload(content));
    c.stream->close(true);
    told_inside = c.closed > 0;
    c.stream->send(Payload(pattern(1000)));  // too late
  });
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(3))));
  CHECK(read_to_end(client) == content);
  CHECK(rig.wait_for_end() == ErrorCode::none);
  CHECK_FALSE(told_inside);
}

TEST_CASE("closing with flush gives up on a peer that does not read", "[tcp]") {
  TcpOptions options;
  options.flush_ms_max = 20;
  Rig rig(
      [&](FrameConnection& c, MutableByteView) {
        c.stream->send(Payload(Bytes(size_t{32} << 20, 1)));
        c.stream->close(true);
      },
      nullptr, options);
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(3))));
  CHECK(rig.wait_for_end() == ErrorCode::timed_out);
}

TEST_CASE("closing at once drops what is queued and tells the handler later", "[tcp]") {
  int closed_inside = -1;
  Rig rig([&](FrameConnection& c, MutableByteView) {
    c.stream->send(Payload(pattern(100)));
    c.stream->close(false);
    c.stream->close(false);
    closed_inside = c.closed;
  });
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(3))));
  CHECK(rig.wait_for_end() == ErrorCode::none);
  CHECK(client.read(1).empty());
  on_loop(rig.loop, [&] {
    CHECK(closed_inside == 0);
    CHECK(rig.connections[0]->closed == 1);
  });
}

TEST_CASE("a stream may be destroyed inside its own callbacks", "[tcp]") {
  Rig* all = nullptr;
  Rig rig([&](FrameConnection& c, MutableByteView body) {
    if (body[0] == 'd') {
      c.stop = true;
      c.stream.reset();  // from on_bytes
    } else {
      echo(c, body);
    }
  });
  all = &rig;
  for (int i = 0; i < 3; ++i) {
    RawClient client(rig.port());
    REQUIRE(client.write(frame(as_bytes("dxxx"))));
    REQUIRE((client.write(frame(as_bytes("more"))) || true));
    CHECK(client.read(1).empty());
  }
  on_loop(rig.loop, [&] {
    for (const auto& c : all->connections) CHECK(c->closed == 0);
    all->connections.clear();
  });
  // From on_closed: the connection object itself goes.
  RawClient client(rig.port());
  REQUIRE(client.write(frame(as_bytes("echo"))));
  CHECK(client.read(8).size() == 8);
  std::promise<void> gone;
  on_loop(rig.loop, [&] {
    rig.connections[0]->on_end = [&] {
      rig.connections[0]->stream.reset();
      gone.set_value();
    };
  });
  client.close();
  gone.get_future().get();
}

TEST_CASE("a destroyed stream finishes its flush", "[tcp]") {
  const Bytes content = pattern(6'000'000);
  Rig rig([&](FrameConnection& c, MutableByteView) {
    c.stream->send(Payload(content));
    c.stream->close(true);
    c.stop = true;
    c.stream.reset();
  });
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(3))));
  CHECK(read_to_end(client) == content);
}

TEST_CASE("a paused stream pushes back and goes on where it was", "[tcp]") {
  Bytes received;
  Rig rig([&](FrameConnection& c, MutableByteView body) {
    received.insert(received.end(), body.begin(), body.end());
    if (body.size() == 1) {
      c.stop = true;
      c.stream->pause_reading();
    }
  });
  RawClient client(rig.port());
  // One read brings the frame that pauses and two more, which stay.
  Bytes three = frame(as_bytes("1"));
  for (const char* text : {"22", "333"}) {
    const Bytes f = frame(as_bytes(text));
    three.insert(three.end(), f.begin(), f.end());
  }
  REQUIRE(client.write(three));
  while (true) {
    bool seen = false;
    on_loop(rig.loop, [&] { seen = !received.empty(); });
    if (seen) break;
  }
  // The kernel's buffers fill up, nothing is read any more.
  const Bytes more = frame(pattern(100'000));
  ::fcntl(client.fd(), F_SETFL, O_NONBLOCK);
  size_t accepted = 0;
  for (int idle = 0; idle < 3;) {
    const size_t at = accepted % more.size();
    const ssize_t n = ::send(client.fd(), more.data() + at, more.size() - at, MSG_NOSIGNAL);
    if (n > 0) {
      accepted += static_cast<size_t>(n);
      idle = 0;
      continue;
    }
    pollfd wait{client.fd(), POLLOUT, 0};
    if (::poll(&wait, 1, 20) == 0) ++idle;
  }
  REQUIRE(accepted > more.size());
  size_t calls = 0;
  on_loop(rig.loop, [&] {
    calls = rig.connections[0]->calls;
    CHECK(as_text(received) == "1");
  });
  on_loop(rig.loop, [&] {
    CHECK(rig.connections[0]->calls == calls);
    rig.connections[0]->stop = false;
    rig.connections[0]->stream->resume_reading();
    CHECK(rig.connections[0]->calls == calls);  // not from inside
  });
  const int flags = ::fcntl(client.fd(), F_GETFL);
  ::fcntl(client.fd(), F_SETFL, flags & ~O_NONBLOCK);
  const size_t at = accepted % more.size();
  REQUIRE(client.write(ByteView(more).subspan(at)));
  client.close();
  CHECK(rig.wait_for_end() == ErrorCode::none);
  on_loop(rig.loop, [&] {
    CHECK(as_text(ByteView(received).first(6)) == "122333");
    CHECK(received.size() == 6 + (accepted + more.size() - at) / more.size() * 100'000);
  });
}

TEST_CASE("kept bytes are offered again though no new ones come", "[tcp]") {
  Rig* self = nullptr;
  Rig rig([&](FrameConnection& c, MutableByteView body) {
    // One frame at a time.
    c.stop = true;
    c.stream->pause_reading();
    echo(c, body);
    self->loop.call_after(0, [&c] {
      c.stop = false;
      c.stream->resume_reading();
    });
  });
  self = &rig;
  RawClient client(rig.port());
  Bytes all;
  for (uint32_t i = 0; i < 50; ++i) {
    const Bytes one = frame(pattern(1000, i + 1));
    all.insert(all.end(), one.begin(), one.end());
  }
  REQUIRE(client.write(all));
  CHECK(client.read(all.size()) == all);
  // Paused and resumed within the same call.
  on_loop(rig.loop, [&] {
    rig.connections[0]->stream->pause_reading();
    rig.connections[0]->stream->resume_reading();
    rig.connections[0]->stream->resume_reading();
  });
  REQUIRE(client.write(frame(pattern(10))));
  CHECK(client.read(14) == frame(pattern(10)));
}

TEST_CASE("a detached handler hears nothing, the next one everything", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(10))));
  REQUIRE(client.read(14).size() == 14);
  std::unique_ptr<FrameConnection> second;
  on_loop(rig.loop, [&] { rig.connections[0]->stream->set_handler(nullptr); });
  REQUIRE(client.write(frame(pattern(20))));
  for (int i = 0; i < 20; ++i) on_loop(rig.loop, [&] { CHECK(rig.connections[0]->frames == 1); });
  on_loop(rig.loop,
          [&] { second = std::make_unique<FrameConnection>(std::move(rig.connections[0]->stream), echo); });
  CHECK(client.read(24) == frame(pattern(20)));
  on_loop(rig.loop, [&] {
    CHECK(rig.connections[0]->frames == 1);
    CHECK(second->frames == 1);
    second.reset();
  });
  CHECK(client.read(1).empty());
  on_loop(rig.loop, [&] { CHECK(rig.connections[0]->closed == 0); });
}

TEST_CASE("a handler that comes after the end still hears of it", "[tcp]") {
  Rig rig(echo);
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(10))));
  REQUIRE(client.read(14).size() == 14);
  std::promise<ErrorCode> told;
  std::unique_ptr<FrameConnection> second;
  on_loop(rig.loop, [&] {
    rig.connections[0]->stream->set_handler(nullptr);
    rig.connections[0]->stream->close(false);
    second = std::make_unique<FrameConnection>(std::move(rig.connections[0]->stream), echo);
    second->on_end = [&] { told.set_value(second->close_code); };
    CHECK(second->closed == 0);
  });
  CHECK(told.get_future().get() == ErrorCode::none);
  on_loop(rig.loop, [&] { second.reset(); });
}

TEST_CASE("what is sent in one tick is queued until its end", "[tcp]") {
  std::atomic<size_t> unsent{0};
  Rig rig([&](FrameConnection& c, MutableByteView body) {
    for (int i = 0; i < 1000; ++i) c.stream->send(Payload(to_bytes(body)));
    unsent = c.stream->unsent_bytes();
    c.stream->send(Payload());
  });
  RawClient client(rig.port());
  const Bytes body = pattern(700);
  REQUIRE(client.write(frame(body)));
  const Bytes got = client.read(700'000);
  REQUIRE(got.size() == 700'000);
  CHECK(unsent == 700'000);
  for (size_t i = 0; i < 1000; ++i)
    REQUIRE(std::equal(body.begin(), body.end(), got.begin() + static_cast<std::ptrdiff_t>(i * 700)));
  on_loop(rig.loop, [&] { CHECK(rig.connections[0]->stream->unsent_bytes() == 0); });
}

}  // namespace millrace::net
