#include "server/embedded_cluster.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <utility>

#include "base/contains.h"
#include "io/posix_host.h"
#include "io/posix_random.h"
#include "net/socket.h"

namespace millrace::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kAskStep{20};
constexpr milliseconds kViewTimeout{1'000};
// Where other brokers reach broker 1 lies so far above the clients' port.
constexpr int kInternalPortDistance = 10'000;
// Below what the kernel gives to outgoing connections: a port must still be free when its broker comes back.
constexpr uint16_t kFreePortsFirst = 20'000;
constexpr uint16_t kFreePortsEnd = 32'000;
constexpr int kFreePortTries = 2'000;
constexpr const char* kHost = "127.0.0.1";

// Threads that are started meanwhile leave the process's signals to its other threads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

bool is_free(uint16_t port) {
  return net::open_listening_socket({kHost, port}, 1).ok();
}

Error no_state(int broker, BrokerState state) {
  return Error(ErrorCode::invalid_argument, fmt::format("broker {} is {}", broker, broker_state_name(state)));
}

}  // namespace

std::string_view broker_state_name(BrokerState state) {
  switch (state) {
    case BrokerState::stopped:
      return "stopped";
    case BrokerState::starting:
      return "starting";
    case BrokerState::running:
      return "running";
    case BrokerState::paused:
      return "paused";
  }
  return "?";
}

// One broker: its place in the cluster, and the node while there is one.
struct EmbeddedCluster::Slot {
  // Says whose lines these are, and nothing for a broker that was killed.
  class Sink final : public TraceSink {
   public:
    Sink(TraceSink* out, int id) : out_(out), prefix_(fmt::format("broker-{} ", id)) {}
    void write(TraceLevel level, std::string_view component, std::string_view message) override {
      if (out_ != nullptr && !silent) out_->write(level, prefix_ + std::string(component), message);
    }
    std::atomic<bool> silent{false};

   private:
    TraceSink* const out_;
    const std::string prefix_;
  };

  Slot(int number, TraceSink* out) : id(number), sink(out, number) {}

  const int id;
  uint16_t port = 0;
  uint16_t internal_port = 0;
  std::string directory;
  Sink sink;
  Reach reach = Reach::everyone;
  bool paused = false;
  std::string error;

  std::unique_ptr<Node> node;
  std::thread starter;  // runs Node::start
  std::promise<Status> started;
  std::shared_future<Status> outcome;
  std::atomic<bool> give_up{false};

  BrokerState state() const {
    if (!node) return BrokerState::stopped;
    if (outcome.wait_for(milliseconds(0)) != std::future_status::ready) return BrokerState::starting;
    if (!outcome.get().ok()) return BrokerState::stopped;
    return paused ? BrokerState::paused : BrokerState::running;
  }
};

EmbeddedCluster::EmbeddedCluster(EmbeddedOptions options) : options_(std::move(options)) {}

EmbeddedCluster::~EmbeddedCluster() {
  (void)close();  // the brokers have said what went wrong
}

// --- start and end ---

Status EmbeddedCluster::prepare() {
  if (options_.brokers < 1 || options_.brokers > kEmbeddedBrokersMax) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{} brokers: from 1 to {}", options_.brokers, kEmbeddedBrokersMax));
  }
  TRY(choose_directory());
  for (int id = 1; id <= options_.brokers; ++id) {
    slots_.push_back(std::make_unique<Slot>(id, options_.sink));
    slots_.back()->directory = fmt::format("{}/broker-{}", directory_, id);
  }
  return choose_ports();
}

Status EmbeddedCluster::open(milliseconds timeout, const std::function<bool()>& give_up) {
  const std::lock_guard lock(mutex_);
  if (slots_.empty()) TRY(prepare());
  const auto until = steady_clock::now() + timeout;
  for (const auto& slot : slots_) TRY(launch(*slot));
  for (const auto& slot : slots_) {
    if (Status s = wait_served(*slot, until, give_up); !s.ok()) {
      if (s.code() == ErrorCode::cancelled) return s;
      return Error(s.code(), fmt::format("{} (broker {})", s.error().message, slot->id));
    }
  }
  return {};
}

