// A network with a gate in it, for a node that shares its process with others: what passes can be stopped as
// a broken switch or cable would stop it. Connections stay open and hold what is sent; what arrives is not
// read; new ones are not made; nobody is told. When the gate opens, all of it goes on. A node that is killed
// loses its connections at once.
//
// It wraps any io::Network. What listens by first bytes and what connects is traffic with other nodes, plain
// listeners are for clients.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "io/network.h"

namespace millrace::server {

/// Whom a node can talk to.
enum class Reach : uint8_t { everyone, clients, nobody };

class GatedStream;

class GatedNetwork final : public io::Network {
 public:
  enum class Traffic : uint8_t { clients, nodes };

  /// The listeners and streams of it must be gone before it is; its loops may be stopped by then.
  GatedNetwork(io::Network& inner, Reach reach);
  ~GatedNetwork() override;

  // From any thread. What was given to the kernel before is under way and still arrives.
  void set(Reach reach);
  /// For ever: connections are closed without a last word, new ones are refused.
  void cut();

  Result<std::unique_ptr<io::Listener>> listen(
      const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(
      const io::Endpoint& endpoint, size_t count, int64_t timeout_ms,
      std::function<io::Loop&(ByteView)> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  /// While the gate is shut the attempt waits for it, at most until `timeout_ms` (timed_out).
  void connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
               std::function<void(Result<std::unique_ptr<io::Stream>>)> done) override;

 private:
  friend class GatedStream;
  struct Attempt;
  struct Local;

  bool is_cut() const { return cut_.load(std::memory_order_acquire); }
  bool is_shut(Traffic traffic) const;
  Local& local(io::Loop& loop);
  std::unique_ptr<io::Stream> wrap(io::Loop& loop, Traffic traffic, std::unique_ptr<io::Stream> stream);
  void start(Local& at, const std::shared_ptr<Attempt>& attempt);
  void tell_loops();
  void apply(Local& at);

  io::Network& inner_;
  std::atomic<Reach> reach_;
  std::atomic<bool> cut_{false};
  std::mutex mutex_;  // of the map; what it holds belongs to the loops
  std::map<io::Loop*, std::unique_ptr<Local>> locals_;
};

}  // namespace millrace::server
