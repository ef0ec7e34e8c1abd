#include "sim/connection.h"

#include <algorithm>

#include "io/disk.h"

namespace millrace::sim {

namespace {

constexpr size_t kReadMax = size_t{64} << 10;
constexpr size_t kChunkMax = size_t{16} << 10;
constexpr size_t kWindowReport = size_t{32} << 10;
constexpr int64_t kFlushMs = 10'000;

class SimStream final : public io::Stream {
 public:
  SimStream(std::shared_ptr<Connection> connection, size_t end)
      : connection_(std::move(connection)), end_(end) {}
  ~SimStream() override { connection_->abandon(end_); }

  void send(Payload payload) override { connection_->send(end_, payload); }
  size_t unsent_bytes() const override { return connection_->unsent_bytes(end_); }
  void pause_reading() override { connection_->pause_reading(end_); }
  void resume_reading() override { connection_->resume_reading(end_); }
  void close(bool flush) override { connection_->close(end_, flush); }
  void set_handler(io::StreamHandler* handler) override { connection_->set_handler(end_, handler); }
  io::Endpoint peer() const override { return connection_->end(1 - end_).at; }
  io::Endpoint local() const override { return connection_->end(end_).at; }

 private:
  const std::shared_ptr<Connection> connection_;
  const size_t end_;
};

}  // namespace

void Connection::packet(size_t from, PacketKind kind, Bytes bytes, size_t window) {
  SimNetwork::Packet p;
  p.connection = shared_from_this();
  p.to = 1 - from;
  p.kind = kind;
  p.bytes = std::move(bytes);
  p.window = window;
  p.sequence = ends_[from].next_sent++;
  network_.send(std::move(p));
}

// --- what arrives ---

// A dead process receives nothing; its machine, if it is on, says so.
void Connection::arrive(SimNetwork::Packet p) {
  End& e = ends_[p.to];
  if (!e.host->on_) return;
  if (p.kind == PacketKind::syn) e.life = e.host->life_;
  if (e.life != e.host->life_) {
    if (p.kind == PacketKind::reset || p.kind == PacketKind::refusal) return;
    ++network_.counters.half_open_found;
    packet(p.to, PacketKind::reset);
    return;
  }
  if (p.sequence != e.next_due) {
    e.early.emplace(p.sequence, std::move(p));
    return;
  }
  ++e.next_due;
  process(std::move(p));
  while (!e.early.empty() && e.early.begin()->first == e.next_due) {
    SimNetwork::Packet next = std::move(e.early.begin()->second);
    e.early.erase(e.early.begin());
    ++e.next_due;
    process(std::move(next));
  }
}

void Connection::process(SimNetwork::Packet p) {
  End& e = ends_[p.to];
  switch (p.kind) {
    case PacketKind::syn:
      return on_syn();
    case PacketKind::syn_ack:
      return on_syn_ack();
    case PacketKind::refusal:
      ++network_.counters.refused;
      return connect_failed(Error(ErrorCode::closed, "nobody listens"));
    case PacketKind::data:
      return on_data(p.to, std::move(p.bytes));
    case PacketKind::window:
      e.on_the_way -= p.window;
      return transmit(p.to);
    case PacketKind::fin:
      if (!e.open) return;
      e.fin_arrived = true;
      return offer_soon(p.to, false);
    case PacketKind::reset:
      if (!e.open) return;
      ++network_.counters.resets;
      return finish(p.to, Error(ErrorCode::io_error, "reset by the peer"));
  }
}

void Connection::on_syn() {
  End& e = ends_[1];
  const auto at = e.host->ports_.find(e.at.port);
  if (at == e.host->ports_.end()) return packet(1, PacketKind::refusal);
  ++network_.counters.connections;
  e.open = true;
  e.loop = &e.host->acceptor_;
  accepting_ = at->second;
  packet(1, PacketKind::syn_ack);
  begin_accepting();
}

void Connection::on_syn_ack() {
  End& e = ends_[0];
  if (!connected) return packet(0, PacketKind::reset);  // its time was up
  e.open = true;
  e.loop->post([self = shared_from_this(), life = e.life] {
    End& mine = self->ends_[0];
    if (mine.life != life || !self->connected) return;
    mine.loop->cancel(self->connect_timer);
    std::exchange(self->connected,
                  nullptr)(std::unique_ptr<io::Stream>(std::make_unique<SimStream>(self, 0)));
  });
}

void Connection::connect_failed(Error why) {
  End& e = ends_[0];
  e.loop->post([self = shared_from_this(), why = std::move(why)] {
    if (!self->connected) return;
    End& mine = self->ends_[0];
    mine.loop->cancel(self->connect_timer);
    const io::Endpoint& to = self->ends_[1].at;
    std::exchange(self->connected, nullptr)(
        Error(why.code, "connect to " + to.host + ":" + std::to_string(to.port) + ": " + why.message));
  });
}

void Connection::begin_accepting() {
  const std::shared_ptr<Connection> self = shared_from_this();
  if (accepting_->first_bytes == 0) {
    ends_[1].loop->post([self] { self->accept(); });
    return;
  }
  ends_[1].loop->post([self] {
    if (!self->accepting_) return;
    self->ends_[1].loop->call_after(self->accepting_->timeout_ms, [self] {
      if (!self->accepting_) return;
      self->accepting_ = nullptr;
      self->close(1, false);
    });
  });
}

void Connection::accept() {
  End& e = ends_[1];
  const std::shared_ptr<SimHost::Port> port = std::exchange(accepting_, nullptr);
  if (!port || e.life != e.host->life_ || !e.open) return;
  if (port->closed) return close(1, false);
  const ByteView first = ByteView(e.arrived).first(std::min(e.arrived.size(), port->first_bytes));
  io::Loop& loop = port->choose(first);
  e.loop = &loop;
  e.offer_posted = false;
  loop.post([self = shared_from_this(), port, &loop] {
    port->accepted(loop, std::make_unique<SimStream>(self, 1));
  });
}

void Connection::on_data(size_t i, Bytes bytes) {
  End& e = ends_[i];
  if (!e.open) return packet(i, PacketKind::reset);
  bool cutting = false;
  if (e.cut_after) {
    cutting = bytes.size() >= *e.cut_after;
    if (cutting) {
      ++network_.counters.cuts_inside;
      bytes.resize(std::exchange(*e.cut_after, 0));  // nor does anything that comes before the end is noticed
    } else {
      *e.cut_after -= bytes.size();
    }
  }
  network_.counters.bytes += bytes.size();
  ++network_.counters.chunks;
  network_.scheduler_.note(number_ * 2 + i);
  network_.scheduler_.note_bytes(bytes);
  e.arrived.insert(e.arrived.end(), bytes.begin(), bytes.end());
  if (accepting_ && i == 1) {
    if (accepting_->first_bytes > 0 && e.arrived.size() >= accepting_->first_bytes && !e.offer_posted) {
      e.offer_posted = true;
      e.loop->post([self = shared_from_this()] { self->accept(); });
    }
  } else {
    offer_soon(i, false);
  }
  if (!cutting) return;
  cut(size_t{2} >> i);
  // What came before is read before that is noticed.
  e.loop->post([self = shared_from_this(), i] { self->cut(size_t{1} << i); });
}

void Connection::cut(size_t ends) {
  for (size_t i = 0; i < 2; ++i) {
    if ((ends >> i & 1) != 0 && ends_[i].open) finish(i, Error(ErrorCode::io_error, "reset on the way"));
  }
}

void Connection::orphan(size_t i, bool tell) {
  End& e = ends_[i];
  const bool was_open = std::exchange(e.open, false);
  e.handler = nullptr;
  if (i == 0) connected = nullptr;
  if (tell && was_open) packet(i, e.arrived.size() > e.offered ? PacketKind::reset : PacketKind::fin);
  e.arrived.clear();
  e.used = e.offered = 0;
  e.unsent.clear();
  e.sent_from = 0;
  e.early.clear();
}

// --- reading ---

void Connection::offer_soon(size_t i, bool again) {
  End& e = ends_[i];
  e.again = e.again || again;
  if (e.offer_posted || !e.open) return;
  e.offer_posted = true;
  e.loop->post([self = shared_from_this(), i] {
    self->ends_[i].offer_posted = false;
    self->offer(i);
  });
}

void Connection::offer(size_t i) {
  End& e = ends_[i];
  while (can_read(e) && (e.offered < e.arrived.size() || (e.again && e.offered > e.used))) {
    e.again = false;
    size_t read = std::min(e.arrived.size() - e.offered, kReadMax);
    // Some reads bring little, so that frames come in pieces.
    if (read > 1 && network_.dice_.percent(3)) read = 1 + network_.dice_.index(read);
    e.offered += read;
    e.unreported += read;
    // The handler may close and destroy the stream: the bytes stay until it returns.
    Bytes bytes = std::move(e.arrived);
    e.arrived.clear();
    const size_t used = std::exchange(e.used, 0);
    const size_t offered = std::exchange(e.offered, 0);
    const size_t taken = e.handler->on_bytes(MutableByteView(bytes.data() + used, offered - used));
    ASSERT(taken <= offered - used);
    if (!e.open || e.closing) return;
    e.arrived = std::move(bytes);
    e.used = used + taken;
    e.offered = offered;
    if (e.used == e.arrived.size()) {
      e.arrived.clear();
      e.used = e.offered = 0;
    } else if (e.used > kReadMax) {
      e.arrived.erase(e.arrived.begin(), e.arrived.begin() + static_cast<std::ptrdiff_t>(e.used));
      e.offered -= std::exchange(e.used, 0);
    }
    if (e.unreported >= kWindowReport) packet(i, PacketKind::window, {}, std::exchange(e.unreported, 0));
  }
  if (can_read(e) && e.fin_arrived && e.offered == e.arrived.size()) on_fin(i);
}

// Answers to what came just before the end are still gathered in this tick.
void Connection::on_fin(size_t i) {
  End& e = ends_[i];
  e.peer_closed = true;
  e.arrived.clear();
  e.used = e.offered = 0;
  e.loop->at_end_of_tick([self = shared_from_this(), i] {
    if (self->ends_[i].open && self->unsent_bytes(i) == 0) self->close(i, true);
  });
}

void Connection::resume_reading(size_t i) {
  if (!std::exchange(ends_[i].paused, false)) return;
  offer_soon(i, true);
}

void Connection::set_handler(size_t i, io::StreamHandler* handler) {
  End& e = ends_[i];
  e.handler = handler;
  if (handler == nullptr) return;
  if (!e.open) {
    e.loop->post([self = shared_from_this(), i] { self->report(i); });
  } else {
    offer_soon(i, true);
  }
}

// --- sending ---

void Connection::send(size_t i, const Payload& payload) {
  End& e = ends_[i];
  if (!e.open || e.closing || payload.empty()) return;
  for (const Payload::Piece& piece : payload.pieces()) {
    if (const Slice* slice = std::get_if<Slice>(&piece)) {
      e.unsent.insert(e.unsent.end(), slice->view().begin(), slice->view().end());
      continue;
    }
    const auto* region = dynamic_cast<const io::FileRegion*>(std::get<1>(piece).get());
    ASSERT(region != nullptr);
    Bytes bytes(region->length);
    const Result<size_t> got = region->file->read_at(region->position, bytes);
    if (!got.ok() || *got < region->length) {
      packet(i, PacketKind::reset);
      finish(i, got.ok() ? Error(ErrorCode::io_error, "shorter than what is sent of it")
                         : Error(got.error().code, got.error().message));
      return;
    }
    e.unsent.insert(e.unsent.end(), bytes.begin(), bytes.end());
  }
  flush_soon(i);
}

void Connection::flush_soon(size_t i) {
  if (std::exchange(ends_[i].flush_posted, true)) return;
  ends_[i].loop->at_end_of_tick([self = shared_from_this(), i] {
    self->ends_[i].flush_posted = false;
    self->transmit(i);
  });
}

void Connection::transmit(size_t i) {
  End& e = ends_[i];
  if (!e.open || unsent_bytes(i) == 0) return;
  while (unsent_bytes(i) > 0 && e.on_the_way < kWindow) {
    size_t n = std::min({unsent_bytes(i), kWindow - e.on_the_way, kChunkMax});
    if (n > 1 && network_.dice_.percent(2)) n = 1 + network_.dice_.index(n);
    const auto from = e.unsent.begin() + static_cast<std::ptrdiff_t>(e.sent_from);
    packet(i, PacketKind::data, Bytes(from, from + static_cast<std::ptrdiff_t>(n)));
    e.sent_from += n;
    e.on_the_way += n;
  }
  if (unsent_bytes(i) > 0) {
    ++network_.counters.windows_full;
    return;
  }
  e.unsent.clear();
  e.sent_from = 0;
  if (e.closing || e.peer_closed) {
    packet(i, PacketKind::fin);
    finish(i, {});
  } else if (e.handler != nullptr) {
    e.loop->post([self = shared_from_this(), i] {
      const End& now = self->ends_[i];
      if (now.open && now.handler != nullptr && self->unsent_bytes(i) == 0) now.handler->on_drained();
    });
  }
}

// --- the end ---

void Connection::close(size_t i, bool flush) {
  End& e = ends_[i];
  if (!e.open) return;
  if (flush && unsent_bytes(i) > 0) {
    if (std::exchange(e.closing, true)) return;
    // A peer that does not read may not hold us for ever.
    e.loop->call_after(kFlushMs, [self = shared_from_this(), i] {
      if (!self->ends_[i].open) return;
      self->packet(i, PacketKind::reset);
      self->finish(i, Error(ErrorCode::timed_out, "the peer did not take the last bytes"));
    });
    return;
  }
  packet(i, e.arrived.size() > e.offered ? PacketKind::reset : PacketKind::fin);
  finish(i, {});
}

void Connection::abandon(size_t i) {
  End& e = ends_[i];
  e.handler = nullptr;
  if (e.life == e.host->life_ && !e.closing) close(i, false);
}

void Connection::finish(size_t i, Status why) {
  End& e = ends_[i];
  e.open = false;
  e.why = std::move(why);
  e.unsent.clear();
  e.sent_from = 0;
  e.arrived.clear();
  e.used = e.offered = 0;
  e.loop->post([self = shared_from_this(), i] { self->report(i); });
}

void Connection::report(size_t i) {
  End& e = ends_[i];
  if (e.handler == nullptr || std::exchange(e.reported, true)) return;
  std::exchange(e.handler, nullptr)->on_closed(e.why);
}

}  // namespace millrace::sim
