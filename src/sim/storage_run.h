// The storage simulation from inside: what its files share. One object is one run; storage_sim.h says what it
// is for.
//
//   storage_sim.cc      the run: knobs, steps, counts
//   storage_life.cc     starts, stops and crashes, and the verdict on what a start finds
//   storage_writes.cc   producers and transactions
//   storage_replica.cc  the partition as a follower
//   storage_reads.cc    consumers
//   storage_care.cc     retention, checkpoints, compaction, scrub, offline checks, configuration
//   storage_trouble.cc  faults and damage
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/partition_host.h"
#include "sim/log_files.h"
#include "sim/partition_model.h"
#include "sim/storage_sim.h"

namespace millrace::sim {

using broker::PartitionHost;
using broker::PartitionRef;
using partition::Partition;

/// A client's batch, kept for retries.
struct Sent {
  ModelBatch batch;
  bool all = false;  // acks=all
};

struct Producer {
  int64_t id = -1;
  int16_t epoch = 0;
  int32_t next_sequence = 0;
  bool transactional = false;
  bool in_transaction = false;
  std::deque<Sent> window;
};

/// The log of the leader that a slot follows: the slot's own up to where it parts, then what it appended
/// itself.
struct LeaderLog {
  int64_t parts_at = 0;
  std::vector<ModelBatch> own;
  int64_t log_start = 0;
  int64_t high_watermark = 0;
  int64_t end() const { return own.empty() ? parts_at : own.back().last + 1; }
};

struct Slot {
  std::string topic;
  int32_t number = 0;
  Uuid id;
  int32_t leader_epoch = 0;
  uint64_t incarnation = 0;  // of the topic; waits of an earlier one count for nothing
  std::shared_ptr<const partition::PartitionConfig> config;
  PartitionRef ref;  // null: offline
  std::string path;
  PartitionModel model;
  std::vector<Producer> producers;
  bool failed = false;      // its directory was fenced
  bool cut_unseen = false;  // power was cut while it was offline, or before it was opened again
  int64_t high_watermark = 0;
  bool follows = false;
  bool told_leader = false;        // since the start
  int64_t committed = 0;           // below it, as far as was ever seen
  int64_t cutting_to = INT64_MAX;  // a cut that is not finished
  bool restarting = false;         // a follower that begins anew was caught by a power cut
  LeaderLog leader;
  std::unique_ptr<log::Compaction> compaction;

  std::string name() const { return topic + "-" + std::to_string(number); }
};

enum class Policy : uint8_t { remove, compact, both };
enum class Stop : uint8_t { power_cut, process_kill, clean };

inline constexpr const char* kClusterId = "AAAAAAAAAAAAAAAAAAAAAQ";
inline constexpr size_t kRetryWindow = 5;

class StorageSim;

struct Acks final : partition::CommitWaiter {
  explicit Acks(StorageSim& s) : sim(s) {}
  io::Loop& loop() override;
  void on_commit(uint64_t tag, ErrorCode outcome) override;
  StorageSim& sim;
};

struct Narrator final : TraceSink {
  std::function<void(const std::string&)> tell;
  void write(TraceLevel, std::string_view component, std::string_view message) override {
    tell(fmt::format("      | {}: {}", component, message));
  }
};

class StorageSim {
 public:
  explicit StorageSim(const StorageSimOptions& options)
      : options_(options),
        disk_(scheduler_, Dice(options.seed, "disk")),
        dice_(options.seed, "workload"),
        random_(Dice(options.seed, "ids")) {
    disk_.bugs = options.bugs.disk;
    if (options.narrate) narrator_.tell = options.narrate;
    trace_ = options.narrate ? Trace(&narrator_, "sim", TraceLevel::debug) : Trace();
  }

  StorageSimOutcome run();

 private:
  friend struct Acks;
  struct Wait {
    size_t slot = 0;
    uint64_t incarnation = 0;
    int64_t end = 0;
  };

  // --- the run ---
  void choose_knobs();
  void add_topic(const std::string& name, int32_t partitions);
  Policy random_policy();
  /// What the partition is told: the same, unless a planted bug has it otherwise.
  std::shared_ptr<const partition::PartitionConfig> given_config(const Slot& slot) const;
  void take_config(Slot& slot, const std::shared_ptr<const partition::PartitionConfig>& config);
  std::shared_ptr<const partition::PartitionConfig> random_config(bool fsync, Policy policy);
  void start(Stop after);
  bool start_once(Stop after);
  void verify(Slot& slot, int64_t planned_start, const std::optional<FoundLog>& found);
  void crash(Stop how);
  void clean_stop();
  void probe();
  void step();
  void let_pass(int64_t us);
  void check_power();