Status EmbeddedCluster::choose_directory() {
  if (options_.directory.empty()) {
    const char* place = std::getenv("TMPDIR");
    std::string pattern =
        std::string(place == nullptr || *place == '\0' ? "/tmp" : place) + "/millrace-dev-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr)
      return Error(ErrorCode::io_error, pattern + ": no temporary directory can be made");
    directory_ = pattern;
    temporary_ = true;
    return {};
  }
  std::error_code failed;
  std::filesystem::create_directories(options_.directory, failed);
  if (failed) return Error(ErrorCode::io_error, options_.directory + ": " + failed.message());
  directory_ = std::filesystem::canonical(options_.directory, failed).string();
  if (failed) return Error(ErrorCode::io_error, options_.directory + ": " + failed.message());
  const std::string beyond = fmt::format("{}/broker-{}", directory_, options_.brokers + 1);
  if (std::filesystem::exists(beyond, failed)) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("{} is there: start at least as many brokers as have data in {}", beyond, directory_));
  }
  return {};
}

Status EmbeddedCluster::choose_ports() {
  io::PosixRandom random;
  std::vector<uint16_t> taken;
  const auto any = [&]() -> Result<uint16_t> {
    for (int i = 0; i < kFreePortTries; ++i) {
      const auto port =
          static_cast<uint16_t>(kFreePortsFirst + random.next_u64() % (kFreePortsEnd - kFreePortsFirst));
      if (contains(taken, port) || !is_free(port)) continue;
      taken.push_back(port);
      return port;
    }
    return Error(ErrorCode::limit_exceeded, "no free port was found");
  };
  for (const auto& slot : slots_) {
    const int number = options_.port == 0 ? 0 : options_.port + slot->id - 1;
    if (number > UINT16_MAX) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("port {}: there are no ports above {}", number, UINT16_MAX));
    }
    slot->port = static_cast<uint16_t>(number);
    taken.push_back(slot->port);
    if (number == 0) {
      TRY_ASSIGN(slot->port, any());
    }
  }
  for (const auto& slot : slots_) {
    const int above = slot->port + kInternalPortDistance;
    if (options_.port != 0 && above <= UINT16_MAX && is_free(static_cast<uint16_t>(above))) {
      slot->internal_port = static_cast<uint16_t>(above);
    } else {
      TRY_ASSIGN(slot->internal_port, any());
    }
  }
  return {};
}

// What a cluster on one machine wants stands where a file would: environment and settings win. What makes
// this broker the one it is comes behind the environment; only the user's own settings win over that.
Result<ServerConfig> EmbeddedCluster::config_of(const Slot& slot) const {
  const int count = options_.brokers;
  const int replicas = std::min(count, 3);
  const unsigned cores = io::PosixHost().cores();
  const std::string defaults = fmt::format(
      "default.replication.factor={}\n"
      "min.insync.replicas={}\n"
      "offsets.topic.replication.factor={}\n"
      "offsets.topic.num.partitions=8\n"
      "auto.create.topics.enable=true\n"
      "group.initial.rebalance.delay.ms=0\n"
      "loops={}\n",
      replicas, std::min(replicas, 2), replicas, std::max(cores / static_cast<unsigned>(count), 1U));
  ConfigInputs inputs;
  inputs.file_name = "the defaults of a development cluster";
  inputs.file_text = defaults;
  inputs.environment = options_.environment;
  std::vector<std::string>& s = inputs.settings;
  s.push_back(fmt::format("node.id={}", slot.id));
  s.push_back("process.roles=broker,controller");
  s.push_back(fmt::format("log.dirs={}", slot.directory));
  s.push_back(options_.admin_port == 0
                  ? std::string("admin.listener=")
                  : fmt::format("admin.listener={}:{}", kHost, options_.admin_port + slot.id - 1));
  std::string listeners = fmt::format("listeners=PLAINTEXT://{}:{}", kHost, slot.port);
  if (count > 1) {
    std::string voters;
    for (const auto& other : slots_) {
      voters += fmt::format("{}{}@{}:{}", voters.empty() ? "" : ",", other->id, kHost, other->internal_port);
    }
    listeners += fmt::format(",CONTROLLER://{}:{}", kHost, slot.internal_port);
    s.push_back("controller.listener.names=CONTROLLER");
    s.push_back("controller.quorum.voters=" + voters);
  }
  s.push_back(std::move(listeners));
  s.insert(s.end(), options_.settings.begin(), options_.settings.end());
  return load_config(inputs);
}

Status EmbeddedCluster::launch(Slot& slot) {
  TRY_ASSIGN(ServerConfig config, config_of(slot));
  Neighbourhood neighbourhood;
  neighbourhood.nodes = slots_.size();
  neighbourhood.gated = true;
  neighbourhood.reach = slot.reach;
  const SignalsBlocked blocked;
  slot.sink.silent = false;
  slot.paused = false;
  slot.error.clear();
  slot.give_up = false;
  slot.node = std::make_unique<Node>(std::move(config), &slot.sink, nullptr, neighbourhood);
  slot.started = {};
  slot.outcome = slot.started.get_future().share();
  slot.starter = std::thread(
      [&slot] { slot.started.set_value(slot.node->start([&slot] { return slot.give_up.load(); })); });
  return {};
}

