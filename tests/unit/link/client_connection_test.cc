#include "link/client_connection.h"

#include <optional>

#include "unit/link/server_rig.h"
#include "wire/messages/heartbeat.h"

namespace millrace::link {
namespace {

using Answer = std::optional<Result<wire::HeartbeatResponse>>;

struct ClientRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  std::shared_ptr<test::ScriptedPeer> peer = std::make_shared<test::ScriptedPeer>(loop);
  std::shared_ptr<ClientConnection> client = ClientConnection::create(loop, peer->stream(), "me", 1000);
  int lost = 0;

  ClientRig() {
    client->on_lost([this] { ++lost; });
  }
  void ask(Answer& answer, int64_t timeout_ms = 1'000, int16_t version = 1) {
    wire::HeartbeatRequest request;
    request.group_id = "g";
    loop.in_tick([&] {
      client->send<wire::HeartbeatRequest>(version, request, timeout_ms,
                                           [&answer](Result<wire::HeartbeatResponse> r) {
                                             REQUIRE_FALSE(answer.has_value());
                                             answer = std::move(r);
                                           });
    });
    loop.settle();
  }
  void feed(const Bytes& bytes) {
    loop.in_tick([&] { peer->feed(bytes); });
    loop.settle();
  }
};

Bytes heartbeat_response(int32_t correlation_id, int16_t code) {
  Bytes content;
  rig::put_i32(content, correlation_id);
  rig::put_i32(content, 0);  // throttle
  rig::put_i16(content, code);
  return rig::framed(content);
}

ErrorCode code_of(const Answer& a) {
  REQUIRE(a.has_value());
  return a->code();
}

TEST_CASE("responses find their requests, however split", "[link]") {
  const Bytes both = rig::joined({heartbeat_response(1, 27), heartbeat_response(2, 0)});
  for (size_t cut = 0; cut <= both.size(); ++cut) {
    ClientRig r;
    Answer first;
    Answer second;
    r.ask(first);
    r.ask(second);
    CHECK(r.client->outstanding() == 2);
    r.feed(Bytes(both.begin(), both.begin() + static_cast<std::ptrdiff_t>(cut)));
    r.feed(Bytes(both.begin() + static_cast<std::ptrdiff_t>(cut), both.end()));
    REQUIRE(code_of(first) == ErrorCode::none);
    REQUIRE(code_of(second) == ErrorCode::none);
    CHECK((*first)->error_code == 27);
    CHECK((*second)->error_code == 0);
    CHECK(r.client->outstanding() == 0);
    CHECK(r.loop.timers() == 0);
    CHECK(r.client->open());
  }
}

TEST_CASE("a request carries its header and the next correlation id", "[link]") {
  ClientRig r;
  Answer a;
  r.ask(a);
  const Bytes first = r.peer->sent;
  r.loop.in_tick([&] { r.client->send_only(1, wire::HeartbeatRequest{}); });
  Answer b;
  r.ask(b);
  REQUIRE(first.size() > 14);
  CHECK(load_be<int16_t>(first.data() + 4) == 12);
  CHECK(load_be<int16_t>(first.data() + 6) == 1);
  CHECK(load_be<int32_t>(first.data() + 8) == 1);
  // The one that expects nothing took an id but no place in the queue.
  CHECK(r.client->outstanding() == 2);
  r.feed(rig::joined({heartbeat_response(1, 0), heartbeat_response(3, 0)}));
  CHECK(code_of(a) == ErrorCode::none);
  CHECK(code_of(b) == ErrorCode::none);
}

TEST_CASE("a response that nobody asked for breaks the connection", "[link]") {
  ClientRig r;
  Answer a;
  Answer b;
  r.ask(a);
  r.ask(b);
  SECTION("the later one first") {
    r.feed(heartbeat_response(2, 0));
  }
  SECTION("another number") {
    r.feed(heartbeat_response(77, 0));
  }
  CHECK(code_of(a) == ErrorCode::corrupt);
  CHECK(code_of(b) == ErrorCode::corrupt);
  CHECK(r.peer->closed());
  CHECK_FALSE(r.client->open());
  CHECK(r.lost == 1);
  CHECK(r.loop.timers() == 0);
}

TEST_CASE("bytes without any request break the connection", "[link]") {
  ClientRig r;
  r.feed(heartbeat_response(1, 0));
  CHECK_FALSE(r.client->open());
  CHECK(r.lost == 1);
}

TEST_CASE("sizes of responses are not believed", "[link]") {
  ClientRig r;
  Answer a;
  r.ask(a);
  Bytes size;
  SECTION("negative") {
    rig::put_i32(size, -1);
  }
  SECTION("no room for a correlation id") {
    rig::put_i32(size, 3);
  }
  SECTION("above the limit") {
    rig::put_i32(size, 1001);
  }
  r.feed(size);
  CHECK(code_of(a) == ErrorCode::corrupt);
  CHECK_FALSE(r.client->open());
}

TEST_CASE("a response that does not parse fails its request alone", "[link]") {
  ClientRig r;
  Answer a;
  Answer b;
  r.ask(a);
  r.ask(b);
  r.feed(rig::joined({rig::response(1, "x"), heartbeat_response(2, 0)}));
  CHECK(code_of(a) == ErrorCode::corrupt);
  CHECK(code_of(b) == ErrorCode::none);
}

TEST_CASE("a request that times out takes all others with it", "[link]") {
  ClientRig r;
  Answer slow;
  Answer quick;
  r.ask(slow, 5'000);
  r.ask(quick, 1'000);
  r.loop.advance(999);
  CHECK_FALSE(quick.has_value());
  r.loop.advance(1);
  CHECK(code_of(quick) == ErrorCode::timed_out);
  CHECK(code_of(slow) == ErrorCode::timed_out);
  CHECK(r.peer->closed());
  CHECK(r.lost == 1);
  CHECK(r.loop.timers() == 0);
}

TEST_CASE("a lost connection fails what is outstanding, once", "[link]") {
  ClientRig r;
  Answer a;
  r.ask(a);
  ErrorCode expected = ErrorCode::closed;
  SECTION("the broker closed it") {
    r.loop.in_tick([&] { r.peer->hang_up(); });
  }
  SECTION("it broke") {
    r.loop.in_tick([&] { r.peer->hang_up(Error(ErrorCode::io_error, "reset")); });
    expected = ErrorCode::io_error;
  }
  SECTION("we closed it") {
    r.loop.in_tick([&] { r.client->close(); });
    r.client->close();
  }
  r.loop.settle();
  CHECK(code_of(a) == expected);
  CHECK(r.lost == 1);
  Answer later;
  r.ask(later);
  CHECK(code_of(later) == ErrorCode::closed);
  CHECK(r.lost == 1);
}

TEST_CASE("a response's callback may let go of the connection", "[link]") {
  ClientRig r;
  Answer second;
  int told = 0;
  r.loop.in_tick([&] {
    r.client->send<wire::HeartbeatRequest>(1, {}, 1'000, [&](Result<wire::HeartbeatResponse> answer) {
      CHECK(answer.ok());
      ++told;
      r.client->close();
      r.client.reset();
    });
  });
  r.ask(second);
  r.feed(rig::joined({heartbeat_response(1, 0), heartbeat_response(2, 0)}));
  CHECK(told == 1);
  CHECK(code_of(second) == ErrorCode::closed);
  CHECK(r.peer->gone());
}

TEST_CASE("a connection that is dropped takes its timers along", "[link]") {
  ClientRig r;
  Answer a;
  r.ask(a);
  CHECK(r.loop.timers() == 1);
  r.client.reset();
  CHECK(r.loop.timers() == 0);
  CHECK(r.peer->gone());
}

}  // namespace
}  // namespace millrace::link
