// Follows one leader for all the partitions that it leads and this broker replicates: one connection to its
// internal listener, Fetch 17 in an incremental session (KIP-227), so that a round costs what changed. Lives
// on one loop; what the answers mean is decided behind each partition's door.
//
// One fetch is out at a time; the leader parks it while there is nothing new. A durable end that the leader
// waits for does not wait with it: it goes out at once in a fetch outside the session that asks for no bytes
// (the private tagged field of Fetch), and the mark that it moves completes the parked one.
//
// A partition whose answer was an error leaves the session until its back-off is over: it would complete
// every parked fetch.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/loop.h"
#include "io/network.h"
#include "link/client_connection.h"
#include "partition/partition.h"
#include "partition/replication_throttle.h"
#include "wire/messages/fetch.h"

namespace millrace::partition {

class ReplicaFetcher final : public DataWaiter, public std::enable_shared_from_this<ReplicaFetcher> {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Network* network = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    Trace trace;
    BrokerId self = kNoBroker;
    std::shared_ptr<ReplicationThrottle> throttle{};  // of what this broker fetches; may be none
    /// Told, on the loop, what becomes of the connection.
    std::function<void(BrokerId leader, link::PeerNews)> on_news;
  };
  struct Settings {
    int64_t wait_max_ms = 500;                      // replica.fetch.wait.max.ms
    int32_t bytes_min = 1;                          // replica.fetch.min.bytes
    int32_t response_bytes_max = 10 * 1024 * 1024;  // replica.fetch.response.max.bytes
    int32_t partition_bytes_max = 1024 * 1024;      // replica.fetch.max.bytes
    int64_t backoff_ms = 1'000;                     // replica.fetch.backoff.ms: the most between connections
    int64_t socket_timeout_ms = 30'000;             // replica.socket.timeout.ms
  };

  ReplicaFetcher(Environment environment, BrokerId leader, io::Endpoint at, Settings settings);

  io::Loop& loop() override { return *env_.loop; }
  BrokerId leader() const { return leader_; }
  const io::Endpoint& at() const { return at_; }

  // From any loop; they take effect on this one.
  /// Follows the partition, or begins anew because its leader epoch changed.
  void follow(std::shared_ptr<Partition> partition);
  void forget(const std::shared_ptr<Partition>& partition);
  /// What the leader knows this broker's incarnation by.
  void set_broker_epoch(BrokerEpoch epoch);
  /// Ends; nothing is fetched any more.
  void close();

  /// A partition here owes the leader a durable end.
  void on_data(uint64_t tag) override;

 private:
  using Key = std::pair<Uuid, int32_t>;
  struct Entry {
    std::shared_ptr<Partition> partition;
    Key key;
    bool out = false;  // its position was asked and is not answered yet
    bool in_session = false;
    bool owes = false;  // a durable end that the next fetch is to tell
    bool cutting = false;
    bool throttled = false;           // as it was asked
    replica::FetchPosition position;  // of the question that is out
  };

  void tell(link::PeerNews news) {
    if (env_.on_news) env_.on_news(leader_, news);
  }
  void do_follow(const std::shared_ptr<Partition>& partition);
  void do_forget(const std::shared_ptr<Partition>& partition);
  void pump();
  void connect();
  void on_lost();
  void lose_session();
  bool fill(wire::FetchRequest& request);
  void add(wire::FetchRequest& request, const Entry& e, bool bytes);
  void on_response(Result<wire::FetchResponse> response);
  void on_partition(uint64_t tag, const wire::FetchResponse::PartitionData& p);
  void answered(uint64_t tag, const ReplicaAnswer& answer);
  bool is_throttled(const Entry& e) const;
  void nudge();
  void kick();
  void arm(int64_t at_mono_ms);
  wire::FetchRequest blank() const;

  const Environment env_;
  const BrokerId leader_;
  const io::Endpoint at_;
  const Settings settings_;
  BrokerEpoch broker_epoch_ = replica::kNoBrokerEpoch;
  std::shared_ptr<link::ClientConnection> connection_;
  bool connecting_ = false;
  bool fetching_ = false;  // the session's fetch is out
  size_t nudges_ = 0;      // out
  bool kicking_ = false;
  int64_t retry_at_ms_ = 0;
  int64_t backoff_ms_ = 0;
  int32_t session_id_ = 0;
  int32_t session_epoch_ = 0;
  std::map<uint64_t, Entry> entries_;
  std::map<Key, uint64_t> tags_;
  std::set<uint64_t> idle_;     // not out: to be asked when their back-off allows
  std::set<uint64_t> owing_;    // owe a durable end
  std::vector<Key> forgotten_;  // in the session still
  uint64_t last_tag_ = 0;
  io::TimerId timer_ = 0;
  int64_t timer_at_ms_ = 0;
  bool closed_ = false;
  TraceLimit complaints_{3, 10'000};
};

}  // namespace millrace::partition
