// A loop, a clock and chance that do only what a test tells them: one thread, virtual time, no surprises. A
// tick is what it is in production: a batch of posted functions and due timers, then what was gathered for
// its end.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "io/clock.h"
#include "io/loop.h"
#include "io/random.h"

namespace millrace::test {

class ManualClock final : public io::Clock {
 public:
  Now now() const override { return now_; }
  int64_t mono_ns() const override { return now_.mono_ms * 1'000'000; }
  void advance(int64_t ms) {
    now_.mono_ms += ms;
    now_.wall_ms += ms;
  }

 private:
  Now now_{.mono_ms = 1'000, .wall_ms = 1'700'000'000'000};
};

class SeededRandom final : public io::Random {
 public:
  explicit SeededRandom(uint64_t seed = 1) : state_(seed) {}
  void fill(MutableByteView out) override {
    for (uint8_t& b : out) {  // an LCG is chance enough for tests
      state_ = state_ * 6364136223846793005U + 1442695040888963407U;
      b = static_cast<uint8_t>(state_ >> 56);
    }
  }

 private:
  uint64_t state_;
};

class ManualLoop final : public io::Loop {
 public:
  explicit ManualLoop(ManualClock& clock) : clock_(clock) {}

  void post(std::function<void()> f) override { posted_.push_back(std::move(f)); }
  io::TimerId call_after(int64_t delay_ms, std::function<void()> f) override {
    const io::TimerId id = ++last_timer_;
    timers_.emplace(std::pair(clock_.now().mono_ms + delay_ms, id), std::move(f));
    return id;
  }
  void cancel(io::TimerId timer) override {
    std::erase_if(timers_, [&](const auto& t) { return t.first.second == timer; });
  }
  bool is_here() const override { return inside_; }
  void at_end_of_tick(std::function<void()> f) override { at_end_.push_back(std::move(f)); }

  // --- what a test does ---
  /// Runs `f` as all there is to one tick. Inside a tick it is called as it is.
  template <class F>
  void in_tick(F&& f) {
    if (inside_) {
      f();
      return;
    }
    inside_ = true;
    f();
    finish_tick();
  }
  /// One batch: what is posted and due by now. False if there was nothing.
  bool tick() {
    std::deque<std::function<void()>> batch = std::exchange(posted_, {});
    while (!timers_.empty() && timers_.begin()->first.first <= clock_.now().mono_ms) {
      batch.push_back(std::move(timers_.begin()->second));
      timers_.erase(timers_.begin());
    }
    if (batch.empty()) return false;
    inside_ = true;
    for (auto& f : batch) f();
    finish_tick();
    return true;
  }
  /// Ticks until nothing is left to do at this time.
  void settle() {
    while (tick()) {
    }
  }
  /// Lets `ms` pass, stopping at every timer on the way.
  void advance(int64_t ms) {
    settle();
    const int64_t end = clock_.now().mono_ms + ms;
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      clock_.advance(timers_.begin()->first.first - clock_.now().mono_ms);
      settle();
    }
    clock_.advance(end - clock_.now().mono_ms);
    settle();
  }
  size_t timers() const { return timers_.size(); }

 private:
  void finish_tick() {
    while (!at_end_.empty()) {
      for (auto& f : std::exchange(at_end_, {})) f();
    }
    inside_ = false;
  }

  ManualClock& clock_;
  std::deque<std::function<void()>> posted_;
  std::map<std::pair<int64_t, io::TimerId>, std::function<void()>> timers_;  // by time, then age
  std::vector<std::function<void()>> at_end_;
  io::TimerId last_timer_ = 0;
  bool inside_ = false;
};

}  // namespace millrace::test
