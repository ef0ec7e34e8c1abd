// Kafka's text checkpoint files of a data directory, one number per partition:
//
//   0                 version
//   2                 entries
//   orders 0 1042     topic partition offset
//   orders 1 999
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace millrace::log {

struct TopicPartition {
  std::string topic;
  PartitionId partition;
  auto operator<=>(const TopicPartition&) const = default;
};

using OffsetCheckpoint = std::map<TopicPartition, Offset>;

inline constexpr std::string_view kRecoveryPointCheckpoint = "recovery-point-offset-checkpoint";
inline constexpr std::string_view kHighWatermarkCheckpoint = "replication-offset-checkpoint";
inline constexpr std::string_view kLogStartCheckpoint = "log-start-offset-checkpoint";

std::string encode_checkpoint(const OffsetCheckpoint& checkpoint);
/// Errors: parse_error (names the line).
Result<OffsetCheckpoint> parse_checkpoint(std::string_view text);

}  // namespace millrace::log
