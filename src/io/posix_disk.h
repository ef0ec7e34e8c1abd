// Files of this machine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/descriptor_cache.h"
#include "io/disk.h"
#include "io/worker_pool.h"

namespace millrace::io {

struct PosixDiskOptions {
  size_t descriptors_max = 8000;  // open at the same time, besides those in use
  size_t threads = 4;             // for run()
  // fdatasync of 100 dirty files of 4 KiB each, ext4 on virtio: 1 thread 1571 ms, 4: 260, 8: 157, 16: 81,
  // 32: 95 (a loaded machine; the file system's journal serves them together).
  size_t sync_threads = 16;
  size_t read_threads = 4;
};

class PosixDisk final : public Disk {
 public:
  explicit PosixDisk(PosixDiskOptions options);
  /// As stop(). Files may outlive the disk.
  ~PosixDisk() override;

  void watch_failures(FailureWatch watch) override { descriptors_->watch_failures(std::move(watch)); }
  Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  /// Also ok if there is nothing at `path`.
  Status remove_tree(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<DirectoryEntry>> list(const std::string& path) override;
  bool exists(const std::string& path) override;
  Result<uint64_t> free_bytes(const std::string& path) override;
  Result<uint64_t> total_bytes(const std::string& path) override;
  Result<std::unique_ptr<DirectoryLock>> lock_directory(const std::string& path) override;
  /// Thread-safe, first in first out. `home` must outlive the disk's stop().
  void run(Loop& home, std::function<void()> work, std::function<void()> done) override;
  void run_in(Lane lane, Loop& home, std::function<void()> work, std::function<void()> done) override;

  /// As if the process had died: what was written stays as it is (in the page cache, maybe unsynced), nothing
  /// more is changed; every later change fails with io_error and is reported as a failure of the medium. For
  /// a broker that is killed while its process lives on. From any thread.
  void sever() { descriptors_->sever(); }
  /// Finishes what was given to run() and joins the threads; run() may not be called after. Stop the disk
  /// before the loops, or completions are lost.
  void stop();
  /// Work given to run() that waits for a thread.
  size_t queued() const { return workers_.queued() + syncers_.queued() + readers_.queued(); }
  size_t open_descriptors() const { return descriptors_->open_count(); }

 private:
  void orphan(const std::string& name, bool below);
  /// posix_error(); failures of the medium are reported.
  Error failure(int number, std::string_view what, const std::string& path) const;

  std::shared_ptr<DescriptorCache> descriptors_;
  WorkerPool workers_;
  WorkerPool syncers_;
  WorkerPool readers_;
};

/// "a//b/./c/" -> "a/b/c".
std::string normalised(const std::string& path);

}  // namespace millrace::io
