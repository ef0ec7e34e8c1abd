#include "group/records.h"

#include <utility>

#include "wire/records/group_metadata.h"
#include "wire/records/offset_commit.h"
#include "wire/versioned.h"

namespace millrace::group {
namespace {

constexpr int16_t kGroupValueVersion = 3;
// Version 1 alone has an expiry, 4 alone a topic id; 3 is what every reader knows.
constexpr int16_t kOffsetValueVersion = 3;
constexpr int16_t kOffsetValueVersionWithExpiry = 1;
constexpr int16_t kOffsetValueVersionWithTopicId = 4;

template <class WireKey>
Result<RecordKey> offset_key(ByteView bytes) {
  TRY_ASSIGN(WireKey key, wire::decode_key<WireKey>(bytes));
  return RecordKey(OffsetKey{std::move(key.group), std::move(key.topic), key.partition});
}

Error as_corrupt(Error error) {
  return Error(ErrorCode::corrupt, std::move(error.message));
}

}  // namespace

Bytes encode_key(const OffsetKey& key) {
  wire::OffsetCommitKey out;
  out.group = key.group;
  out.topic = key.topic;
  out.partition = key.partition;
  return wire::encode_key(out);
}

Bytes encode_key(const GroupKey& key) {
  wire::GroupMetadataKey out;
  out.group = key.group;
  return wire::encode_key(out);
}

Result<RecordKey> decode_key(ByteView bytes) {
  TRY_ASSIGN(const int16_t type, wire::key_type(bytes));
  switch (type) {
    case 0:
      return offset_key<wire::LegacyOffsetCommitKey>(bytes);
    case 1:
      return offset_key<wire::OffsetCommitKey>(bytes);
    case 2: {
      TRY_ASSIGN(wire::GroupMetadataKey key, wire::decode_key<wire::GroupMetadataKey>(bytes));
      return RecordKey(GroupKey{std::move(key.group)});
    }
    default:
      return RecordKey(OtherKey{type});
  }
}

Bytes encode_value(const CommittedOffset& value) {
  wire::OffsetCommitValue out;
  out.offset = value.offset;
  out.leader_epoch = value.leader_epoch;
  out.metadata = value.metadata;
  out.commit_timestamp = value.commit_timestamp_ms;
  out.expire_timestamp = value.expire_timestamp_ms;
  out.topic_id = value.topic_id;
  int16_t version = kOffsetValueVersion;
  if (value.expire_timestamp_ms >= 0) {
    version = kOffsetValueVersionWithExpiry;
  } else if (!value.topic_id.is_zero()) {
    version = kOffsetValueVersionWithTopicId;
  }
  return wire::encode_versioned(out, version);
}

Result<CommittedOffset> decode_offset_value(ByteView bytes) {
  auto decoded = wire::decode_versioned<wire::OffsetCommitValue>(bytes);
  if (!decoded) return as_corrupt(std::move(decoded).error());
  CommittedOffset value;
  value.offset = decoded->offset;
  value.leader_epoch = decoded->leader_epoch;
  value.metadata = std::move(decoded->metadata);
  value.commit_timestamp_ms = decoded->commit_timestamp;
  value.expire_timestamp_ms = decoded->expire_timestamp;
  value.topic_id = decoded->topic_id;
  return value;
}

Bytes encode_value(const GroupMetadata& value) {
  wire::GroupMetadataValue out;
  out.protocol_type = value.protocol_type;
  out.generation = value.generation;
  out.protocol = value.protocol;
  out.leader = value.leader;
  out.current_state_timestamp = value.current_state_timestamp_ms;
  for (const auto& [id, member] : value.members) {
    auto& m = out.members.emplace_back();
    m.member_id = id;
    m.group_instance_id = member.group_instance_id;
    m.client_id = member.client_id;
    m.client_host = member.client_host;
    m.rebalance_timeout = member.rebalance_timeout_ms;
    m.session_timeout = member.session_timeout_ms;
    m.subscription = member.subscription;
    m.assignment = member.assignment;
  }
  return wire::encode_versioned(out, kGroupValueVersion);
}

Result<GroupMetadata> decode_group_value(ByteView bytes) {
  auto decoded = wire::decode_versioned<wire::GroupMetadataValue>(bytes);
  if (!decoded) return as_corrupt(std::move(decoded).error());
  GroupMetadata value;
  value.protocol_type = std::move(decoded->protocol_type);
  value.generation = decoded->generation;
  value.protocol = std::move(decoded->protocol);
  value.leader = std::move(decoded->leader);
  value.current_state_timestamp_ms = decoded->current_state_timestamp;
  for (auto& m : decoded->members) {
    GroupMetadata::Member member;
    member.group_instance_id = std::move(m.group_instance_id);
    member.client_id = std::move(m.client_id);
    member.client_host = std::move(m.client_host);
    member.session_timeout_ms = m.session_timeout;
    member.rebalance_timeout_ms = m.rebalance_timeout < 0 ? m.session_timeout : m.rebalance_timeout;
    member.subscription = std::move(m.subscription);
    member.assignment = std::move(m.assignment);
    if (!value.members.emplace(std::move(m.member_id), std::move(member)).second) {
      return Error(ErrorCode::corrupt, "group metadata names a member twice");
    }
  }
  return value;
}

}  // namespace millrace::group
