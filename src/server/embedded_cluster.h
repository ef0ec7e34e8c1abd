// Several brokers in one process: each a whole node with loops, disk and directory of its own, all of them
// one cluster on loopback addresses. They can be killed, stopped, paused, cut off and started again one by
// one: what `millrace dev` and the public header (include/millrace/cluster.h) are made of.
//
//   DIRECTORY/broker-1 ...   the data of one broker each
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/trace.h"
#include "server/config.h"
#include "server/embedded_limits.h"
#include "server/gated_network.h"
#include "server/node.h"

namespace millrace::server {

struct EmbeddedOptions {
  int brokers = 3;  // 1 to kEmbeddedBrokersMax; their ids are 1, 2, ...
  /// The clients' port of broker 1, the next one for broker 2 and so on; 0: any that are free.
  uint16_t port = 0;
  /// The port of broker 1 for metrics and health, and so on; 0: none.
  uint16_t admin_port = 0;
  /// Made if it is not there; empty: a temporary one, removed at the end.
  std::string directory;
  /// key=value for every broker, over the defaults of this cluster.
  std::vector<std::string> settings;
  std::vector<std::pair<std::string, std::string>> environment;
  TraceSink* sink = nullptr;
};

enum class BrokerState : uint8_t { stopped, starting, running, paused };
/// "stopped", "starting", "running", "paused".
std::string_view broker_state_name(BrokerState state);

struct BrokerReport {
  int id = 0;
  BrokerState state = BrokerState::stopped;
  Reach reach = Reach::everyone;
  HostPort address;
  std::string directory;
  bool controller = false;  // leads the metadata log, as far as it knows
  size_t leads = 0;         // partitions, as far as it knows
  size_t hosts = 0;         // replicas
  std::string error;        // why it stopped, if it was not asked to
};

class EmbeddedCluster {
 public:
  explicit EmbeddedCluster(EmbeddedOptions options);
  /// As close().
  ~EmbeddedCluster();
  EmbeddedCluster(const EmbeddedCluster&) = delete;
  EmbeddedCluster& operator=(const EmbeddedCluster&) = delete;

  /// Checks the options, makes the directory and chooses the ports. Once, before open(), which does it itself
  /// if need be.
  Status prepare();
  /// Starts every broker; blocks until all serve, one failed, or `give_up` (asked often) says so. Once.
  /// Errors: as Node::start, invalid_argument, timed_out, cancelled. After an error: close().
  Status open(std::chrono::milliseconds timeout, const std::function<bool()>& give_up = nullptr);
  /// Stops all of them cleanly, whatever their state, and removes a temporary directory.
  Status close();

  // One at a time, from any thread. Errors: invalid_argument (no such broker, or not in a state for it).
  /// Waits up to `timeout` until it serves (timed_out: it goes on starting); not if it cannot, because too
  /// few brokers run or because it is isolated.
  Status start(int broker, std::chrono::milliseconds timeout);
  /// At once and without any cleaning up, as kill -9 would.
  Status kill(int broker);
  /// Cleanly: what it leads is led elsewhere first.
  Status stop(int broker);
  Status pause(int broker);
  Status resume(int broker);
  /// Not a byte between it and other brokers, nor, if `clients`, between it and clients; also after a
  /// restart.
  Status isolate(int broker, bool clients);
  Status heal(int broker);

  /// Until every broker that runs and is not isolated knows of all of them, every partition has one of them
  /// as its leader, and all their replicas are in sync. timed_out with what is missing.
  Status wait_until_ready(std::chrono::milliseconds timeout);

  int brokers() const { return static_cast<int>(slots_.size()); }
  const std::string& directory() const { return directory_; }
  bool temporary() const { return temporary_; }
  /// host:port of all brokers, comma between.
  std::string bootstrap_servers() const;
  std::vector<BrokerReport> report();
  /// Who leads it, as the brokers that run say; nullopt: nobody, or no such partition.
  std::optional<int> leader(const std::string& topic, int partition);
  /// Who leads the metadata log.
  std::optional<int> controller();

 private:
  struct Slot;
  using View = std::shared_ptr<const broker::View>;

  Status choose_directory();
  Status choose_ports();
  Result<ServerConfig> config_of(const Slot& slot) const;
  Status launch(Slot& slot);
  Status wait_served(Slot& slot, std::chrono::steady_clock::time_point until,
                     const std::function<bool()>& give_up);
  Result<Slot*> find(int broker);
  bool has_quorum() const;
  /// Takes the node out of its slot, stopping it; with `killing` as kill -9 would.
  Status take_down(Slot& slot, bool killing);
  /// Of those that run and reach others.
  std::vector<std::pair<int, View>> views();
  std::string missing();

  const EmbeddedOptions options_;
  std::string directory_;
  bool temporary_ = false;
  std::mutex mutex_;  // one command at a time
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace millrace::server
