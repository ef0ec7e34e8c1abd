// The background scrub: reads the closed segments of every partition again, slowly, so that bytes that a disk
// has changed are found before somebody needs them. One lane for each data directory; a lane reads at most
// log.scrub.bytes.per.second and begins a pass every log.scrub.interval.ms. Damage is told to the partition,
// which serves it no more; an index that does not fit is made anew. Belongs to the control loop; the reading
// happens on the disk's pool, one bounded step of a lane at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/trace.h"
#include "broker/view.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/loop.h"
#include "io/random.h"
#include "log/scrub.h"

namespace millrace::broker {

class Scrubber {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    io::Random* random = nullptr;
    MetricsRegistry* metrics = nullptr;
    Trace trace;
  };
  struct Settings {
    int64_t bytes_per_second = 0;  // of each directory; 0: no scrub
    int64_t interval_ms = 0;       // from the start of a pass to the start of the next; 0: no scrub
  };

  /// `partitions`: what this broker hosts now; `settings`: what is in force now. Both are asked on the loop.
  Scrubber(Environment environment, std::function<std::vector<PartitionRef>()> partitions,
           std::function<Settings()> settings);
  ~Scrubber();

  /// Begins, on the loop. After stop() nothing new is begun; a step that runs ends harmlessly.
  void start();
  void stop() { stopping_ = true; }

 private:
  struct Lane {
    std::string directory;
    std::vector<PartitionRef> to_do;  // the last is the next
    Offset from{0};                   // in the partition that is being read
    PartitionRef partition;
    std::unique_ptr<log::SegmentScrub> segment;
    size_t told = 0;  // of the segment's damages
    int64_t next_pass_ms = 0;
    bool in_pass = false;
    bool running = false;   // a step is on the pool
    int64_t allowance = 0;  // bytes
  };
  struct Outcome;

  void tick();
  void begin_passes(int64_t now_ms, const Settings& settings);
  void run_lane(const std::shared_ptr<Lane>& lane);
  static void step(io::Disk& disk, Lane& lane, Outcome& outcome);
  void end_step(const std::shared_ptr<Lane>& lane, const Outcome& outcome);

  Environment env_;
  std::function<std::vector<PartitionRef>()> partitions_;
  std::function<Settings()> settings_;
  std::vector<std::shared_ptr<Lane>> lanes_;
  Counter* bytes_ = nullptr;
  Counter* passes_ = nullptr;
  Counter* damaged_ = nullptr;
  Counter* rebuilt_ = nullptr;
  int64_t last_tick_ms_ = 0;
  bool stopping_ = false;
};

}  // namespace millrace::broker
