#include "partition/standing.h"

namespace millrace::partition {
namespace {

// Longer than it takes to hear the controller's news after a stop.
constexpr int64_t kProbationMs = 500;

}  // namespace

void Standing::hold_until(int64_t mono_ms, int64_t silence_ms) {
  {
    const std::lock_guard lock(mutex_);
    silence_ms_ = silence_ms;
  }
  until_ms_.store(mono_ms, std::memory_order_relaxed);
}

void Standing::note_fetch(BrokerId replica, int64_t now_mono_ms) {
  const std::lock_guard lock(mutex_);
  const auto [it, first] = heard_.try_emplace(replica, Heard{now_mono_ms, now_mono_ms});
  if (now_mono_ms - it->second.last_ms > silence_ms_) it->second.since_ms = now_mono_ms;
  it->second.last_ms = now_mono_ms;
}

bool Standing::hears(BrokerId replica, int64_t now_mono_ms) const {
  const std::lock_guard lock(mutex_);
  const auto it = heard_.find(replica);
  if (it == heard_.end()) return false;
  return now_mono_ms - it->second.last_ms <= silence_ms_ && now_mono_ms - it->second.since_ms >= kProbationMs;
}

}  // namespace millrace::partition
