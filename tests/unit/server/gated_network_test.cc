#include "server/gated_network.h"

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/scripted_stream.h"

namespace millrace::server {
namespace {

using test::ScriptedPeer;

ByteView text_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Payload payload_of(std::string_view text) {
  return Payload(Bytes(text.begin(), text.end()));
}

// Hands out what the test accepts or connects.
class HandNetwork final : public io::Network {
 public:
  using Accepted = std::function<void(io::Loop&, std::unique_ptr<io::Stream>)>;
  using Connected = std::function<void(Result<std::unique_ptr<io::Stream>>)>;

  Result<std::unique_ptr<io::Listener>> listen(const io::Endpoint&, std::function<io::Loop&()>,
                                               Accepted accepted) override {
    clients = std::move(accepted);
    return std::unique_ptr<io::Listener>();
  }
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(const io::Endpoint&, size_t, int64_t,
                                                              std::function<io::Loop&(ByteView)>,
                                                              Accepted accepted) override {
    nodes = std::move(accepted);
    return std::unique_ptr<io::Listener>();
  }
  void connect(io::Loop&, const io::Endpoint&, int64_t, Connected done) override {
    attempts.push_back(std::move(done));
  }

  Accepted clients;
  Accepted nodes;
  std::vector<Connected> attempts;
};

// The owner of a stream: notes what it hears.
class Owner final : public io::StreamHandler {
 public:
  size_t on_bytes(MutableByteView bytes) override {
    heard.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return bytes.size();
  }
  void on_closed(const Status& why) override { closed = why; }

