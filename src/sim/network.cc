#include "sim/network.h"

#include <algorithm>

#include "sim/connection.h"

namespace millrace::sim {

namespace {

constexpr uint32_t kPacketEvent = 5;
constexpr int64_t kRepeatUsMax = 200'000;  // until TCP tries again
constexpr int64_t kLoopbackUs = 20;

}  // namespace

class SimHost::PortListener final : public io::Listener {
 public:
  PortListener(SimHost& host, io::Endpoint at, std::shared_ptr<Port> port)
      : host_(host), life_(host.life_), at_(std::move(at)), port_(std::move(port)) {}
  ~PortListener() override {
    port_->closed = true;
    if (life_ == host_.life_) host_.ports_.erase(at_.port);
  }
  io::Endpoint bound() const override { return at_; }

 private:
  SimHost& host_;
  const uint64_t life_;
  const io::Endpoint at_;
  const std::shared_ptr<Port> port_;
};

SimNetwork::~SimNetwork() = default;

SimHost& SimNetwork::add_host(const std::string& name, io::Loop& acceptor) {
  hosts_.push_back(std::make_unique<SimHost>(*this, hosts_.size(), name, acceptor));
  return *hosts_.back();
}

SimHost* SimNetwork::find(const std::string& name) {
  for (const auto& host : hosts_) {
    if (host->name() == name) return host.get();
  }
  return nullptr;
}

SimNetwork::Link& SimNetwork::link_of(size_t from, size_t to) {
  return links_.try_emplace({from, to}, usual).first->second;
}

SimNetwork::Link& SimNetwork::link(const SimHost& from, const SimHost& to) {
  return link_of(from.number(), to.number());
}

void SimNetwork::block(const SimHost& from, const SimHost& to) {
  if (&from != &to) link(from, to).blocked = true;
}

void SimNetwork::unblock(const SimHost& from, const SimHost& to) {
  link(from, to).blocked = false;
  const auto held = held_.find({from.number(), to.number()});
  if (held == held_.end()) return;
  std::vector<Packet> packets = std::move(held->second);
  held_.erase(held);
  const int64_t repeated = scheduler_.now_us() + dice_.between(0, kRepeatUsMax);
  for (Packet& p : packets) send(std::move(p), repeated);
}

void SimNetwork::clog(const SimHost& from, const SimHost& to, int64_t for_us) {
  Link& l = link(from, to);
  l.clogged_until_us = std::max(l.clogged_until_us, scheduler_.now_us() + for_us);
}

void SimNetwork::unclog() {
  for (auto& [pair, link] : links_) link.clogged_until_us = 0;
}

// Order is restored by the sequence numbers of the packets.
void SimNetwork::send(Packet packet, int64_t due_us) {
  const size_t from = packet.connection->end(1 - packet.to).host->number();
  const size_t to = packet.connection->end(packet.to).host->number();
  int64_t due = std::max(due_us, scheduler_.now_us());
  if (from == to) {
    due += kLoopbackUs;
  } else {
    const Link& l = link_of(from, to);
    due = std::max(due, l.clogged_until_us) + dice_.between(l.latency_us_min, l.latency_us_max);
  }
  scheduler_.at(due, kPacketEvent, [this, from, to, packet = std::move(packet)]() mutable {
    if (from != to && link_of(from, to).blocked) {
      ++counters.held;
      held_[{from, to}].push_back(std::move(packet));
      return;
    }
    arrive(std::move(packet));
  });
}

void SimNetwork::arrive(Packet packet) {
  const std::shared_ptr<Connection> connection = packet.connection;
  connection->arrive(std::move(packet));
}

std::vector<std::shared_ptr<Connection>> SimNetwork::living() {
  std::vector<std::shared_ptr<Connection>> all;
  for (auto it = connections_.begin(); it != connections_.end();) {
    if (std::shared_ptr<Connection> c = it->second.lock()) {
      all.push_back(std::move(c));
      ++it;
    } else {
      it = connections_.erase(it);
    }
  }
  return all;
}

bool SimNetwork::cut_one() {
  std::vector<std::shared_ptr<Connection>> open = living();
  std::erase_if(open, [](const std::shared_ptr<Connection>& c) { return !c->is_open(); });
  if (open.empty()) return false;
  Connection& chosen = *open[dice_.index(open.size())];
  ++counters.cuts;
  const uint64_t roll = dice_.below(100);
  if (roll < 30) {
    chosen.cut(3);
  } else if (roll < 50) {
    ++counters.half_open_made;
    chosen.cut(dice_.percent(50) ? 1 : 2);
  } else {
    chosen.end(dice_.index(2)).cut_after = dice_.index(2'000);
  }
  return true;
}

size_t SimNetwork::open_connections() const {
  size_t open = 0;
  for (const auto& [number, weak] : connections_) {
    const std::shared_ptr<Connection> c = weak.lock();
    open += c && c->is_open() ? size_t{1} : size_t{0};
  }
  return open;
}

// --- one host ---

void SimHost::drop_connections(bool tell) {
  const uint64_t past = life_++;
  for (auto& [number, port] : ports_) port->closed = true;
  ports_.clear();
  for (const std::shared_ptr<Connection>& c : network_.living()) {
    for (size_t i = 0; i < 2; ++i) {
      if (c->end(i).host == this && c->end(i).life == past) c->orphan(i, tell);
    }
  }
}

void SimHost::kill() {
  drop_connections(true);
}

void SimHost::off() {
  on_ = false;
  drop_connections(false);
}

Result<std::unique_ptr<io::Listener>> SimHost::open_port(const io::Endpoint& endpoint, Port port) {
  uint16_t number = endpoint.port;
  while (number == 0 || (endpoint.port == 0 && ports_.contains(number))) number = ++next_port_;
  if (ports_.contains(number)) {
    return Error(ErrorCode::already_exists, name_ + ":" + std::to_string(number) + ": address in use");
  }
  auto made = std::make_shared<Port>(std::move(port));
  ports_[number] = made;
  return std::unique_ptr<io::Listener>(
      std::make_unique<PortListener>(*this, io::Endpoint{name_, number}, std::move(made)));
}

Result<std::unique_ptr<io::Listener>> SimHost::listen(
    const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  Port port;
  port.choose = [choose = std::move(choose)](ByteView) -> io::Loop& { return choose(); };
  port.accepted = std::move(accepted);
  return open_port(endpoint, std::move(port));
}

Result<std::unique_ptr<io::Listener>> SimHost::listen_by_first_bytes(
    const io::Endpoint& endpoint, size_t count, int64_t timeout_ms, std::function<io::Loop&(ByteView)> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  Port port;
  port.choose = std::move(choose);
  port.accepted = std::move(accepted);
  port.first_bytes = count;
  port.timeout_ms = timeout_ms;
  return open_port(endpoint, std::move(port));
}

void SimHost::connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
                      std::function<void(Result<std::unique_ptr<io::Stream>>)> done) {
  SimHost* to = network_.find(endpoint.host);
  if (to == nullptr) {
    loop.post([done = std::move(done), name = endpoint.host] {
      done(Error(ErrorCode::not_found, name + ": no such host"));
    });
    return;
  }
  auto connection = std::make_shared<Connection>(network_, ++network_.last_connection_);
  network_.connections_.emplace(connection->number(), connection);
  Connection::End& here = connection->end(0);
  here.host = this;
  here.life = life_;
  here.loop = &loop;
  here.at = {name_, ++next_port_};
  Connection::End& there = connection->end(1);
  there.host = to;
  there.at = endpoint;
  connection->connected = std::move(done);
  // From whatever thread production allows; the timer belongs to the loop.
  loop.post([this, &loop, connection, timeout_ms] {
    if (!connection->connected) return;
    connection->connect_timer = loop.call_after(timeout_ms, [this, connection] {
      if (!connection->connected) return;
      ++network_.counters.connects_timed_out;
      connection->connect_failed(Error(ErrorCode::timed_out, "no answer"));
    });
    SimNetwork::Packet syn;
    syn.connection = connection;
    syn.to = 1;
    syn.kind = PacketKind::syn;
    syn.sequence = connection->end(0).next_sent++;
    network_.send(std::move(syn));
  });
}

}  // namespace millrace::sim
