// Metadata (3), versions 0-12.
//   0 an empty list means all topics | 1 null means all; rack, controller, internal flag | 2 cluster id
//   4 allow_auto_topic_creation | 5 offline replicas | 7 leader epoch | 8 topic authorized operations
//   9 flexible | 10 topic ids in the response | 12 topics by id
// Addresses are those of the listener that the request came in on.
#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "control/topic_name.h"

namespace millrace::broker {
namespace {

using MetadataTopic = wire::MetadataResponse::MetadataResponseTopic;

class MetadataRun {
 public:
  MetadataRun(Call& call, const wire::MetadataRequest& request)
      : call_(call), request_(request), image_(*call.view().image) {}

  wire::MetadataResponse run() {
    wire::MetadataResponse r;
    add_brokers(r);
    r.cluster_id = call_.broker().cluster_id();
    r.controller_id = controller_for_clients(call_.view(), call_.broker().config().node_id).v;
    const bool all = !request_.topics || (call_.version() == 0 && request_.topics->empty());
    if (all) {
      image_.topics().for_each(
          [&](const std::string&, const meta::TopicRef& t) { r.topics.push_back(describe(*t)); });
      return r;
    }
    for (const auto& asked : *request_.topics) r.topics.push_back(one(asked));
    return r;
  }

 private:
  void add_brokers(wire::MetadataResponse& r) const {
    image_.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
      if (b->fenced) return;
      for (const meta::Endpoint& e : b->endpoints) {
        if (e.name == call_.connection().listener) r.brokers.push_back({id.v, e.host, e.port, b->rack});
      }
    });
  }

  MetadataTopic one(const wire::MetadataRequest::MetadataRequestTopic& asked) const {
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

  MetadataTopic describe(const meta::Topic& topic) const {
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
      const meta::Broker* leader = p.leader == kNoBroker ? nullptr : image_.broker(p.leader);
      if (leader == nullptr || leader->fenced) {
        out.error_code = static_cast<int16_t>(ErrorCode::leader_not_available);
        out.leader_id = -1;
      } else if (endpoint_of(image_, p.leader, call_.connection().listener) == nullptr) {
        out.error_code = static_cast<int16_t>(call_.version() >= 6 ? ErrorCode::listener_not_found
                                                                   : ErrorCode::leader_not_available);
      }
      const bool here = p.leader == call_.broker().config().node_id;
      if (here && offline_here(topic, out.partition_index)) {
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

  /// This broker should have it; its directory failed or was not there at the start.
  bool offline_here(const meta::Topic& topic, int32_t number) const {
    const PartitionRef* p = call_.view().partition(topic.id, number);
    return p == nullptr || (*p)->offline();
  }

  Call& call_;
  const wire::MetadataRequest& request_;
  const meta::Image& image_;
};

}  // namespace

void handle(Call call, wire::MetadataRequest& request) {
  const wire::MetadataResponse response = MetadataRun(call, request).run();
  call.reply(response);
}

}  // namespace millrace::broker
