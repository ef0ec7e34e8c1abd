#include "client/broker_link.h"

#include <algorithm>
#include <utility>

#include "client/addresses.h"

namespace millrace::client {
namespace {

// Every broker since Kafka 2.4 answers version 3; what later versions add is of no use here, and a lower
// first offer saves older brokers a round trip.
constexpr int16_t kFirstApiVersionsVersion = 3;

}  // namespace

BrokerLink::BrokerLink(io::Loop& loop, io::Network& network, io::Endpoint endpoint, Options options)
    : loop_(loop), network_(network), endpoint_(std::move(endpoint)), options_(std::move(options)) {}

std::string BrokerLink::name() const {
  return to_string(endpoint_);
}

void BrokerLink::when_ready(std::function<void(Status)> done) {
  if (ready()) {
    done({});
    return;
  }
  waiting_.push_back(std::move(done));
  if (busy_) return;
  busy_ = true;
  negotiated_ = false;
  connection_.reset();
  network_.connect(loop_, endpoint_, options_.connect_timeout_ms,
                   [weak = weak_from_this()](Result<std::unique_ptr<io::Stream>> stream) {
                     if (auto self = weak.lock()) self->connected(std::move(stream));
                   });
}

void BrokerLink::connected(Result<std::unique_ptr<io::Stream>> stream) {
  if (!stream.ok()) {
    finish(Error(stream.error().code, "cannot connect to " + name() + ": " + stream.error().message));
    return;
  }
  connection_ = link::ClientConnection::create(loop_, std::move(stream).value(), options_.client_id,
                                               options_.frame_bytes_max);
  negotiate(kFirstApiVersionsVersion);
}

void BrokerLink::negotiate(int16_t version) {
  wire::ApiVersionsRequest request;
  request.client_software_name = "millrace";
  request.client_software_version = options_.software_version;
  connection_->send(
      version, request, options_.request_timeout_ms,
      [weak = weak_from_this(), version](Result<wire::ApiVersionsResponse> response) {
        auto self = weak.lock();
        if (!self) return;
        // A broker that does not know this version answers in version 0 (KIP-511): that reads
        // as an error code 35, or as garbage, which is why the connection gets a second chance.
        const bool refused = response.ok()
                                 ? error_from_wire(response->error_code) == ErrorCode::unsupported_version
                                 : response.code() == ErrorCode::corrupt;
        if (refused && version > 0 && self->connection_->open()) {
          self->negotiate(0);
          return;
        }
        if (!response.ok()) {
          self->finish(Error(response.error().code, self->name() + " does not answer like a Kafka broker: " +
                                                        response.error().message));
          return;
        }
        if (response->error_code != 0) {
          const ErrorCode code = error_from_wire(response->error_code);
          self->finish(Error(code, self->name() + " refused ApiVersions: " + std::string(error_name(code))));
          return;
        }
        self->ranges_ = ApiRanges(*response);
        self->negotiated_ = true;
        self->finish({});
      });
}

void BrokerLink::finish(Status outcome) {
  const auto self = shared_from_this();
  busy_ = false;
  if (!outcome.ok() && connection_ != nullptr) std::exchange(connection_, nullptr)->close();
  for (auto& done : std::exchange(waiting_, {})) {
    if (outcome.ok()) {
      done({});
    } else {
      done(Error(outcome.error().code, outcome.error().message));
    }
  }
}

void BrokerLink::close() {
  const auto self = shared_from_this();
  if (connection_ != nullptr) std::exchange(connection_, nullptr)->close();
  negotiated_ = false;
}

}  // namespace millrace::client
