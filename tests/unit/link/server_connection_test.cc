#include "link/server_connection.h"

#include "unit/link/server_rig.h"

namespace millrace::link {
namespace {

using namespace rig;

TEST_CASE("a frame arrives whole however the bytes are split", "[link]") {
  const Bytes stream = joined({request(1, "one"), request(2, ""), request(3, "three")});
  for (size_t first = 0; first <= stream.size(); ++first) {
    Rig r;
    r.service.echo = true;
    const auto peer = r.connect();
    const auto cut = stream.begin() + static_cast<std::ptrdiff_t>(first);
    r.feed(peer, Bytes(stream.begin(), cut));
    r.feed(peer, Bytes(cut, stream.end()));
    REQUIRE(r.service.asked.size() == 3);
    CHECK(r.service.asked[0].body == "one");
    CHECK(r.service.asked[1].body.empty());
    CHECK(r.service.asked[2].body == "three");
    CHECK(r.service.asked[2].client_id == "me");
    CHECK(peer->sent == joined({response(1, "one"), response(2, ""), response(3, "three")}));
    CHECK(peer->kept() == 0);
  }
}

TEST_CASE("bytes that come one by one make the same requests", "[link]") {
  Rig r;
  r.service.echo = true;
  const auto peer = r.connect();
  for (const uint8_t byte : joined({request(7, "slow"), request(8, "slower")})) r.feed(peer, {byte});
  REQUIRE(r.service.asked.size() == 2);
  CHECK(r.service.asked[0].frame_bytes == request(7, "slow").size());
  CHECK(peer->sent == joined({response(7, "slow"), response(8, "slower")}));
}

TEST_CASE("several frames of one read are answered in one send", "[link]") {
  Rig r;
  r.service.echo = true;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b"), request(3, "c")}));
  CHECK(peer->sends == 1);
  CHECK(peer->sent == joined({response(1, "a"), response(2, "b"), response(3, "c")}));
}

TEST_CASE("replies leave in the order of the requests", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b"), request(3, "c")}));
  r.on_loop([&] { r.service.answer(2); });
  CHECK(peer->sent.empty());
  r.on_loop([&] { r.service.answer(0); });
  CHECK(peer->sent == response(1, "a"));
  r.on_loop([&] { r.service.answer(1); });
  CHECK(peer->sent == joined({response(1, "a"), response(2, "b"), response(3, "c")}));
}

TEST_CASE("a request without a reply holds up nobody", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "silent"), request(2, "b")}));
  r.on_loop([&] { r.service.answer(1); });
  CHECK(peer->sent.empty());
  r.on_loop([&] { r.service.asked[0].responder.no_reply(); });
  CHECK(peer->sent == response(2, "b"));
  CHECK_FALSE(peer->closed());
}

TEST_CASE("closing a connection sends what earlier requests are owed and nothing later", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "bad"), request(3, "c")}));
  r.on_loop([&] {
    r.service.answer(2);
    r.service.asked[1].responder.close_connection();
  });
  CHECK_FALSE(peer->closed());  // the first is still owed
  r.on_loop([&] { r.service.answer(0); });
  CHECK(peer->sent == response(1, "a"));
  CHECK(peer->closed());
  CHECK(r.service.closed.size() == 1);
  CHECK(r.set().size() == 0);
}

TEST_CASE("a responder dropped without an answer closes the connection", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b")}));
  r.on_loop([&] { r.service.answer(0); });
  r.on_loop([&] { r.service.asked[1].responder = Responder(); });
  CHECK(peer->sent == response(1, "a"));
  CHECK(peer->closed());
  CHECK(r.set().size() == 0);
}

TEST_CASE("reading stops at the in-flight limit and goes on with the bytes kept", "[link]") {
  Rig r;
  r.limits.in_flight_max = 2;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b"), request(3, "c"), request(4, "d")}));
  CHECK(r.service.asked.size() == 2);
  CHECK(peer->paused());
  CHECK(peer->kept() == request(3, "c").size() + request(4, "d").size());
  // Answered out of order nothing leaves, so nothing may come in.
  r.on_loop([&] { r.service.answer(1); });
  CHECK(r.service.asked.size() == 2);
  CHECK(peer->paused());
  r.on_loop([&] { r.service.answer(0); });
  CHECK(r.service.asked.size() == 4);
  CHECK(r.service.asked[3].body == "d");
  CHECK(peer->paused());
  CHECK(peer->kept() == 0);
  r.on_loop([&] {
    r.service.answer(2);
    r.service.answer(3);
  });
  CHECK_FALSE(peer->paused());
  CHECK(peer->sent == joined({response(1, "a"), response(2, "b"), response(3, "c"), response(4, "d")}));
}

TEST_CASE("a peer that does not take its replies is not read", "[link]") {
  Rig r;
  r.limits.unsent_bytes_max = 20;
  r.service.echo = true;
  const auto peer = r.connect();
  peer->stall();
  r.feed(peer, request(1, "twenty bytes and some more"));
  CHECK(peer->paused());
  r.feed(peer, request(2, "b"));
  CHECK(r.service.asked.size() == 1);
  r.on_loop([&] { peer->take_all(); });
  CHECK_FALSE(peer->paused());
  CHECK(r.service.asked.size() == 2);
}

