// A client of a Kafka cluster: finds brokers, leaders and coordinators, sends typed requests to them, and
// sends them again when that can help.
//
// Callback based, on one loop that the caller owns; nothing here blocks or names a thread. Every call ends
// with its callback, by its deadline at the latest, unless the client is destroyed first: then callbacks are
// dropped. Destroy it on its loop.
//
// What comes from brokers is not trusted: the codec checks it, and what is kept of it is bounded by the
// frame.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/broker_link.h"
#include "client/cluster_view.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/network.h"

namespace millrace::client {

template <class T>
using Done = std::function<void(Result<T>)>;

struct ClientOptions {
  std::vector<io::Endpoint> bootstrap;
  std::string client_id = "millrace";
  std::string software_version = "0";
  int64_t connect_timeout_ms = 5'000;
  int64_t request_timeout_ms = 30'000;
  int64_t call_timeout_ms = 30'000;  // a whole call, with its repetitions
  int64_t retry_backoff_ms = 50;     // doubles up to the maximum
  int64_t retry_backoff_ms_max = 1'000;
  int64_t unknown_topic_grace_ms = 1'000;  // a topic just created may not be known everywhere yet
  size_t frame_bytes_max = size_t{256} << 20;
};

/// Requests that wait at the broker (long polls, joins) have connections of their own: answers come in order.
enum class Lane : uint8_t { general, fetch, group };

/// Where a request goes.
struct Target {
  enum class Kind : uint8_t { any, controller, broker, leader, group_coordinator };
  Kind kind = Kind::any;
  Lane lane = Lane::general;
  int32_t number = -1;  // broker id, or partition
  std::string name;     // topic, or group

