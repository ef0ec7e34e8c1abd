// The client connections of one loop and one service: admission, idle sweep, complaints, shutdown.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/trace.h"
#include "io/clock.h"
#include "io/loop.h"
#include "link/server_connection.h"

namespace millrace::link {

class ConnectionSet {
 public:
  ConnectionSet(io::Loop& loop, size_t loop_index, const io::Clock& clock, Service& service,
                ConnectionLimits limits, size_t connections_max, Trace trace);

  /// Takes an accepted stream of `listener`; refuses (closes) it when the set is full. On the loop.
  void add(const std::string& listener, std::unique_ptr<io::Stream> stream);
  /// Closes connections that have been silent too long, then arms itself again. On the loop, once, to begin.
  void sweep();
  /// Closes all; with `flush`, after queued replies have left. New ones are refused. On the loop.
  void close_all(bool flush);
  size_t size() const { return connections_.size(); }

  // For ServerConnection.
  void forget(ServerConnection& connection);
  void complain(const ConnectionContext& context, const std::string& what);
  Service& service() { return service_; }
  const ConnectionLimits& limits() const { return limits_; }
  int64_t now_ms() const { return clock_.now().mono_ms; }

 private:
  io::Loop& loop_;
  const size_t loop_index_;
  const io::Clock& clock_;
  Service& service_;
  const ConnectionLimits limits_;
  const size_t connections_max_;
  Trace trace_;
  TraceLimit complaints_{5, 10'000};
  std::map<uint64_t, std::shared_ptr<ServerConnection>> connections_;
  uint64_t next_id_ = 1;
  bool closing_ = false;
};

}  // namespace millrace::link
