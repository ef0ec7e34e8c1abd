// Every bound of the group room, with its default. `server` fills it from the configuration (keys named as
// in Kafka where Kafka has one). Plain data.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::group {

struct GroupLimits {
  /// group.min.session.timeout.ms, group.max.session.timeout.ms: outside of it a join gets 26.
  int32_t session_timeout_ms_min = 6'000;
  int32_t session_timeout_ms_max = 1'800'000;
  /// A longer rebalance timeout is cut to this one, so that no request is parked for ever.
  int32_t rebalance_timeout_ms_max = 86'400'000;
  /// group.initial.rebalance.delay.ms: how long the first rebalance of an empty group waits for more members.
  int32_t initial_rebalance_delay_ms = 3'000;
  /// A first join waits at most this long for its rebalance (Kafka: five minutes, not configurable there).
  int32_t new_member_join_timeout_ms = 300'000;
  /// group.max.size: members of one group; beyond it 81.
  int32_t group_size_max = 10'000;
  /// Members that were given an id and have not come back with it, per group; beyond it 81.
  int32_t pending_members_max = 10'000;
  /// Groups of one shard, empty ones and simple ones included; beyond it a new one gets 44.
  size_t groups_max = 100'000;
  /// Protocols named in one join; beyond it 42.
  size_t protocols_per_member_max = 64;
  /// Protocol metadata of one member, all protocols together; beyond it 42.
  size_t member_metadata_bytes_max = 1u << 20;
  /// One GroupMetadata record (all subscriptions and assignments); a larger one fails the SyncGroup with -1.
  size_t group_record_bytes_max = 1'000'000;
  /// offset.metadata.max.bytes: beyond it that partition of a commit gets 12.
  size_t offset_metadata_bytes_max = 4'096;
  /// Partitions in one commit; beyond it all of them get 28.
  size_t offsets_per_commit_max = 50'000;
  /// Committed partitions of one group; beyond it a new partition gets 28.
  size_t offsets_per_group_max = 500'000;
  /// offsets.retention.minutes: age at which unused offsets go.
  int64_t offsets_retention_ms = 7LL * 24 * 3600 * 1000;
  /// offsets.retention.check.interval.ms.
  int64_t offsets_retention_check_interval_ms = 600'000;
  /// Records one tick may write (the sweep goes on in the next one).
  size_t records_per_tick_max = 2'000;
};

/// Longest id or name that fits the int16 lengths of Kafka's records, with room for "-<uuid>".
inline constexpr size_t kIdBytesMax = 32'767 - 64;

}  // namespace millrace::group
