// Keeps the commit file of one data directory (log/commit_file.h) up to date: what group commit has synced is
// noted from any thread and written, one frame for all, a moment later on the disk's pool. No reply waits for
// it. After a crash the recorded ends tell damage from a torn tail.
//
// Only lower() is waited for: an end that goes down (truncation) must be on disk before the log is cut, or
// the cut would look like damage; and the recovery point in the checkpoint file is capped until that file is
// written anew.
//
// Log starts are recorded here, too: advance_start() is waited for before anything below is removed.
//
// An error fences the directory; a full disk does not: the newest ends stay in memory and are tried again.
// Thread-safe. One per data directory, shared by its partitions.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "io/disk.h"
#include "io/loop.h"
#include "log/commit_file.h"

namespace millrace::partition {

class CommitJournal final : public std::enable_shared_from_this<CommitJournal> {
 public:
  struct Environment {
    io::Disk* disk = nullptr;
    io::Loop* loop = nullptr;  // its timers; nothing blocks there. null: written by flush() and close() alone
    Trace trace;
    /// The file could not be written or synced: the directory must be fenced. Any thread.
    std::function<void(const std::string& directory, const Error&)> on_storage_failure;
  };

  /// Opens or creates the file and reads it; blocks. Errors: io_error, no_space, limit_exceeded.
  static Result<std::shared_ptr<CommitJournal>> open(Environment environment, std::string data_directory);

  /// What the file said when it was opened, caps included: for log::OpenParams.
  struct Known {
    Offset durable_end{0};
    std::optional<Offset> recovery_cap;  // the checkpointed recovery point counts at most up to here
    std::optional<Offset> log_start;     // the log begins there, or below what is about to be removed
  };
  std::optional<Known> known(const log::CommitKey& key) const;

  /// Everything below `end` is synced, the log begins at `log_start`. Returns at once.
  void note(const log::CommitKey& key, Offset end, Offset log_start = Offset(0));
  /// What lies below `log_start` may be removed when this returns. Never moves it back. Blocks. Errors:
  /// no_space, io_error: then nothing may be removed.
  Status advance_start(const log::CommitKey& key, Offset log_start);
  /// The log is about to be cut: nothing from `end` on is promised any more, nor that it begins later. On
  /// return that is on disk; only then may the log be cut. Blocks. Errors: no_space, io_error: then the log
  /// may not be cut.
  Status lower(const log::CommitKey& key, Offset end);
  /// The partition is gone.
  void forget(const log::CommitKey& key);
  /// Forgets what `wanted` does not name (topics deleted while the broker was down).
  void keep_only(const std::function<bool(const log::CommitKey&)>& wanted);

  /// Counts lower() calls: what is asked for before the recovery points are gathered ...
  uint64_t serial() const;
  /// ... tells which caps the checkpoint file, now written, has made superfluous. Blocks.
  Status checkpointed(uint64_t serial);

  /// Writes what is noted, now; blocks. Errors: as lower().
  Status flush();
  /// The last flush; later notes are not written. Blocks.
  Status close();

  const std::string& directory() const { return directory_; }
  uint64_t size_bytes() const { return size_bytes_.load(std::memory_order_relaxed); }

 private:
  using Changes = std::map<log::CommitKey, Offset>;
  /// With file_mutex_ held: the log starts that are noted and new.
  Status write_starts();

  CommitJournal(Environment environment, std::string directory)
      : env_(std::move(environment)), directory_(std::move(directory)) {}
  void arm_locked(int64_t delay_ms);
  void write_noted();
  /// With file_mutex_ held.
  Status write(Changes changes);
  Status judge(Status written);

  const Environment env_;
  const std::string directory_;

  // The order of the frames; held across writes, so only where blocking is allowed. Taken before mutex_.
  std::mutex file_mutex_;
  std::unique_ptr<log::CommitFile> file_;  // guarded by file_mutex_
  bool failed_ = false;                    // guarded by file_mutex_
  bool full_told_ = false;                 // guarded by file_mutex_

  mutable std::mutex mutex_;  // never held across a write
  Changes noted_;             // not yet written
  Changes noted_starts_;      // the same
  std::vector<log::CommitKey> forgotten_;
  std::map<log::CommitKey, uint64_t> capped_;  // key to the serial of its cap
  log::DurableEnds known_ends_;
  log::DurableEnds known_caps_;
  log::DurableEnds known_starts_;
  uint64_t serial_ = 0;
  bool armed_ = false;
  bool closed_ = false;
  std::atomic<uint64_t> size_bytes_{0};
};

}  // namespace millrace::partition
