// The one door to files. Calls block and may come from any thread; what may take long (open, roll, sync, cold
// reads, recovery) is put inside run(), whose work happens on a small pool and whose completion is posted to
// the loop that waits (in the simulator: on the loop itself, at a time of the simulator's choosing).
//
// Durability: bytes written are durable after File::sync (fdatasync); names (create, rename, remove) after
// sync_directory of their parent. A failed sync is never retried: the caller fences the directory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/loop.h"

namespace millrace::io {

/// A file by identity. Positional reads and writes only; safe from several threads at once, except that
/// writes and truncation must be serialised by the caller. The descriptor behind it may be closed and
/// reopened.
class File {
 public:
  virtual ~File() = default;
  /// Reads up to out.size() bytes at `position`; fewer only at the end of the file. Errors: io_error.
  virtual Result<size_t> read_at(uint64_t position, MutableByteView out) const = 0;
  /// As read_at, but only what is cached (RWF_NOWAIT); nullopt if that would block.
  virtual Result<std::optional<size_t>> read_at_cached(uint64_t position, MutableByteView out) const = 0;
  /// Writes all pieces, gathered, at `position`. On error nothing is promised about the bytes from `position`
  /// on: the caller truncates before it appends anything else. Errors: no_space, io_error.
  virtual Status write_at(uint64_t position, std::span<const ByteView> pieces) = 0;
  Status write_at(uint64_t position, ByteView bytes) {
    return write_at(position, std::span<const ByteView>(&bytes, 1));
  }
  virtual Status truncate(uint64_t size) = 0;
  /// fdatasync. A failure is final for what was written since the last success.
  virtual Status sync() = 0;
  /// The page cache need not keep this range: it was read in passing. Best effort; written bytes stay.
  virtual void forget_cached(uint64_t position, size_t length) const {
    (void)position;
    (void)length;
  }
  /// Reserves blocks up to `size` without changing the file's size; best effort.
  virtual void reserve(uint64_t size) = 0;
  virtual Result<uint64_t> size() const = 0;
  virtual const std::string& path() const = 0;
};

/// A byte range of a file as part of a Payload: `net` sends it from the page cache.
struct FileRegion final : ForeignBytes {
  std::shared_ptr<const File> file;
  uint64_t position = 0;
  size_t length = 0;

  FileRegion(std::shared_ptr<const File> f, uint64_t p, size_t n)
      : file(std::move(f)), position(p), length(n) {}
  size_t size() const override { return length; }
};

enum class OpenMode : uint8_t {
  read,        // must exist
  write,       // must exist, read and write
  create,      // read and write, created if absent
  create_new,  // read and write, must not exist (already_exists)
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
};

/// Who must not wait behind whom: work of one lane never queues behind another's.
enum class Lane : uint8_t {
  background,  // recovery, retention, compaction, checkpoints: may take long
  sync,        // fdatasync that a reply waits for, and the commit file
  read,        // reads that a client waits for
};

class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;  // releases
};

/// Told of an operation that the medium refused: `path` as the operation named it.
using FailureWatch = std::function<void(const std::string& path, const Error& error)>;

class Disk {
 public:
  virtual ~Disk() = default;

  /// `watch` hears of every operation that failed for good: an input/output error, a file system that went
  /// away or may not be written any more (not: no space, no such name, no descriptors to be had). Called on
  /// the thread that met the failure, maybe under locks: it may note and post, and must not use the disk. Set
  /// it while nothing else uses the disk.
  virtual void watch_failures(FailureWatch watch) { (void)watch; }

  /// Errors: not_found, already_exists, no_space, io_error.
  virtual Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;  // replaces `to`
  virtual Status remove(const std::string& path) = 0;                         // file; not_found if absent
  virtual Status remove_tree(const std::string& path) = 0;
  virtual Status make_directories(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;
  /// Entries sorted by name, without "." and "..".
  virtual Result<std::vector<DirectoryEntry>> list(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  /// Bytes free for this process on the file system that holds `path`.
  virtual Result<uint64_t> free_bytes(const std::string& path) = 0;
  virtual Result<uint64_t> total_bytes(const std::string& path) = 0;
  /// Exclusive for the life of the result, also against other processes; already_exists if held.
  virtual Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) = 0;

  /// Runs `work` where blocking is allowed, then posts `done` to `home`. The background lane.
  virtual void run(Loop& home, std::function<void()> work, std::function<void()> done) = 0;
  /// The same in a lane of its own; a disk without lanes has one for all.
  virtual void run_in(Lane lane, Loop& home, std::function<void()> work, std::function<void()> done) {
    (void)lane;
    run(home, std::move(work), std::move(done));
  }

  /// Whole file, at most `max_bytes` (limit_exceeded otherwise).
  Result<Bytes> read_file(const std::string& path, size_t max_bytes);
  /// Writes `path`.tmp, syncs it, renames it over `path`, syncs the directory: the file is the old or the new
  /// one.
  Status replace_file(const std::string& path, ByteView content);
};

/// "a/b" + "c" -> "a/b/c".
std::string join_path(std::string_view directory, std::string_view name);
/// The directory part of a path ("." if there is none).
std::string parent_path(std::string_view path);

}  // namespace millrace::io
