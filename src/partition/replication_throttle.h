// What throttled replication may take (KIP-73): a rate for one direction of one broker, shared by its loops.
// What was taken beyond the rate is waited for before more is taken, so a large batch is a long pause.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace millrace::partition {

class ReplicationThrottle {
 public:
  static constexpr int64_t kNoLimit = INT64_MAX;

  /// Bytes a second; kNoLimit: none. 0 lets nothing through. From any loop.
  void set_rate(int64_t bytes_per_second) { rate_.store(bytes_per_second, std::memory_order_relaxed); }

  bool is_limited() const { return rate_.load(std::memory_order_relaxed) != kNoLimit; }
  /// The most that is asked for at a time: what goes through in a second.
  int64_t bytes_at_once() const { return std::max<int64_t>(rate_.load(std::memory_order_relaxed), 1); }
  /// When throttled bytes may be taken; `now_ms` or earlier: now. From any loop.
  int64_t open_at_mono_ms(int64_t now_ms) const {
    const int64_t rate = rate_.load(std::memory_order_relaxed);
    if (rate == kNoLimit) return now_ms;
    if (rate == 0) return now_ms + kClosedMs;  // until the rate is changed: looked at again
    return std::min(free_at_ms_.load(std::memory_order_relaxed), now_ms + kDebtMaxMs);
  }
  bool is_open(int64_t now_ms) const { return open_at_mono_ms(now_ms) <= now_ms; }

  /// `bytes` were taken. From any loop.
  void take(size_t bytes, int64_t now_ms) {
    const int64_t rate = rate_.load(std::memory_order_relaxed);
    if (rate == kNoLimit || rate == 0 || bytes == 0) return;
    const auto cost_ms =
        static_cast<int64_t>(static_cast<double>(bytes) * 1000.0 / static_cast<double>(rate));
    int64_t free_at = free_at_ms_.load(std::memory_order_relaxed);
    int64_t then = 0;
    do {
      then = std::min(std::max(free_at, now_ms) + cost_ms, now_ms + kDebtMaxMs);
    } while (!free_at_ms_.compare_exchange_weak(free_at, then, std::memory_order_relaxed));
  }

 private:
  static constexpr int64_t kClosedMs = 1'000;
  // However large what was taken: a raised rate is felt within this time.
  static constexpr int64_t kDebtMaxMs = 10'000;

  std::atomic<int64_t> rate_{kNoLimit};
  std::atomic<int64_t> free_at_ms_{0};
};

}  // namespace millrace::partition
