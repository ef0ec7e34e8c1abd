// AlterPartitionReassignments (45), versions 0-1: moves replicas to other brokers, or cancels a move.
//   1 whether the number of replicas may change
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::AlterPartitionReassignmentsRequest& request) {
  control::AlterReassignments ask;
  ask.allow_replication_factor_change = call.version() == 0 || request.allow_replication_factor_change;
  for (auto& t : request.topics) {
    for (auto& p : t.partitions) {
      control::Reassignment& to = ask.partitions.emplace_back();
      to.partition = {t.name, PartitionId(p.partition_index)};
      if (!p.replicas) continue;
      to.replicas.emplace();
      for (const int32_t b : *p.replicas) to.replicas->emplace_back(b);
    }
  }
  const bool factor_may_change = ask.allow_replication_factor_change;
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(
      shared->loop(), std::move(ask),
      [shared, factor_may_change](Result<control::AlterReassignmentsReply> r) {
        wire::AlterPartitionReassignmentsResponse response;
        response.allow_replication_factor_change = factor_may_change;
        const control::Outcome whole = r.ok() ? r->outcome : control::Outcome{r.code(), r.error().message};
        response.error_code = static_cast<int16_t>(wire_code(whole.error));
        response.error_message.reset();
        if (!whole.ok()) response.error_message = whole.message;
        if (r.ok()) {
          for (control::ReassignedPartition& p : r->partitions) {
            if (response.responses.empty() || response.responses.back().name != p.partition.topic)
              response.responses.push_back({p.partition.topic, {}});
            auto& out = response.responses.back().partitions.emplace_back();
            out.partition_index = p.partition.partition.v;
            out.error_code = static_cast<int16_t>(wire_code(p.outcome.error));
            out.error_message.reset();
            if (!p.outcome.ok()) out.error_message = std::move(p.outcome.message);
          }
        }
        shared->reply(response);
      });
}

}  // namespace millrace::broker
