// The commit file of a data directory: durable ends reached by group commit, at most 50 ms behind. After a
// crash, damage below a recorded end is damage, above it a torn tail. Append-only; rewritten whole
// (replace_file) when it has grown. Its frames can carry other kinds (record batches, when it becomes the
// journal of many dirty files).
//
// Frame (big-endian):  0 payload bytes u32 | 4 CRC-32C of kind and payload u32 | 8 kind u8 | 9 payload
//   kind 1, durable ends: i32 entries, each: topic id 16 bytes | partition i32 | end offset i64
//   kind 2, caps: the same entries; the recovery point in the checkpoint file counts at most up to `end`
//           (written before a truncation; -1: the checkpoint has been written since and holds again)
//   kind 3, log starts: the same entries; on disk before what lies below is removed
// A later entry replaces an earlier one, also when it is lower (truncation). What does not verify at the end
// is a torn tail and is cut. In the middle it is damage: entries are whole values, so reading goes on at the
// next frame that verifies, and the file is written anew.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"
#include "io/disk.h"

namespace millrace::log {

struct CommitKey {
  Uuid topic_id;
  PartitionId partition;
  auto operator<=>(const CommitKey&) const = default;
};
using DurableEnds = std::map<CommitKey, Offset>;

inline constexpr std::string_view kCommitFileName = "commit-file";
inline constexpr size_t kCommitFileMaxBytes = 64u << 20;

/// One owner (the data directory's group commit); calls may block and are serialised by it.
class CommitFile {
 public:
  /// Opens or creates the file; `ends` gets what it says.
  static Result<std::unique_ptr<CommitFile>> open(io::Disk& disk, const std::string& data_directory,
                                                  DurableEnds* ends);
  /// Appends one frame and syncs it if `sync`. Rewrites the file when it passed its limit. Errors: no_space
  /// (nothing was recorded; the same changes may be recorded later), io_error.
  Status record(std::span<const std::pair<CommitKey, Offset>> changes, bool sync);
  /// The same for caps of recovery points.
  Status record_caps(std::span<const std::pair<CommitKey, Offset>> changes, bool sync);
  /// The same for log starts.
  Status record_starts(std::span<const std::pair<CommitKey, Offset>> changes, bool sync);
  /// Forgets partitions that are gone (applied at the next rewrite).
  void forget(const CommitKey& key) {
    ends_.erase(key);
    caps_.erase(key);
    starts_.erase(key);
  }
  const DurableEnds& ends() const { return ends_; }
  const DurableEnds& caps() const { return caps_; }
  const DurableEnds& starts() const { return starts_; }
  /// Whether open() found damage that was no torn tail.
  bool was_damaged() const { return was_damaged_; }
  uint64_t size_bytes() const { return size_; }
  void set_rewrite_bytes(uint64_t bytes) { rewrite_bytes_ = bytes; }

  static Bytes encode(std::span<const std::pair<CommitKey, Offset>> changes);
  static Bytes encode_caps(std::span<const std::pair<CommitKey, Offset>> changes);
  static Bytes encode_starts(std::span<const std::pair<CommitKey, Offset>> changes);
  struct Replayed {
    DurableEnds ends;
    DurableEnds caps;
    DurableEnds starts;
    size_t bytes = 0;      // up to the end of the last frame that verified
    bool damaged = false;  // something before that did not
  };
  static Replayed replay(ByteView file);
  /// A whole file that says the same.
  static Bytes encode_all(const Replayed& known);

 private:
  CommitFile(io::Disk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
  Status append(ByteView frame, bool sync);
  Status rewrite();
  uint64_t rewrite_at() const;

  io::Disk& disk_;
  std::string path_;
  std::shared_ptr<io::File> file_;
  uint64_t size_ = 0;
  uint64_t rewrite_bytes_ = 4u << 20;
  DurableEnds ends_;
  DurableEnds caps_;
  DurableEnds starts_;
  uint64_t reserved_until_ = 0;
  bool was_damaged_ = false;
};

}  // namespace millrace::log
