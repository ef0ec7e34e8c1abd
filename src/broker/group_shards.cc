#include "broker/group_shards.h"

#include "broker/broker.h"

namespace millrace::broker {

Result<std::shared_ptr<GroupRunner>> find_group_runner(const Call& call, std::string_view group) {
  const std::shared_ptr<const GroupShards>& shards = call.view().groups;
  if (!shards || shards->by_partition.empty()) {
    if (call.view().image->topic(kOffsetsTopic) != nullptr)
      return Error(ErrorCode::not_coordinator, "another broker coordinates this group");
    call.broker().ensure_offsets_topic();
    return Error(ErrorCode::coordinator_not_available, "the offsets topic is being created");
  }
  const int32_t p = group::partition_for(group, static_cast<int32_t>(shards->by_partition.size()));
  const std::shared_ptr<GroupRunner>& runner = shards->by_partition[static_cast<size_t>(p)];
  if (!runner || runner->partition().in_doubt(call.now()))
    return Error(ErrorCode::not_coordinator, "another broker coordinates this group");
  return runner;
}

group::ClientContext group_context(const Call& call) {
  group::ClientContext c;
  c.client_id = call.client_id();
  c.client_host = "/" + call.connection().peer.host;
  c.api_version = call.version();
  c.listener = call.connection().listener;
  c.fresh_uuid = call.broker().environment().random->uuid();
  return c;
}

}  // namespace millrace::broker
