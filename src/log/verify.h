// The offline check of data: every file of a partition directory against every other, and the files of a data
// directory against the partitions in it. Reads only; goes on after damage. `verify disk` prints it.
//
// What is `damage`: bytes that a broker would refuse, serve wrongly, or that are missing although they were
// durable. What is a `note`: what the next start mends by itself (a missing index, a torn tail above the
// durable end, leftovers) or what may be meant (holes in the offsets of a compacted log).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"
#include "io/disk.h"
#include "log/batch_header.h"
#include "log/checkpoints.h"
#include "log/commit_file.h"
#include "log/data_directory.h"

namespace millrace::log {

enum class Severity : uint8_t { note, damage };

struct Finding {
  Severity severity = Severity::damage;
  std::string path;
  std::optional<uint64_t> position;  // byte in the file; nullopt: the file as a whole
  Offset offset = kNoOffset;         // first offset concerned, if any
  std::string what;
};

/// "PATH: position 17, offset 42: what"
std::string text_of(const Finding& finding);

/// Findings kept of one partition or directory; more are only counted.
inline constexpr size_t kFindingsMax = 200;

struct Findings {
  std::vector<Finding> list;
  uint64_t damages = 0;
  uint64_t notes = 0;

  void add(Finding finding);
  void append(const Findings& other);
};

// --- one segment, damage survived ---

/// Bytes that are no batch. What came before ends at `expected`; the next sound batch begins at `next`
/// (kNoOffset: none follows in this file).
struct DamagedSpan {
  uint64_t position = 0;
  uint64_t bytes = 0;
  Offset expected = kNoOffset;
  Offset next = kNoOffset;
  std::string what;
};

struct WalkedBatch {
  BatchHeader header;
  uint64_t position = 0;
  ByteView bytes;  // the whole batch; valid during the call
};

struct SegmentWalk {
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t file_bytes = 0;
  Offset end = kNoOffset;            // after the last sound batch; the base offset if there is none
  std::vector<DamagedSpan> damaged;  // at most kFindingsMax
};

/// Walks a segment file. Behind damage it goes on at the next batch whose checksum is right and whose offsets
/// lie in [end so far, `limit`). Errors: not_found, io_error.
Result<SegmentWalk> walk_segment(io::Disk& disk, const std::string& path, Offset base, Offset limit,
                                 const std::function<void(const WalkedBatch&)>& each);

/// Where the first batch begins, after `position`, that is sound and whose offsets lie in [expected, limit);
/// `end` if there is none. The bytes at `position` may still say rightly where they end. Errors: io_error.
Result<uint64_t> next_sound_batch(const io::File& file, uint64_t position, uint64_t end, Offset expected,
                                  Offset limit);

// --- one partition ---

struct PartitionCheck {
  bool records = false;             // also inflate and decode every record
  bool clean = false;               // the data directory was closed cleanly
  Offset recovery_point{0};         // from the checkpoint
  Offset durable_end{0};            // from the commit file
  std::optional<Offset> log_start;  // from the checkpoint
  std::optional<Uuid> topic_id;     // that the metadata names
  bool holes_are_damage = false;    // the metadata say that the topic is not compacted
  /// Told the bytes of each segment when it is done (progress).
  std::function<void(uint64_t)> on_bytes;
};

struct PartitionVerdict {
  uint64_t segments = 0;
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t bytes = 0;
  Offset start{0};
  Offset end{0};
  Findings findings;
};

/// Everything in one partition directory. Errors: not_found, io_error.
Result<PartitionVerdict> verify_partition(io::Disk& disk, const std::string& directory,
                                          const PartitionCheck& check = {});

// --- one data directory ---

struct DirectoryVerdict {
  std::string path;
  std::optional<MetaProperties> meta;
  bool clean = false;
  OffsetCheckpoint recovery_points;
  OffsetCheckpoint log_starts;
  OffsetCheckpoint high_watermarks;
  OffsetCheckpoint cleaned_ends;
  std::optional<TopicIdCheckpoint> topic_ids;  // none: the numbers are taken for what they are called
  DurableEnds durable_ends;
  DurableEnds recovery_caps;
  DurableEnds recorded_starts;
  std::vector<PartitionDirectory> partitions;
  Findings findings;
};

/// The files of a data directory that belong to no partition, and which partitions there are. Errors:
/// not_found, io_error.
Result<DirectoryVerdict> verify_directory(io::Disk& disk, const std::string& path);

/// What the files of the directory promise about one of its partitions.
PartitionCheck check_of(const DirectoryVerdict& directory, const PartitionDirectory& partition);

}  // namespace millrace::log
