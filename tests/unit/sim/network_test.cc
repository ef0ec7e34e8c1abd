#include "sim/network.h"

#include <algorithm>

#include "support/catch.h"

namespace millrace::sim {
namespace {

struct NetworkWorld {
  explicit NetworkWorld(uint64_t seed)
      : network(scheduler, Dice(seed, "network")),
        loop_a(scheduler),
        loop_b(scheduler),
        a(network.add_host("a", loop_a)),
        b(network.add_host("b", loop_b)) {}

  void run(int64_t ms) { scheduler.run_until(scheduler.now_us() + ms * 1000); }

  Scheduler scheduler;
  SimNetwork network;
  NodeLoop loop_a, loop_b;
  SimHost& a;
  SimHost& b;
};

/// Keeps what comes; takes it in frames of ten bytes.
struct FrameReader : io::StreamHandler {
  size_t on_bytes(MutableByteView bytes) override {
    const size_t whole = bytes.size() / 10 * 10;
    got.insert(got.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(whole));
    return whole;
  }
  void on_closed(const Status& status) override {
    ++closed;
    why = status.code();
  }
  void on_drained() override { ++drained; }
  Bytes got;
  int closed = 0;
  int drained = 0;
  ErrorCode why = ErrorCode::none;
};

struct StreamPair {
  explicit StreamPair(NetworkWorld& w) : world(w) {
    auto made = w.b.listen(
        {"b", 9}, [&w]() -> io::Loop& { return w.loop_b; },
        [this](io::Loop&, std::unique_ptr<io::Stream> stream) {
          if (there != nullptr) return;
          there = std::move(stream);
          there->set_handler(&there_reads);
        });
    REQUIRE(made.ok());
    listener = std::move(*made);
    w.a.connect(w.loop_a, {"b", 9}, 1000, [this](Result<std::unique_ptr<io::Stream>> stream) {
      REQUIRE(stream.ok());
      here = std::move(*stream);
      here->set_handler(&here_reads);
    });
    w.run(50);
    REQUIRE(here != nullptr);
    REQUIRE(there != nullptr);
  }
  void send(const Bytes& bytes) {
    world.loop_a.in_tick([&] { here->send(Payload(bytes)); });
  }
  NetworkWorld& world;
  FrameReader here_reads, there_reads;
  std::unique_ptr<io::Listener> listener;
  std::unique_ptr<io::Stream> here, there;
};

Bytes numbered(size_t count) {
  Bytes bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
  return bytes;
}

ErrorCode connect_outcome(NetworkWorld& w, const io::Endpoint& to, int64_t wait_ms) {
  ErrorCode code = ErrorCode::none;
  w.a.connect(w.loop_a, to, 500, [&](Result<std::unique_ptr<io::Stream>> stream) {
    code = stream.ok() ? ErrorCode::none : stream.code();
    if (stream.ok()) code = ErrorCode::already_exists;
  });
  w.run(wait_ms);
  return code;
}

TEST_CASE("what is sent arrives whole and in order, however it is cut on the way") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    NetworkWorld w(seed);
    StreamPair s(w);
    const Bytes all = numbered(700'000);
    s.send(all);
    w.run(500);
    CHECK(s.there_reads.got == all);
    CHECK(s.here_reads.drained > 0);
    w.loop_a.in_tick([&] { s.here->close(true); });
    w.run(50);
    CHECK(s.there_reads.closed == 1);
    CHECK(s.there_reads.why == ErrorCode::none);
    CHECK(s.here_reads.closed == 1);
    CHECK(w.network.counters.windows_full > 0);
  }
}

TEST_CASE("a reader that does not read stops the sender") {
  NetworkWorld w(1);
  StreamPair s(w);
  w.loop_b.in_tick([&] { s.there->pause_reading(); });
  const Bytes all = numbered(1'000'000);
  s.send(all);
  w.run(1000);
  CHECK(s.there_reads.got.empty());
  CHECK(s.here->unsent_bytes() >= 700'000);
  w.loop_b.in_tick([&] { s.there->resume_reading(); });
  w.run(1000);
  CHECK(s.there_reads.got == all);
}

TEST_CASE("a blocked link delays, a half partition hinders connecting") {
  NetworkWorld w(2);
  StreamPair s(w);
  w.network.block(w.a, w.b);
  s.send(numbered(1000));
  w.run(5000);
  CHECK(s.there_reads.got.empty());
  CHECK(s.there_reads.closed == 0);
  CHECK(connect_outcome(w, {"b", 9}, 1000) == ErrorCode::timed_out);
  w.network.unblock(w.a, w.b);
  s.send(numbered(10));
  w.run(1000);
  CHECK(s.there_reads.got.size() == 1010);
  w.network.block(w.b, w.a);
  CHECK(connect_outcome(w, {"b", 9}, 1000) == ErrorCode::timed_out);
}

TEST_CASE("a dead process refuses and resets, a dead machine is silent until it is back") {
  NetworkWorld w(3);
  StreamPair s(w);
  w.b.kill();
  w.run(50);
  CHECK(s.here_reads.closed == 1);
  CHECK(connect_outcome(w, {"b", 9}, 100) == ErrorCode::closed);
  s.there.reset();
  s.listener.reset();

  NetworkWorld v(4);
  StreamPair t(v);
  v.b.off();
  t.send(numbered(100));
  v.run(10'000);
  CHECK(t.here_reads.closed == 0);
  CHECK(connect_outcome(v, {"b", 9}, 1000) == ErrorCode::timed_out);
  v.b.on();
  t.send(numbered(100));
  v.run(1000);
  CHECK(t.here_reads.closed == 1);
  CHECK(t.here_reads.why == ErrorCode::io_error);
  CHECK(v.network.counters.half_open_found > 0);
  t.there.reset();
}

TEST_CASE("cut connections end for both, at any byte") {
  bool within = false;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    NetworkWorld w(seed);
    StreamPair s(w);
    REQUIRE(w.network.cut_one());
    const Bytes all = numbered(5000);
    s.send(all);
    w.run(100);
    w.loop_b.in_tick([&] { s.there->send(Payload(all)); });
    w.run(100);
    s.send(all);
    w.run(100);
    CHECK(s.here_reads.closed + s.there_reads.closed == 2);
    const size_t got = s.there_reads.got.size();
    within = within || (got > 0 && got < 5000);
    CHECK(std::equal(s.there_reads.got.begin(), s.there_reads.got.end(), all.begin()));
  }
  CHECK(within);
}

TEST_CASE("the loop of a stream may be chosen by its first bytes") {
  NetworkWorld w(5);
  Bytes seen;
  std::unique_ptr<io::Stream> there;
  FrameReader reader;
  auto listener = w.b.listen_by_first_bytes(
      {"b", 9}, 4, 1000,
      [&](ByteView first) -> io::Loop& {
        seen = to_bytes(first);
        return w.loop_b;
      },
      [&](io::Loop&, std::unique_ptr<io::Stream> stream) {
        there = std::move(stream);
        there->set_handler(&reader);
      });
  REQUIRE(listener.ok());
  FrameReader here_reads;
  std::unique_ptr<io::Stream> here, silent;
  FrameReader silent_reads;
  const auto take = [&](std::unique_ptr<io::Stream>& into, FrameReader& handler) {
    return [&](Result<std::unique_ptr<io::Stream>> stream) {
      REQUIRE(stream.ok());
      into = std::move(*stream);
      into->set_handler(&handler);
    };
  };
  w.a.connect(w.loop_a, {"b", 9}, 1000, take(here, here_reads));
  w.a.connect(w.loop_a, {"b", 9}, 1000, take(silent, silent_reads));
  w.run(50);
  w.loop_a.in_tick([&] { here->send(Payload(numbered(3))); });
  w.run(50);
  CHECK(there == nullptr);
  w.loop_a.in_tick([&] { here->send(Payload(Bytes(17, 9))); });
  w.run(50);
  REQUIRE(there != nullptr);
  Bytes expected = numbered(3);
  expected.push_back(9);
  CHECK(seen == expected);
  CHECK(reader.got.size() == 20);
  w.run(2000);
  CHECK(silent_reads.closed == 1);
}

TEST_CASE("the buffers of a paused process fill, and it reads when it goes on") {
  NetworkWorld w(6);
  StreamPair s(w);
  w.loop_b.pause();
  s.send(numbered(1'000'000));
  w.run(1000);
  CHECK(s.there_reads.got.empty());
  CHECK(connect_outcome(w, {"b", 9}, 100) == ErrorCode::already_exists);  // the kernel's doing
  w.loop_b.resume();
  w.run(1000);
  CHECK(s.there_reads.got.size() == 1'000'000);
}

TEST_CASE("the same seed sends the same bytes at the same times") {
  const auto hash_of = [](uint64_t seed) {
    NetworkWorld w(seed);
    StreamPair s(w);
    s.send(numbered(100'000));
    w.run(100);
    return w.scheduler.hash();
  };
  CHECK(hash_of(1) == hash_of(1));
  CHECK(hash_of(1) != hash_of(2));
}

}  // namespace
}  // namespace millrace::sim
