// A network in memory that fails as networks fail: byte streams between the hosts of a simulation, in virtual
// time. Deterministic from its seed.
//
// A host is one machine with one process: it has a name, listens and connects (io::Network), and may be
// paused, killed or switched off. What travels between two hosts goes over a directed link: it takes a while,
// stays in order per connection, and waits while the link is blocked, as TCP repeats what is lost; so a
// partition by itself breaks nothing that is open, it only lets time pass.
//
//   kill        the process is gone, the machine answers: what was open is reset, who connects is refused
//   switch off  silence: nothing is told to anybody; the machine answers again (with resets) when it is on
//   pause       the kernel goes on: connections are made, bytes arrive until the buffers are full
//   cut         one connection ends in both directions, after some byte of what was under way
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/network.h"
#include "sim/dice.h"
#include "sim/scheduler.h"

namespace millrace::sim {

class SimHost;
class Connection;

enum class PacketKind : uint8_t { syn, syn_ack, refusal, data, window, fin, reset };

struct NetworkCounters {
  uint64_t connections = 0, refused = 0, connects_timed_out = 0, resets = 0, cuts = 0, cuts_inside = 0,
           chunks = 0, bytes = 0, held = 0, windows_full = 0, half_open_made = 0, half_open_found = 0;
};

class SimNetwork {
 public:
  struct Link {
    int64_t latency_us_min = 50;
    int64_t latency_us_max = 400;
    bool blocked = false;
    int64_t clogged_until_us = 0;  // what is sent before arrives after
  };

  SimNetwork(Scheduler& scheduler, Dice dice) : scheduler_(scheduler), dice_(dice) {}
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  /// A machine of this name; its connections are accepted on `acceptor`, which lives as long as it.
  SimHost& add_host(const std::string& name, io::Loop& acceptor);

  /// Directed; both hosts exist. Of a host to itself: never blocked.
  Link& link(const SimHost& from, const SimHost& to);
  void block(const SimHost& from, const SimHost& to);
  /// What waited is delivered, in order.
  void unblock(const SimHost& from, const SimHost& to);
  /// By the numbers of the hosts.
  void unblock_numbers(size_t from, size_t to) { unblock(*hosts_[from], *hosts_[to]); }
  /// What is clogged is so no longer.
  void unclog();
  /// Everything that is sent in the next while takes until its end.
  void clog(const SimHost& from, const SimHost& to, int64_t for_us);
  /// Ends one of the connections that are open now, at once or after some further byte, for both ends or, to
  /// begin with, for one; false: there is none.
  bool cut_one();
  size_t open_connections() const;

  NetworkCounters counters;
  /// Everybody's latency: link() begins with it.
  Link usual;

 private:
  friend class SimHost;
  friend class Connection;
  /// Ends: 0 connected, 1 accepted.
  struct Packet {
    std::shared_ptr<Connection> connection;
    size_t to = 0;
    PacketKind kind = PacketKind::data;
    Bytes bytes;
    size_t window = 0;      // of a window: bytes that were read
    uint64_t sequence = 0;  // of those to this end
  };

  Link& link_of(size_t from, size_t to);
  /// Puts a packet on its way; not before `due_us`.
  void send(Packet packet, int64_t due_us = 0);
  void arrive(Packet packet);
  SimHost* find(const std::string& name);
  std::vector<std::shared_ptr<Connection>> living();

  Scheduler& scheduler_;
  Dice dice_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::map<std::pair<size_t, size_t>, Link> links_;
  std::map<std::pair<size_t, size_t>, std::vector<Packet>> held_;  // on blocked links
  std::map<uint64_t, std::weak_ptr<Connection>> connections_;      // by number, in order of making
  uint64_t last_connection_ = 0;
};

/// The network as the process on one machine sees it.
class SimHost final : public io::Network {
 public:
  SimHost(SimNetwork& network, size_t number, std::string name, io::Loop& acceptor)
      : network_(network), number_(number), name_(std::move(name)), acceptor_(acceptor) {}

  const std::string& name() const { return name_; }
  size_t number() const { return number_; }

  /// The process died. Its streams and listeners may still be destroyed, without effect.
  void kill();
  /// The machine lost power; on() brings it back, without a process.
  void off();
  void on() { on_ = true; }
  bool is_on() const { return on_; }

  // --- io::Network ---
  Result<std::unique_ptr<io::Listener>> listen(
      const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(
      const io::Endpoint& endpoint, size_t count, int64_t timeout_ms,
      std::function<io::Loop&(ByteView)> choose,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) override;
  void connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
               std::function<void(Result<std::unique_ptr<io::Stream>>)> done) override;

 private:
  friend class SimNetwork;
  friend class Connection;
  class PortListener;
  struct Port {
    std::function<io::Loop&(ByteView)> choose;
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted;
    size_t first_bytes = 0;  // are needed to choose the loop
    int64_t timeout_ms = 0;
    bool closed = false;
  };

  Result<std::unique_ptr<io::Listener>> open_port(const io::Endpoint& endpoint, Port port);
  void drop_connections(bool tell);

  SimNetwork& network_;
  const size_t number_;
  const std::string name_;
  io::Loop& acceptor_;
  bool on_ = true;
  uint64_t life_ = 1;  // of the process: a dead one's streams and listeners are of an earlier life
  uint16_t next_port_ = 40'000;
  std::map<uint16_t, std::shared_ptr<Port>> ports_;
};

}  // namespace millrace::sim
