// The way to one broker address: connects when first used, learns the broker's API versions, reconnects when
// used again after a loss. On its loop only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/api_ranges.h"
#include "io/loop.h"
#include "io/network.h"
#include "link/client_connection.h"

namespace millrace::client {

class BrokerLink final : public std::enable_shared_from_this<BrokerLink> {
 public:
  struct Options {
    std::string client_id;
    std::string software_version;
    int64_t connect_timeout_ms = 5'000;
    int64_t request_timeout_ms = 30'000;
    size_t frame_bytes_max = size_t{256} << 20;
  };

  BrokerLink(io::Loop& loop, io::Network& network, io::Endpoint endpoint, Options options);

  /// Runs `done` when requests can be sent, at once if so already. Errors: closed, timed_out, not_found (no
  /// such host), corrupt, unsupported_version; the message names the address.
  void when_ready(std::function<void(Status)> done);
  bool ready() const { return connection_ != nullptr && connection_->open() && negotiated_; }
  /// Valid while ready().
  link::ClientConnection& connection() { return *connection_; }
  const ApiRanges& ranges() const { return ranges_; }
  const io::Endpoint& endpoint() const { return endpoint_; }
  std::string name() const;
  void close();

 private:
  void connected(Result<std::unique_ptr<io::Stream>> stream);
  void negotiate(int16_t version);
  void finish(Status outcome);

  io::Loop& loop_;
  io::Network& network_;
  const io::Endpoint endpoint_;
  const Options options_;
  std::shared_ptr<link::ClientConnection> connection_;
  ApiRanges ranges_;
  std::vector<std::function<void(Status)>> waiting_;
  bool busy_ = false;
  bool negotiated_ = false;
};

}  // namespace millrace::client
