// partition.metadata: which topic a partition directory belongs to, whatever its name says.
//
//   version: 0
//   topic_id: 4L6g3nShT-eMCtK--X86sw
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/uuid.h"
#include "io/disk.h"

namespace millrace::log {

struct PartitionMetadata {
  int32_t version = 0;
  Uuid topic_id;
};

std::string encode_partition_metadata(const PartitionMetadata& metadata);
/// Errors: parse_error.
Result<PartitionMetadata> parse_partition_metadata(std::string_view text);

/// Reads it from a partition directory; nullopt if there is none.
Result<std::optional<PartitionMetadata>> read_partition_metadata(io::Disk& disk,
                                                                 const std::string& directory);
/// Writes it durably. The directory must exist.
Status write_partition_metadata(io::Disk& disk, const std::string& directory, const Uuid& topic_id);

}  // namespace millrace::log
