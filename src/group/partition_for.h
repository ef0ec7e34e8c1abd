// Which partition of `__consumer_offsets` (and so which coordinator) a group belongs to.
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace::group {

/// Java's String.hashCode over the UTF-16 units of a UTF-8 text; malformed bytes count as U+FFFD, as Java
/// decodes them.
int32_t java_string_hash(std::string_view utf8);

/// abs(hash) % partitions, where abs(INT32_MIN) is 0 (Kafka's Utils.abs). `partitions` > 0.
int32_t partition_for(std::string_view group_id, int32_t partitions);

}  // namespace millrace::group
