// The ways to other nodes: what is told of them, to whom, and when they are tried again.
#include "broker/peers.h"

#include <deque>
#include <optional>
#include <utility>

#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/scripted_stream.h"

namespace millrace::broker {
namespace {

using link::PeerNews;

/// Connections are made, or not, when the test says so.
struct AskedNetwork final : io::Network {
  struct Attempt {
    io::Endpoint to;
    std::function<void(Result<std::unique_ptr<io::Stream>>)> done;
  };
  Result<std::unique_ptr<io::Listener>> listen(
      const io::Endpoint&, std::function<io::Loop&()>,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)>) override {
    return ErrorCode::invalid_argument;
  }
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(
      const io::Endpoint&, size_t, int64_t, std::function<io::Loop&(ByteView)>,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)>) override {
    return ErrorCode::invalid_argument;
  }
  void connect(io::Loop&, const io::Endpoint& to, int64_t,
               std::function<void(Result<std::unique_ptr<io::Stream>>)> done) override {
    attempts.push_back({to, std::move(done)});
  }
  std::deque<Attempt> attempts;
};

struct PeersRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  AskedNetwork network;
  std::deque<std::optional<ErrorCode>> answers;  // outlive the peers, which answer what waits when they go
  Peers peers{{&loop, &network, &clock, Trace()}, BrokerId(1)};
  std::vector<std::pair<BrokerId, PeerNews>> news;

  PeersRig() {
    peers.on_news([this](BrokerId node, PeerNews n) { news.emplace_back(node, n); });
  }
  static io::Endpoint at(uint16_t port) { return {"192.0.2.2", port}; }
  std::optional<ErrorCode>& ask(BrokerId node = BrokerId(2)) {
    std::optional<ErrorCode>& answer = answers.emplace_back();
    loop.in_tick([&] {
      peers.ask(node, ledger::kRaftApi, {1}, 500, [&answer](Result<MutableByteView> r) {
        REQUIRE_FALSE(answer);
        answer = r.code();
      });
    });
    loop.settle();
    return answer;
  }
  /// The oldest attempt succeeds.
  std::shared_ptr<test::ScriptedPeer> accept() {
    auto peer = std::make_shared<test::ScriptedPeer>(loop);
    finish(peer->stream());
    return peer;
  }
  void refuse(ErrorCode code) { finish(code); }
  void finish(Result<std::unique_ptr<io::Stream>> result) {
    REQUIRE_FALSE(network.attempts.empty());
    const AskedNetwork::Attempt attempt = std::move(network.attempts.front());
    network.attempts.pop_front();
    loop.in_tick([&] { attempt.done(std::move(result)); });
    loop.settle();
  }
  std::vector<std::pair<BrokerId, PeerNews>> told() { return std::exchange(news, {}); }
};

std::vector<std::pair<BrokerId, PeerNews>> of_two(PeerNews n) {
  return {{BrokerId(2), n}};
}

}  // namespace

TEST_CASE("a process that ends is told of at once: lost, then refused", "[peers]") {
  PeersRig r;
  const std::optional<ErrorCode>& unknown = r.ask();
  CHECK(unknown == ErrorCode::not_found);
  r.peers.set_address(BrokerId(2), r.at(7000));
  const std::optional<ErrorCode>& first = r.ask();
  REQUIRE(r.network.attempts.size() == 1);
  CHECK(r.network.attempts.front().to.port == 7000);
  const auto peer = r.accept();
  CHECK(r.told() == of_two(PeerNews::reached));
  CHECK_FALSE(peer->sent.empty());
  CHECK_FALSE(first);

  r.loop.in_tick([&] { peer->hang_up(); });
  r.loop.settle();
  CHECK(first == ErrorCode::closed);
  CHECK(r.told() == of_two(PeerNews::lost));
  // Nobody asked: it is tried again to see whether the process is gone.
  REQUIRE(r.network.attempts.size() == 1);
  r.refuse(ErrorCode::closed);
  CHECK(r.told() == of_two(PeerNews::refused));

  // Then not before its time, however often somebody asks.
  const std::optional<ErrorCode>& soon = r.ask();
  CHECK(soon == ErrorCode::closed);
  CHECK(r.network.attempts.empty());
  CHECK(r.told().empty());
  r.loop.advance(5'000);
  (void)r.ask();
  REQUIRE(r.network.attempts.size() == 1);
  (void)r.accept();
  CHECK(r.told() == of_two(PeerNews::reached));
}

TEST_CASE("a node that is not reached in time may be alive", "[peers]") {
  PeersRig r;
  r.peers.set_address(BrokerId(2), r.at(7000));
  const std::optional<ErrorCode>& answer = r.ask();
  r.refuse(ErrorCode::timed_out);
  CHECK(answer == ErrorCode::timed_out);
  CHECK(r.told().empty());
}

TEST_CASE("of an address there is news when it is known whose it is", "[peers]") {
  PeersRig r;
  std::optional<ErrorCode> answer;
  r.loop.in_tick([&] {
    r.peers.ask_address(r.at(7000), ledger::kRaftApi, {1}, 500,
                        [&](Result<MutableByteView> a) { answer = a.code(); });
  });
  const auto peer = r.accept();
  CHECK(r.told().empty());
  r.peers.set_address(BrokerId(2), r.at(7000));
  CHECK(r.peers.knows(BrokerId(2)));
  r.loop.in_tick([&] { peer->hang_up(); });
  r.loop.settle();
  CHECK(answer == ErrorCode::closed);
  CHECK(r.told() == of_two(PeerNews::lost));
  // Its own address is nobody's to connect to.
  r.peers.set_address(BrokerId(1), r.at(7001));
  CHECK_FALSE(r.peers.knows(BrokerId(1)));
}

TEST_CASE("a node that has moved is not gone", "[peers]") {
  PeersRig r;
  r.peers.set_address(BrokerId(2), r.at(7000));
  const std::optional<ErrorCode>& before = r.ask();
  SECTION("while it is being connected to") {
    r.peers.set_address(BrokerId(2), r.at(7002));
    CHECK(before == ErrorCode::closed);
    r.refuse(ErrorCode::closed);  // the old address
  }
  SECTION("while it is connected") {
    const auto peer = r.accept();
    CHECK(r.told() == of_two(PeerNews::reached));
    r.loop.in_tick([&] { r.peers.set_address(BrokerId(2), r.at(7002)); });
    r.loop.settle();
    CHECK(peer->closed());
    CHECK(before == ErrorCode::closed);
  }
  CHECK(r.told().empty());
  CHECK(r.network.attempts.empty());
  const std::optional<ErrorCode>& waits = r.ask();
  REQUIRE(r.network.attempts.size() == 1);
  CHECK(r.network.attempts.front().to.port == 7002);
  (void)r.accept();
  CHECK(r.told() == of_two(PeerNews::reached));
  // The same address again breaks nothing.
  r.peers.set_address(BrokerId(2), r.at(7002));
  CHECK_FALSE(waits);
}

TEST_CASE("after the end nothing is told and everybody is answered", "[peers]") {
  PeersRig r;
  r.peers.set_address(BrokerId(2), r.at(7000));
  const std::optional<ErrorCode>& waiting = r.ask();
  r.loop.in_tick([&] { r.peers.close(); });
  r.loop.settle();
  CHECK(waiting.has_value());
  (void)r.accept();
  CHECK(r.told().empty());
  const std::optional<ErrorCode>& after = r.ask();
  CHECK(after == ErrorCode::closed);
  CHECK(r.network.attempts.empty());
}

}  // namespace millrace::broker
