#include "broker/peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "ledger/raft_codec.h"

namespace millrace::broker {
namespace {

constexpr int64_t kConnectTimeoutMs = 1'000;
constexpr int64_t kBackoffMs = 100;
constexpr int64_t kBackoffMaxMs = 1'000;
constexpr size_t kResponseBytesMax = size_t{128} << 20;
// Raft messages beyond this are dropped: whoever does not read them is sent a snapshot later.
constexpr size_t kUnsentBytesMax = size_t{32} << 20;
// Raft messages kept while a connection is being made: without them the first round of an election would be
// lost, as followers have nothing else to say to each other.
constexpr size_t kEarlyMax = 16;
constexpr size_t kWaitingMax = 1'000;  // questions that wait for a connection

std::string key_of(const io::Endpoint& at) {
  return fmt::format("{}:{}", at.host, at.port);
}

}  // namespace

struct Peers::Peer {
  struct Question {
    wire::ApiKey api;
    Bytes body;
    int64_t deadline_ms;
    Answer done;
  };

  BrokerId node = kNoBroker;
  io::Endpoint at;
  std::shared_ptr<link::ClientConnection> connection;
  bool connecting = false;
  int64_t backoff_ms = 0;
  int64_t retry_at_ms = 0;
  std::deque<Question> waiting;
  std::deque<Bytes> early;