Status EmbeddedCluster::wait_served(Slot& slot, steady_clock::time_point until,
                                    const std::function<bool()>& give_up) {
  while (slot.outcome.wait_for(kAskStep) != std::future_status::ready) {
    if (give_up && give_up()) return Error(ErrorCode::cancelled, "stopped before it served");
    if (steady_clock::now() >= until)
      return Error(ErrorCode::timed_out, "it does not serve yet; it goes on starting");
  }
  const Status status = slot.outcome.get();
  if (!status.ok()) {
    slot.error = status.error().message;
    (void)take_down(slot, false);
  }
  return status;
}

Status EmbeddedCluster::close() {
  const std::lock_guard lock(mutex_);
  // All at once: each of them leaves while others are there to lead what it led.
  std::vector<std::future<Status>> ends;
  for (const auto& slot : slots_) {
    if (!slot->node) continue;
    if (std::exchange(slot->paused, false)) slot->node->resume();
    slot->node->set_reach(Reach::everyone);
  }
  for (const auto& slot : slots_) {
    ends.push_back(std::async(std::launch::async, [this, s = slot.get()] { return take_down(*s, false); }));
  }
  Status status;
  for (std::future<Status>& end : ends) {
    if (Status s = end.get(); !s.ok()) status = s;
  }
  slots_.clear();
  if (temporary_) {
    std::error_code failed;
    std::filesystem::remove_all(directory_, failed);
    if (failed) status = Error(ErrorCode::io_error, directory_ + ": " + failed.message());
    temporary_ = false;
  }
  return status;
}

// --- one broker ---

Result<EmbeddedCluster::Slot*> EmbeddedCluster::find(int broker) {
  if (broker < 1 || broker > brokers()) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("there is no broker {}: they are 1 to {}", broker, brokers()));
  }
  return slots_[static_cast<size_t>(broker - 1)].get();
}

Status EmbeddedCluster::take_down(Slot& slot, bool killing) {
  if (!slot.node) return {};
  if (killing) {
    slot.sink.silent = true;
    slot.node->kill();
  }
  slot.give_up = true;  // a start that is under way ends itself
  if (std::exchange(slot.paused, false)) slot.node->resume();
  if (slot.starter.joinable()) slot.starter.join();
  Status status;
  if (slot.outcome.get().ok()) status = slot.node->stop();
  slot.node.reset();
  return killing ? Status() : status;
}

Status EmbeddedCluster::start(int broker, milliseconds timeout) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  const BrokerState state = slot->state();
  if (state == BrokerState::running || state == BrokerState::paused) return no_state(broker, state);
  if (state == BrokerState::stopped) {
    TRY(take_down(*slot, false));  // of a start that failed
    TRY(launch(*slot));
  }
  // It will serve when others, or the gate, let it: that may take another command.
  if (!has_quorum() || slot->reach != Reach::everyone) return {};
  return wait_served(*slot, steady_clock::now() + timeout, nullptr);
}

// Whether enough of them run and reach each other.
bool EmbeddedCluster::has_quorum() const {
  const auto counts = [](const std::unique_ptr<Slot>& s) {
    const BrokerState state = s->state();
    return s->reach == Reach::everyone && (state == BrokerState::running || state == BrokerState::starting);
  };
  return 2 * std::count_if(slots_.begin(), slots_.end(), counts) > static_cast<ptrdiff_t>(slots_.size());
}

Status EmbeddedCluster::kill(int broker) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  if (slot->state() == BrokerState::stopped) return no_state(broker, BrokerState::stopped);
  return take_down(*slot, true);
}

Status EmbeddedCluster::stop(int broker) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  if (slot->state() == BrokerState::stopped || slot->state() == BrokerState::paused)
    return no_state(broker, slot->state());
  return take_down(*slot, false);
}

Status EmbeddedCluster::pause(int broker) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  if (slot->state() != BrokerState::running) return no_state(broker, slot->state());
  slot->node->pause();
  slot->paused = true;
  return {};
}

Status EmbeddedCluster::resume(int broker) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  if (slot->state() != BrokerState::paused) return no_state(broker, slot->state());
  slot->paused = false;
  slot->node->resume();
  return {};
}

