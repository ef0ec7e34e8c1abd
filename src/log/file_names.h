// Names inside a partition directory, and of partition directories:
//
//   00000000000000000042.log .index .timeindex .txnindex .snapshot   20 digits: base offset (snapshot: its
//   offset) leader-epoch-checkpoint  partition.metadata <any of the first>.deleted   removed after a delay;
//   .cleaned half-made by compaction; .swap complete, to be
//                                swapped in
//   topic-7                      a partition (the topic may contain '-')
//   topic-7.<32 hex>-delete      a partition being deleted
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/uuid.h"

namespace millrace::log {

inline constexpr std::string_view kLogSuffix = ".log";
inline constexpr std::string_view kOffsetIndexSuffix = ".index";
inline constexpr std::string_view kTimeIndexSuffix = ".timeindex";
inline constexpr std::string_view kTxnIndexSuffix = ".txnindex";
inline constexpr std::string_view kSnapshotSuffix = ".snapshot";
inline constexpr std::string_view kDeletedSuffix = ".deleted";
inline constexpr std::string_view kCleanedSuffix = ".cleaned";
inline constexpr std::string_view kSwapSuffix = ".swap";
inline constexpr std::string_view kEpochCheckpointName = "leader-epoch-checkpoint";
inline constexpr std::string_view kPartitionMetadataName = "partition.metadata";

enum class FileKind : uint8_t { log, offset_index, time_index, txn_index, snapshot };
enum class FileStage : uint8_t { live, deleted, cleaned, swap };

struct FileName {
  Offset offset;
  FileKind kind = FileKind::log;
  FileStage stage = FileStage::live;
};

std::string_view suffix_of(FileKind kind);
std::string file_name(Offset offset, FileKind kind);
/// nullopt: not a name of ours.
std::optional<FileName> parse_file_name(std::string_view name);

struct PartitionName {
  std::string topic;
  PartitionId partition;
  bool being_deleted = false;
};

std::string partition_directory_name(std::string_view topic, PartitionId partition);
/// The name a partition directory gets before it is removed; never longer than 255 bytes.
std::string deleted_directory_name(std::string_view topic, PartitionId partition, const Uuid& id);
std::optional<PartitionName> parse_partition_directory(std::string_view name);

}  // namespace millrace::log
