#include "io/worker_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace millrace::io {
namespace {

constexpr size_t kThreadNameMax = 15;  // the kernel's

}  // namespace

WorkerPool::WorkerPool(size_t threads, const std::string& name) {
  for (size_t i = 0; i < std::max<size_t>(threads, 1); ++i) {
    threads_.emplace_back([this] { work(); });
    const std::string own = (name + "-" + std::to_string(i)).substr(0, kThreadNameMax);
    (void)::pthread_setname_np(threads_.back().native_handle(), own.c_str());
  }
}

void WorkerPool::run(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    ASSERT(!threads_.empty());
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void WorkerPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) {
    if (t.joinable()) t.join();
  }
  const std::lock_guard lock(mutex_);
  threads_.clear();
  ASSERT(queue_.empty());
}

size_t WorkerPool::queued() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::function<void()> next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    next();
    next = nullptr;  // what it holds goes before the lock is taken
    lock.lock();
  }
}

}  // namespace millrace::io