Status EmbeddedCluster::isolate(int broker, bool clients) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  slot->reach = clients ? Reach::nobody : Reach::clients;
  if (slot->node) slot->node->set_reach(slot->reach);
  return {};
}

Status EmbeddedCluster::heal(int broker) {
  const std::lock_guard lock(mutex_);
  TRY_ASSIGN(Slot* const slot, find(broker));
  slot->reach = Reach::everyone;
  if (slot->node) slot->node->set_reach(slot->reach);
  return {};
}

// --- what there is to know ---

std::string EmbeddedCluster::bootstrap_servers() const {
  std::string text;
  for (const auto& slot : slots_) text += fmt::format("{}{}:{}", text.empty() ? "" : ",", kHost, slot->port);
  return text;
}

std::vector<BrokerReport> EmbeddedCluster::report() {
  const std::lock_guard lock(mutex_);
  std::vector<BrokerReport> all;
  for (const auto& slot : slots_) {
    BrokerReport r;
    r.id = slot->id;
    r.state = slot->state();
    r.reach = slot->reach;
    r.address = {kHost, slot->port};
    r.directory = slot->directory;
    r.error = slot->error;
    if (slot->node && r.state == BrokerState::stopped) r.error = slot->outcome.get().error().message;
    const View view = r.state == BrokerState::running ? slot->node->view(kViewTimeout) : nullptr;
    if (view) {
      const BrokerId self{slot->id};
      r.controller = view->controller == self;
      view->image->topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
        for (const auto& p : topic->partitions) {
          r.leads += p.leader == self ? size_t{1} : size_t{0};
          r.hosts += static_cast<size_t>(std::count(p.replicas.begin(), p.replicas.end(), self));
        }
      });
    }
    all.push_back(std::move(r));
  }
  return all;
}

std::vector<std::pair<int, EmbeddedCluster::View>> EmbeddedCluster::views() {
  std::vector<std::pair<int, View>> found;
  for (const auto& slot : slots_) {
    if (slot->state() != BrokerState::running || slot->reach != Reach::everyone) continue;
    found.emplace_back(slot->id, slot->node->view(kViewTimeout));
  }
  return found;
}

std::optional<int> EmbeddedCluster::controller() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, view] : views()) {
    if (view && view->controller == BrokerId{id}) return id;
  }
  return std::nullopt;
}

std::optional<int> EmbeddedCluster::leader(const std::string& topic, int partition) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, view] : views()) {
    const meta::Topic* t = view ? view->image->topic(topic) : nullptr;
    if (t == nullptr || partition < 0 || static_cast<size_t>(partition) >= t->partitions.size()) continue;
    const BrokerId leader = t->partitions[static_cast<size_t>(partition)].leader;
    // The leader's own word counts: others may not have heard of a change yet.
    if (leader == BrokerId{id}) return id;
  }
  return std::nullopt;
}

// Empty: all is well.
std::string EmbeddedCluster::missing() {
  const auto all = views();
  for (const auto& slot : slots_) {
    if (slot->state() == BrokerState::starting) return fmt::format("broker {} does not serve yet", slot->id);
  }
  if (all.empty()) return "no broker runs";
  std::vector<BrokerId> live;
  for (const auto& [id, view] : all) live.push_back(BrokerId{id});
  const auto lives = [&](BrokerId id) { return contains(live, id); };
  for (const auto& [id, view] : all) {
    if (!view) return fmt::format("broker {} does not answer", id);
    for (const BrokerId other : live) {
      const meta::Broker* b = view->image->broker(other);
      if (b == nullptr || b->fenced) return fmt::format("broker {} does not know broker {} yet", id, other.v);
    }
    std::string what;
    view->image->topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
      for (size_t i = 0; i < topic->partitions.size() && what.empty(); ++i) {
        const meta::Partition& p = topic->partitions[i];
        if (!lives(p.leader)) what = fmt::format("{}-{} has no leader", name, i);
        for (const BrokerId replica : p.replicas) {
          if (lives(replica) && !contains(p.isr, replica))
            what = fmt::format("{}-{}: broker {} is not in sync", name, i, replica.v);
        }
      }
    });
    if (!what.empty()) return what;
  }
  return {};
}

Status EmbeddedCluster::wait_until_ready(milliseconds timeout) {
  const auto until = steady_clock::now() + timeout;
  for (;;) {
    std::string what;
    {
      const std::lock_guard lock(mutex_);
      what = missing();
    }
    if (what.empty()) return {};
    if (steady_clock::now() >= until) return Error(ErrorCode::timed_out, what);
    std::this_thread::sleep_for(kAskStep);
  }
}

}  // namespace millrace::server
