// Which brokers have published what of the metadata log: so that a change is answered when a client may ask
// any of them about it. Part of the node that leads the metadata log; lives on the control loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "io/clock.h"
#include "wire/api_table.h"

namespace millrace::broker {

class Convergence {
 public:
  /// Asks `broker` to say when it has published entry `index`; `done(whether it said so in time)` once,
  /// later.
  using Ask = std::function<void(BrokerId broker, LogIndex index, int64_t timeout_ms,
                                 std::function<void(bool)> done)>;

  /// How long a change is held for a broker that does not say that it has it; after that nobody waits for it
  /// for kExcusedMs, and by then it is fenced, or well again.
  static constexpr int64_t kHoldMs = 1'000;
  static constexpr int64_t kExcusedMs = 5'000;

  Convergence(const io::Clock& clock, Ask ask) : clock_(clock), ask_(std::move(ask)) {}

  /// `f` once: when each of `brokers` has published entry `index`, or has not said so in time. At once if
  /// that is known.
  void when_published(LogIndex index, const std::vector<BrokerId>& brokers, std::function<void()> f);

 private:
  struct State {
    LogIndex published{0};
    int64_t excused_until_ms = 0;
  };

  const io::Clock& clock_;
  const Ask ask_;
  std::map<BrokerId, State> brokers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
