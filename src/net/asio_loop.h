// A loop on a thread of its own: io::Loop over an asio io_context.
//
// The loop runs in ticks. One tick: what was posted, timers that are due, the handlers of ready sockets (at
// most kHandlersPerTick), what asked for the end of the tick; then it sleeps unless there is more. Posts go
// into a mailbox; only the first one that finds the loop asleep costs a wake-up. Timers need no system call:
// the nearest one bounds the sleep.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/loop.h"
#include "net/buffer_pool.h"

namespace asio {
class io_context;
}

namespace millrace::net {

struct LoopOptions {
  std::string name = "loop";  // the thread's name, at most 15 characters of it
  int64_t spin_us = 0;        // keeps polling that long after the last event before it sleeps
};

class LoopThread final : public io::Loop {
 public:
  explicit LoopThread(LoopOptions options);
  /// As stop(). Streams and listeners of this loop must be gone.
  ~LoopThread() override;

  /// Starts the thread, once. What was posted before runs then.
  void start();
  /// Runs what was posted before this call, ends the tick, joins the thread. Nothing runs after it returned:
  /// later posts are dropped, streams are silent and may be destroyed from the calling thread. Not from the
  /// loop itself.
  void stop();

  void post(std::function<void()> f) override;
  io::TimerId call_after(int64_t delay_ms, std::function<void()> f) override;
  void cancel(io::TimerId timer) override;
  bool is_here() const override;
  void at_end_of_tick(std::function<void()> f) override;

  // For this room.
  asio::io_context& context() { return *context_; }
  BufferPool& buffers() { return buffers_; }
  /// On the loop, or the loop does not run: its objects may be touched.
  bool may_touch() const { return is_here() || !running_.load(std::memory_order_acquire); }

 private:
  struct Work;
  struct Timer {
    int64_t at_ns = 0;
    io::TimerId id = 0;
    auto operator<=>(const Timer&) const = default;
  };

  void run();
  bool run_mailbox();
  void run_timers();
  void run_end_of_tick();

  const LoopOptions options_;
  BufferPool buffers_;
  std::unique_ptr<asio::io_context> context_;
  std::unique_ptr<Work> work_;  // keeps the context from running out of work

  std::mutex mailbox_mutex_;
  std::vector<std::function<void()>> mailbox_;
  bool asleep_ = false;  // the next post must wake the loop
  bool closed_ = false;  // posts are dropped

  std::vector<std::function<void()>> running_posts_;
  std::vector<std::function<void()>> end_of_tick_;
  std::map<Timer, std::function<void()>> timers_;
  std::unordered_map<io::TimerId, int64_t> timer_times_;
  io::TimerId next_timer_ = 1;
  int64_t last_event_ns_ = 0;
  bool stopping_ = false;

  std::atomic<bool> running_{false};
  std::atomic<std::thread::id> home_{};
  std::thread thread_;
};

/// The loops of a broker's data plane.
class LoopGroup {
 public:
  /// `count` loops named "<name>-0"...; at least one.
  LoopGroup(size_t count, const LoopOptions& options);

  void start();
  void stop();
  size_t size() const { return loops_.size(); }
  LoopThread& at(size_t i) { return *loops_[i]; }
  /// The loops in turn. Thread-safe.
  LoopThread& next() { return at(next_.fetch_add(1, std::memory_order_relaxed) % size()); }

 private:
  std::vector<std::unique_ptr<LoopThread>> loops_;
  std::atomic<size_t> next_{0};
};

}  // namespace millrace::net
