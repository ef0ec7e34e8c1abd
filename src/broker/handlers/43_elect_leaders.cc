// ElectLeaders (43), versions 0-2: the preferred leader, or any replica if nothing else is left (1).
//   1 election type, top-level error | 2 flexible
#include <map>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::ElectLeadersRequest& request) {
  control::ElectLeaders ask;
  ask.type = call.version() == 0 ? control::ElectionType::preferred
                                 : static_cast<control::ElectionType>(request.election_type);
  if (request.topic_partitions) {
    ask.partitions.emplace();
    for (auto& t : *request.topic_partitions) {
      for (const int32_t p : t.partitions) ask.partitions->push_back({t.topic, PartitionId(p)});
    }
  }
  const auto asked = ask.partitions;
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(
      shared->loop(), std::move(ask), [shared, asked](Result<control::ElectLeadersReply> r) {
        wire::ElectLeadersResponse response;
        std::map<std::string, std::vector<wire::ElectLeadersResponse::PartitionResult>> topics;
        const auto add = [&](const control::NamedPartition& p, ErrorCode code, const std::string& message) {
          wire::ElectLeadersResponse::PartitionResult out;
          out.partition_id = p.partition.v;
          out.error_code = static_cast<int16_t>(wire_code(code));
          out.error_message.reset();
          if (code != ErrorCode::none) out.error_message = message;
          topics[p.topic].push_back(std::move(out));
        };
        if (r.ok()) {
          for (const control::ElectedPartition& p : r->partitions)
            add(p.partition, p.outcome.error, p.outcome.message);
        } else {
          response.error_code = static_cast<int16_t>(wire_code(r.code()));
          if (asked) {
            for (const control::NamedPartition& p : *asked) add(p, r.code(), r.error().message);
          }
        }
        for (auto& [topic, results] : topics)
          response.replica_election_results.push_back({topic, std::move(results)});
        shared->reply(response);
      });
}

}  // namespace millrace::broker
