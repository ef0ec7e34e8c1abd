// The admin port: GET /metrics (Prometheus text) and GET /health. One request a connection, HTTP/1.1 with
// "Connection: close", head at most 8 KiB, no body. Lives on one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "io/network.h"

namespace millrace::server {

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class AdminHttp {
 public:
  using Route = std::function<HttpReply()>;

  AdminHttp(io::Network& network, io::Loop& loop) : network_(network), loop_(loop) {}
  ~AdminHttp();
  /// Before listen().
  void route(std::string path, Route handler) { routes_[std::move(path)] = std::move(handler); }
  Status listen(const io::Endpoint& endpoint);
  io::Endpoint bound() const { return listener_->bound(); }
  /// Stops accepting and closes what is open. On the loop.
  void stop();

 private:
  class Exchange;
  HttpReply answer(std::string_view head) const;
  void forget(Exchange* exchange);

  io::Network& network_;
  io::Loop& loop_;
  std::map<std::string, Route, std::less<>> routes_;
  std::unique_ptr<io::Listener> listener_;
  std::map<Exchange*, std::shared_ptr<Exchange>> exchanges_;
};

}  // namespace millrace::server
