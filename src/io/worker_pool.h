// A few threads that run work in the order in which it was given.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace millrace::io {

class WorkerPool {
 public:
  WorkerPool(size_t threads, const std::string& name);
  ~WorkerPool() { stop(); }

  /// Thread-safe. Not after stop().
  void run(std::function<void()> work);
  /// Finishes everything queued (also what that work queues), then joins. Not from a worker.
  void stop();
  /// Work that waits for a thread.
  size_t queued() const;

 private:
  void work();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace millrace::io
