#include "client/client.h"

#include "client/addresses.h"
#include "wire/messages/find_coordinator.h"
#include "wire/messages/metadata.h"

namespace millrace::client {
namespace {

constexpr int32_t kFirstBootstrapId = -2;
constexpr int8_t kGroupKey = 0;  // FindCoordinator's key type

bool lost_connection(ErrorCode code) {
  return code == ErrorCode::closed || code == ErrorCode::timed_out || code == ErrorCode::io_error;
}

bool about_topic(ErrorCode code) {
  return code == ErrorCode::unknown_topic_or_partition || code == ErrorCode::unknown_topic_id;
}

}  // namespace

Client::Client(io::Loop& loop, io::Network& network, const io::Clock& clock, ClientOptions options)
    : loop_(loop), network_(network), clock_(clock), options_(std::move(options)) {
  ASSERT(!options_.bootstrap.empty());
}

Client::~Client() {
  life_.reset();
  close_connections();
}

void Client::close_connections() {
  for (auto& [key, link] : std::exchange(links_, {})) link->close();
}

std::shared_ptr<BrokerLink> Client::link_to(int32_t broker, Lane lane, const io::Endpoint& endpoint) {
  std::shared_ptr<BrokerLink>& link = links_[{broker, lane}];
  if (link == nullptr || link->endpoint().host != endpoint.host || link->endpoint().port != endpoint.port) {
    BrokerLink::Options o;
    o.client_id = options_.client_id;
    o.software_version = options_.software_version;
    o.connect_timeout_ms = options_.connect_timeout_ms;
    o.request_timeout_ms = options_.request_timeout_ms;
    o.frame_bytes_max = options_.frame_bytes_max;
    link = std::make_shared<BrokerLink>(loop_, network_, endpoint, std::move(o));
  }
  return link;
}

bool Client::repeat_later(Retry& retry, const Target& target, ErrorCode code, bool allowed,
                          std::function<void()> again) {
  if (!allowed || !(is_retriable(code) || lost_connection(code) || code == ErrorCode::not_found))
    return false;
  // Nobody was ever there: waiting for a broker to appear is for the caller to decide.
  if (!ever_reached_) return false;
  if (lost_connection(code)) distrust(target, code);
  const int64_t now = now_ms();
  int64_t deadline = retry.deadline_ms;
  if (about_topic(code)) {
    if (retry.topic_deadline_ms == 0) retry.topic_deadline_ms = now + options_.unknown_topic_grace_ms;
    deadline = std::min(deadline, retry.topic_deadline_ms);
  }
  const int shift = std::min(retry.attempts++, 10);
  const int64_t pause = std::min(options_.retry_backoff_ms << shift, options_.retry_backoff_ms_max);
  if (now + pause >= deadline) return false;
  loop_.call_after(pause, [life = life(), again = std::move(again)] {
    if (!life.expired()) again();
  });
  return true;
}

void Client::distrust(const Target& target, ErrorCode code) {
  switch (target.kind) {
    case Target::Kind::leader:
      if (is_retriable(code) || lost_connection(code)) view_.forget_topic(target.name);
      break;
    case Target::Kind::group_coordinator:
      if (code == ErrorCode::not_coordinator || code == ErrorCode::coordinator_not_available ||
          lost_connection(code)) {
        coordinators_.erase(target.name);
      }
      break;
    case Target::Kind::controller:
      if (code == ErrorCode::not_controller || lost_connection(code)) {
        refresh(std::vector<std::string>{}, false, 0,
                [](Status) {});  // the next attempt sees what it brought
      }
      break;
    case Target::Kind::any:
    case Target::Kind::broker:
      break;
  }
}

void Client::reach(const Target& target, int64_t deadline_ms, LinkDone done) {
  switch (target.kind) {
    case Target::Kind::any:
      return reach_any(std::move(done));
    case Target::Kind::broker:
      return reach_broker(target.number, target.lane, deadline_ms, std::move(done));
    case Target::Kind::leader:
      return reach_leader(target, deadline_ms, std::move(done));
    case Target::Kind::group_coordinator:
      return reach_coordinator(target, deadline_ms, std::move(done));
    case Target::Kind::controller: {
      const auto go = [this, deadline_ms](LinkDone then) {
        const int32_t id = view_.controller_id();
        // Brokers forward what is the controller's business; one without a known controller says so itself.
        if (view_.broker(id) == nullptr) return reach_any(std::move(then));
        reach_broker(id, Lane::general, deadline_ms, std::move(then));
      };
      if (view_.controller_id() >= 0) return go(std::move(done));
      refresh(std::vector<std::string>{}, false, deadline_ms - now_ms(),
              [life = life(), go, done = std::move(done)](Status s) {
                if (life.expired()) return;
                if (!s.ok()) return done(std::move(s).error());
                go(done);
              });
      return;
    }
  }
}

void Client::reach_broker(int32_t id, Lane lane, int64_t deadline_ms, LinkDone done) {
  const BrokerInfo* broker = view_.broker(id);
  if (broker == nullptr) {
    refresh(std::vector<std::string>{}, false, deadline_ms - now_ms(),
            [this, life = life(), id, lane, done = std::move(done)](Status s) {
              if (life.expired()) return;
              if (!s.ok()) return done(std::move(s).error());
              const BrokerInfo* found = view_.broker(id);
              if (found == nullptr) {
                return done(Error(ErrorCode::broker_not_available,
                                  "broker " + std::to_string(id) + " is not part of the cluster now"));
              }
              auto link = link_to(id, lane, found->endpoint);
              link->when_ready([link, done](Status ready) {
                if (!ready.ok()) return done(std::move(ready).error());
                done(link);
              });
            });
    return;
  }
  auto link = link_to(id, lane, broker->endpoint);
  link->when_ready([link, id, done = std::move(done)](Status ready) {
    if (!ready.ok()) {
      return done(Error(ErrorCode::closed, "broker " + std::to_string(id) + " advertises " + link->name() +
                                               ", which does not answer: " + ready.error().message));
    }
    done(link);
  });
}

void Client::reach_any(LinkDone done) {
  auto candidates = std::make_shared<std::vector<std::shared_ptr<BrokerLink>>>();
  for (const auto& [key, link] : links_) {
    if (key.second != Lane::general || !link->ready()) continue;
    return done(link);
  }
  for (const auto& [id, broker] : view_.brokers()) {
    candidates->push_back(link_to(id, Lane::general, broker.endpoint));
  }
  int32_t id = kFirstBootstrapId;
  for (const io::Endpoint& endpoint : options_.bootstrap) {
    candidates->push_back(link_to(id--, Lane::general, endpoint));
  }
  try_candidates(std::move(candidates), 0, {}, std::move(done));
}

void Client::try_candidates(std::shared_ptr<std::vector<std::shared_ptr<BrokerLink>>> candidates, size_t next,
                            std::string complaints, LinkDone done) {
  if (next == candidates->size()) {
    return done(Error(ErrorCode::closed, "no broker can be reached: " + complaints));
  }
  const std::shared_ptr<BrokerLink> link = (*candidates)[next];
  link->when_ready([this, life = life(), candidates = std::move(candidates), next,
                    complaints = std::move(complaints), link, done = std::move(done)](Status ready) mutable {
    if (life.expired()) return;
    if (ready.ok()) {
      ever_reached_ = true;
      return done(link);
    }
    if (!complaints.empty()) complaints += "; ";
    complaints += ready.error().message;
    try_candidates(std::move(candidates), next + 1, std::move(complaints), std::move(done));
  });
}

void Client::reach_leader(const Target& target, int64_t deadline_ms, LinkDone done) {
  const auto go = [this, target, deadline_ms, life = life()](const TopicInfo& topic, LinkDone then) {
    const PartitionInfo* partition = topic.partition(target.number);
    if (partition == nullptr) {
      return then(Error(ErrorCode::unknown_topic_or_partition,
                        "topic " + topic.name + " has no partition " + std::to_string(target.number)));
    }
    if (partition->leader < 0 || view_.broker(partition->leader) == nullptr) {
      view_.forget_topic(target.name);  // `topic` may be gone with it
      return then(
          Error(ErrorCode::leader_not_available,
                "partition " + target.name + "-" + std::to_string(target.number) + " has no leader now"));
    }
    reach_broker(partition->leader, target.lane, deadline_ms, std::move(then));
  };
  if (const TopicInfo* known = view_.topic(target.name)) return go(*known, std::move(done));
  with_topic(target.name, false, deadline_ms - now_ms(),
             [life = life(), go, done = std::move(done)](Result<TopicInfo> topic) {
               if (life.expired()) return;
               if (!topic.ok()) return done(std::move(topic).error());
               go(*topic, done);
             });
}

void Client::reach_coordinator(const Target& target, int64_t deadline_ms, LinkDone done) {
  if (const auto known = coordinators_.find(target.name);
      known != coordinators_.end() && view_.broker(known->second) != nullptr) {
    return reach_broker(known->second, target.lane, deadline_ms, std::move(done));
  }
  wire::FindCoordinatorRequest request;
  request.key = target.name;
  request.key_type = kGroupKey;
  request.coordinator_keys = {target.name};
  CallOptions options;
  options.timeout_ms = std::max<int64_t>(1, deadline_ms - now_ms());
  // v4 put the answer into a list (KIP-699).
  const auto error_of = [](const wire::FindCoordinatorResponse& r) {
    return error_from_wire(r.coordinators.empty() ? r.error_code : r.coordinators[0].error_code);
  };
  call<wire::FindCoordinatorRequest>(
      Target::any(), std::move(request), options, error_of,
      [this, life = life(), target, deadline_ms, error_of,
       done = std::move(done)](Result<wire::FindCoordinatorResponse> response) {
        if (life.expired()) return;
        if (!response.ok()) return done(std::move(response).error());
        const ErrorCode code = error_of(*response);
        if (code != ErrorCode::none) {
          return done(
              Error(code, "no coordinator for group " + target.name + ": " + std::string(error_name(code))));
        }
        BrokerInfo broker;
        int32_t port = 0;
        if (response->coordinators.empty()) {
          broker.id = response->node_id;
          broker.endpoint.host = response->host;
          port = response->port;
        } else {
          broker.id = response->coordinators[0].node_id;
          broker.endpoint.host = response->coordinators[0].host;
          port = response->coordinators[0].port;
        }
        if (broker.id < 0 || port <= 0 || port > UINT16_MAX) {
          return done(Error(ErrorCode::corrupt, "the broker names a coordinator without an address"));
        }
        broker.endpoint.port = static_cast<uint16_t>(port);
        coordinators_[target.name] = broker.id;
        const int32_t id = broker.id;
        if (view_.broker(id) == nullptr) view_.add_broker(std::move(broker));
        reach_broker(id, target.lane, deadline_ms, done);
      });
}

void Client::refresh(std::optional<std::vector<std::string>> topics, bool create, int64_t timeout_ms,
                     std::function<void(Status)> done) {
  wire::MetadataRequest request;
  const bool all = !topics.has_value();
  if (all) {
    request.topics.reset();
  } else {
    for (std::string& name : *topics) {
      auto& topic = request.topics->emplace_back();
      topic.name = std::move(name);
    }
  }
  request.allow_auto_topic_creation = create;
  CallOptions options;
  options.timeout_ms = timeout_ms;
  call<wire::MetadataRequest>(
      Target::any(), std::move(request), options,
      [](const wire::MetadataResponse& r) { return error_from_wire(r.error_code); },
      [this, life = life(), all, done = std::move(done)](Result<wire::MetadataResponse> response) {
        if (life.expired()) return;
        if (!response.ok()) return done(std::move(response).error());
        if (response->error_code != 0)
          return done(Error(error_from_wire(response->error_code), "Metadata failed"));
        view_.update(*response, all);
        done({});
      });
}

void Client::with_topic(const std::string& topic, bool create, int64_t timeout_ms, Done<TopicInfo> done) {
  if (const TopicInfo* known = view_.topic(topic)) return done(*known);
  auto wait = std::make_shared<TopicWait>();
  wait->topic = topic;
  wait->create = create;
  wait->retry.deadline_ms = deadline_after(timeout_ms);
  // A topic that the broker is about to create is unknown at first.
  if (create) wait->retry.topic_deadline_ms = wait->retry.deadline_ms;
  wait->done = std::move(done);
  poll_topic(std::move(wait));
}

void Client::poll_topic(std::shared_ptr<TopicWait> wait) {
  refresh(std::vector<std::string>{wait->topic}, wait->create,
          std::max<int64_t>(1, wait->retry.deadline_ms - now_ms()), [this, life = life(), wait](Status s) {
            if (life.expired()) return;
            if (!s.ok()) return wait->done(std::move(s).error());
            if (const TopicInfo* found = view_.topic(wait->topic)) return wait->done(*found);
            ErrorCode code = view_.topic_error(wait->topic);
            if (code == ErrorCode::none) code = ErrorCode::unknown_topic_or_partition;
            if (is_retriable(code) &&
                repeat_later(wait->retry, Target::any(), code, true, [this, wait] { poll_topic(wait); })) {
              return;
            }
            wait->done(Error(code, about_topic(code)
                                       ? "there is no topic " + wait->topic
                                       : "topic " + wait->topic + ": " + std::string(error_name(code))));
          });
}

}  // namespace millrace::client
