// Questions about offsets that go to many brokers or to a group's coordinator.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/topic_partition.h"

namespace millrace::client {

// Timestamps with a meaning of their own in ListOffsets.
inline constexpr int64_t kLatest = -1;
inline constexpr int64_t kEarliest = -2;

struct OffsetAt {
  ErrorCode error = ErrorCode::none;
  int64_t offset = -1;  // -1: no record is that young
  int64_t timestamp = -1;
  int32_t leader_epoch = -1;  // of the record there; kLatest: of the leader
};

/// ListOffsets at the partitions' leaders. Partitions whose leader is not found in time carry the last error.
/// Errors: as Client::call().
void list_offsets(Client& client, std::map<TopicPartition, int64_t> timestamps, bool read_committed,
                  int64_t timeout_ms, Done<std::map<TopicPartition, OffsetAt>> done);

struct CommittedOffset {
  ErrorCode error = ErrorCode::none;
  int64_t offset = -1;  // -1: nothing committed
  std::string metadata;
};

/// What the group has committed: for `partitions`, or for all (nullopt). Errors: the group's error code, and
/// as Client::call().
void fetch_committed(Client& client, const std::string& group,
                     std::optional<std::set<TopicPartition>> partitions, int64_t timeout_ms,
                     Done<std::map<TopicPartition, CommittedOffset>> done);

struct GroupIdentity {
  std::string group;
  std::string member_id;  // empty and generation -1: from outside, into a group without members
  int32_t generation = -1;
  std::optional<std::string> instance_id;
};

/// Commits; the result has a code for every partition.
void commit_offsets(Client& client, const GroupIdentity& identity,
                    const std::map<TopicPartition, int64_t>& offsets, int64_t timeout_ms,
                    Done<std::map<TopicPartition, ErrorCode>> done);

}  // namespace millrace::client
