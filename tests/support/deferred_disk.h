// A disk whose pool does nothing until the test says so; everything else is another disk's.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/disk.h"

namespace millrace::test {

class DeferredDisk final : public io::Disk {
 public:
  explicit DeferredDisk(io::Disk& under) : under_(under) {}

  /// Work given to run() and not done yet.
  size_t waiting() const { return jobs_.size(); }
  /// Does the oldest; its completion is posted. False if there is none.
  bool run_one() {
    if (jobs_.empty()) return false;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    job.work();
    job.home->post(std::move(job.done));
    return true;
  }
  size_t runs = 0;  // calls of run()

  Result<std::shared_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override {
    return under_.open(path, mode);
  }
  Status rename(const std::string& from, const std::string& to) override { return under_.rename(from, to); }
  Status remove(const std::string& path) override { return under_.remove(path); }
  Status remove_tree(const std::string& path) override { return under_.remove_tree(path); }
  Status make_directories(const std::string& path) override { return under_.make_directories(path); }
  Status sync_directory(const std::string& path) override { return under_.sync_directory(path); }
  Result<std::vector<io::DirectoryEntry>> list(const std::string& path) override { return under_.list(path); }
  bool exists(const std::string& path) override { return under_.exists(path); }
  Result<uint64_t> free_bytes(const std::string& path) override { return under_.free_bytes(path); }
  Result<uint64_t> total_bytes(const std::string& path) override { return under_.total_bytes(path); }
  Result<std::unique_ptr<io::DirectoryLock>> lock_directory(const std::string& path) override {
    return under_.lock_directory(path);
  }
  void run(io::Loop& home, std::function<void()> work, std::function<void()> done) override {
    ++runs;
    jobs_.push_back({&home, std::move(work), std::move(done)});
  }

 private:
  struct Job {
    io::Loop* home;
    std::function<void()> work;
    std::function<void()> done;
  };
  io::Disk& under_;
  std::deque<Job> jobs_;
};

}  // namespace millrace::test
