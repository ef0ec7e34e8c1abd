#include "link/connection_set.h"

#include <vector>

namespace millrace::link {
namespace {

constexpr int64_t kSweepMs = 5'000;

}  // namespace

ConnectionSet::ConnectionSet(io::Loop& loop, size_t loop_index, const io::Clock& clock, Service& service,
                             ConnectionLimits limits, size_t connections_max, Trace trace)
    : loop_(loop),
      loop_index_(loop_index),
      clock_(clock),
      service_(service),
      limits_(limits),
      connections_max_(connections_max),
      trace_(std::move(trace)) {}

void ConnectionSet::add(const std::string& listener, std::unique_ptr<io::Stream> stream) {
  if (closing_ || connections_.size() >= connections_max_) {
    uint64_t held_back = 0;
    if (!closing_ && complaints_.admit(now_ms(), held_back)) {
      trace_.warn("connection from {}:{} refused: {} connections are open (max.connections)",
                  stream->peer().host, stream->peer().port, connections_.size());
    }
    stream->close(false);
    return;
  }
  auto context = std::make_shared<ConnectionContext>();
  context->id = next_id_++;
  context->loop = &loop_;
  context->loop_index = loop_index_;
  context->listener = listener;
  auto connection = std::make_shared<ServerConnection>(*this, context, std::move(stream));
  connections_.emplace(context->id, connection);
  connection->start();
}

void ConnectionSet::sweep() {
  std::vector<std::shared_ptr<ServerConnection>> silent;
  const int64_t now = now_ms();
  for (const auto& [id, c] : connections_) {
    if (c->idle() && now - c->last_active_ms() >= limits_.idle_ms_max) silent.push_back(c);
  }
  for (const auto& c : silent) c->close(false);
  if (!closing_) loop_.call_after(kSweepMs, [this] { sweep(); });
}

void ConnectionSet::close_all(bool flush) {
  closing_ = true;
  std::vector<std::shared_ptr<ServerConnection>> all;
  for (const auto& [id, c] : connections_) all.push_back(c);
  for (const auto& c : all) c->close(flush);
}

void ConnectionSet::forget(ServerConnection& connection) {
  service_.on_connection_closed(connection.context());
  connections_.erase(connection.context().id);
}

void ConnectionSet::complain(const ConnectionContext& context, const std::string& what) {
  uint64_t held_back = 0;
  if (!complaints_.admit(now_ms(), held_back)) return;
  trace_.warn("closing the connection from {}:{} on {}: {}{}", context.peer.host, context.peer.port,
              context.listener, what,
              held_back == 0 ? "" : " (" + std::to_string(held_back) + " such lines held back)");
}

}  // namespace millrace::link
