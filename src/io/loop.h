// A loop: one thread that runs posted functions and timers, one at a time. In production an asio io_context
// (`net`), in the simulator the single event queue.
#pragma once

#include <cstdint>
#include <functional>

namespace millrace::io {

using TimerId = uint64_t;  // 0 is never a timer

class Loop {
 public:
  virtual ~Loop() = default;
  /// Runs `f` on this loop, later, in post order. From any thread. Posts of one batch cost one wake-up.
  virtual void post(std::function<void()> f) = 0;
  /// Runs `f` on this loop not before `delay_ms` from now. Only from the loop itself.
  virtual TimerId call_after(int64_t delay_ms, std::function<void()> f) = 0;
  /// Cancels a timer; no effect if it ran. Only from the loop itself.
  virtual void cancel(TimerId timer) = 0;
  /// Whether the caller runs on this loop.
  virtual bool is_here() const = 0;
  /// Runs `f` when the current batch of events of this loop is done, before it sleeps (end of the tick):
  /// where work that was gathered during the tick is carried out once. Only from the loop itself.
  virtual void at_end_of_tick(std::function<void()> f) = 0;
};

}  // namespace millrace::io
