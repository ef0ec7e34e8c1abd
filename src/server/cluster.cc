// The public embedded cluster: errors become exceptions here and nowhere else.
#include "millrace/cluster.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "server/embedded_cluster.h"

namespace millrace {
namespace {

std::string_view level_name(TraceLevel level) {
  switch (level) {
    case TraceLevel::debug:
      return "debug";
    case TraceLevel::info:
      return "info";
    case TraceLevel::warn:
      return "warn";
    case TraceLevel::error:
      return "error";
    case TraceLevel::off:
      break;
  }
  return "off";
}

void must(const Status& status) {
  if (!status.ok()) throw ClusterError(status.error().message);
}

server::EmbeddedOptions embedded(const ClusterOptions& options, TraceSink* sink) {
  server::EmbeddedOptions e;
  e.brokers = options.brokers;
  e.port = options.port;
  e.directory = options.directory;
  e.settings = options.settings;
  e.sink = sink;
  return e;
}

}  // namespace

struct Cluster::State {
  class LineSink final : public TraceSink {
   public:
    explicit LineSink(std::function<void(std::string_view)> out) : out_(std::move(out)) {}
    void write(TraceLevel level, std::string_view component, std::string_view message) override {
      if (!out_) return;
      const std::string line = fmt::format("{:<5} {} {}", level_name(level), component, message);
      const std::lock_guard lock(mutex_);
      out_(line);
    }

   private:
    const std::function<void(std::string_view)> out_;
    std::mutex mutex_;
  };

  explicit State(const ClusterOptions& options) : sink(options.log), cluster(embedded(options, &sink)) {}

  LineSink sink;
  server::EmbeddedCluster cluster;
};

Cluster::Cluster(ClusterOptions options) : state_(std::make_unique<State>(options)) {
  must(state_->cluster.open(options.start_timeout));
}

Cluster::~Cluster() = default;

std::string Cluster::bootstrap_servers() const {
  return state_->cluster.bootstrap_servers();
}

int Cluster::brokers() const {
  return state_->cluster.brokers();
}

const std::string& Cluster::directory() const {
  return state_->cluster.directory();
}

void Cluster::kill(int broker) {
  must(state_->cluster.kill(broker));
}

void Cluster::stop(int broker) {
  must(state_->cluster.stop(broker));
}

void Cluster::start(int broker, std::chrono::milliseconds timeout) {
  must(state_->cluster.start(broker, timeout));
}

void Cluster::pause(int broker) {
  must(state_->cluster.pause(broker));
}

void Cluster::resume(int broker) {
  must(state_->cluster.resume(broker));
}

void Cluster::isolate(int broker, bool clients_too) {
  must(state_->cluster.isolate(broker, clients_too));
}

void Cluster::heal(int broker) {
  must(state_->cluster.heal(broker));
}

void Cluster::wait_until_ready(std::chrono::milliseconds timeout) {
  must(state_->cluster.wait_until_ready(timeout));
}

std::optional<int> Cluster::leader(const std::string& topic, int partition) const {
  return state_->cluster.leader(topic, partition);
}

std::optional<int> Cluster::controller() const {
  return state_->cluster.controller();
}

}  // namespace millrace
