#include "server/node.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <utility>

#include "millrace/version.h"

namespace millrace::server {
namespace {

constexpr size_t kDiskThreads = 4;
// What is not for data files: sockets, the metadata log, standard streams.
constexpr uint64_t kDescriptorReserve = 512;
constexpr size_t kInternalConnectionsMax = 10'000;
constexpr int64_t kFirstBytesTimeoutMs = 5'000;
constexpr std::chrono::milliseconds kGiveUpCheck{50};

meta::SecurityProtocol protocol_of(SecurityProtocol p) {
  switch (p) {
    case SecurityProtocol::plaintext:
      return meta::SecurityProtocol::plaintext;
    case SecurityProtocol::ssl:
      return meta::SecurityProtocol::ssl;
    case SecurityProtocol::sasl_plaintext:
      return meta::SecurityProtocol::sasl_plaintext;
    case SecurityProtocol::sasl_ssl:
      return meta::SecurityProtocol::sasl_ssl;
  }
  return meta::SecurityProtocol::plaintext;
}

size_t descriptors_for_files(uint64_t limit, size_t connections) {
  const uint64_t taken = kDescriptorReserve + std::min<uint64_t>(connections, limit / 2);
  return static_cast<size_t>(limit > taken + 64 ? limit - taken : 64);
}

}  // namespace

// Loops that wait in one event for its end.
struct Node::Standstill {
  std::mutex mutex;
  std::condition_variable moved;
  size_t standing = 0;
  bool over = false;
};

Node::Node(ServerConfig config, TraceSink* sink, std::function<void()> on_storage_lost,
           Neighbourhood neighbourhood)
    : config_(std::move(config)),
      neighbourhood_(neighbourhood),
      on_storage_lost_(std::move(on_storage_lost)),
      trace_(sink, "server", config_.log_level) {
  const size_t loop_count = config_.loops != 0 ? config_.loops : host_.cores();
  const auto connections_max = static_cast<size_t>(config_.number("max.connections"));
  disk_ = std::make_unique<io::PosixDisk>(
      io::PosixDiskOptions{descriptors_for_files(host_.descriptor_limit() / neighbourhood_.nodes,
                                                 connections_max / neighbourhood_.nodes),
                           kDiskThreads});
  control_ = std::make_unique<net::LoopThread>(net::LoopOptions{"control", 0});
  loops_ = std::make_unique<net::LoopGroup>(loop_count, net::LoopOptions{"loop", 0});
  net::TcpOptions tcp;
  // Only what was asked for: otherwise the kernel tunes the buffers itself.
  const auto buffer_bytes = [this](std::string_view key) {
    const bool given = config_.value(key).source != ConfigSource::default_value;
    return given ? static_cast<int>(std::max<int64_t>(config_.number(key), 0)) : 0;
  };
  tcp.socket.send_buffer_bytes = buffer_bytes("socket.send.buffer.bytes");
  tcp.socket.receive_buffer_bytes = buffer_bytes("socket.receive.buffer.bytes");
  tcp.backlog = static_cast<int>(config_.number("socket.listen.backlog.size"));
  network_ = std::make_unique<net::TcpNetwork>(*control_, tcp, disk_.get(), trace_.named("net"));
  if (neighbourhood_.gated) gate_ = std::make_unique<GatedNetwork>(*network_, neighbourhood_.reach);
}

Node::~Node() = default;

Status Node::start(const std::function<bool()>& give_up) {
  begun_ns_ = clock_.mono_ns();
  for (const ConfigNote& note : config_.notes()) {
    if (note.level >= TraceLevel::warn) {
      trace_.warn("{}", note.message);
    } else {
      trace_.info("{}", note.message);
    }
  }
  control_->start();
  loops_->start();

  const Status status = run_start(give_up);
  if (status.code() == ErrorCode::cancelled) {
    (void)stop();  // it has said what went wrong
    return status;
  }
  if (!status.ok()) {
    stop_admin();
    listeners_.clear();
    // The broker was not stopped: nothing turns any more that could give the pool work, before the pool ends.
    loops_->stop();
    control_->stop();
    disk_->stop();
    early_.clear();
    connections_.clear();
    internal_connections_.reset();
    return status;
  }
  serving_ = true;
  begin_accepting();
  announce();
  return {};
}

// The admin listener comes first: whoever asks it is told what a start waits for.
Status Node::run_start(const std::function<bool()>& give_up) {
  TRY(bind_listeners());
  make_broker();
  TRY(listen_admin());
  return wait_for_broker(give_up);
}

// Bound before the broker starts, so that the advertised ports are known and a taken port is told at once;
// whoever connects meanwhile is read when the broker is ready.
Status Node::bind_listeners() {
  early_.resize(loops_->size());
  for (const Listener& l : config_.listeners) {
    if (l.protocol != SecurityProtocol::plaintext) {
      return Error(ErrorCode::invalid_config, l.name + ": " +
                                                  std::string(security_protocol_name(l.protocol)) +
                                                  " is not served yet: use PLAINTEXT");
    }
    auto made = network().listen(
        {l.address.host, l.address.port}, [this]() -> io::Loop& { return loops_->next(); },
        [this, name = l.name](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
          for (size_t i = 0; i < loops_->size(); ++i) {
            if (&loops_->at(i) != &loop) continue;
            if (serving_) {
              connections_[i]->add(name, std::move(stream));
            } else {
              early_[i].emplace_back(name, std::move(stream));
            }
          }
        });
    if (!made.ok()) {
      return Error(made.code(),
                   "listener " + l.name + "://" + l.address.to_string() + ": " + made.error().message);
    }
    listeners_.push_back(std::move(*made));
  }
  return {};
}

broker::BrokerConfig Node::broker_config() const {
  broker::BrokerConfig c;
  c.node_id = config_.node_id;
  c.cluster_id = config_.cluster_id.value_or("");
  c.log_dirs = config_.log_dirs;
  for (size_t i = 0; i < config_.listeners.size(); ++i) {
    const Listener& l = config_.listeners[i];
    meta::Endpoint e;
    e.name = l.name;
    e.host = l.advertised.host.empty() ? host_.hostname() : l.advertised.host;
    e.port = l.advertised.port != 0 ? l.advertised.port : listeners_[i]->bound().port;
    e.protocol = protocol_of(l.protocol);
    c.advertised.push_back(std::move(e));
  }
  for (const QuorumVoter& v : config_.voters) c.voters.push_back({v.id, {v.address.host, v.address.port}});
  for (const HostPort& b : config_.bootstrap_controllers) c.bootstrap.push_back({b.host, b.port});
  if (!config_.controller_listeners.empty()) {
    const Listener& l = config_.controller_listeners.front();
    meta::Endpoint e;
    e.name = l.name;
    e.host = l.advertised.host.empty() ? host_.hostname() : l.advertised.host;
    e.port = l.advertised.port != 0 ? l.advertised.port : l.address.port;
    e.protocol = protocol_of(l.protocol);
    c.internal = std::move(e);
  }
  c.is_broker = config_.is_broker;
  c.is_controller = config_.is_controller;
  c.rack = config_.rack;
  c.settings = std::make_shared<const meta::ConfigValues>(config_.given());
  c.fetch_bytes_max = static_cast<size_t>(config_.number("fetch.max.bytes"));
  c.recovery_threads = config_.recovery_threads;
  return c;
}

void Node::make_broker() {
  broker::BrokerEnvironment environment;
  for (size_t i = 0; i < loops_->size(); ++i) environment.loops.push_back(&loops_->at(i));
  environment.control_loop = control_.get();
  environment.disk = disk_.get();
  environment.network = &network();
  environment.clock = &clock_;
  environment.random = &random_;
  environment.host = &host_;
  environment.metrics = &metrics_;
  environment.trace = trace_;
  environment.on_all_directories_failed = [this] {
    trace_.error("every data directory failed: the node ends; start it again when they are mended");
    if (on_storage_lost_) on_storage_lost_();
  };
  broker_ = std::make_unique<broker::Broker>(std::move(environment), broker_config());
  dispatcher_ = std::make_unique<broker::Dispatcher>(*broker_);
  register_process_metrics();

  const link::ConnectionLimits limits{
      .frame_bytes_max = static_cast<size_t>(config_.number("socket.request.max.bytes")),
      .in_flight_max = static_cast<size_t>(config_.number("queued.max.requests")),
      .idle_ms_max = config_.number("connections.max.idle.ms"),
  };
  const size_t per_loop =
      std::max<size_t>(static_cast<size_t>(config_.number("max.connections")) / loops_->size(), 1);
  for (size_t i = 0; i < loops_->size(); ++i) {
    connections_.push_back(std::make_unique<link::ConnectionSet>(loops_->at(i), i, clock_, *dispatcher_,
                                                                 limits, per_loop, trace_.named("net")));
  }
  internal_service_ = std::make_unique<broker::InternalService>(*broker_);
  internal_connections_ =
      std::make_unique<link::ConnectionSet>(*control_, loops_->size(), clock_, *internal_service_, limits,
                                            kInternalConnectionsMax, trace_.named("net"));
}

Status Node::wait_for_broker(const std::function<bool()>& give_up) {
  TRY(listen_internal());
  auto ready = std::make_shared<std::promise<Status>>();
  std::future<Status> outcome = ready->get_future();
  broker_->start([ready](Status s) { ready->set_value(std::move(s)); });
  while (outcome.wait_for(kGiveUpCheck) != std::future_status::ready) {
    if (give_up && give_up()) return Error(ErrorCode::cancelled, "stopped before it served");
  }
  return outcome.get();
}

// Other nodes may talk to this one before it serves clients: together they form the quorum.
Status Node::listen_internal() {
  for (const Listener& l : config_.controller_listeners) {
    if (l.protocol != SecurityProtocol::plaintext) {
      return Error(ErrorCode::invalid_config, l.name + ": " +
                                                  std::string(security_protocol_name(l.protocol)) +
                                                  " is not served yet: use PLAINTEXT");
    }
    auto made = network().listen_by_first_bytes(
        {l.address.host, l.address.port}, broker::kFirstBytes, kFirstBytesTimeoutMs,
        [this](ByteView first) -> io::Loop& {
          return broker::begins_private(first) ? static_cast<io::Loop&>(*control_) : loops_->next();
        },
        [this, name = l.name](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
          if (&loop == control_.get()) {
            internal_connections_->add(name, std::move(stream));
            return;
          }
          for (size_t i = 0; i < loops_->size(); ++i) {
            if (&loops_->at(i) == &loop) connections_[i]->add(name, std::move(stream));
          }
        });
    if (!made.ok()) {
      return Error(made.code(),
                   "listener " + l.name + "://" + l.address.to_string() + ": " + made.error().message);
    }
    listeners_.push_back(std::move(*made));
  }
  return {};
}

void Node::begin_accepting() {
  for (size_t i = 0; i < loops_->size(); ++i) {
    loops_->at(i).post([this, i] {
      for (auto& [name, stream] : early_[i]) connections_[i]->add(name, std::move(stream));
      early_[i].clear();
      connections_[i]->sweep();
    });
  }
}

Status Node::listen_admin() {
  if (!config_.admin_listener) return {};
  admin_ = std::make_unique<AdminHttp>(*network_, *control_);
  admin_->route("/metrics", [this] { return metrics(); });
  admin_->route("/health", [this] { return health(); });
  const HostPort& at = *config_.admin_listener;
  const Status listening = admin_->listen({at.host, at.port});
  if (!listening.ok()) {
    return Error(listening.code(), "admin.listener " + at.to_string() + ": " + listening.error().message);
  }
  return {};
}

// Some of the data are out of reach as soon as one directory failed: whoever runs the node should know.
HttpReply Node::metrics() const {
  if (!serving_ && !ending_) return {503, "text/plain; charset=utf-8", "starting\n"};
  return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_.expose()};
}

