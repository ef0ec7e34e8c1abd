#include "log/checkpoints.h"

#include <fmt/format.h>

#include "log/text_lines.h"

namespace millrace::log {

namespace {

/// Version, count, then a line for each entry: topic, partition, and what `value` makes of the rest.
template <class Map, class Value>
Result<Map> parse_lines(std::string_view text, const Value& value) {
  TextLines lines(text);
  const auto damaged = [&lines] {
    return Error(ErrorCode::parse_error, fmt::format("checkpoint does not parse at line {}", lines.number()));
  };
  if (lines.next() != "0") return damaged();
  const std::optional<std::string_view> count_line = lines.next();
  const std::optional<int64_t> count = count_line ? parse_decimal(*count_line) : std::nullopt;
  if (!count || *count < 0) return damaged();
  Map checkpoint;
  for (int64_t i = 0; i < *count; ++i) {
    const std::optional<std::string_view> line = lines.next();
    if (!line) return damaged();
    const size_t second = line->rfind(' ');
    if (second == std::string_view::npos || second == 0) return damaged();
    const size_t first = line->rfind(' ', second - 1);
    if (first == std::string_view::npos || first == 0) return damaged();
    const std::optional<int64_t> partition = parse_decimal(line->substr(first + 1, second - first - 1));
    const auto parsed = value(line->substr(second + 1));
    if (!partition || !parsed || *partition < 0 || *partition > INT32_MAX) return damaged();
    checkpoint[{std::string(line->substr(0, first)), PartitionId(static_cast<int32_t>(*partition))}] =
        *parsed;
  }
  if (lines.next()) return damaged();
  return checkpoint;
}

}  // namespace

std::string encode_checkpoint(const OffsetCheckpoint& checkpoint) {
  std::string out = fmt::format("0\n{}\n", checkpoint.size());
  for (const auto& [key, offset] : checkpoint) {
    out += fmt::format("{} {} {}\n", key.topic, key.partition.v, offset.v);
  }
  return out;
}

Result<OffsetCheckpoint> parse_checkpoint(std::string_view text) {
  return parse_lines<OffsetCheckpoint>(text, [](std::string_view value) -> std::optional<Offset> {
    const std::optional<int64_t> offset = parse_decimal(value);
    return offset && *offset >= 0 ? std::optional<Offset>(Offset(*offset)) : std::nullopt;
  });
}

std::string encode_topic_ids(const TopicIdCheckpoint& checkpoint) {
  std::string out = fmt::format("0\n{}\n", checkpoint.size());
  for (const auto& [key, id] : checkpoint) {
    out += fmt::format("{} {} {}\n", key.topic, key.partition.v, id.to_string());
  }
  return out;
}

Result<TopicIdCheckpoint> parse_topic_ids(std::string_view text) {
  return parse_lines<TopicIdCheckpoint>(text, [](std::string_view value) -> std::optional<Uuid> {
    const Result<Uuid> id = Uuid::parse(value);
    return id.ok() ? std::optional<Uuid>(*id) : std::nullopt;
  });
}

}  // namespace millrace::log
