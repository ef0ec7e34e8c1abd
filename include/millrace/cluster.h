// A Kafka-compatible cluster inside your own test or program: real brokers on loopback ports, in this
// process, that can be killed, stopped, paused, cut off and started again while your clients use them.
//
//   millrace::Cluster cluster({.brokers = 3});
//   run_my_producer(cluster.bootstrap_servers());
//   cluster.kill(*cluster.leader("orders", 0));     // as kill -9 would
//   cluster.wait_until_ready(std::chrono::seconds(10));
//
// In CMake: find_package(Millrace) or add_subdirectory, then link millrace::cluster. C++20; this header needs
// nothing but the standard library.
//
// What a cluster does by default: topics are created when they are used, with three replicas (fewer if there
// are fewer brokers) of which two must have a record; acks=all means fsynced; groups form without delay.
// Every key of Kafka's broker configuration that Millrace knows may be given in `settings`.
//
// Threads: the brokers have their own; no signal is delivered to them. Functions may be called from any
// thread, one command is carried out at a time. Errors are ClusterError.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if defined(__GNUC__)
#define MILLRACE_API __attribute__((visibility("default")))
#else
#define MILLRACE_API
#endif

namespace millrace {

/// No such broker, one that is not in a state for the command, a time that ran out; what() says which.
class MILLRACE_API ClusterError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ClusterOptions {
  int brokers = 3;  // 1 to 9; their ids are 1, 2, ...
  /// The port of broker 1, the next one for broker 2 and so on; 0: any that are free.
  uint16_t port = 0;
  /// Where the data lie, kept when the cluster ends; made if it is not there. Empty: a temporary directory,
  /// removed at the end.
  std::string directory = {};
  /// key=value for every broker, with Kafka's names: "log.segment.bytes=1048576".
  std::vector<std::string> settings = {};
  /// How long the constructor waits for the brokers to serve.
  std::chrono::milliseconds start_timeout = std::chrono::seconds(60);
  /// Given the lines of the brokers' log, from their threads, one at a time; empty: they say nothing.
  std::function<void(std::string_view line)> log = {};
};

class MILLRACE_API Cluster {
 public:
  /// Starts the brokers; they serve when it returns. Throws ClusterError: a port is taken, a directory is in
  /// use or of another cluster, a setting is wrong, it took too long.
  explicit Cluster(ClusterOptions options = {});
  /// Stops all of them, whatever their state; removes a temporary directory.
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  /// "127.0.0.1:20123,127.0.0.1:21345,...": of all brokers, whatever their state. A broker keeps its port.
  std::string bootstrap_servers() const;
  int brokers() const;
  /// Where the data lie: broker N's in broker-N below it.
  const std::string& directory() const;

  /// Ends a broker at once, without any cleaning up: connections break, what was written but not synced stays
  /// as kill -9 leaves it, nobody is told.
  void kill(int broker);
  /// Ends a broker cleanly: what it leads is led by others first.
  void stop(int broker);
  /// Starts a broker that was killed or stopped, on its own data. It serves when this returns, unless it
  /// cannot yet: most brokers must run, and it must not be isolated.
  void start(int broker, std::chrono::milliseconds timeout = std::chrono::seconds(60));
  /// Lets a broker stand still, as SIGSTOP would: connections stay open, nothing is read or answered.
  void pause(int broker);
  void resume(int broker);
  /// From now on nothing passes between it and the other brokers, and with `clients_too` nothing between it
  /// and clients: connections stay open and silent, new ones get no answer. Holds across kill() and start().
  void isolate(int broker, bool clients_too = false);
  /// Everything passes again; what was held back arrives.
  void heal(int broker);

  /// Blocks until every broker that runs and is not isolated knows of the others, every partition is led by
  /// one of them, and all replicas on them are in sync.
  void wait_until_ready(std::chrono::milliseconds timeout);

  /// The broker that leads the partition; nothing if there is none or no such partition.
  std::optional<int> leader(const std::string& topic, int partition) const;
  /// The broker that is the active controller.
  std::optional<int> controller() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace millrace
