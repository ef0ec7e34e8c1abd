// Kafka's text checkpoint files of a data directory, one number per partition:
//
//   0                 version
//   2                 entries
//   orders 0 1042     topic partition offset
//   orders 1 999
//
// and, laid out the same with the topic's id for the offset, a file of our own that says of which topic those
// numbers are: a topic that was deleted and made again has its name, not its offsets.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"

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
inline constexpr std::string_view kCleanerCheckpoint = "cleaner-offset-checkpoint";

using TopicIdCheckpoint = std::map<TopicPartition, Uuid>;
inline constexpr std::string_view kTopicIdCheckpoint = "topic-id-checkpoint";

std::string encode_checkpoint(const OffsetCheckpoint& checkpoint);
/// Errors: parse_error (names the line).
Result<OffsetCheckpoint> parse_checkpoint(std::string_view text);

std::string encode_topic_ids(const TopicIdCheckpoint& checkpoint);
/// Errors: parse_error (names the line).
Result<TopicIdCheckpoint> parse_topic_ids(std::string_view text);

}  // namespace millrace::log