TEST_CASE("a bad frame closes the connection with one complaint", "[link]") {
  Rig r;
  r.limits.frame_bytes_max = 100;
  Bytes frame;
  std::string said;
  SECTION("too large") {
    put_i32(frame, 101);
    said = "a frame of 101 bytes";
  }
  SECTION("negative") {
    put_i32(frame, -1);
    said = "a frame of -1 bytes";
  }
  SECTION("the smallest number") {
    put_i32(frame, INT32_MIN);
    said = "a frame of -2147483648 bytes";
  }
  SECTION("too small for a header") {
    put_i32(frame, 7);
    said = "a frame of 7 bytes";
  }
  SECTION("an unknown key") {
    frame = request(1, "x", 999);
    said = "api key 999";
  }
  SECTION("a header cut short") {
    frame = framed({0, 12, 0, 1, 0, 0, 0, 1, 0, 50, 'x'});
    said = "api key 12";
  }
  SECTION("TLS") {
    frame = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01};
    said = "TLS handshake";
  }
  SECTION("HTTP") {
    frame = to_bytes("GET / HTTP/1.1\r\n\r\n");
    said = "HTTP";
  }
  const auto peer = r.connect();
  // Nothing behind the bad frame is looked at.
  r.feed(peer, joined({frame, request(2, "later")}));
  CHECK(peer->closed());
  CHECK(r.service.asked.empty());
  REQUIRE(r.trace.lines.size() == 1);
  CHECK(r.trace.lines[0].find(said) != std::string::npos);
  CHECK(r.trace.lines[0].find("192.0.2.7:40000") != std::string::npos);
  CHECK(r.set().size() == 0);
  CHECK(r.service.closed.size() == 1);
}

TEST_CASE("the largest frame allowed is taken, one byte more is not", "[link]") {
  Rig r;
  r.limits.frame_bytes_max = request(1, "exact").size() - 4;
  r.service.echo = true;
  const auto peer = r.connect();
  r.feed(peer, request(1, "exact"));
  CHECK(r.service.asked.size() == 1);
  CHECK_FALSE(peer->closed());
  r.feed(peer, request(2, "exact!"));
  CHECK(r.service.asked.size() == 1);
  CHECK(peer->closed());
}

TEST_CASE("a good request before a bad frame gets its reply", "[link]") {
  Rig r;
  r.service.echo = true;
  const auto peer = r.connect();
  Bytes bad;
  put_i32(bad, -5);
  r.feed(peer, joined({request(1, "good"), bad}));
  CHECK(peer->closed());
  CHECK(peer->sent == response(1, "good"));
}

TEST_CASE("a muted connection is not read until its time is over", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, request(1, "a"));
  r.on_loop([&] { r.service.answer(0, 300); });
  CHECK(peer->sent == response(1, "a"));  // the reply itself leaves at once (KIP-219)
  CHECK(peer->paused());
  r.feed(peer, request(2, "b"));
  r.loop.advance(299);
  CHECK(r.service.asked.size() == 1);
  r.loop.advance(1);
  CHECK(r.service.asked.size() == 2);
  CHECK_FALSE(peer->paused());
}

TEST_CASE("a connection that closes while muted leaves its timer nothing to do", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, request(1, "a"));
  r.on_loop([&] { r.service.answer(0, 300); });
  r.on_loop([&] { peer->hang_up(); });
  CHECK(r.set().size() == 0);
  r.loop.advance(1'000);
  CHECK(r.service.asked.size() == 1);
}

TEST_CASE("a responder outlives its connection", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b"), request(3, "c"), request(4, "d")}));
  CHECK(r.service.asked[0].responder.connected());
  r.on_loop([&] { peer->hang_up(Error(ErrorCode::io_error, "reset")); });
  REQUIRE(r.service.closed.size() == 1);
  CHECK_FALSE(r.service.asked[0].responder.connected());
  r.on_loop([&] {
    r.service.answer(0);
    r.service.asked[1].responder.no_reply();
    r.service.asked[2].responder.close_connection();
    r.service.asked.clear();  // the last one is dropped
  });
  CHECK(peer->sent.empty());
  CHECK(r.service.closed.size() == 1);
}

TEST_CASE("the set may go while requests are open", "[link]") {
  Rig r;
  const auto peer = r.connect();
  r.feed(peer, request(1, "a"));
  r.made.reset();
  CHECK(peer->gone());
  r.on_loop([&] { r.service.answer(0); });
  CHECK(peer->sent.empty());
}

TEST_CASE("a service may close the connection from inside a request", "[link]") {
  Rig r;
  r.service.on_asked = [](KeepingService::Asked& a) {
    if (a.correlation_id == 2) a.responder.close_connection();
    if (a.correlation_id != 2) a.responder.reply(Payload(response(a.correlation_id, "ok")));
  };
  const auto peer = r.connect();
  r.feed(peer, joined({request(1, "a"), request(2, "b"), request(3, "c")}));
  CHECK(peer->closed());
  CHECK(peer->sent == response(1, "ok"));
}

}  // namespace
}  // namespace millrace::link
