// How a node with an empty directory comes to a quorum, without a format step.
//
// The sole configured voter founds a cluster alone; so does a controller whose bootstrap servers are itself.
// One of several configured voters asks all the others, and founds only when every one of them answers that
// its directory is empty, too; the quorum then consists of these directories. A listed voter whose directory
// is empty while another one's is not has lost its vote: it follows, and never votes until it is replaced.
// Any other node takes over what a founded one tells and follows. Lives on the control loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/trace.h"
#include "broker/peers.h"
#include "ledger/quorum_messages.h"

namespace millrace::broker {

/// In the first data directory: how the quorum of this node began (ledger::Founding).
constexpr std::string_view kFoundingFile = "quorum-founding";

class QuorumFounding {
 public:
  struct Params {
    BrokerId self;
    Uuid directory;           // that holds the metadata log
    Uuid configured_cluster;  // zero: none
    Uuid proposed_cluster;    // for a cluster to be founded
    std::vector<ledger::NodeAddress> voters;
    std::vector<io::Endpoint> bootstrap;
    bool may_found = true;  // this node is a controller
  };
  using Found = std::function<void(Result<ledger::Founding>)>;

  QuorumFounding(Peers& peers, io::Loop& loop, const io::Clock& clock, Trace trace, Params params);
  ~QuorumFounding();

  /// Finds out; `found` once, unless stopped. Errors: inconsistent_cluster_id. Nothing is persisted here.
  void begin(Found found);
  void stop();
  /// This node's directory is part of that quorum, durably: hello() says so from now on.
  void settled(ledger::Founding founding) { settled_ = std::move(founding); }
  ledger::HelloReply hello(BrokerId leader) const;

 private:
  void round();
  void decide();
  void found_alone();
  void finish(Result<ledger::Founding> result);
  bool is_listed() const;
  Result<ledger::Founding> found_with_all() const;

  Peers& peers_;
  io::Loop& loop_;
  const io::Clock& clock_;
  Trace trace_;
  const Params params_;
  Found found_;
  std::optional<ledger::Founding> settled_;
  std::map<BrokerId, ledger::HelloReply> replies_;  // of this round
  size_t outstanding_ = 0;
  size_t echoes_ = 0;  // answers of this round that this node gave itself
  io::TimerId timer_ = 0;
  int64_t told_ms_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
