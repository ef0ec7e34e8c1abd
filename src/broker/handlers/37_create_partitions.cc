// CreatePartitions (37), versions 0-3: partitions can grow, never shrink.
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::CreatePartitionsRequest& request) {
  control::CreatePartitions ask;
  ask.validate_only = request.validate_only;
  std::vector<std::string> names;
  for (auto& t : request.topics) {
    names.push_back(t.name);
    control::MorePartitions& more = ask.topics.emplace_back();
    more.name = std::move(t.name);
    more.count = t.count;
    if (!t.assignments) continue;
    more.assignments.emplace();
    for (const auto& a : *t.assignments) {
      std::vector<BrokerId>& replicas = more.assignments->emplace_back();
      for (const int32_t id : a.broker_ids) replicas.emplace_back(id);
    }
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(
      shared->loop(), std::move(ask),
      [shared, names = std::move(names)](Result<control::CreatePartitionsReply> r) {
        wire::CreatePartitionsResponse response;
        if (r.ok()) {
          for (control::NamedOutcome& t : r->topics) {
            auto& out = response.results.emplace_back();
            out.name = std::move(t.name);
            out.error_code = static_cast<int16_t>(wire_code(t.outcome.error));
            if (!t.outcome.ok()) out.error_message = std::move(t.outcome.message);
          }
        } else {
          for (const std::string& name : names) {
            response.results.push_back({name, static_cast<int16_t>(wire_code(r.code())), r.error().message});
          }
        }
        shared->reply(response);
      });
}

}  // namespace millrace::broker
