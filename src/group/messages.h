// What a group shard is asked and answers: the generated messages of the wire, under the room's own names.
//
// The handler in front has done what needs the rest of the broker: authorization (29, 30), unknown topics
// (3), topic ids to names and back, and the split of batches into groups and shards. Top-level throttle times
// are its own. Where versions differ in shape the machine looks at ClientContext::api_version.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "wire/messages/delete_groups.h"
#include "wire/messages/describe_groups.h"
#include "wire/messages/heartbeat.h"
#include "wire/messages/join_group.h"
#include "wire/messages/leave_group.h"
#include "wire/messages/list_groups.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/offset_delete.h"
#include "wire/messages/offset_fetch.h"
#include "wire/messages/sync_group.h"
#include "wire/messages/txn_offset_commit.h"

namespace millrace::group {

using wire::DeleteGroupsRequest;
using wire::DeleteGroupsResponse;
using wire::DescribeGroupsRequest;
using wire::DescribeGroupsResponse;
using wire::HeartbeatRequest;
using wire::HeartbeatResponse;
using wire::JoinGroupRequest;
using wire::JoinGroupResponse;
using wire::LeaveGroupRequest;
using wire::LeaveGroupResponse;
using wire::ListGroupsRequest;
using wire::ListGroupsResponse;
using wire::OffsetCommitRequest;
using wire::OffsetCommitResponse;
using wire::OffsetDeleteRequest;
using wire::OffsetDeleteResponse;
using wire::SyncGroupRequest;
using wire::SyncGroupResponse;
using wire::TxnOffsetCommitRequest;
using wire::TxnOffsetCommitResponse;

/// One group of an OffsetFetch; below v8 the handler makes a group of the request's top level, and back.
struct OffsetFetchRequest {
  using Group = decltype(wire::OffsetFetchRequest::groups)::value_type;
  Group group;
  bool require_stable = false;
};
using OffsetFetchResponse = decltype(wire::OffsetFetchResponse::groups)::value_type;

inline int16_t wire_number(ErrorCode code) {
  return static_cast<int16_t>(wire_code(code));
}

}  // namespace millrace::group
