#include "sim/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/endian.h"

namespace millrace::sim {

namespace {

constexpr uint32_t kTickEvent = 1;
constexpr uint32_t kTimerEvent = 2;

}  // namespace

Scheduler::EventId Scheduler::at(int64_t time_us, uint32_t kind, std::function<void()> f) {
  const EventId id = ++last_;
  const int64_t time = std::max(time_us, now_us_);
  queue_.emplace(std::pair(time, id), Event{kind, std::move(f)});
  times_.emplace(id, time);
  return id;
}

void Scheduler::cancel(EventId event) {
  const auto it = times_.find(event);
  if (it == times_.end()) return;
  queue_.erase({it->second, event});
  times_.erase(it);
}

bool Scheduler::run_one(int64_t until_us) {
  if (queue_.empty() || queue_.begin()->first.first > until_us) {
    now_us_ = std::max(now_us_, until_us);
    return false;
  }
  const auto first = queue_.begin();
  now_us_ = first->first.first;
  note(static_cast<uint64_t>(now_us_) * 8 + first->second.kind);
  const std::function<void()> run = std::move(first->second.run);
  times_.erase(first->first.second);
  queue_.erase(first);
  run();
  return true;
}

void Scheduler::clear() {
  while (!queue_.empty()) {
    times_.clear();
    const auto events = std::exchange(queue_, {});
  }
  times_.clear();
}

void Scheduler::note_bytes(ByteView bytes) {
  uint64_t h = bytes.size() + 1;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    h = (h ^ load_be<uint64_t>(bytes.data() + i)) * 0x9E3779B97F4A7C15U;
    h ^= h >> 29;
  }
  for (; i < bytes.size(); ++i) h = (h ^ bytes[i]) * 0x100000001B3U;
  note(h);
}

Now NodeClock::now() const {
  const int64_t ms = scaled_us() / 1000;
  return Now{.mono_ms = ms, .wall_ms = kEpochWallMs + ms + wall_offset_ms_};
}

void NodeLoop::post(std::function<void()> f) {
  posted_.push_back(std::move(f));
  if (!inside_) schedule_tick();
}

void NodeLoop::schedule_tick() {
  if (tick_scheduled_ || paused_) return;
  tick_scheduled_ = true;
  scheduler_.at(scheduler_.now_us(), kTickEvent, [this, life = std::weak_ptr<int>(life_)] {
    if (life.expired()) return;
    tick_scheduled_ = false;
    if (paused_) return;
    ++ticks_;
    in_tick([this] {
      std::deque<std::function<void()>> batch;
      batch.swap(posted_);
      for (auto& f : batch) f();
    });
  });
}

io::TimerId NodeLoop::call_after(int64_t delay_ms, std::function<void()> f) {
  const int64_t wait_us = std::max<int64_t>(delay_ms, 0) * 1000;
  const int64_t due = scheduler_.now_us() + (clock_ == nullptr ? wait_us : clock_->real_us(wait_us));
  return scheduler_.at(due, kTimerEvent, [this, life = std::weak_ptr<int>(life_), f = std::move(f)] {
    if (!life.expired()) post(f);
  });
}

void NodeLoop::in_tick(const std::function<void()>& f) {
  ASSERT(!inside_);
  inside_ = true;
  f();
  finish_tick();
}

void NodeLoop::finish_tick() {
  while (!at_end_.empty()) {
    std::vector<std::function<void()>> batch;
    batch.swap(at_end_);
    for (auto& f : batch) f();
  }
  inside_ = false;
  if (!posted_.empty()) schedule_tick();
}

void NodeLoop::kill() {
  ASSERT(!inside_);
  life_ = std::make_shared<int>(0);
  tick_scheduled_ = false;
  paused_ = false;
  std::deque<std::function<void()>> posted;
  posted.swap(posted_);
  std::vector<std::function<void()>> at_end;
  at_end.swap(at_end_);
}

}  // namespace millrace::sim
