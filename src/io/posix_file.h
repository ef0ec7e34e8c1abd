// A file behind a descriptor that comes and goes (see descriptor_cache.h).
//
// Renaming and removing through PosixDisk is followed: a renamed file is reopened under its new name; a
// removed one keeps its descriptor (opened first if need be) until the last handle goes, so that readers of
// a deleted segment finish. Only when half of the descriptor limit is taken by such orphans do further ones
// answer not_found. What other programs rename or replace is noticed by inode when reopening (io_error).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "io/descriptor_cache.h"
#include "io/disk.h"

namespace millrace::io {

/// An open descriptor of a PosixFile, held open for the life of this object. Keep it for the length of a
/// call, never across waits; the file must outlive it.
class PinnedDescriptor {
 public:
  PinnedDescriptor() = default;
  PinnedDescriptor(PinnedDescriptor&& other) noexcept
      : file_(std::exchange(other.file_, nullptr)), descriptor_(std::exchange(other.descriptor_, -1)) {}
  PinnedDescriptor& operator=(PinnedDescriptor&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~PinnedDescriptor();

  explicit operator bool() const { return file_ != nullptr; }
  int get() const { return descriptor_; }

 private:
  friend class PosixFile;
  /// Leaves the pin behind for the rest of the file's life.
  void keep_for_ever() { file_ = nullptr; }
  PinnedDescriptor(const PosixFile* file, int descriptor) : file_(file), descriptor_(descriptor) {}

  const PosixFile* file_ = nullptr;
  int descriptor_ = -1;
};

class PosixFile final : public File {
 public:
  ~PosixFile() override;

  /// Opens `path` with open(2)'s `flags` and registers it in `cache`.
  static Result<std::shared_ptr<PosixFile>> open(std::shared_ptr<DescriptorCache> cache,
                                                 const std::string& path, int flags);

  Result<size_t> read_at(uint64_t position, MutableByteView out) const override;
  /// A file whose descriptor is closed would block, too: opening may.
  Result<std::optional<size_t>> read_at_cached(uint64_t position, MutableByteView out) const override;
  Status write_at(uint64_t position, std::span<const ByteView> pieces) override;
  using File::write_at;
  Status truncate(uint64_t size) override;
  /// Once it failed it fails for ever: the kernel forgets what it could not write.
  Status sync() override;
  void forget_cached(uint64_t position, size_t length) const override;
  void reserve(uint64_t size) override;
  Result<uint64_t> size() const override;
  /// The path it was opened with, also after a rename.
  const std::string& path() const override { return path_; }

  /// The descriptor, opened if need be.
  Result<PinnedDescriptor> pin() const;
  /// The descriptor if it is open; never blocks.
  PinnedDescriptor pin_if_open() const;
  /// Whether all of [position, position + length) is in the page cache, as far as can be known without
  /// waiting. False if the descriptor is closed.
  bool is_cached(uint64_t position, size_t length) const;

 private:
  friend class DescriptorCache;
  friend class PinnedDescriptor;
  friend class PosixDisk;

  static constexpr uint32_t kClosed = 0x8000'0000U;

  PosixFile(std::shared_ptr<DescriptorCache> cache, std::string path, std::string location, int flags);

  /// Opens the descriptor if it is closed and pins it. With names_mutex() held, shared or exclusive.
  Result<PinnedDescriptor> pin_named(int flags) const;
  void unpin() const { state_.fetch_sub(1, std::memory_order_release); }
  Error error_of(int number, const char* what) const;
  /// The name goes away: forgets it and keeps the descriptor open if possible. With names_mutex() held
  /// exclusively.
  void become_orphan();

  const std::shared_ptr<DescriptorCache> cache_;
  const std::string path_;
  const int reopen_flags_;

  // Guarded by names_mutex().
  std::string location_;  // the present name, absolute or as given, normalised
  bool removed_ = false;
  bool orphan_ = false;  // removed, the descriptor kept by a pin that nobody gives back

  mutable std::mutex open_mutex_;  // one opener at a time
  mutable dev_t device_ = 0;       // what was opened first; guarded by open_mutex_
  mutable ino_t inode_ = 0;

  // Pins, and kClosed when there is no descriptor. Going from 0 pins to kClosed, and descriptor_ itself,
  // belong to the cache's ring mutex.
  mutable std::atomic<uint32_t> state_{kClosed};
  mutable std::atomic<bool> recently_used_{false};
  mutable int descriptor_ = -1;
  size_t ring_index_ = SIZE_MAX;  // guarded by the ring mutex
  std::atomic<bool> unsynced_{false};
  std::atomic<bool> sync_failed_{false};
};

}  // namespace millrace::io
