// Metadata (3), versions 0-12.
//   0 an empty list means all topics | 1 null means all; rack, controller, internal flag | 2 cluster id
//   4 allow_auto_topic_creation | 5 offline replicas | 7 leader epoch | 8 topic authorized operations
//   9 flexible | 10 topic ids in the response | 12 topics by id
// Addresses are those of the listener that the request came in on. A broker that is cut off from the others
// does not name itself: clients go to those that know more.
//
// A leader that has just refused a connection is about to be replaced: the answer waits for that, shortly.
// Clients that were told of a leader that is gone, or that there is none, ask again only after up to a
// second. As they may notice sooner than this broker does, who asks again waits for a moment in any case.
#include <algorithm>
#include <memory>
#include <utility>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "control/topic_name.h"

namespace millrace::broker {
namespace {

constexpr int64_t kNewsMs = 5;  // what a client has noticed is known here, too, after so long

using MetadataTopic = wire::MetadataResponse::MetadataResponseTopic;

class MetadataRun {
 public:
  MetadataRun(Call& call, const wire::MetadataRequest& request)
      : call_(call), request_(request), image_(*call.view().image) {}

  wire::MetadataResponse run() {
    wire::MetadataResponse r;
    add_brokers(r);
    r.cluster_id = call_.broker().cluster_id();
    const BrokerId self = call_.broker().config().node_id;
    const BrokerId controller = controller_for_clients(call_.view(), self);
    r.controller_id = (controller == self && call_.broker().standing().aside() ? kNoBroker : controller).v;
    const bool all = !request_.topics || (call_.version() == 0 && request_.topics->empty());
    if (all) {
      image_.topics().for_each(
          [&](const std::string&, const meta::TopicRef& t) { r.topics.push_back(describe(*t)); });
      return r;
    }
    for (const auto& asked : *request_.topics) r.topics.push_back(one(asked));
    return r;
  }

  /// Not 0: a leader does not answer, and until then the controller should have named another.
  int64_t doubt_until_ms() const { return doubt_until_ms_; }

 private:
  void add_brokers(wire::MetadataResponse& r) const {
    image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
      if (!call_.view().names(*b, call_.now().mono_ms)) return;
      if (id == call_.broker().config().node_id && call_.broker().standing().aside()) return;
      for (const meta::Endpoint& e : b->endpoints) {
        if (e.name == call_.connection().listener) r.brokers.push_back({id.v, e.host, e.port, b->rack});
      }
    });
  }

  MetadataTopic one(const wire::MetadataRequest::MetadataRequestTopic& asked) {
    MetadataTopic t;
    t.name = asked.name;
    t.topic_id = asked.topic_id;
    const auto refuse = [&](ErrorCode code) {
      t.error_code = static_cast<int16_t>(code);
      return t;
    };
    if (call_.version() >= 10 && call_.version() < 12 && (!asked.topic_id.is_zero() || !asked.name)) {
      if (!t.name) t.name = "";
      return refuse(ErrorCode::invalid_request);
    }
    if (!asked.name) {
      const meta::Topic* known = image_.topic(asked.topic_id);
      return known == nullptr ? refuse(ErrorCode::unknown_topic_id) : describe(*known);
    }
    if (const meta::Topic* known = image_.topic(*asked.name)) return describe(*known);
    t.topic_id = {};
    if (!control::topic_name_fault(*asked.name).empty()) return refuse(ErrorCode::invalid_topic_exception);
    const bool may_create = call_.version() < 4 || request_.allow_auto_topic_creation;
    if (may_create) {
      if (is_internal_topic(*asked.name)) {
        if (*asked.name == "__consumer_offsets") call_.broker().ensure_offsets_topic();
      } else if (call_.broker().setting_bool(image_, "auto.create.topics.enable")) {
        call_.broker().create_automatically(*asked.name);  // the client asks again until it is there
      }
    }
    return refuse(ErrorCode::unknown_topic_or_partition);
  }

