#include "sim/client_process.h"

#include <iterator>

namespace millrace::sim {

ClientProcess::ClientProcess(World& world, std::string name)
    : world_(world),
      name_(std::move(name)),
      dice_(world.seed, name_),
      clock_(world.scheduler),
      loop_(world.scheduler, &clock_),
      host_(world.network.add_host(name_, loop_)) {}

client::ClientOptions ClientProcess::options() const {
  client::ClientOptions o;
  o.bootstrap = world_.bootstrap;
  o.client_id = name_;
  o.connect_timeout_ms = 1'000;
  o.request_timeout_ms = 4'000;
  o.call_timeout_ms = 10'000;
  return o;
}

void ClientProcess::start() {
  if (client_) return;
  client_ = std::make_unique<client::Client>(loop_, host_, clock_, options());
  loop_.post([this] { begin(); });
}

void ClientProcess::kill() {
  if (!client_) return;
  host_.kill();
  loop_.kill();
  drop();
  client_.reset();
  loop_.kill();
}

bool pick_partition(World& world, Dice& dice, std::string& topic, int32_t& partition) {
  if (world.topics.empty()) return false;
  const auto at =
      std::next(world.topics.begin(), static_cast<std::ptrdiff_t>(dice.index(world.topics.size())));
  topic = at->first;
  partition = static_cast<int32_t>(dice.index(static_cast<size_t>(at->second)));
  return true;
}

}  // namespace millrace::sim
