// One running node: configuration to objects, start, stop. The one place where `broker` and `net` meet.
// Several nodes may live in one process.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/trace.h"
#include "broker/broker.h"
#include "broker/dispatcher.h"
#include "broker/internal_service.h"
#include "io/posix_clock.h"
#include "io/posix_disk.h"
#include "io/posix_host.h"
#include "io/posix_random.h"
#include "link/connection_set.h"
#include "net/asio_loop.h"
#include "net/tcp_network.h"
#include "server/admin_http.h"
#include "server/config.h"
#include "server/gated_network.h"

namespace millrace::server {

/// What a node that shares its process with other nodes has to know of that.
struct Neighbourhood {
  size_t nodes = 1;  // of this process: they share its descriptors
  /// Whether its network can be shut (set_reach) and cut off (kill).
  bool gated = false;
  Reach reach = Reach::everyone;  // to begin with
};

class Node {
 public:
  /// `on_storage_lost`: every data directory failed, nothing can be served until a restart finds them mended;
  /// called once, on a loop: it may note and wake, not stop the node.
  Node(ServerConfig config, TraceSink* sink, std::function<void()> on_storage_lost = nullptr,
       Neighbourhood neighbourhood = {});
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Blocks until the node serves; `give_up` is asked often whether it is to stop waiting for that. Errors:
  /// what broker::Broker::start says; already_exists (a port is taken); cancelled (given up, and stopped).
  Status start(const std::function<bool()>& give_up = nullptr);
  /// Blocks until everything is closed; clean if all went well. Once, after start().
  Status stop();

  // Of a gated node, from any thread, after start() has begun and before stop() has.
  /// As kill -9 would: from the moment of the call not a byte leaves and nothing is changed on disk; what was
  /// written stays as it is, unsynced and without a marker. stop() then clears away and takes leave of
  /// nobody.
  void kill();
  void set_reach(Reach reach) { gate_->set(reach); }
  /// Stops the loops between two events, as SIGSTOP would; connections stay open. Blocks until they stand.
  void pause();
  void resume();

  /// The metadata as this node's clients see them, and who leads their log; nullptr if it does not answer in
  /// time. Not of a paused node.
  std::shared_ptr<const broker::View> view(std::chrono::milliseconds timeout);

  /// Client listeners with the ports really bound. After start().
  std::vector<std::pair<std::string, io::Endpoint>> bound() const;
  /// The admin listener's port; 0 if switched off.
  uint16_t admin_port() const;
  const std::string& cluster_id() const { return broker_->cluster_id(); }

 private:
  Status bind_listeners();
  void make_broker();
  Status wait_for_broker(const std::function<bool()>& give_up);
  Status listen_internal();
  void begin_accepting();
  Status listen_admin();
  HttpReply health() const;
  HttpReply metrics() const;
  void stop_admin();
  Status run_start(const std::function<bool()>& give_up);
  void announce() const;
  void register_process_metrics();
  broker::BrokerConfig broker_config() const;
  io::Network& network();
  std::vector<io::Loop*> all_loops();

  struct Standstill;

  const ServerConfig config_;
  const Neighbourhood neighbourhood_;
  const std::function<void()> on_storage_lost_;
  Trace trace_;
  io::PosixClock clock_;
  io::PosixRandom random_;
  io::PosixHost host_;
  MetricsRegistry metrics_;
  std::unique_ptr<io::PosixDisk> disk_;
  std::unique_ptr<net::LoopGroup> loops_;
  std::unique_ptr<net::LoopThread> control_;
  std::unique_ptr<net::TcpNetwork> network_;
  std::unique_ptr<GatedNetwork> gate_;  // around it, if asked for
  std::unique_ptr<broker::Broker> broker_;
  std::unique_ptr<broker::Dispatcher> dispatcher_;
  std::unique_ptr<broker::InternalService> internal_service_;
  std::vector<std::unique_ptr<link::ConnectionSet>> connections_;  // one a loop
  std::unique_ptr<link::ConnectionSet> internal_connections_;      // private APIs, on the control loop
  std::vector<std::unique_ptr<io::Listener>> listeners_;  // as config_.listeners, then the internal ones
  std::unique_ptr<AdminHttp> admin_;
  std::vector<std::vector<std::pair<std::string, std::unique_ptr<io::Stream>>>>
      early_;  // one a loop, until serving
  std::atomic<bool> serving_{false};
  std::atomic<bool> ending_{false};
  std::atomic<bool> killed_{false};
  std::shared_ptr<Standstill> standstill_;  // while paused
  int64_t begun_ns_ = 0;
};

}  // namespace millrace::server
