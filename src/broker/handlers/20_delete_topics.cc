// DeleteTopics (20), versions 1-6.
//   4 flexible | 5 error message | 6 by name or id
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using DeleteResponse = wire::DeleteTopicsResponse;

DeleteResponse::DeletableTopicResult delete_result(std::optional<std::string> name, const Uuid& id,
                                                   ErrorCode code, std::string message) {
  DeleteResponse::DeletableTopicResult out;
  out.name = std::move(name);
  out.topic_id = id;
  out.error_code = static_cast<int16_t>(wire_code(code));
  if (code != ErrorCode::none) out.error_message = std::move(message);
  return out;
}

}  // namespace

void handle(Call call, wire::DeleteTopicsRequest& request) {
  control::DeleteTopics ask;
  for (std::string& name : request.topic_names) ask.topics.push_back({std::move(name), {}});
  for (auto& t : request.topics) ask.topics.push_back({std::move(t.name), t.topic_id});
  if (!call.broker().setting_bool(*call.view().image, "delete.topic.enable")) {
    DeleteResponse response;
    for (control::TopicHandle& t : ask.topics) {
      response.responses.push_back(
          delete_result(std::move(t.name), t.id,
                        call.version() >= 3 ? ErrorCode::topic_deletion_disabled : ErrorCode::invalid_request,
                        "delete.topic.enable is false"));
    }
    call.reply(response);
    return;
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(shared->loop(), ask, [shared, ask](Result<control::DeleteTopicsReply> r) {
    DeleteResponse response;
    if (r.ok()) {
      for (control::DeletedTopic& t : r->topics) {
        response.responses.push_back(
            delete_result(std::move(t.name), t.id, t.outcome.error, std::move(t.outcome.message)));
      }
    } else {
      for (const control::TopicHandle& t : ask.topics) {
        response.responses.push_back(delete_result(t.name, t.id, r.code(), r.error().message));
      }
    }
    if (shared->version() < 6) {
      for (auto& t : response.responses) {
        if (!t.name) t.name = "";
      }
    }
    shared->reply(response);
  });
}

}  // namespace millrace::broker