  std::unique_ptr<io::Stream> stream;
  std::string heard;
  std::optional<Status> closed;
};

struct GateRig {
  explicit GateRig(Reach reach = Reach::everyone) : gate(inner, reach) {
    (void)gate.listen({}, [this]() -> io::Loop& { return loop; }, taker());
    (void)gate.listen_by_first_bytes({}, 8, 1'000, [this](ByteView) -> io::Loop& { return loop; }, taker());
  }

  HandNetwork::Accepted taker() {
    return [this](io::Loop&, std::unique_ptr<io::Stream> s) { latest = std::move(s); };
  }
  // A connection of a client or of another node, and its owner.
  std::shared_ptr<ScriptedPeer> accept(Owner& owner, GatedNetwork::Traffic traffic) {
    auto peer = std::make_shared<ScriptedPeer>(loop);
    (traffic == GatedNetwork::Traffic::clients ? inner.clients : inner.nodes)(loop, peer->stream());
    owner.stream = std::move(latest);
    if (owner.stream) owner.stream->set_handler(&owner);
    return peer;
  }
  std::shared_ptr<ScriptedPeer> node(Owner& owner) { return accept(owner, GatedNetwork::Traffic::nodes); }
  void feed(ScriptedPeer& peer, std::string_view text) {
    peer.feed(text_bytes(text));
    loop.settle();
  }

  test::ManualClock clock;
  test::ManualLoop loop{clock};
  HandNetwork inner;
  GatedNetwork gate;
  std::unique_ptr<io::Stream> latest;
};

std::string sent_by(const ScriptedPeer& peer) {
  return std::string(peer.sent.begin(), peer.sent.end());
}

TEST_CASE("an open gate lets everything pass", "[gated_network]") {
  GateRig rig;
  Owner owner;
  const auto peer = rig.node(owner);
  rig.feed(*peer, "hello");
  owner.stream->send(payload_of("reply"));
  CHECK(owner.heard == "hello");
  CHECK(sent_by(*peer) == "reply");
  peer->hang_up();
  CHECK(owner.closed.has_value());
}

TEST_CASE("behind a shut gate bytes wait in both directions and come in order", "[gated_network]") {
  GateRig rig;
  Owner node;
  Owner client;
  const auto other = rig.node(node);
  const auto user = rig.accept(client, GatedNetwork::Traffic::clients);
  rig.gate.set(Reach::clients);
  rig.loop.settle();
  node.stream->send(payload_of("one "));
  node.stream->send(payload_of("two"));
  client.stream->send(payload_of("to a client"));
  rig.feed(*other, "from a node");
  rig.feed(*user, "from a client");
  CHECK(sent_by(*other).empty());
  CHECK(node.stream->unsent_bytes() == 7);
  CHECK(node.heard.empty());
  CHECK(client.heard == "from a client");
  CHECK(sent_by(*user) == "to a client");

  rig.gate.set(Reach::nobody);
  rig.loop.settle();
  client.stream->send(payload_of("!"));
  CHECK(sent_by(*user) == "to a client");

  rig.gate.set(Reach::everyone);
  node.stream->send(payload_of(" three"));  // before the loop has been told
  rig.loop.settle();
  CHECK(sent_by(*other) == "one two three");
  CHECK(sent_by(*user) == "to a client!");
  CHECK(node.heard == "from a node");
  CHECK(node.stream->unsent_bytes() == 0);
}

TEST_CASE("what the owner had paused stays paused when the gate opens", "[gated_network]") {
  GateRig rig;
  Owner owner;
  const auto peer = rig.node(owner);
  owner.stream->pause_reading();
  rig.gate.set(Reach::nobody);
  rig.loop.settle();
  rig.gate.set(Reach::everyone);
  rig.feed(*peer, "early");
  CHECK(owner.heard.empty());
  owner.stream->resume_reading();
  rig.loop.settle();
  CHECK(owner.heard == "early");
}

TEST_CASE("nobody learns through a shut gate that a connection ended", "[gated_network]") {
  GateRig rig;
  Owner owner;
  const auto peer = rig.node(owner);
  rig.gate.set(Reach::nobody);
  rig.loop.settle();
  SECTION("by the other end") {
    peer->hang_up(Error(ErrorCode::closed, "reset"));
    rig.loop.settle();
    CHECK_FALSE(owner.closed);
    rig.gate.set(Reach::everyone);
    rig.loop.settle();
    REQUIRE(owner.closed);
    CHECK(owner.closed->code() == ErrorCode::closed);
  }
  SECTION("by its owner, with last words") {
    owner.stream->send(payload_of("bye"));
    owner.stream->close(true);
    rig.loop.settle();
    CHECK(owner.closed);  // as of any connection that it closes
    owner.stream.reset();
    CHECK_FALSE(peer->closed());
    rig.gate.set(Reach::everyone);
    rig.loop.settle();
    CHECK(sent_by(*peer) == "bye");
    CHECK(peer->closed());
  }
  SECTION("by its owner, that lets go of it") {
    owner.stream->send(payload_of("never said"));
    owner.stream.reset();
    rig.loop.settle();
    CHECK_FALSE(peer->closed());
    rig.gate.set(Reach::everyone);
    rig.loop.settle();
    CHECK(sent_by(*peer).empty());
    CHECK(peer->closed());
  }
}

TEST_CASE("attempts to connect wait for the gate", "[gated_network]") {
  GateRig rig(Reach::clients);
  std::vector<Result<std::unique_ptr<io::Stream>>> made;
  const auto connect = [&] {
    rig.gate.connect(rig.loop, {"192.0.2.9", 1}, 5'000,
                     [&](Result<std::unique_ptr<io::Stream>> r) { made.push_back(std::move(r)); });
    rig.loop.settle();
  };
  connect();
  CHECK(rig.inner.attempts.empty());
  rig.loop.advance(5'000);
  REQUIRE(made.size() == 1);
  CHECK(made[0].code() == ErrorCode::timed_out);
  connect();
  rig.gate.set(Reach::everyone);
  rig.loop.settle();
  REQUIRE(rig.inner.attempts.size() == 1);
  const auto peer = std::make_shared<ScriptedPeer>(rig.loop);
  rig.inner.attempts[0](peer->stream());
  REQUIRE(made.size() == 2);
  REQUIRE(made[1].ok());
  rig.loop.advance(10'000);  // the wait is over and does not end it a second time
  CHECK(made.size() == 2);
  Owner owner;
  owner.stream = std::move(*made[1]);
  owner.stream->set_handler(&owner);
  rig.gate.set(Reach::clients);
  rig.loop.settle();
  owner.stream->send(payload_of("held"));
  CHECK(sent_by(*peer).empty());
}

TEST_CASE("a network that is cut off closes what it has and refuses the rest", "[gated_network]") {
  const bool shut = GENERATE(false, true);
  GateRig rig(shut ? Reach::nobody : Reach::everyone);
  Owner owner;
  const auto peer = rig.node(owner);
  owner.stream->send(payload_of(shut ? "held" : ""));
  rig.gate.cut();
  owner.stream->send(payload_of("too late"));
  CHECK(sent_by(*peer).empty());
  rig.loop.settle();
  CHECK(peer->closed());
  CHECK(owner.closed);
  CHECK(sent_by(*peer).empty());

  Owner late;
  (void)rig.node(late);
  CHECK(late.stream == nullptr);
  std::optional<ErrorCode> refused;
  rig.gate.connect(rig.loop, {"192.0.2.9", 1}, 5'000,
                   [&](const Result<std::unique_ptr<io::Stream>>& r) { refused = r.code(); });
  rig.loop.settle();
  CHECK(refused == ErrorCode::closed);
}

}  // namespace
}  // namespace millrace::server
