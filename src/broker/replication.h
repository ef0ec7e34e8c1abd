// Replication as one broker does it: which leader each followed partition is fetched from, and the ISR
// changes of those led here on their way to the controller. Lives on the control loop; the fetchers live on
// data loops.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <tuple>
#include <vector>

#include "broker/view.h"
#include "control/partition_requests.h"
#include "partition/replica_fetcher.h"

namespace millrace::broker {

class Replication {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    std::vector<io::Loop*> data_loops;
    io::Network* network = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    Trace trace;
    BrokerId self = kNoBroker;
    std::shared_ptr<partition::ReplicationThrottle> throttle;  // follower.replication.throttled.rate
    /// Where the internal listener of a broker is reached, as far as it is known.
    std::function<std::optional<io::Endpoint>(BrokerId)> address;
    std::function<partition::ReplicaFetcher::Settings()> settings;
    /// Asks the controller; the answer comes on this loop, always.
    std::function<void(control::AlterPartition, std::function<void(Result<control::AlterPartitionReply>)>)>
        alter;
    /// What becomes of the connections to leaders; on this loop.
    std::function<void(BrokerId, link::PeerNews)> on_news;
  };

  explicit Replication(Environment environment) : env_(std::move(environment)) {}

  void set_broker_epoch(BrokerEpoch epoch);
  /// The partition follows `leader` (kNoBroker: nobody), or does so in a new epoch.
  void follow(const PartitionRef& partition, BrokerId leader);
  bool follows(const PartitionRef& partition, BrokerId leader) const {
    const auto it = followed_.find(partition);
    return it == followed_.end() ? leader == kNoBroker : it->second == leader;
  }
  /// It leads with others, from now on.
  void lead(const PartitionRef& partition);
  /// Neither any more.
  void forget(const PartitionRef& partition);
  /// There is something for Partition::tick() to give.
  void propose(const PartitionRef& partition);
  void close();

 private:
  struct Proposed {
    PartitionRef partition;
    uint64_t number = 0;
  };
  using Key = std::pair<Uuid, int32_t>;

  void arm_tick();
  void tick();
  void collect(const PartitionRef& partition);
  /// Objects, but in an order that every run has.
  struct ByName {
    bool operator()(const PartitionRef& a, const PartitionRef& b) const {
      const auto key = [](const PartitionRef& p) {
        return std::tuple(std::string_view(p->name().topic), p->name().partition.v, p->topic_id(), p.get());
      };
      return key(a) < key(b);
    }
  };
  void arm_send();
  void send();
  void on_answer(const std::map<Key, Proposed>& asked, const Result<control::AlterPartitionReply>& reply);
  std::shared_ptr<partition::ReplicaFetcher> fetcher_of(BrokerId leader);
  void leave_fetcher(const PartitionRef& partition);

  const Environment env_;
  BrokerEpoch broker_epoch_ = replica::kNoBrokerEpoch;
  std::map<BrokerId, std::shared_ptr<partition::ReplicaFetcher>> fetchers_;
  std::map<PartitionRef, BrokerId, ByName> followed_;
  std::set<PartitionRef, ByName> homeless_;  // whose leader's address is not known yet
  std::set<PartitionRef, ByName> led_;
  std::map<Key, std::pair<PartitionRef, replica::IsrProposal>> proposals_;  // to be sent
  bool asking_ = false;
  bool send_armed_ = false;
  bool ticking_ = false;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
