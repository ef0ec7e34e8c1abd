// Kafka's records of `__consumer_offsets`, as the classic protocol uses them: offset commits (types 0 and 1)
// and group metadata (type 2). Written: commit key 1 with value 3 (1 with an expiry, 4 with a topic id),
// group key 2 with value 3. Read: every version. Other types belong to other machines of the same partition.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "base/bytes.h"
#include "base/result.h"
#include "base/uuid.h"

namespace millrace::group {

struct OffsetKey {
  std::string group;
  std::string topic;
  int32_t partition = 0;
  auto operator<=>(const OffsetKey&) const = default;
};

struct CommittedOffset {
  int64_t offset = -1;
  int32_t leader_epoch = -1;
  std::string metadata;
  int64_t commit_timestamp_ms = -1;
  int64_t expire_timestamp_ms = -1;  // -1: by the broker's retention
  Uuid topic_id;
  bool operator==(const CommittedOffset&) const = default;
};

struct GroupKey {
  std::string group;
};

/// A record of a type that is not ours.
struct OtherKey {
  int16_t type = 0;
};

/// What survives of a group: its last finished generation, or that it is empty and since when.
struct GroupMetadata {
  struct Member {
    std::optional<std::string> group_instance_id;
    std::string client_id;
    std::string client_host;
    int32_t rebalance_timeout_ms = -1;
    int32_t session_timeout_ms = 0;
    Bytes subscription;  // metadata of the chosen protocol
    Bytes assignment;
    bool operator==(const Member&) const = default;
  };
  std::string protocol_type;
  int32_t generation = 0;
  std::optional<std::string> protocol;
  std::optional<std::string> leader;
  int64_t current_state_timestamp_ms = -1;
  std::map<std::string, Member> members;  // by member id
  bool operator==(const GroupMetadata&) const = default;
};

using RecordKey = std::variant<OffsetKey, GroupKey, OtherKey>;

Bytes encode_key(const OffsetKey& key);
Bytes encode_key(const GroupKey& key);
/// Errors: corrupt.
Result<RecordKey> decode_key(ByteView bytes);

Bytes encode_value(const CommittedOffset& value);
/// Errors: corrupt, also for versions nobody knows.
Result<CommittedOffset> decode_offset_value(ByteView bytes);

Bytes encode_value(const GroupMetadata& value);
/// Errors: corrupt, also for versions nobody knows.
Result<GroupMetadata> decode_group_value(ByteView bytes);

}  // namespace millrace::group