  static Target any() { return {}; }
  static Target controller() { return {Kind::controller, Lane::general, -1, {}}; }
  static Target broker(int32_t id, Lane lane = Lane::general) { return {Kind::broker, lane, id, {}}; }
  static Target leader(std::string topic, int32_t partition, Lane lane = Lane::general) {
    return {Kind::leader, lane, partition, std::move(topic)};
  }
  static Target coordinator(std::string group, Lane lane = Lane::general) {
    return {Kind::group_coordinator, lane, -1, std::move(group)};
  }
};

struct CallOptions {
  int64_t timeout_ms = 0;           // whole call; 0: the client's
  int64_t request_timeout_ms = 0;   // one attempt; 0: the client's
  int16_t version_max = INT16_MAX;  // for requests whose newer versions need what the caller lacks
  bool repeat_after_loss = true;    // the request may be sent again when the connection broke under it
};

class Client {
 public:
  Client(io::Loop& loop, io::Network& network, const io::Clock& clock, ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Sends `request` and gives its response. `error_of` reads the response's error, if a single one says
  /// whether the request should be repeated (retriable codes are, until the deadline, after learning anew
  /// what the code says is stale); may be empty. The last response is given even if it is an error. Errors:
  /// closed, timed_out, not_found (host), corrupt, unsupported_version, unknown_topic_or_partition, and what
  /// Metadata and FindCoordinator answer.
  template <class Request>
  void call(Target target, Request request, CallOptions options,
            std::function<ErrorCode(const typename Request::Response&)> error_of,
            Done<typename Request::Response> done) {
    auto c = std::make_shared<Call<Request>>();
    c->target = std::move(target);
    c->request = std::move(request);
    c->options = options;
    c->error_of = std::move(error_of);
    c->done = std::move(done);
    c->retry.deadline_ms = deadline_after(options.timeout_ms);
    attempt(std::move(c));
  }

  /// Sends a request that has no response (Produce with acks=0).
  template <class Request>
  void send_only(Target target, Request request, CallOptions options, std::function<void(Status)> done) {
    auto kept = std::make_shared<Request>(std::move(request));
    reach(target, deadline_after(options.timeout_ms),
          [kept, options, done = std::move(done)](Result<std::shared_ptr<BrokerLink>> link) {
            if (!link.ok()) return done(std::move(link).error());
            const Result<int16_t> version = version_for<Request>(**link, options);
            if (!version.ok()) return done(version.error());
            (*link)->connection().send_only(*version, *kept);
            done({});
          });
  }

  /// What is known of the cluster now.
  const ClusterView& view() const { return view_; }
  /// Asks for `topics`; nullopt: for all. `create`: the broker may create them. Unknown topics are no error:
  /// view().topic_error() tells. Errors as call().
  void refresh(std::optional<std::vector<std::string>> topics, bool create, int64_t timeout_ms,
               std::function<void(Status)> done);
  /// The topic, from the view or asked for; waits until it is there for unknown_topic_grace_ms, with `create`
  /// until the timeout. Errors: the broker's code for the topic, and as call().
  void with_topic(const std::string& topic, bool create, int64_t timeout_ms, Done<TopicInfo> done);
  /// A way to the target, ready to be used.
  void reach(const Target& target, int64_t deadline_ms, Done<std::shared_ptr<BrokerLink>> done);
  /// Makes the next use learn anew what `code`, an answer about `target`, says is stale.
  void distrust(const Target& target, ErrorCode code);

  int64_t now_ms() const { return clock_.now().mono_ms; }
  int64_t wall_ms() const { return clock_.now().wall_ms; }
  int64_t deadline_after(int64_t timeout_ms) const {
    return now_ms() + (timeout_ms > 0 ? timeout_ms : options_.call_timeout_ms);
  }
  const ClientOptions& options() const { return options_; }
  io::Loop& loop() { return loop_; }
  /// Closes all connections; outstanding calls fail or repeat.
  void close_connections();
  /// Expires with the client: callbacks that outlive it look here first.
  std::weak_ptr<void> life() const { return life_; }

 private:
  struct Retry {
    int64_t deadline_ms = 0;
    int64_t topic_deadline_ms = 0;
    int attempts = 0;
  };
  template <class Request>
  struct Call {
    Target target;
    Request request;
    CallOptions options;
    std::function<ErrorCode(const typename Request::Response&)> error_of;
    Done<typename Request::Response> done;
    Retry retry;
  };
  struct TopicWait {
    std::string topic;
    bool create = false;
    Retry retry;
    Done<TopicInfo> done;
  };
  using LinkKey = std::pair<int32_t, Lane>;
  using LinkDone = Done<std::shared_ptr<BrokerLink>>;

  template <class Request>
  static Result<int16_t> version_for(const BrokerLink& link, const CallOptions& options) {
    return link.ranges().choose(Request::kApiKey, Request::kMinVersion,
                                std::min(Request::kMaxVersion, options.version_max), link.name());
  }

  template <class Request>
  void attempt(std::shared_ptr<Call<Request>> c) {
    reach(
        c->target, c->retry.deadline_ms, [this, life = life(), c](Result<std::shared_ptr<BrokerLink>> link) {
          if (life.expired()) return;
          if (!link.ok()) {
            if (repeat_later(c->retry, c->target, link.code(), true, [this, c] { attempt(c); })) return;
            return c->done(std::move(link).error());
          }
          const Result<int16_t> version = version_for<Request>(**link, c->options);
          if (!version.ok()) return c->done(version.error());
          const int64_t per_request =
              c->options.request_timeout_ms > 0 ? c->options.request_timeout_ms : options_.request_timeout_ms;
          const int64_t timeout =
              std::max<int64_t>(1, std::min(per_request, c->retry.deadline_ms - now_ms()));
          (*link)->connection().template send<Request>(
              *version, c->request, timeout,
              [this, life, c, peer = (*link)->name()](Result<typename Request::Response> response) {
                if (life.expired()) return;
                answered(c, std::move(response), peer);
              });
        });
  }

  template <class Request>
  void answered(std::shared_ptr<Call<Request>> c, Result<typename Request::Response> response,
                const std::string& peer) {
    if (!response.ok()) {
      if (repeat_later(c->retry, c->target, response.code(), c->options.repeat_after_loss,
                       [this, c] { attempt(c); })) {
        return;
      }
      return c->done(Error(response.code(), peer + ", " + std::string(wire::api_name(Request::kApiKey)) +
                                                ": " + response.error().message));
    }
    const ErrorCode code = c->error_of ? c->error_of(*response) : ErrorCode::none;
    if (code != ErrorCode::none) {
      distrust(c->target, code);
      if (is_retriable(code) && repeat_later(c->retry, c->target, code, true, [this, c] { attempt(c); })) {
        return;
      }
    }
    c->done(std::move(response));
  }

  /// Runs `again` after a pause, unless the error is final or the deadline too near: false.
  bool repeat_later(Retry& retry, const Target& target, ErrorCode code, bool allowed,
                    std::function<void()> again);
  std::shared_ptr<BrokerLink> link_to(int32_t broker, Lane lane, const io::Endpoint& endpoint);
  void reach_broker(int32_t id, Lane lane, int64_t deadline_ms, LinkDone done);
  void reach_any(LinkDone done);
  void try_candidates(std::shared_ptr<std::vector<std::shared_ptr<BrokerLink>>> candidates, size_t next,
                      std::string complaints, LinkDone done);
  void reach_leader(const Target& target, int64_t deadline_ms, LinkDone done);
  void reach_coordinator(const Target& target, int64_t deadline_ms, LinkDone done);
  void poll_topic(std::shared_ptr<TopicWait> wait);

  io::Loop& loop_;
  io::Network& network_;
  const io::Clock& clock_;
  const ClientOptions options_;
  ClusterView view_;
  std::map<LinkKey, std::shared_ptr<BrokerLink>> links_;  // bootstrap addresses under -2, -3, ...
  std::map<std::string, int32_t> coordinators_;           // by group
  bool ever_reached_ = false;
  std::shared_ptr<void> life_ = std::make_shared<char>();
};

}  // namespace millrace::client
