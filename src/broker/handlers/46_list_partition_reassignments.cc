// ListPartitionReassignments (46), version 0: the moves under way, of some partitions or of all.
#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "control/views.h"

namespace millrace::broker {

void handle(Call call, wire::ListPartitionReassignmentsRequest& request) {
  std::optional<std::vector<control::NamedPartition>> asked;
  if (request.topics) {
    asked.emplace();
    for (const auto& t : *request.topics) {
      for (const int32_t p : t.partition_indexes) asked->push_back({t.name, PartitionId(p)});
    }
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().read_controller(
      shared->loop(),
      [asked = std::move(asked)](const control::Controller& c) {
        return control::list_reassignments(c.image(), c.index(), asked);
      },
      [shared](Result<std::vector<control::OngoingReassignment>> r) {
        wire::ListPartitionReassignmentsResponse response;
        response.error_message.reset();
        if (!r.ok()) {
          response.error_code = static_cast<int16_t>(wire_code(r.code()));
          response.error_message = r.error().message;
        } else {
          for (const control::OngoingReassignment& m : *r) {
            if (response.topics.empty() || response.topics.back().name != m.partition.topic)
              response.topics.push_back({m.partition.topic, {}});
            response.topics.back().partitions.push_back({m.partition.partition.v, broker_numbers(m.replicas),
                                                         broker_numbers(m.adding),
                                                         broker_numbers(m.removing)});
          }
        }
        shared->reply(response);
      });
}

}  // namespace millrace::broker
