// Which compacted log is cleaned when: looks every log.cleaner.backoff.ms for the dirtiest one that is worth
// it (or overdue), and carries at most log.cleaner.threads runs forward in bounded steps on the disk's pool.
// A log whose content is damaged is set aside with the reason, and never rewritten; the others go on.
//
// Belongs to the control loop; what blocks runs on the pool.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/trace.h"
#include "broker/view.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/random.h"
#include "log/compaction.h"
#include "meta/config_view.h"

namespace millrace::broker {

/// The log.cleaner.* keys.
struct CleanerSettings {
  bool enable = true;
  size_t threads = 1;
  size_t map_bytes = 128u << 20;  // all runs together
  double map_load_factor = 0.9;
  size_t read_bytes = 512u << 10;  // all runs together
  double bytes_per_second_max = 1e300;
  int64_t backoff_ms = 15'000;
};
CleanerSettings cleaner_settings(const meta::ConfigView& settings);

class Cleaner {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    io::Random* random = nullptr;
    MetricsRegistry* metrics = nullptr;
    Trace trace;
    std::function<std::vector<PartitionRef>()> partitions;  // what this broker hosts now
    std::function<CleanerSettings()> settings;              // in force now
    std::function<void()> on_cleaned;                       // a run ended well: checkpoints have news
  };

  explicit Cleaner(Environment environment);

  /// The first look is one back-off away. Once.
  void start();
  /// No step is begun any more; `done` runs when the last one is over. After the partitions were stopped
  /// their runs end at the next step.
  void stop(std::function<void()> done);

  /// Logs that are set aside, by name, with the reason.
  std::map<std::string, std::string> uncleanable() const;

 private:
  struct Run;
  struct SetAside {
    std::weak_ptr<partition::Partition> partition;
    std::string reason;
  };

  void arm();
  void look();
  void on_looked(std::vector<PartitionRef> found, double ratio_max);
  void step(const std::shared_ptr<Run>& run);
  void on_step(const std::shared_ptr<Run>& run);
  void end(const std::shared_ptr<Run>& run, const Status& outcome);
  bool is_set_aside(const PartitionRef& partition) const;
  void maybe_stopped();
  void register_metrics();

  Environment env_;
  bool stopping_ = false;
  bool looking_ = false;
  io::TimerId timer_ = 0;
  std::vector<std::shared_ptr<Run>> runs_;
  std::map<std::string, SetAside> set_aside_;
  int64_t throttled_until_ms_ = 0;  // monotonic
  std::function<void()> on_stopped_;

  double dirty_ratio_max_ = 0;
  double last_run_seconds_ = 0;
  Counter* completed_ = nullptr;
  Counter* failed_ = nullptr;
  Counter* bytes_read_ = nullptr;
  Counter* bytes_written_ = nullptr;
  Counter* bytes_freed_ = nullptr;
};

}  // namespace millrace::broker