  bool open() const { return connection && connection->open(); }
};

Peers::~Peers() {
  *alive_ = false;
  close();
}

void Peers::set_address(BrokerId node, const io::Endpoint& at) {
  if (node == self_) return;
  auto [it, added] = addresses_.emplace(node, at);
  if (!added && (it->second.host != at.host || it->second.port != at.port)) {
    if (const auto old = peers_.find(key_of(it->second)); old != peers_.end()) {
      const std::shared_ptr<Peer> peer = old->second;
      peers_.erase(old);
      if (peer->connection) peer->connection->close();
      for (Peer::Question& q : std::exchange(peer->waiting, {}))
        q.done(Error(ErrorCode::closed, "the node has another address"));
    }
    it->second = at;
  }
  if (const auto known = peers_.find(key_of(at)); known != peers_.end()) known->second->node = node;
}

std::vector<ledger::NodeAddress> Peers::addresses() const {
  std::vector<ledger::NodeAddress> out;
  for (const auto& [node, at] : addresses_) out.push_back({node, at});
  return out;
}

Peers::Peer& Peers::peer_at(BrokerId node, const io::Endpoint& at) {
  std::shared_ptr<Peer>& peer = peers_[key_of(at)];
  if (!peer) {
    peer = std::make_shared<Peer>();
    peer->at = at;
  }
  if (node != kNoBroker) peer->node = node;
  return *peer;
}

void Peers::send(const std::vector<raft::Message>& messages) {
  if (closed_) return;
  for (const raft::Message& m : messages) {
    const auto at = addresses_.find(m.to);
    if (at == addresses_.end()) continue;
    Peer& peer = peer_at(m.to, at->second);
    if (!peer.open()) {
      connect(peer);
      if (!peer.connecting) continue;
      if (peer.early.size() == kEarlyMax) peer.early.pop_front();
      peer.early.push_back(ledger::encode_raft_message(m));
      continue;
    }
    if (peer.connection->unsent_bytes() > kUnsentBytesMax) continue;
    peer.connection->send_bytes_only(ledger::kRaftApi, 0, ledger::encode_raft_message(m));
  }
}

void Peers::ask(BrokerId node, wire::ApiKey api, Bytes body, int64_t timeout_ms, Answer done) {
  const auto at = addresses_.find(node);
  if (closed_ || at == addresses_.end()) {
    done(Error(closed_ ? ErrorCode::closed : ErrorCode::not_found,
               fmt::format("no address of node {} is known", node.v)));
    return;
  }
  ask_peer(peer_at(node, at->second), api, std::move(body), timeout_ms, std::move(done));
}

void Peers::ask_address(const io::Endpoint& at, wire::ApiKey api, Bytes body, int64_t timeout_ms,
                        Answer done) {
  if (closed_) {
    done(Error(ErrorCode::closed, "stopping"));
    return;
  }
  ask_peer(peer_at(kNoBroker, at), api, std::move(body), timeout_ms, std::move(done));
}

void Peers::ask_peer(Peer& peer, wire::ApiKey api, Bytes body, int64_t timeout_ms, Answer done) {
  if (peer.open()) {
    peer.connection->send_bytes(api, 0, body, timeout_ms, std::move(done));
    return;
  }
  const int64_t now_ms = env_.clock->now().mono_ms;
  if (peer.waiting.size() >= kWaitingMax || (!peer.connecting && now_ms < peer.retry_at_ms)) {
    // Told later, not from inside: whoever asks again at once must not spin.
    env_.loop->post([done = std::move(done), to = key_of(peer.at)] {
      done(Error(ErrorCode::closed, "no connection to " + to));
    });
    return;
  }
  peer.waiting.push_back({api, std::move(body), now_ms + timeout_ms, std::move(done)});
  connect(peer);
}

void Peers::connect(Peer& peer) {
  if (closed_ || peer.connecting || env_.clock->now().mono_ms < peer.retry_at_ms) return;
  peer.connecting = true;
  env_.network->connect(
      *env_.loop, peer.at, kConnectTimeoutMs,
      [this, alive = alive_, key = key_of(peer.at)](Result<std::unique_ptr<io::Stream>> stream) {
        if (*alive && !closed_) connected(key, std::move(stream));
      });
}

void Peers::tell(const Peer& peer, link::PeerNews news) {
  if (peer.node != kNoBroker && news_) news_(peer.node, news);
}

void Peers::connected(const std::string& key, Result<std::unique_ptr<io::Stream>> stream) {
  const auto it = peers_.find(key);
  if (it == peers_.end()) return;  // its address changed meanwhile
  const std::shared_ptr<Peer> peer = it->second;
  peer->connecting = false;
  std::deque<Peer::Question> waiting = std::exchange(peer->waiting, {});
  const std::deque<Bytes> early = std::exchange(peer->early, {});
  if (!stream.ok()) {
    peer->backoff_ms = std::clamp(peer->backoff_ms * 2, kBackoffMs, kBackoffMaxMs);
    peer->retry_at_ms = env_.clock->now().mono_ms + peer->backoff_ms;
    if (stream.code() == ErrorCode::closed) tell(*peer, link::PeerNews::refused);
    for (Peer::Question& q : waiting) q.done(Error(stream.error().code, stream.error().message));
    return;
  }
  peer->backoff_ms = 0;
  peer->retry_at_ms = 0;
  peer->connection = link::ClientConnection::create(*env_.loop, std::move(*stream),
                                                    fmt::format("node-{}", self_.v), kResponseBytesMax);
  // A lost connection is tried again at once: a refusal then tells that the process is gone.
  peer->connection->on_lost([this, alive = alive_, key] {
    if (!*alive || closed_) return;
    env_.loop->post([this, alive, key] {
      if (!*alive || closed_) return;
      const auto lost = peers_.find(key);
      if (lost == peers_.end() || lost->second->open()) return;
      const std::shared_ptr<Peer> broken = lost->second;
      tell(*broken, link::PeerNews::lost);
      connect(*broken);
    });
  });
  tell(*peer, link::PeerNews::reached);
  for (const Bytes& message : early) {
    if (peer->open()) peer->connection->send_bytes_only(ledger::kRaftApi, 0, message);
  }
  const int64_t now_ms = env_.clock->now().mono_ms;
  for (Peer::Question& q : waiting) {
    if (q.deadline_ms <= now_ms || !peer->open()) {
      q.done(Error(ErrorCode::timed_out, "no connection in time"));
      continue;
    }
    peer->connection->send_bytes(q.api, 0, q.body, q.deadline_ms - now_ms, std::move(q.done));
  }
}

void Peers::close() {
  if (std::exchange(closed_, true)) return;
  for (auto& [key, peer] : peers_) {
    if (peer->connection) peer->connection->close();
    for (Peer::Question& q : std::exchange(peer->waiting, {})) q.done(Error(ErrorCode::closed, "stopping"));
  }
}

}  // namespace millrace::broker
