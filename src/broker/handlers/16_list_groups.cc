// ListGroups (16), versions 0-5: every shard of this broker is asked.
//   3 flexible | 4 state filter | 5 type filter
#include "broker/gather.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::ListGroupsRequest& request) {
  std::vector<std::shared_ptr<GroupRunner>> runners;
  if (call.view().groups) {
    for (const auto& r : call.view().groups->by_partition) {
      if (r) runners.push_back(r);
    }
  }
  auto gather = std::make_shared<Gather<wire::ListGroupsResponse>>(share(std::move(call)), runners.size());
  gather->before_reply = [](wire::ListGroupsResponse& r) {
    std::sort(r.groups.begin(), r.groups.end(),
              [](const auto& a, const auto& b) { return a.group_id < b.group_id; });
  };
  if (runners.empty()) gather->finish();
  for (const auto& runner : runners) {
    ask_runner(gather->call(), runner, request, [gather](Result<group::Response> answer) {
      wire::ListGroupsResponse& r = gather->response;
      if (answer.ok()) {
        auto& part = std::get<wire::ListGroupsResponse>(*answer);
        r.groups.insert(r.groups.end(), part.groups.begin(), part.groups.end());
      } else if (r.error_code == 0) {
        r.error_code = static_cast<int16_t>(wire_code(answer.code()));
      }
      gather->part_done();
    });
  }
}

}  // namespace millrace::broker
