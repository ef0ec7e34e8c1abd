#include "broker/disk_watch.h"

#include <algorithm>
#include <utility>

namespace millrace::broker {
namespace {

constexpr uint64_t kFloorMax = uint64_t{1} << 30;
constexpr uint64_t kFloorDivisor = 20;  // 5 %
// With so much above the floor nothing fills up within a second.
constexpr uint64_t kPlenty = uint64_t{8} << 30;
constexpr int64_t kPlentyRoundMs = 1'000;

}  // namespace

uint64_t free_bytes_floor(int64_t setting, uint64_t total) {
  if (setting >= 0) return static_cast<uint64_t>(setting);
  return std::min(kFloorMax, total / kFloorDivisor);
}

void DiskWatch::start(std::vector<State> directories, Handlers handlers) {
  handlers_ = std::move(handlers);
  for (State& s : directories) watched_.push_back({std::move(s), 0, 0});
  *running_ = true;
  begin_round();
}

void DiskWatch::begin_round() {
  auto rooms = std::make_shared<std::vector<Room>>(watched_.size());
  std::vector<State> states;
  for (const Watched& w : watched_) states.push_back(w.state);
  env_.disk->run(
      *env_.loop,
      [rooms, states = std::move(states), disk = env_.disk] {
        for (size_t i = 0; i < states.size(); ++i) {
          if (states[i]->failed()) continue;
          const Result<uint64_t> free = disk->free_bytes(states[i]->path());
          const Result<uint64_t> total = disk->total_bytes(states[i]->path());
          if (free.ok() && total.ok()) (*rooms)[i] = {true, *free, *total};
        }
      },
      [this, rooms, running = running_] {
        if (*running) end_round(*rooms);
      });
}

void DiskWatch::end_round(const std::vector<Room>& rooms) {
  const int64_t now_ms = env_.clock->now().mono_ms;
  const int64_t setting = handlers_.floor_setting();
  bool plenty = true;
  for (size_t i = 0; i < watched_.size(); ++i) {
    Watched& w = watched_[i];
    if (!rooms[i].known) continue;
    partition::DirectoryState& state = *w.state;
    const bool was_full = state.full();
    const bool changed =
        state.note_room(rooms[i].free, rooms[i].total, free_bytes_floor(setting, rooms[i].total));
    const uint64_t no_space = state.no_space_count();
    plenty = plenty && state.free_bytes() > state.floor_bytes() + kPlenty;
    if (state.full()) {
      if (!was_full || changed || now_ms >= w.make_room_at_ms) {
        if (changed || w.make_room_at_ms == 0) {
          env_.trace.warn("log dir {} has {} bytes free, fewer than the floor of {}: clients may not write",
                          state.path(), state.free_bytes(), state.floor_bytes());
        }
        w.make_room_at_ms = now_ms + kMakeRoomMs;
        handlers_.on_low(state.path());
      }
    } else if (changed) {
      w.make_room_at_ms = 0;
      env_.trace.info("log dir {} has {} bytes free again: clients may write", state.path(),
                      state.free_bytes());
    } else if (no_space != w.no_space_seen) {
      // No floor, and something did not fit: what retention may remove goes.
      if (now_ms >= w.make_room_at_ms) {
        w.make_room_at_ms = now_ms + kMakeRoomMs;
        w.no_space_seen = no_space;
        env_.trace.warn("log dir {} is full: {} bytes free", state.path(), state.free_bytes());
        handlers_.on_low(state.path());
      }
    }
  }
  env_.loop->call_after(plenty ? kPlentyRoundMs : kRoundMs, [this, running = running_] {
    if (*running) begin_round();
  });
}

void register_directory_metrics(MetricsRegistry& metrics,
                                std::function<std::vector<DiskWatch::State>()> directories) {
  using Samples = MetricsRegistry::Samples;
  const auto gauge = [&](const char* name, const char* help, auto value) {
    metrics.gauge(name, help, [directories, value](Samples& s) {
      for (const DiskWatch::State& d : directories())
        s.push_back({{{"directory", d->path()}}, static_cast<double>(value(*d))});
    });
  };
  using State = partition::DirectoryState;
  gauge("millrace_log_dir_free_bytes", "Bytes free on the file system of the data directory.",
        [](const State& d) { return d.free_bytes(); });
  gauge("millrace_log_dir_total_bytes", "Size of the file system of the data directory.",
        [](const State& d) { return d.total_bytes(); });
  gauge("millrace_log_dir_floor_bytes", "Clients may not write with fewer bytes free than this.",
        [](const State& d) { return d.floor_bytes(); });
  gauge("millrace_log_dir_full", "1 while clients may not write for want of space.",
        [](const State& d) { return d.full() ? 1 : 0; });
  gauge("millrace_log_dir_offline", "1 if the data directory failed and is not used any more.",
        [](const State& d) { return d.failed() ? 1 : 0; });
  gauge("millrace_log_dir_no_space", "Appends that found no space since the start.",
        [](const State& d) { return d.no_space_count(); });
}

}  // namespace millrace::broker
