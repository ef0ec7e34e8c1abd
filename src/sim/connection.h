// One connection of the simulated network: two ends, each with what it has not sent yet, what it has received
// and not been read, and the stream that its owner holds. Between the ends bytes travel as packets of
// SimNetwork.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "sim/network.h"

namespace millrace::sim {

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  /// What one end may have on its way and unread at the other, bytes.
  static constexpr size_t kWindow = size_t{256} << 10;

  struct End {
    SimHost* host = nullptr;
    uint64_t life = 0;  // of the process
    io::Loop* loop = nullptr;
    io::Endpoint at;
    io::StreamHandler* handler = nullptr;

    Bytes unsent;            // given to send(), from sent_from on
    size_t sent_from = 0;    //
    size_t on_the_way = 0;   // sent, and its room not given back
    Bytes arrived;           // [0, used) was consumed, [used, offered) is kept, the rest is in the kernel
    size_t used = 0;         //
    size_t offered = 0;      //
    size_t unreported = 0;   // read, and its room not given back
    uint64_t next_sent = 0;  // sequence of packets
    uint64_t next_due = 0;   //
    std::map<uint64_t, SimNetwork::Packet> early;
    std::optional<size_t> cut_after;  // bytes that still arrive
    Status why;

    bool open = false;  // can send and receive
    bool paused = false;
    bool closing = false;      // by the owner, once unsent is empty
    bool fin_arrived = false;  // the other end sends nothing more
    bool peer_closed = false;  // and that was seen
    bool offer_posted = false;
    bool again = false;  // kept bytes are to be offered, too
    bool flush_posted = false;
    bool reported = false;
  };

  Connection(SimNetwork& network, uint64_t number) : network_(network), number_(number) {}

  End& end(size_t i) { return ends_[i]; }
  uint64_t number() const { return number_; }
  bool is_open() const { return ends_[0].open && ends_[1].open; }

  void arrive(SimNetwork::Packet packet);
  /// A machine in between forgets it. `ends`: which of them learn of it now, as bits.
  void cut(size_t ends);
  /// The process at this end is gone; `tell`: the other end is told.
  void orphan(size_t i, bool tell);

  // Of the streams.
  void send(size_t i, const Payload& payload);
  size_t unsent_bytes(size_t i) const { return ends_[i].unsent.size() - ends_[i].sent_from; }
  void pause_reading(size_t i) { ends_[i].paused = true; }
  void resume_reading(size_t i);
  void close(size_t i, bool flush);
  void set_handler(size_t i, io::StreamHandler* handler);
  void abandon(size_t i);

  // Making it.
  std::function<void(Result<std::unique_ptr<io::Stream>>)> connected;  // of who asks, until it was told
  io::TimerId connect_timer = 0;
  void connect_failed(Error why);

 private:
  bool can_read(const End& e) const {
    return e.handler != nullptr && e.open && !e.paused && !e.closing && !e.peer_closed;
  }
  void process(SimNetwork::Packet packet);
  void on_syn();
  void on_syn_ack();
  void on_data(size_t i, Bytes bytes);
  void begin_accepting();
  void accept();
  void transmit(size_t i);
  void flush_soon(size_t i);
  void offer_soon(size_t i, bool again);
  void offer(size_t i);
  void on_fin(size_t i);
  /// This end is closed; its owner is told in a moment.
  void finish(size_t i, Status why);
  void report(size_t i);
  void packet(size_t from, PacketKind kind, Bytes bytes = {}, size_t window = 0);

  SimNetwork& network_;
  const uint64_t number_;
  std::array<End, 2> ends_;
  std::shared_ptr<SimHost::Port> accepting_;  // until its first bytes have come
};

}  // namespace millrace::sim
