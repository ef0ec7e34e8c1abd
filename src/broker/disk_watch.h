// Watches the room in every data directory and hears of failing media. On the control loop; what it asks the
// file systems runs on the disk's pool, one round at a time.
//
// Each round reads the free bytes of every directory and compares them with the floor
// (log.dirs.free.bytes.min). Falling below it is told once, then every few seconds while it lasts, so that
// what retention may remove goes at once; so is coming back.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/loop.h"
#include "partition/directory_state.h"

namespace millrace::broker {

/// Bytes to be kept free of `total`, as the key's value says: -1 the smaller of 1 GiB and 5 %, 0 none.
uint64_t free_bytes_floor(int64_t setting, uint64_t total);

class DiskWatch {
 public:
  using State = std::shared_ptr<partition::DirectoryState>;
  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    Trace trace;
  };
  struct Handlers {
    std::function<int64_t()> floor_setting;
    /// A directory is below its floor: make room. Again every kMakeRoomMs while it is.
    std::function<void(const std::string& directory)> on_low;
  };
  static constexpr int64_t kRoundMs = 200;
  static constexpr int64_t kMakeRoomMs = 2'000;

  explicit DiskWatch(Environment environment) : env_(std::move(environment)) {}

  /// Begins; the first round at once.
  void start(std::vector<State> directories, Handlers handlers);
  /// After it nothing is asked any more; a round under way finishes and is dropped.
  void stop() { *running_ = false; }

 private:
  struct Watched {
    State state;
    uint64_t no_space_seen = 0;
    int64_t make_room_at_ms = 0;
  };
  struct Room {
    bool known = false;
    uint64_t free = 0;
    uint64_t total = 0;
  };
  void begin_round();
  void end_round(const std::vector<Room>& rooms);

  const Environment env_;
  Handlers handlers_;
  std::vector<Watched> watched_;
  std::shared_ptr<bool> running_ = std::make_shared<bool>(false);
};

/// Free, total and floor bytes and the state of each directory.
void register_directory_metrics(MetricsRegistry& metrics,
                                std::function<std::vector<DiskWatch::State>()> directories);

}  // namespace millrace::broker