void Node::stop_admin() {
  if (!admin_) return;
  std::promise<void> closed;
  control_->post([&closed, admin = admin_.get()] {
    admin->stop();
    closed.set_value();
  });
  closed.get_future().wait();
}

HttpReply Node::health() const {
  const auto unwell = [](std::string_view status, const std::string& reason) {
    std::string quoted;
    for (const char c : reason) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return HttpReply{503, "application/json",
                     "{\"status\":\"" + std::string(status) + "\",\"reason\":\"" + quoted + "\"}\n"};
  };
  if (ending_) return {503, "application/json", "{\"status\":\"stopping\"}\n"};
  if (!serving_) return unwell("starting", "waiting for " + broker_->waiting_for());
  const std::string ailment = broker_->ailment();
  if (!ailment.empty()) return unwell("storage_failed", ailment);
  return {200, "application/json", "{\"status\":\"ok\"}\n"};
}

void Node::announce() const {
  trace_.info("millrace {} serves as node {} of cluster {}, started in {} ms", kVersion, config_.node_id.v,
              cluster_id(), (clock_.mono_ns() - begun_ns_) / 1'000'000);
  for (size_t i = 0; i < config_.listeners.size(); ++i) {
    const io::Endpoint at = listeners_[i]->bound();
    const meta::Endpoint& told = broker_->config().advertised[i];
    trace_.info("listener {}://{}:{}, clients are told {}:{}", config_.listeners[i].name, at.host, at.port,
                told.host, told.port);
  }
  if (admin_)
    trace_.info("admin http://{}:{} (/metrics, /health)", admin_->bound().host, admin_->bound().port);
  for (const std::string& d : config_.log_dirs) trace_.info("data directory {}", d);
  const std::string durability = config_.text("log.durability");
  trace_.info("durability {}: {}", durability,
              durability == "fsync" ? "acks=all and consumers wait for fdatasync"
                                    : "acks=all is in the page cache, synced in the background");
}

