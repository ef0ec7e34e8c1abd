#include "link/connection_set.h"

#include "unit/link/server_rig.h"

namespace millrace::link {
namespace {

using namespace rig;

TEST_CASE("a full set refuses connections and says so", "[link]") {
  Rig r;
  r.connections_max = 2;
  const auto a = r.connect();
  const auto b = r.connect();
  const auto c = r.connect();
  CHECK_FALSE(a->closed());
  CHECK_FALSE(b->closed());
  CHECK(c->closed());
  CHECK(r.set().size() == 2);
  REQUIRE(r.trace.lines.size() == 1);
  CHECK(r.trace.lines[0].find("max.connections") != std::string::npos);
  CHECK(r.service.closed.empty());  // it never was one
  r.on_loop([&] { a->hang_up(); });
  const auto d = r.connect();
  CHECK_FALSE(d->closed());
  CHECK(r.set().size() == 2);
}

TEST_CASE("complaints are rationed and counted", "[link]") {
  Rig r;
  r.connections_max = 0;
  for (int i = 0; i < 8; ++i) (void)r.connect();
  CHECK(r.trace.lines.size() == 5);
  r.loop.advance(10'000);
  (void)r.connect();
  CHECK(r.trace.lines.size() == 6);
}

TEST_CASE("silent connections are closed, those that wait for an answer are not", "[link]") {
  Rig r;
  r.limits.idle_ms_max = 60'000;
  const auto silent = r.connect();
  const auto talking = r.connect();
  const auto waiting = r.connect();
  const auto half = r.connect();
  r.on_loop([&] { r.set().sweep(); });
  r.feed(waiting, request(1, "long poll"));
  r.feed(half, {0, 0});
  for (int i = 0; i < 11; ++i) {
    r.loop.advance(5'000);
    r.feed(talking, request(i, "x"));
    r.on_loop([&] { r.service.asked.back().responder.no_reply(); });
  }
  CHECK(r.set().size() == 4);
  r.loop.advance(5'000);
  CHECK(silent->closed());
  CHECK(half->closed());
  CHECK_FALSE(talking->closed());
  CHECK_FALSE(waiting->closed());
  // The answer counts as activity: the client has the whole time again.
  r.on_loop([&] { r.service.answer(0); });
  r.loop.advance(55'000);
  CHECK_FALSE(waiting->closed());
  CHECK(talking->closed());
  r.loop.advance(5'000);
  CHECK(waiting->closed());
  CHECK(r.set().size() == 0);
  CHECK(r.service.closed.size() == 4);
}

TEST_CASE("closing all flushes replies, refuses newcomers and ends the sweep", "[link]") {
  Rig r;
  const auto a = r.connect();
  const auto b = r.connect();
  r.on_loop([&] { r.set().sweep(); });
  CHECK(r.loop.timers() == 1);
  r.feed(a, request(1, "a"));
  a->stall();
  r.on_loop([&] {
    r.service.answer(0);
    r.set().close_all(true);  // in the tick of the answer
  });
  CHECK(a->sent == response(1, "a"));
  CHECK(b->closed());
  CHECK(r.set().size() == 1);  // the peer has not taken its reply yet
  const auto late = r.connect();
  CHECK(late->closed());
  CHECK(r.trace.lines.empty());
  r.on_loop([&] { a->take_all(); });
  CHECK(r.set().size() == 0);
  r.loop.advance(60'000);
  CHECK(r.loop.timers() == 0);
}

}  // namespace
}  // namespace millrace::link
