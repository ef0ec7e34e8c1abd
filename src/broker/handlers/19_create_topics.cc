// CreateTopics (19), versions 2-7: decided by the controller, answered when this broker can describe the
// topic.
//   4 -1 asks for the broker's default partitions and replication factor | 5 flexible, configs in the
//   response 7 topic id
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using CreateResponse = wire::CreateTopicsResponse;

control::NewTopic new_topic(wire::CreateTopicsRequest::CreatableTopic& t) {
  control::NewTopic out;
  out.name = std::move(t.name);
  out.partitions = t.num_partitions;
  out.replication_factor = t.replication_factor;
  for (auto& a : t.assignments) {
    control::Assignment& assignment = out.assignments.emplace_back();
    assignment.partition = a.partition_index;
    for (const int32_t id : a.broker_ids) assignment.replicas.emplace_back(id);
  }
  for (auto& c : t.configs) out.configs.push_back({std::move(c.name), std::move(c.value)});
  return out;
}

CreateResponse::CreatableTopicResult created_topic(control::CreatedTopic& t) {
  CreateResponse::CreatableTopicResult out;
  out.name = std::move(t.name);
  out.error_code = static_cast<int16_t>(wire_code(t.outcome.error));
  out.error_message.reset();
  if (!t.outcome.ok()) {
    out.error_message = std::move(t.outcome.message);
    return out;
  }
  out.topic_id = t.id;
  out.num_partitions = t.partitions;
  out.replication_factor = t.replication_factor;
  for (control::DescribedConfig& c : t.configs) {
    out.configs->push_back(
        {std::move(c.name), std::move(c.value), c.read_only, static_cast<int8_t>(c.source), c.sensitive});
  }
  return out;
}

}  // namespace

void handle(Call call, wire::CreateTopicsRequest& request) {
  // Before anything is recorded that could not be carried out: where this broker is the only one.
  const Status room = call.broker().has_peers() ? Status() : call.broker().host().may_place();
  if (!room.ok()) {
    CreateResponse response;
    for (auto& t : request.topics) {
      auto& refused = response.topics.emplace_back();
      refused.name = std::move(t.name);
      refused.error_code = static_cast<int16_t>(wire_code(room.code()));
      refused.error_message = "no directory can take new partitions: " + room.error().message;
    }
    call.reply(response);
    return;
  }
  control::CreateTopics ask;
  ask.validate_only = request.validate_only;
  std::vector<std::string> names;
  for (auto& t : request.topics) {
    names.push_back(t.name);
    ask.topics.push_back(new_topic(t));
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(shared->loop(), std::move(ask),
                                  [shared, names = std::move(names)](Result<control::CreateTopicsReply> r) {
                                    CreateResponse response;
                                    if (r.ok()) {
                                      for (control::CreatedTopic& t : r->topics)
                                        response.topics.push_back(created_topic(t));
                                    } else {
                                      for (const std::string& name : names) {
                                        auto& t = response.topics.emplace_back();
                                        t.name = name;
                                        t.error_code = static_cast<int16_t>(wire_code(r.code()));
                                        t.error_message = r.error().message;
                                      }
                                    }
                                    shared->reply(response);
                                  });
}

}  // namespace millrace::broker
