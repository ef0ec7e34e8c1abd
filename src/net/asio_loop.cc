#include "net/asio_loop.h"

#include <pthread.h>

#include <algorithm>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <chrono>

#include "base/assert.h"

namespace millrace::net {
namespace {

// Socket events handled before the end of the tick: enough to gather replies, few enough that the first
// reply of a tick does not wait long.
constexpr size_t kHandlersPerTick = 64;
// Work that asks for the end of the tick from within the end of the tick gets it so many times; then comes
// the next tick.
constexpr size_t kEndOfTickRounds = 16;

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

struct LoopThread::Work {
  asio::executor_work_guard<asio::io_context::executor_type> guard;
};

LoopThread::LoopThread(LoopOptions options)
    : options_(std::move(options)),
      context_(std::make_unique<asio::io_context>(1)),
      work_(std::make_unique<Work>(Work{asio::make_work_guard(*context_)})) {}

LoopThread::~LoopThread() {
  stop();
}

void LoopThread::start() {
  ASSERT(!thread_.joinable() && !closed_);
  running_.store(true, std::memory_order_release);
  thread_ = std::thread([this] {
    home_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    (void)::pthread_setname_np(::pthread_self(), options_.name.substr(0, 15).c_str());
    run();
  });
}

void LoopThread::stop() {
  if (!thread_.joinable()) return;
  ASSERT(!is_here());
  post([this] { stopping_ = true; });
  thread_.join();
  home_.store({}, std::memory_order_relaxed);  // thread ids are reused
  running_.store(false, std::memory_order_release);
}

void LoopThread::post(std::function<void()> f) {
  bool wake = false;
  {
    const std::lock_guard lock(mailbox_mutex_);
    if (closed_) return;
    mailbox_.push_back(std::move(f));
    wake = std::exchange(asleep_, false);
  }
  if (wake) asio::post(*context_, [] {});
}

io::TimerId LoopThread::call_after(int64_t delay_ms, std::function<void()> f) {
  ASSERT(may_touch());
  constexpr int64_t kLongest = int64_t{1000} * 3600 * 24 * 365;
  const Timer timer{.at_ns = steady_ns() + std::clamp<int64_t>(delay_ms, 0, kLongest) * 1'000'000,
                    .id = next_timer_++};
  timers_.emplace(timer, std::move(f));
  timer_times_.emplace(timer.id, timer.at_ns);
  return timer.id;
}

void LoopThread::cancel(io::TimerId timer) {
  ASSERT(may_touch());
  const auto it = timer_times_.find(timer);
  if (it == timer_times_.end()) return;
  const auto armed = timers_.find(Timer{.at_ns = it->second, .id = timer});
  timer_times_.erase(it);
  // What the function holds may cancel timers, too, when it goes.
  const std::function<void()> dropped = std::move(armed->second);
  timers_.erase(armed);
}

bool LoopThread::is_here() const {
  return home_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void LoopThread::at_end_of_tick(std::function<void()> f) {
  ASSERT(may_touch());
  end_of_tick_.push_back(std::move(f));
}

void LoopThread::run() {
  size_t woken_for = 0;  // handlers that ended the sleep
  while (!stopping_) {
    bool active = run_mailbox() || woken_for > 0;
    run_timers();
    for (size_t n = woken_for; n < kHandlersPerTick && context_->poll_one() > 0; ++n) active = true;
    woken_for = 0;
    run_end_of_tick();
    if (stopping_) break;
    if (options_.spin_us > 0) {
      const int64_t now = steady_ns();
      if (active) last_event_ns_ = now;
      if (now - last_event_ns_ < options_.spin_us * 1000) continue;
    }
    {
      const std::lock_guard lock(mailbox_mutex_);
      if (!mailbox_.empty() || !end_of_tick_.empty()) continue;
      asleep_ = true;
    }
    if (timers_.empty()) {
      woken_for = context_->run_one();
    } else {
      // Rounded up by asio to whole milliseconds, so never too early.
      const int64_t ahead = std::max<int64_t>(timers_.begin()->first.at_ns - steady_ns(), 0);
      woken_for = context_->run_one_for(std::chrono::nanoseconds(ahead));
    }
    const std::lock_guard lock(mailbox_mutex_);
    asleep_ = false;
  }
  // What is still waiting is let go of here, on its own loop.
  {
    const std::lock_guard lock(mailbox_mutex_);
    closed_ = true;
    running_posts_.swap(mailbox_);
  }
  running_posts_.clear();
  while (!end_of_tick_.empty()) std::exchange(end_of_tick_, {}).clear();
  while (!timers_.empty()) {
    timer_times_.clear();
    std::exchange(timers_, {}).clear();
  }
}

bool LoopThread::run_mailbox() {
  {
    const std::lock_guard lock(mailbox_mutex_);
    if (mailbox_.empty()) return false;
    running_posts_.swap(mailbox_);
  }
  for (std::function<void()>& f : running_posts_) {
    // Posts behind a stop() are dropped; all before it ran.
    if (!stopping_) f();
    f = nullptr;
  }
  running_posts_.clear();
  return true;
}

void LoopThread::run_timers() {
  if (timers_.empty()) return;
  const int64_t now = steady_ns();
  const io::TimerId made_before = next_timer_;
  while (!timers_.empty() && !stopping_) {
    const auto first = timers_.begin();
    if (first->first.at_ns > now || first->first.id >= made_before) break;
    const std::function<void()> f = std::move(first->second);
    timer_times_.erase(first->first.id);
    timers_.erase(first);
    f();
  }
}

void LoopThread::run_end_of_tick() {
  std::vector<std::function<void()>> now;
  for (size_t round = 0; round < kEndOfTickRounds && !end_of_tick_.empty(); ++round) {
    now.swap(end_of_tick_);
    for (std::function<void()>& f : now) {
      f();
      f = nullptr;
    }
    now.clear();
  }
}

LoopGroup::LoopGroup(size_t count, const LoopOptions& options) {
  for (size_t i = 0; i < std::max<size_t>(count, 1); ++i) {
    LoopOptions own = options;
    own.name += "-" + std::to_string(i);
    loops_.push_back(std::make_unique<LoopThread>(std::move(own)));
  }
}

void LoopGroup::start() {
  for (const auto& loop : loops_) loop->start();
}

void LoopGroup::stop() {
  for (const auto& loop : loops_) loop->stop();
}

}  // namespace millrace::net
