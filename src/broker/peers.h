// The ways to the other nodes of the cluster, over their internal listeners: one connection each, made when
// first needed and again after a loss. For what the control loop says: Raft messages, hello, the controller's
// requests. (Replication has connections of its own.) Lives on the control loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/trace.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/network.h"
#include "ledger/quorum_messages.h"
#include "link/client_connection.h"
#include "raft/types.h"

namespace millrace::broker {

class Peers {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Network* network = nullptr;
    const io::Clock* clock = nullptr;
    Trace trace;
  };
  using Answer = std::function<void(Result<MutableByteView>)>;

  Peers(Environment environment, BrokerId self) : env_(std::move(environment)), self_(self) {}
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  /// Where `node` is reached; a changed address breaks the old connection.
  void set_address(BrokerId node, const io::Endpoint& at);
  bool knows(BrokerId node) const { return addresses_.contains(node); }
  std::vector<ledger::NodeAddress> addresses() const;

  /// Sends what can be sent now; the rest is lost, as Raft allows.
  void send(const std::vector<raft::Message>& messages);
  /// One request of a private API; `done` once: the response's body (a view that lives during the call), or
  /// closed (refused or lost), timed_out, not_found (no address known).
  void ask(BrokerId node, wire::ApiKey api, Bytes body, int64_t timeout_ms, Answer done);
  /// The same to an address of which no node id is known.
  void ask_address(const io::Endpoint& at, wire::ApiKey api, Bytes body, int64_t timeout_ms, Answer done);

  /// Told what becomes of the connections to nodes whose ids are known.
  void on_news(std::function<void(BrokerId, link::PeerNews)> f) { news_ = std::move(f); }
  /// Breaks every connection; nothing is sent any more.
  void close();

 private:
  struct Peer;
  void connect(Peer& peer);
  void tell(const Peer& peer, link::PeerNews news);
  void connected(const std::string& key, Result<std::unique_ptr<io::Stream>> stream);
  Peer& peer_at(BrokerId node, const io::Endpoint& at);
  void ask_peer(Peer& peer, wire::ApiKey api, Bytes body, int64_t timeout_ms, Answer done);

  const Environment env_;
  const BrokerId self_;
  std::map<BrokerId, io::Endpoint> addresses_;
  std::map<std::string, std::shared_ptr<Peer>> peers_;  // by address
  std::function<void(BrokerId, link::PeerNews)> news_;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
