// What a broker does with its producers while it gives away what it leads: they wait for the moment that it
// takes, instead of writing what the next leader may not have. What was appended is committed first, so
// nobody is told that its write is in doubt, and who waited is told who leads: one retry, at the right
// broker. Lives on the control loop.
#pragma once

#include <functional>
#include <vector>

#include "broker/view.h"
#include "io/clock.h"
#include "io/loop.h"

namespace millrace::broker {

class HandOver {
 public:
  HandOver(io::Loop& loop, const io::Clock& clock) : loop_(loop), clock_(clock) {}
  ~HandOver() { stop(); }

  /// Producers of those of `partitions` that are led here with others wait from now on. `then` when
  /// everything that was appended is committed, or after a fraction of a second.
  void begin(const std::vector<PartitionRef>& partitions, std::function<void()> then);
  /// A new view is published: where another leads now, who waits goes on, and is refused.
  void on_published();
  /// Whoever still waits goes on: nothing is handed over any more, or it takes too long.
  void end();
  /// No timer is left.
  void stop();

 private:
  void settle();

  io::Loop& loop_;
  const io::Clock& clock_;
  std::vector<PartitionRef> held_;
  std::vector<PartitionRef> unsettled_;
  int64_t settle_until_ms_ = 0;
  std::function<void()> then_;
  io::TimerId step_ = 0;
  io::TimerId limit_ = 0;
};

}  // namespace millrace::broker
