// What all simulated clients share: a machine of their own, a client of the real protocol on it, and the
// world they work in.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/client.h"
#include "sim/knobs.h"
#include "sim/network.h"
#include "sim/rare_states.h"
#include "sim/recorder.h"
#include "sim/scheduler.h"

namespace millrace::sim {

/// How often something was met, by name.
using Counts = std::map<std::string, uint64_t, std::less<>>;

struct World {
  World(uint64_t seed_, Knobs knobs_)
      : seed(seed_),
        knobs(std::move(knobs_)),
        network(scheduler, Dice(seed_, "network")),
        recorder(scheduler) {}

  const uint64_t seed;
  const Knobs knobs;
  Scheduler scheduler;
  SimNetwork network;
  Recorder recorder;
  Counts counts;
  std::vector<io::Endpoint> bootstrap;
  /// Topics whose records are judged; those that are there.
  std::map<std::string, int32_t> topics;  // partitions, as far as the administrator knows
  RareCounts met{};
  // What the run knows of itself, as no node does.
  std::map<std::pair<std::string, int32_t>, int64_t> ends;  // of partitions, as the newest leader had them
  std::set<int32_t> emptied;            // nodes whose disks were lost and that are not whole again
  std::set<int32_t> forgetful;          // nodes whose disks were ever lost: what they promised is gone
  int64_t votes_in_doubt_until_us = 0;  // somebody may be about to lose or get a vote
  int32_t draining = -1;                // the node that is being emptied
  size_t blocked_links = 0;             // between nodes
  bool producing = false;
  bool consuming = false;
  /// Told every step, if set.
  std::function<void(const std::string&)> narrate;
  std::string violation;  // the first

  void say(const std::string& line) {
    if (narrate) narrate(line);
  }
  void count(std::string_view name, uint64_t n = 1) {
    const auto at = counts.find(name);
    if (at != counts.end()) {
      at->second += n;
    } else {
      counts.emplace(name, n);
    }
  }
  /// `state`: rare("name").
  void meet(size_t state) { ++met[state]; }
  void fail(std::string what) {
    if (!violation.empty()) return;
    violation = std::move(what);
    say("VIOLATION " + violation);
  }
};

class ClientProcess {
 public:
  ClientProcess(World& world, std::string name);
  virtual ~ClientProcess() = default;
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  /// Begins to work; again after kill().
  void start();
  /// The process dies: what it was doing never returns.
  void kill();
  bool runs() const { return client_ != nullptr; }
  const std::string& name() const { return name_; }
  SimHost& host() { return host_; }
  /// Nothing is under way.
  virtual bool idle() const = 0;

 protected:
  /// On the loop.
  virtual void begin() = 0;
  /// The client is still there.
  virtual void drop() = 0;
  virtual client::ClientOptions options() const;
  void later(int64_t ms, std::function<void()> f) { loop_.call_after(ms, std::move(f)); }
  client::Client& client() { return *client_; }

  World& world_;
  const std::string name_;
  Dice dice_;
  NodeClock clock_;
  NodeLoop loop_;
  SimHost& host_;
  std::unique_ptr<client::Client> client_;
};

/// A random partition of those that are judged; false: there is none yet.
bool pick_partition(World& world, Dice& dice, std::string& topic, int32_t& partition);

}  // namespace millrace::sim
