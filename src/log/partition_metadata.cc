#include "log/partition_metadata.h"

#include <fmt/format.h>

#include "log/file_names.h"
#include "log/text_lines.h"

namespace millrace::log {

namespace {

constexpr size_t kPartitionMetadataBytesMax = 4096;

}  // namespace

std::string encode_partition_metadata(const PartitionMetadata& metadata) {
  return fmt::format("version: {}\ntopic_id: {}\n", metadata.version, metadata.topic_id.to_string());
}

Result<PartitionMetadata> parse_partition_metadata(std::string_view text) {
  PartitionMetadata out;
  bool version_seen = false;
  bool id_seen = false;
  TextLines lines(text);
  while (const std::optional<std::string_view> line = lines.next()) {
    const size_t colon = line->find(": ");
    if (colon == std::string_view::npos) continue;
    const std::string_view key = line->substr(0, colon);
    const std::string_view value = line->substr(colon + 2);
    if (key == "version") {
      if (value != "0") return Error(ErrorCode::parse_error, "partition.metadata: unknown version");
      version_seen = true;
    } else if (key == "topic_id") {
      Result<Uuid> id = Uuid::parse(value);
      if (!id || id->is_zero()) return Error(ErrorCode::parse_error, "partition.metadata: not a topic id");
      out.topic_id = *id;
      id_seen = true;
    }
  }
  if (!version_seen || !id_seen) return Error(ErrorCode::parse_error, "partition.metadata: incomplete");
  return out;
}

Result<std::optional<PartitionMetadata>> read_partition_metadata(io::Disk& disk,
                                                                 const std::string& directory) {
  const std::string path = io::join_path(directory, kPartitionMetadataName);
  Result<Bytes> content = disk.read_file(path, kPartitionMetadataBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return std::optional<PartitionMetadata>();
  if (!content) return std::move(content).error();
  TRY_ASSIGN(const PartitionMetadata metadata, parse_partition_metadata(as_text(*content)));
  return std::optional<PartitionMetadata>(metadata);
}

Status write_partition_metadata(io::Disk& disk, const std::string& directory, const Uuid& topic_id) {
  return disk.replace_file(io::join_path(directory, kPartitionMetadataName),
                           as_bytes(encode_partition_metadata({.topic_id = topic_id})));
}

}  // namespace millrace::log
