// Virtual time: one queue of events ordered by (time, sequence), on which the loops, clocks and disks of all
// simulated nodes run. Nothing happens by itself: the owner of the simulation runs events. The same events in
// the same order give the same hash.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/random.h"
#include "sim/dice.h"

namespace millrace::sim {

class Scheduler {
 public:
  using EventId = uint64_t;  // 0 is never an event

  int64_t now_us() const { return now_us_; }
  /// Runs `f` at `time_us` (now, if that is past). `kind` goes into the hash.
  EventId at(int64_t time_us, uint32_t kind, std::function<void()> f);
  void cancel(EventId event);
  /// The next event that is due by `until_us`; false if there is none (time is then `until_us`).
  bool run_one(int64_t until_us);
  void run_until(int64_t until_us) {
    while (run_one(until_us)) {
    }
  }
  size_t pending() const { return queue_.size(); }
  /// Nothing more happens: what the events hold is let go of, and what is scheduled by that, too.
  void clear();
  /// Of every event run and everything noted.
  uint64_t hash() const { return hash_; }
  void note(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001B3U; }
  void note_bytes(ByteView bytes);

 private:
  struct Event {
    uint32_t kind = 0;
    std::function<void()> run;
  };
  int64_t now_us_ = 1'000'000;
  EventId last_ = 0;
  uint64_t hash_ = 0xCBF29CE484222325U;
  std::map<std::pair<int64_t, EventId>, Event> queue_;
  std::map<EventId, int64_t> times_;
};

/// Both clocks of one node: its own offset from the simulation's wall time, and its own drift.
class NodeClock final : public io::Clock {
 public:
  static constexpr int64_t kEpochWallMs = 1'700'000'000'000;
  explicit NodeClock(const Scheduler& scheduler) : scheduler_(scheduler) {}
  Now now() const override;
  int64_t mono_ns() const override { return scaled_us() * 1000; }
  /// The wall clock jumps; the monotonic one does not.
  void jump_wall(int64_t ms) { wall_offset_ms_ += ms; }
  /// Parts per million that this node's clocks run fast (negative: slow) from now on.
  void set_drift(int64_t ppm) {
    const int64_t now_us = scheduler_.now_us();
    drifted_us_ += (now_us - since_us_) * drift_ppm_ / 1'000'000;
    since_us_ = now_us;
    drift_ppm_ = ppm;
  }
  /// How long it takes until this clock has gone on by so much.
  int64_t real_us(int64_t own_us) const { return own_us - own_us * drift_ppm_ / (1'000'000 + drift_ppm_); }

 private:
  int64_t scaled_us() const {
    const int64_t us = scheduler_.now_us();
    return us + drifted_us_ + (us - since_us_) * drift_ppm_ / 1'000'000;
  }
  const Scheduler& scheduler_;
  int64_t wall_offset_ms_ = 0;
  int64_t drift_ppm_ = 0;
  int64_t since_us_ = 0;    // it drifts like this since then
  int64_t drifted_us_ = 0;  // by then
};

/// One loop of a node. A tick is what it is in production: a batch of posted functions and due timers, then
/// what was gathered for its end.
class NodeLoop final : public io::Loop {
 public:
  /// `clock`: of the node, by which its timers go; nullptr: they go by the simulation's.
  explicit NodeLoop(Scheduler& scheduler, const NodeClock* clock = nullptr)
      : scheduler_(scheduler), clock_(clock) {}
  void post(std::function<void()> f) override;
  io::TimerId call_after(int64_t delay_ms, std::function<void()> f) override;
  void cancel(io::TimerId timer) override { scheduler_.cancel(timer); }
  bool is_here() const override { return inside_; }
  void at_end_of_tick(std::function<void()> f) override { at_end_.push_back(std::move(f)); }

  /// Runs `f` as all there is to one tick, now. Not from inside one.
  void in_tick(const std::function<void()>& f);
  /// The process is gone: nothing that was posted or timed runs any more. The loop can be used again.
  void kill();
  /// The process stands still: what is due meanwhile runs when it goes on.
  void pause() { paused_ = true; }
  void resume() {
    paused_ = false;
    if (!posted_.empty()) schedule_tick();
  }
  uint64_t ticks() const { return ticks_; }

 private:
  void schedule_tick();
  void finish_tick();

  Scheduler& scheduler_;
  const NodeClock* const clock_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);  // events of an earlier life find it gone
  std::deque<std::function<void()>> posted_;
  std::vector<std::function<void()>> at_end_;
  bool tick_scheduled_ = false;
  bool inside_ = false;
  bool paused_ = false;
  uint64_t ticks_ = 0;
};

/// Ids of one node, from the seed.
class NodeRandom final : public io::Random {
 public:
  explicit NodeRandom(Dice dice) : dice_(dice) {}
  void fill(MutableByteView out) override {
    for (uint8_t& b : out) b = static_cast<uint8_t>(dice_.next());
  }

 private:
  Dice dice_;
};

}  // namespace millrace::sim
