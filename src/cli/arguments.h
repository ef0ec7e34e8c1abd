// What people write on the command line for offsets, times, pairs and lists of partitions, and what it means.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "client/topic_partition.h"

namespace millrace::cli {

/// Where to begin in a partition.
struct OffsetSpec {
  enum class Kind : uint8_t {
    beginning,
    end,
    offset,      // `value` is an offset
    before_end,  // the last `value` records
    timestamp,   // the first record at or after `value`, Unix ms
  };
  Kind kind = Kind::beginning;
  int64_t value = 0;
  bool operator==(const OffsetSpec&) const = default;
};

/// "beginning", "end", "42", "-10" (ten before the end), "@TIME". Errors: invalid_argument.
Result<OffsetSpec> parse_offset_spec(std::string_view text, int64_t wall_now_ms);
/// Unix milliseconds ("1700000000000"), "2026-11-21", "2026-11-21T13:45:00[.123][Z|+01:00]" (UTC if it does
/// not say), or "-15m" before now (s, m, h, d). Errors: invalid_argument.
Result<int64_t> parse_time(std::string_view text, int64_t wall_now_ms);

/// "key=value" at the first '='. Errors: invalid_argument.
Result<std::pair<std::string, std::string>> parse_pair(std::string_view text);
/// "topic" or "topic:0,3,5-7"; no partitions mean all. Errors: invalid_argument.
Result<std::pair<std::string, std::vector<int32_t>>> parse_topic_partitions(std::string_view text);
/// Where the replicas of some partitions of a topic are to be.
struct ReassignmentSpec {
  std::string topic;
  std::vector<int32_t> partitions;
  std::vector<int32_t> replicas;
  bool operator==(const ReassignmentSpec&) const = default;
};
/// "topic:0=1,2,3" or "topic:0,4-6=1,2,3". Errors: invalid_argument.
Result<ReassignmentSpec> parse_reassignment(std::string_view text);
/// "0,3,5-7". Errors: invalid_argument.
Result<std::vector<int32_t>> parse_partitions(std::string_view text);

}  // namespace millrace::cli