std::vector<std::pair<std::string, io::Endpoint>> Node::bound() const {
  std::vector<std::pair<std::string, io::Endpoint>> out;
  for (size_t i = 0; i < config_.listeners.size(); ++i)
    out.emplace_back(config_.listeners[i].name, listeners_[i]->bound());
  return out;
}

uint16_t Node::admin_port() const {
  return admin_ ? admin_->bound().port : 0;
}

void Node::register_process_metrics() {
  metrics_.gauge("millrace_info", "Version and identity.", [this](MetricsRegistry::Samples& s) {
    s.push_back({{{"version", std::string(kVersion)}, {"node_id", std::to_string(config_.node_id.v)}}, 1});
  });
  metrics_.gauge("process_resident_memory_bytes", "Resident memory.", [this](MetricsRegistry::Samples& s) {
    s.push_back({{}, static_cast<double>(host_.resident_bytes())});
  });
  metrics_.computed_counter(
      "process_cpu_seconds_total", "CPU time used.",
      [this](MetricsRegistry::Samples& s) { s.push_back({{}, static_cast<double>(host_.cpu_ns()) * 1e-9}); });
  metrics_.gauge("millrace_open_files", "Descriptors of data files that are open.",
                 [this](MetricsRegistry::Samples& s) {
                   s.push_back({{}, static_cast<double>(disk_->open_descriptors())});
                 });
}

