// The "range" assignor of the classic group protocol: topic by topic, the members that subscribe to it, in
// order, get contiguous runs of its partitions, the first ones one more if it does not divide (as Kafka's
// RangeAssignor, so that Java members of the same group agree). Also the group protocol's two blobs.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "client/topic_partition.h"

namespace millrace::client {

inline constexpr const char* kConsumerProtocolType = "consumer";
inline constexpr const char* kRangeProtocol = "range";

struct MemberSubscription {
  std::string member_id;
  std::optional<std::string> instance_id;
  std::vector<std::string> topics;
};

using Assignment = std::map<std::string, std::vector<TopicPartition>>;  // by member id

/// `partition_counts`: topics that exist. Every member is in the result, perhaps with nothing.
Assignment assign_range(std::vector<MemberSubscription> members,
                        const std::map<std::string, int32_t>& partition_counts);

Bytes encode_subscription(const std::vector<std::string>& topics);
/// The topics of a member's subscription blob. Errors: corrupt.
Result<std::vector<std::string>> decode_subscription(ByteView blob);
Bytes encode_assignment(const std::vector<TopicPartition>& partitions);
/// An empty blob is an empty assignment. Errors: corrupt.
Result<std::vector<TopicPartition>> decode_assignment(ByteView blob);

}  // namespace millrace::client