  MetadataTopic describe(const meta::Topic& topic) {
    MetadataTopic t;
    t.name = topic.name;
    t.topic_id = topic.id;
    t.is_internal = is_internal_topic(topic.name);
    t.partitions.reserve(topic.partitions.size());
    int32_t index = 0;
    for (const meta::Partition& p : topic.partitions) {
      auto& out = t.partitions.emplace_back();
      out.partition_index = index++;
      out.leader_id = p.leader.v;
      out.leader_epoch = p.leader_epoch.v;
      out.replica_nodes = broker_numbers(p.replicas);
      out.isr_nodes = broker_numbers(p.isr);
      if (call_.view().live_broker(p.leader) == nullptr) {
        note_doubt(p.leader);
        out.error_code = static_cast<int16_t>(ErrorCode::leader_not_available);
        out.leader_id = -1;
      } else if (endpoint_of(image_, p.leader, call_.connection().listener) == nullptr) {
        out.error_code = static_cast<int16_t>(call_.version() >= 6 ? ErrorCode::listener_not_found
                                                                   : ErrorCode::leader_not_available);
      }
      const bool here = p.leader == call_.broker().config().node_id;
      if (here && (offline_here(topic, out.partition_index) || doubtful_here(topic, out.partition_index))) {
        out.error_code = static_cast<int16_t>(ErrorCode::leader_not_available);
        out.leader_id = -1;
      }
      for (size_t i = 0; i < p.replicas.size(); ++i) {
        const bool own = here && p.replicas[i] == p.leader;
        if (replica_is_offline(image_, p, i) || (own && offline_here(topic, out.partition_index)))
          out.offline_replicas.push_back(p.replicas[i].v);
      }
    }
    return t;
  }

  void note_doubt(BrokerId leader) {
    const meta::Broker* b = leader == kNoBroker ? nullptr : image_.broker(leader);
    const View::Gone* gone = b == nullptr || b->fenced ? nullptr : call_.view().in_doubt(*b);
    if (gone != nullptr) doubt_until_ms_ = std::max(doubt_until_ms_, gone->settled_mono_ms);
  }

  /// This broker should have it; its directory failed or was not there at the start.
  bool offline_here(const meta::Topic& topic, int32_t number) const {
    const PartitionRef* p = call_.view().partition(topic.id, number);
    return p == nullptr || (*p)->offline();
  }

  /// Another may lead it by now: who is sent elsewhere finds out.
  bool doubtful_here(const meta::Topic& topic, int32_t number) const {
    const PartitionRef* p = call_.view().partition(topic.id, number);
    return p != nullptr && (*p)->in_doubt(call_.now());
  }

  Call& call_;
  const wire::MetadataRequest& request_;
  const meta::Image& image_;
  int64_t doubt_until_ms_ = 0;
};

/// A Metadata that waits for another view, at most until a given moment; then it looks again.
class WaitingMetadata : public std::enable_shared_from_this<WaitingMetadata> {
 public:
  WaitingMetadata(Call call, wire::MetadataRequest request)
      : call_(std::move(call)), request_(std::move(request)) {}

  void wait(int64_t until_mono_ms) {
    timer_ = call_.loop().call_after(std::max<int64_t>(until_mono_ms - call_.now().mono_ms, 0),
                                     [self = shared_from_this()] {
                                       self->timer_ = 0;
                                       self->look();
                                     });
    wait_ = call_.shard().view_waits.add([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->look();
    });
  }

 private:
  void look() {
    call_.shard().view_waits.remove(wait_);
    if (timer_ != 0) call_.loop().cancel(std::exchange(timer_, 0));
    MetadataRun run(call_, request_);
    const wire::MetadataResponse response = run.run();
    if (run.doubt_until_ms() > call_.now().mono_ms && call_.connected()) return wait(run.doubt_until_ms());
    call_.reply(response);
  }

  Call call_;
  wire::MetadataRequest request_;
  io::TimerId timer_ = 0;
  uint64_t wait_ = 0;
};

}  // namespace

void handle(Call call, wire::MetadataRequest& request) {
  MetadataRun run(call, request);
  const wire::MetadataResponse response = run.run();
  const bool for_news = request.topics && !request.topics->empty() &&
                        std::exchange(call.connection().asked_metadata, true) &&
                        call.view().image->brokers().size() > 1;
  const int64_t now_ms = call.now().mono_ms;
  const int64_t until_ms = std::max(run.doubt_until_ms(), for_news ? now_ms + kNewsMs : now_ms);
  if (until_ms <= now_ms) return call.reply(response);
  std::make_shared<WaitingMetadata>(std::move(call), std::move(request))->wait(until_ms);
}

}  // namespace millrace::broker
