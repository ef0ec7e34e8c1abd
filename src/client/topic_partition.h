// A partition by its topic's name.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace millrace::client {

struct TopicPartition {
  std::string topic;
  int32_t partition = 0;
  auto operator<=>(const TopicPartition&) const = default;
};

inline std::string to_string(const TopicPartition& tp) {
  return tp.topic + "-" + std::to_string(tp.partition);
}

}  // namespace millrace::client
