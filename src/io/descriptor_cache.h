// Which files hold an open descriptor, and under which name each open file is found on disk.
//
// A PosixFile is a handle by identity; its descriptor is opened on demand and closed again when more than
// `limit` are open (second-chance order, close to LRU). A descriptor in use is pinned and never closed.
//
// Locks, in the order in which they may be taken: names (shared to open a descriptor by name, exclusive to
// change names), the file's own, the ring of open descriptors. Using an open descriptor takes none of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "io/disk.h"

namespace millrace::io {

class PosixFile;

class DescriptorCache {
 public:
  /// At most `limit` descriptors stay open, beyond those pinned at the same moment. At least 1.
  explicit DescriptorCache(size_t limit) : limit_(limit == 0 ? 1 : limit) {}

  /// Set while nothing else uses the disk; files outlive it.
  void watch_failures(FailureWatch watch) { failure_watch_ = std::move(watch); }
  /// Tells the watch.
  void report(const std::string& path, const Error& error) const {
    if (failure_watch_) failure_watch_(path, error);
  }

  /// From now on nothing is changed on the disk through these files. Thread-safe.
  void sever() { severed_.store(true, std::memory_order_release); }
  /// Before each change: io_error, reported, once severed.
  Status unsevered(const std::string& path) const {
    if (!severed_.load(std::memory_order_acquire)) return {};
    Error error(ErrorCode::io_error, path + ": the disk was cut off");
    report(path, error);
    return error;
  }

  std::shared_mutex& names_mutex() { return names_mutex_; }
  // With names_mutex() held exclusively: files by their present name (PosixFile::location_).
  void add_name(PosixFile& file);
  void erase_name(PosixFile& file);
  /// Files at `path`, and if `below`, those in the directory `path`, too.
  std::vector<PosixFile*> files_at(const std::string& path, bool below);

  /// Notes that `file` holds `descriptor` from now on (pinned once by the caller), and closes others above
  /// the limit.
  void opened(PosixFile& file, int descriptor);
  /// Forgets `file`; its owner closes the descriptor.
  void forget(PosixFile& file);
  /// Closes one descriptor that is not in use. False if there is none.
  bool close_one();
  /// Descriptors open now.
  size_t open_count() const;

  /// Removed files whose descriptor is kept open for readers that still hold them. With
  // names_mutex() held exclusively.
  bool may_keep_orphan() const { return orphans_ < limit_ / 2 + 1; }
  void orphan_kept() { ++orphans_; }
  void orphan_gone() { --orphans_; }

 private:
  /// A descriptor to close, or -1. Prefers files without unsynced writes: the kernel reports a failed
  /// write-back to descriptors that were open at that time.
  int evict(bool also_unsynced);
  int evict_any();

  const size_t limit_;
  FailureWatch failure_watch_;
  std::atomic<bool> severed_{false};
  std::shared_mutex names_mutex_;
  std::multimap<std::string, PosixFile*> names_;
  size_t orphans_ = 0;

  mutable std::mutex ring_mutex_;
  std::vector<PosixFile*> ring_;
  size_t hand_ = 0;
};

}  // namespace millrace::io
