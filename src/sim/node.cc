#include "sim/node.h"

#include <algorithm>

namespace millrace::sim {

namespace {

constexpr size_t kConnectionsMax = 1'000;
constexpr int64_t kFirstBytesTimeoutMs = 5'000;
constexpr std::string_view kClientListener = "PLAINTEXT";
constexpr std::string_view kInternalListener = "CONTROLLER";

std::string directory_path(BrokerId id, size_t index) {
  return "/" + SimNode::host_name(id) + "/d" + std::to_string(index);
}

meta::Endpoint endpoint_named(std::string_view listener, BrokerId id, uint16_t port) {
  meta::Endpoint e;
  e.name = listener;
  e.host = SimNode::host_name(id);
  e.port = port;
  e.protocol = meta::SecurityProtocol::plaintext;
  return e;
}

}  // namespace

SimNode::SimNode(Scheduler& scheduler, SimNetwork& network, NodePlan plan, TraceSink* sink, TraceLevel level)
    : scheduler_(scheduler),
      plan_(std::move(plan)),
      trace_(sink, host_name(plan_.id), level),
      clock_(scheduler),
      random_(Dice(plan_.seed, "random-" + host_name(plan_.id))),
      control_(scheduler, &clock_),
      disk_(scheduler, Dice(plan_.seed, "disk-" + host_name(plan_.id))),
      host_(&network.add_host(host_name(plan_.id), control_)) {
  for (size_t i = 0; i < plan_.data_loops; ++i)
    loops_.push_back(std::make_unique<NodeLoop>(scheduler, &clock_));
  for (size_t i = 0; i < plan_.directories; ++i) disk_.add_device(directory_path(plan_.id, i));
}

SimNode::~SimNode() {
  if (process_) kill();
}

std::vector<NodeLoop*> SimNode::all_loops() {
  std::vector<NodeLoop*> all{&control_};
  for (const auto& loop : loops_) all.push_back(loop.get());
  return all;
}

broker::BrokerConfig SimNode::config() const {
  broker::BrokerConfig c;
  c.node_id = plan_.id;
  for (size_t i = 0; i < plan_.directories; ++i) c.log_dirs.push_back(directory_path(plan_.id, i));
  c.advertised.push_back(endpoint_named(kClientListener, plan_.id, kClientPort));
  c.voters = plan_.voters;
  c.internal = endpoint_named(kInternalListener, plan_.id, kInternalPort);
  c.election_timeout_ms = plan_.election_timeout_ms;
  c.metadata_append_bytes = plan_.metadata_append_bytes;
  c.settings = plan_.settings;
  c.recovery_threads = plan_.recovery_threads;
  c.metadata_log = plan_.metadata_log;
  c.segment_bytes = plan_.segment_bytes;
  return c;
}

void SimNode::start() {
  ASSERT(state_ == State::dead && process_ == nullptr);
  ++life_;
  started_us_ = scheduler_.now_us();
  state_ = State::starting;
  over_ = false;
  died_of_.clear();
  make_process();
  listen();
  process_->broker->start([this](const Status& status) { on_ready(status); });
}

void SimNode::make_process() {
  process_ = std::make_unique<Process>();
  Process& p = *process_;
  broker::BrokerEnvironment e;
  for (const auto& loop : loops_) e.loops.push_back(loop.get());
  e.control_loop = &control_;
  e.disk = &disk_;
  e.network = host_;
  e.clock = &clock_;
  e.random = &random_;
  e.host = this;
  e.metrics = &p.metrics;
  e.trace = trace_;
  e.on_all_directories_failed = [this] {
    over_ = true;
    died_of_ = "every data directory failed";
  };
  p.broker = std::make_unique<broker::Broker>(std::move(e), config());
  p.dispatcher = std::make_unique<broker::Dispatcher>(*p.broker);
  p.internal = std::make_unique<broker::InternalService>(*p.broker);
  const link::ConnectionLimits limits;
  for (size_t i = 0; i < loops_.size(); ++i) {
    p.connections.push_back(std::make_unique<link::ConnectionSet>(
        *loops_[i], i, clock_, *p.dispatcher, limits, kConnectionsMax, trace_.named(host_name(plan_.id))));
  }
  p.internal_connections = std::make_unique<link::ConnectionSet>(control_, loops_.size(), clock_, *p.internal,
                                                                 limits, kConnectionsMax, trace_);
}

void SimNode::listen() {
  const auto keep = [this](Result<std::unique_ptr<io::Listener>> made) {
    ASSERT(made.ok());
    process_->listeners.push_back(std::move(*made));
  };
  keep(host_->listen(
      {host_name(plan_.id), kClientPort}, [this]() -> io::Loop& { return next_loop(); },
      [this](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
        accept(std::string(kClientListener), loop, std::move(stream));
      }));
  keep(host_->listen_by_first_bytes(
      {host_name(plan_.id), kInternalPort}, broker::kFirstBytes, kFirstBytesTimeoutMs,
      [this](ByteView first) -> io::Loop& { return broker::begins_private(first) ? control_ : next_loop(); },
      [this](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
        accept(std::string(kInternalListener), loop, std::move(stream));
      }));
}

void SimNode::accept(const std::string& listener, io::Loop& loop, std::unique_ptr<io::Stream> stream) {
  if (&loop == &control_) {
    process_->internal_connections->add(listener, std::move(stream));
    return;
  }
  for (size_t i = 0; i < loops_.size(); ++i) {
    if (&loop != loops_[i].get()) continue;
    if (state_ == State::starting && listener == kClientListener) {
      process_->early.emplace_back(i, std::move(stream));
    } else {
      process_->connections[i]->add(listener, std::move(stream));
    }
    return;
  }
}

void SimNode::on_ready(const Status& status) {
  if (!runs()) return;
  if (!status.ok()) {
    over_ = true;
    died_of_ = "start: " + status.error().message;
    return;
  }
  if (state_ != State::starting) return;
  state_ = State::serving;
  for (size_t i = 0; i < loops_.size(); ++i) {
    loops_[i]->post([this, i] {
      for (auto& [loop, stream] : process_->early) {
        if (loop == i && stream)
          process_->connections[i]->add(std::string(kClientListener), std::move(stream));
      }
      process_->connections[i]->sweep();
    });
  }
}

void SimNode::stop() {
  ASSERT(runs());
  state_ = State::leaving;
  process_->broker->leave([this] { on_left(); });
}

void SimNode::on_left() {
  if (state_ != State::leaving) return;
  process_->listeners.clear();
  for (size_t i = 0; i < loops_.size(); ++i) {
    loops_[i]->post([this, i] { process_->connections[i]->close_all(true); });
  }
  process_->internal_connections->close_all(true);
  process_->broker->stop([this](const Status& status) {
    if (state_ != State::leaving) return;
    over_ = true;
    if (!status.ok()) died_of_ = "stop: " + status.error().message;
  });
}

std::string SimNode::reap() {
  if (runs() && disk_.power_is_out()) {
    power_off();
    return "power failed in the midst of writing";
  }
  if (!over_ || !runs()) return {};
  std::string why = died_of_.empty() ? std::string("stopped") : died_of_;
  kill();
  return why;
}

void SimNode::drop_process() {
  state_ = State::dead;  // what destructors still call back is for nobody
  for (NodeLoop* loop : all_loops()) loop->kill();
  process_.reset();
  // What destructors posted.
  for (NodeLoop* loop : all_loops()) loop->kill();
  paused_ = false;
  over_ = false;
  disk_.hold(false);
}

void SimNode::kill() {
  if (!process_) return;
  host_->kill();
  disk_.kill_process();
  drop_process();
}

void SimNode::power_off() {
  host_->off();
  disk_.kill_process();
  if (process_) drop_process();
  disk_.power_cycle();
  state_ = State::off;
}

void SimNode::power_on() {
  ASSERT(state_ == State::off);
  host_->on();
  state_ = State::dead;
}

void SimNode::pause() {
  if (!runs() || paused_) return;
  paused_ = true;
  for (NodeLoop* loop : all_loops()) loop->pause();
  disk_.hold(true);
}

void SimNode::resume() {
  if (!paused_) return;
  paused_ = false;
  for (NodeLoop* loop : all_loops()) loop->resume();
  disk_.hold(false);
}

std::shared_ptr<const meta::Image> newest_image(const std::vector<std::unique_ptr<SimNode>>& nodes) {
  std::shared_ptr<const meta::Image> newest;
  for (const auto& node : nodes) {
    if (!node->runs()) continue;
    const std::shared_ptr<const meta::Image>& image = node->view().image;
    if (image && (!newest || image->applied_index() > newest->applied_index())) newest = image;
  }
  return newest;
}

}  // namespace millrace::sim
