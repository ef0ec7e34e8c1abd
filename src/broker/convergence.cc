#include "broker/convergence.h"

#include <algorithm>
#include <utility>

namespace millrace::broker {

void Convergence::when_published(LogIndex index, const std::vector<BrokerId>& brokers,
                                 std::function<void()> f) {
  const int64_t now_ms = clock_.now().mono_ms;
  std::vector<BrokerId> asked;
  for (const BrokerId b : brokers) {
    const State& state = brokers_[b];
    if (state.published < index && now_ms >= state.excused_until_ms) asked.push_back(b);
  }
  if (asked.empty()) return f();
  struct Waiting {
    size_t missing;
    std::function<void()> f;
  };
  auto waiting = std::make_shared<Waiting>(Waiting{asked.size(), std::move(f)});
  for (const BrokerId b : asked) {
    ask_(b, index, kHoldMs, [this, weak = std::weak_ptr<bool>(alive_), waiting, b, index](bool said) {
      if (!weak.expired()) {
        State& state = brokers_[b];
        if (said) {
          state.published = std::max(state.published, index);
          state.excused_until_ms = 0;
        } else {
          state.excused_until_ms = clock_.now().mono_ms + kExcusedMs;
        }
      }
      if (--waiting->missing == 0) std::exchange(waiting->f, nullptr)();
    });
  }
}

}  // namespace millrace::broker
