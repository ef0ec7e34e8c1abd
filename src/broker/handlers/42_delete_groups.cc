// DeleteGroups (42), versions 0-2: each group is asked of its own coordinator.
#include "broker/gather.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::DeleteGroupsRequest& request) {
  const size_t count = request.groups_names.size();
  auto gather = std::make_shared<Gather<wire::DeleteGroupsResponse>>(share(std::move(call)), count);
  gather->response.results.resize(count);
  if (count == 0) gather->finish();
  for (size_t i = 0; i < count; ++i) {
    const std::string& id = request.groups_names[i];
    const auto refuse = [gather, i, id](ErrorCode code) {
      auto& result = gather->response.results[i];
      result.group_id = id;
      result.error_code = static_cast<int16_t>(wire_code(code));
      gather->part_done();
    };
    const Result<std::shared_ptr<GroupRunner>> runner = find_group_runner(*gather->call(), id);
    if (!runner.ok()) {
      refuse(runner.code());
      continue;
    }
    wire::DeleteGroupsRequest one;
    one.groups_names.push_back(id);
    ask_runner(gather->call(), *runner, std::move(one), [gather, i, refuse](Result<group::Response> answer) {
      if (!answer.ok()) return refuse(answer.code());
      auto& results = std::get<wire::DeleteGroupsResponse>(*answer).results;
      ASSERT(results.size() == 1);
      gather->response.results[i] = std::move(results.front());
      gather->part_done();
    });
  }
}

}  // namespace millrace::broker
