// DescribeGroups (15), versions 0-6: each group is asked of its own coordinator.
//   3 authorized operations | 4 instance ids | 5 flexible | 6 GROUP_ID_NOT_FOUND instead of state Dead
#include "broker/gather.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::DescribeGroupsRequest& request) {
  const size_t count = request.groups.size();
  auto gather = std::make_shared<Gather<wire::DescribeGroupsResponse>>(share(std::move(call)), count);
  gather->response.groups.resize(count);
  if (count == 0) gather->finish();
  for (size_t i = 0; i < count; ++i) {
    const std::string& id = request.groups[i];
    const auto refuse = [gather, i, id](ErrorCode code) {
      auto& g = gather->response.groups[i];
      g.group_id = id;
      g.error_code = static_cast<int16_t>(wire_code(code));
      gather->part_done();
    };
    const Result<std::shared_ptr<GroupRunner>> runner = find_group_runner(*gather->call(), id);
    if (!runner.ok()) {
      refuse(runner.code());
      continue;
    }
    wire::DescribeGroupsRequest one;
    one.groups.push_back(id);
    one.include_authorized_operations = request.include_authorized_operations;
    ask_runner(gather->call(), *runner, std::move(one), [gather, i, refuse](Result<group::Response> answer) {
      if (!answer.ok()) return refuse(answer.code());
      auto& groups = std::get<wire::DescribeGroupsResponse>(*answer).groups;
      ASSERT(groups.size() == 1);
      gather->response.groups[i] = std::move(groups.front());
      gather->part_done();
    });
  }
}

}  // namespace millrace::broker
