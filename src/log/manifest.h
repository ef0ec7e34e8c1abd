// The manifest of a data directory: every log that was closed cleanly, so that the next start knows its ends
// without opening a file. Written whole at a clean stop, before the clean-shutdown marker; it counts only
// beside the marker that names the same broker epoch, so that one that was left behind by an older stop says
// nothing.
//
// File `log-manifest` (big-endian):
//   0 "MRLM" | 4 version i32 = 1 | 8 CRC-32C of all that follows u32 | 12 broker epoch i64 | 20 topics i32
//   each topic: topic id 16 bytes | name length u16 | name | partitions i32, of 88 bytes each:
//     0 partition i32      | 4 log start i64    | 12 last stable i64     | 20 log end i64
//     28 first epoch i32   | 32 last epoch i32  | 36 last epoch start i64 | 44 bytes u64
//     52 segments u32      | 56 oldest segment: greatest timestamp i64 | 64 bytes u64 | 72 end i64
//     80 cleaned end i64
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"
#include "log/resting_log.h"

namespace millrace::log {

inline constexpr std::string_view kManifestName = "log-manifest";
inline constexpr size_t kManifestBytesMax = 1u << 30;

struct Manifest {
  struct Entry {
    PartitionId partition;
    RestingLog log;
    bool operator==(const Entry&) const = default;
  };
  struct Topic {
    std::string name;
    Uuid id;
    std::vector<Entry> partitions;
    bool operator==(const Topic&) const = default;
  };

  BrokerEpoch broker_epoch{-1};
  std::vector<Topic> topics;

  /// By name, then by partition: what find() needs. Done by parse_manifest().
  void sort();
  /// The topic of this name, or nullptr.
  const Topic* find(std::string_view topic) const;
  /// The log of this partition, or nullptr.
  static const RestingLog* find(const Topic& topic, PartitionId partition);
  bool operator==(const Manifest&) const = default;
};

Bytes encode_manifest(const Manifest& manifest);
/// Errors: parse_error. A log whose numbers contradict each other is refused with the whole file.
Result<Manifest> parse_manifest(ByteView file);

}  // namespace millrace::log