io::Network& Node::network() {
  if (gate_) return *gate_;
  return *network_;
}

std::vector<io::Loop*> Node::all_loops() {
  std::vector<io::Loop*> all{control_.get()};
  for (size_t i = 0; i < loops_->size(); ++i) all.push_back(&loops_->at(i));
  return all;
}

void Node::kill() {
  ASSERT(gate_ != nullptr);
  killed_ = true;
  // First the world stops hearing of it: what is not on disk after that was promised to nobody.
  gate_->cut();
  disk_->sever();
}

void Node::pause() {
  ASSERT(standstill_ == nullptr);
  standstill_ = std::make_shared<Standstill>();
  const std::vector<io::Loop*> loops = all_loops();
  for (io::Loop* loop : loops) {
    loop->post([s = standstill_] {
      std::unique_lock lock(s->mutex);
      ++s->standing;
      s->moved.notify_all();
      s->moved.wait(lock, [&] { return s->over; });
    });
  }
  std::unique_lock lock(standstill_->mutex);
  standstill_->moved.wait(lock, [&] { return standstill_->standing == loops.size(); });
}

void Node::resume() {
  const auto standstill = std::exchange(standstill_, nullptr);
  if (standstill == nullptr) return;
  const std::lock_guard lock(standstill->mutex);
  standstill->over = true;
  standstill->moved.notify_all();
}

std::shared_ptr<const broker::View> Node::view(std::chrono::milliseconds timeout) {
  auto seen = std::make_shared<std::promise<std::shared_ptr<const broker::View>>>();
  auto outcome = seen->get_future();
  loops_->at(0).post([this, seen] { seen->set_value(broker_->shard(0).view); });
  return outcome.wait_for(timeout) == std::future_status::ready ? outcome.get() : nullptr;
}

// What is led here is led elsewhere first, then clients go, then the broker, then the pool and the loops it
// posts to.
Status Node::stop() {
  ending_ = true;
  resume();
  if (!killed_) {
    trace_.info("stopping");
    std::promise<void> left;
    broker_->leave([&left] { left.set_value(); });
    left.get_future().wait();
  }
  serving_ = false;
  listeners_.clear();
  for (size_t i = 0; i < loops_->size(); ++i) {
    std::promise<void> closed;
    loops_->at(i).post([&closed, set = connections_[i].get()] {
      set->close_all(true);
      closed.set_value();
    });
    closed.get_future().wait();
  }
  std::promise<void> cut;
  control_->post([this, &cut] {
    internal_connections_->close_all(true);
    cut.set_value();
  });
  cut.get_future().wait();
  std::promise<Status> done;
  broker_->stop([&done](Status s) { done.set_value(std::move(s)); });
  const Status status = done.get_future().get();
  stop_admin();
  if (!killed_) disk_->stop();
  // What a killed broker's loops would still ask of its severed disk is not asked: nobody waits for it.
  loops_->stop();
  control_->stop();
  disk_->stop();
  early_.clear();
  connections_.clear();
  internal_connections_.reset();
  if (killed_) return status;
  if (status.ok()) {
    trace_.info("stopped cleanly");
  } else {
    trace_.error("stopped, but not cleanly: {}", status.error().message);
  }
  return status;
}

}  // namespace millrace::server
