// OffsetFetch (9), versions 1-8: one group until v7, a batch of groups from v8 on.
//   2 null topics: all; top-level error | 5 leader epoch | 6 flexible | 7 require_stable | 8 several groups
#include "broker/gather.h"
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using WireRequest = wire::OffsetFetchRequest;
using WireResponse = wire::OffsetFetchResponse;
using FetchGather = Gather<WireResponse>;

group::OffsetFetchResponse offsets_refused(const group::OffsetFetchRequest& request, ErrorCode code) {
  group::OffsetFetchResponse r;
  r.group_id = request.group.group_id;
  r.error_code = static_cast<int16_t>(code);
  return r;
}

// Below v8 the one group lies at the top level.
void flatten_old(int16_t version, const WireRequest& asked, WireResponse& r) {
  if (version >= 8) return;
  ASSERT(r.groups.size() == 1);
  const group::OffsetFetchResponse& g = r.groups.front();
  r.error_code = g.error_code;
  for (const auto& t : g.topics) {
    auto& out = r.topics.emplace_back();
    out.name = t.name;
    for (const auto& p : t.partitions) {
      out.partitions.push_back(
          {p.partition_index, p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code});
    }
  }
  if (g.error_code != 0 && version < 2 && asked.topics) {
    // v1 has no top-level error: every partition carries it.
    for (const auto& t : *asked.topics) {
      auto& out = r.topics.emplace_back();
      out.name = t.name;
      for (const int32_t index : t.partition_indexes)
        out.partitions.push_back({index, -1, -1, "", g.error_code});
    }
  }
}

}  // namespace

void handle(Call call, WireRequest& request) {
  if (call.version() < 8) {
    WireRequest::OffsetFetchRequestGroup& g = request.groups.emplace_back();
    g.group_id = request.group_id;
    g.topics.reset();
    if (request.topics) {
      g.topics.emplace();
      for (const auto& t : *request.topics) g.topics->push_back({t.name, {}, t.partition_indexes});
    }
  }
  const int16_t version = call.version();
  auto gather = std::make_shared<FetchGather>(share(std::move(call)), request.groups.size());
  const size_t count = request.groups.size();
  gather->response.groups.resize(count);
  gather->before_reply = [version, asked = request](WireResponse& r) { flatten_old(version, asked, r); };
  if (count == 0) {
    gather->finish();
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    group::OffsetFetchRequest one{request.groups[i], request.require_stable};
    const Result<std::shared_ptr<GroupRunner>> runner =
        find_group_runner(*gather->call(), one.group.group_id);
    if (!runner.ok()) {
      gather->response.groups[i] = offsets_refused(one, wire_code(runner.code()));
      gather->part_done();
      continue;
    }
    ask_runner(gather->call(), *runner, one, [gather, i, one](Result<group::Response> answer) {
      gather->response.groups[i] = answer.ok() ? std::get<group::OffsetFetchResponse>(std::move(*answer))
                                               : offsets_refused(one, wire_code(answer.code()));
      gather->part_done();
    });
  }
}

}  // namespace millrace::broker