  void open_slot(Slot& slot, Stop after);
  bool excused(const Slot& slot, const Error& error);
  void verify_offline(const std::vector<bool>& was_open);
  void forget_swaps(const std::string& directory);

  // --- operations ---
  void wake(Slot& slot);
  void follow(Slot& slot);
  void lead(Slot& slot);
  void replicate(Slot& slot);
  void extend_leader(Slot& slot);
  Bytes leader_records(Slot& slot, int64_t from, std::vector<ModelBatch>& given);
  log::EpochEnd leader_epoch_end(const Slot& slot, int32_t epoch) const;
  void cut_as_told(Slot& slot, const partition::ReplicaAnswer& answer, const std::vector<ModelBatch>& given);
  void compact(Slot& slot);
  void scrub(Slot& slot);
  void verify_live(Slot& slot);
  void append(Slot& slot);
  void send(Slot& slot, Producer* producer, Sent sent, bool retry);
  ModelBatch make_batch(Slot& slot, Producer* producer);
  void end_transaction(Slot& slot, Producer& producer);
  ModelBatch make_marker(const Slot& slot, const Producer& producer);
  void fetch(Slot& slot);
  bool read_all(Slot& slot, bool adopt);
  void look_up(Slot& slot);
  void delete_records(Slot& slot);
  void keep_house();
  void checkpoint();
  void configure(Slot& slot);
  void recreate_topic(Slot& slot);
  void break_disk();
  void break_start();
  void flip_on_the_way(SimDisk::Device& device);
  void damage();
  void damage_small_file();
  int64_t recorded_end(const Slot& slot);
  bool on_record(const std::string& path);
  void damage_tail();
  void evict();
  void settle();
  void on_storage_failure(const std::string& path, const Error& why);
  bool judge_error(const Slot& slot, const Error& error, std::string_view what);

  template <class... A>
  void say(fmt::format_string<A...> f, A&&... a) {
    if (options_.narrate)
      options_.narrate(fmt::format("{:>10} us  ", scheduler_.now_us()) +
                       fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void fail(fmt::format_string<A...> f, A&&... a) {
    if (!out_.failure.empty()) return;
    out_.failure = fmt::format("operation {}: ", out_.operations) + fmt::format(f, std::forward<A>(a)...);
    say("FAILED {}", out_.failure);
  }
  bool ok() const { return out_.failure.empty(); }
  void saw(std::string_view what) {
    const auto it = out_.sightings.find(what);
    if (it != out_.sightings.end()) {
      ++it->second;
    } else {
      out_.sightings.emplace(what, 1);
    }
  }
  bool faulty(const Slot& slot) const;
  bool flips_bits(const Slot& slot) const;
  /// Of the data directory that holds the path.
  SimDisk::Device& device_of(const std::string& path);
  /// A sync failed in this life: pages that are taken for clean are not on the medium.
  bool page_cache_lies() const { return disk_.counters.sync_errors > sync_errors_at_start_; }
  Slot& any_slot() { return *slots_[dice_.index(slots_.size())]; }
  size_t index_of(const Slot& slot) const {
    size_t i = 0;
    while (slots_[i].get() != &slot) ++i;
    return i;
  }

  const StorageSimOptions& options_;
  StorageSimOutcome out_;
  Scheduler scheduler_;
  SimDisk disk_;
  Dice dice_;
  NodeRandom random_;
  NodeClock clock_{scheduler_};
  NodeLoop loop_{scheduler_};
  Narrator narrator_;
  Trace trace_;
  std::shared_ptr<Acks> acks_ = std::make_shared<Acks>(*this);
  std::vector<std::string> roots_;
  std::unique_ptr<PartitionHost> host_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<uint64_t, Wait> waits_;
  uint64_t last_tag_ = 0;
  uint64_t last_value_ = 0;
  int64_t last_producer_ = 0;
  uint64_t last_incarnation_ = 0;
  bool may_damage_ = false;
  bool may_fault_ = false;
  bool tampered_ = false;
  bool trouble_since_start_ = false;  // faults were switched on in this life
  uint64_t sync_errors_at_start_ = 0;
  bool checkpointing_ = false;
  bool start_trouble_ = false;        // faults are on while it starts
  bool small_files_damaged_ = false;  // in any directory
  std::vector<Uuid> registered_;      // directories, as the cluster knows them
};

}  // namespace millrace::sim
