// One node of a simulated cluster: a machine with a disk, clocks and a place in the network, and, while it
// runs, a process: the broker put together as the server does it, from simulated parts. Its loops are all of
// the simulation's one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/metrics.h"
#include "base/trace.h"
#include "broker/broker.h"
#include "broker/dispatcher.h"
#include "broker/internal_service.h"
#include "io/host.h"
#include "link/connection_set.h"
#include "sim/disk.h"
#include "sim/network.h"
#include "sim/scheduler.h"

namespace millrace::sim {

/// What never changes about a node.
struct NodePlan {
  BrokerId id;
  size_t data_loops = 1;
  size_t directories = 1;
  uint64_t seed = 0;
  std::vector<ledger::NodeAddress> voters;
  std::shared_ptr<const meta::ConfigValues> settings;
  int64_t election_timeout_ms = 1000;
  size_t metadata_append_bytes = 1 << 20;
  size_t recovery_threads = 1;
  broker::MetadataLogSizes metadata_log;
  int32_t segment_bytes = 1 << 20;
};

class SimNode final : private io::Host {
 public:
  enum class State : uint8_t { off, dead, starting, serving, leaving };
  static constexpr uint16_t kClientPort = 9092;
  static constexpr uint16_t kInternalPort = 9093;

  SimNode(Scheduler& scheduler, SimNetwork& network, NodePlan plan, TraceSink* sink, TraceLevel level);
  ~SimNode() override;
  SimNode(const SimNode&) = delete;
  SimNode& operator=(const SimNode&) = delete;

  /// Starts the process (of a machine that is on, and has none).
  void start();
  /// As kill -9: files stay as they are.
  void kill();
  /// The machine loses power, and with it what its disk has not synced.
  void power_off();
  void power_on();
  /// Leaves, stops and ends, in its own time.
  void stop();
  void pause();
  void resume();
  /// Between events: carries out ends that the process brought about itself. What it died of, once; empty:
  /// nothing.
  std::string reap();

  State state() const { return state_; }
  bool is_paused() const { return paused_; }
  bool runs() const {
    return state_ == State::starting || state_ == State::serving || state_ == State::leaving;
  }
  BrokerId id() const { return plan_.id; }
  const NodePlan& plan() const { return plan_; }
  /// While it runs.
  broker::Broker& broker() { return *process_->broker; }
  const broker::View& view() { return *process_->broker->shard(0).view; }
  SimDisk& disk() { return disk_; }
  NodeClock& clock() { return clock_; }
  SimHost& host() { return *host_; }
  /// Processes so far.
  uint64_t life() const { return life_; }
  /// Of the process that runs, in microseconds of virtual time.
  int64_t started_us() const { return started_us_; }
  static std::string host_name(BrokerId id) { return "n" + std::to_string(id.v); }

 private:
  struct Process {
    MetricsRegistry metrics;
    std::unique_ptr<broker::Broker> broker;
    std::unique_ptr<broker::Dispatcher> dispatcher;
    std::unique_ptr<broker::InternalService> internal;
    std::vector<std::unique_ptr<link::ConnectionSet>> connections;  // one a data loop
    std::unique_ptr<link::ConnectionSet> internal_connections;
    std::vector<std::unique_ptr<io::Listener>> listeners;
    std::vector<std::pair<size_t, std::unique_ptr<io::Stream>>> early;  // until it serves
  };
  // io::Host
  std::string hostname() const override { return host_name(plan_.id); }
  unsigned cores() const override { return static_cast<unsigned>(plan_.data_loops); }
  int64_t process_id() const override { return static_cast<int64_t>(life_); }
  uint64_t descriptor_limit() const override { return 20'000; }
  uint64_t resident_bytes() const override { return 0; }
  int64_t cpu_ns() const override { return 0; }

  broker::BrokerConfig config() const;
  void make_process();
  void listen();
  void accept(const std::string& listener, io::Loop& loop, std::unique_ptr<io::Stream> stream);
  void on_ready(const Status& status);
  void on_left();
  void drop_process();
  io::Loop& next_loop() { return *loops_[next_loop_++ % loops_.size()]; }
  std::vector<NodeLoop*> all_loops();

  Scheduler& scheduler_;
  const NodePlan plan_;
  Trace trace_;
  NodeClock clock_;
  NodeRandom random_;
  NodeLoop control_;
  std::vector<std::unique_ptr<NodeLoop>> loops_;
  SimDisk disk_;
  SimHost* host_;
  std::unique_ptr<Process> process_;
  State state_ = State::dead;
  bool paused_ = false;
  bool over_ = false;    // the process wants to end
  std::string died_of_;  // and why, if it was no stop
  uint64_t life_ = 0;
  int64_t started_us_ = 0;
  size_t next_loop_ = 0;
};

/// What the running node that has applied most knows; null if none runs. A node that starts may know an image
/// in which it still has what was moved away since.
std::shared_ptr<const meta::Image> newest_image(const std::vector<std::unique_ptr<SimNode>>& nodes);

}  // namespace millrace::sim
