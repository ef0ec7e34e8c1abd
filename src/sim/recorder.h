// The history of a run as it happens: what the simulated clients call is noted when it is called and when it
// returns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "check/history.h"
#include "sim/scheduler.h"

namespace millrace::sim {

class Recorder {
 public:
  using Id = size_t;
  explicit Recorder(const Scheduler& scheduler) : scheduler_(scheduler) {}

  /// `o` has its kind and what is known; its time is now.
  Id invoke(check::Operation o, std::vector<check::Item> items = {});
  /// It returned, now. An operation that never returns is info.
  void finish(Id id, check::Outcome outcome);
  void finish(Id id, check::Outcome outcome, std::vector<check::Item> items);
  std::vector<check::Item>& items(Id id) { return all_[id].items; }
  check::Operation& operation(Id id) { return all_[id].operation; }

  uint32_t partition(const std::string& topic, int32_t number) {
    return history_.partitions.number(topic + "-" + std::to_string(number));
  }
  uint32_t client(const std::string& name) { return history_.clients.number(name); }
  int32_t group(const std::string& name) { return static_cast<int32_t>(history_.groups.number(name)); }
  check::Value next_value() { return ++last_value_; }
  /// Moments in order, in microseconds of virtual time as near as that allows.
  int64_t stamp();

  size_t operations() const { return all_.size(); }
  uint64_t acknowledged_writes() const { return acknowledged_; }
  /// Everything, in order of invocation. The last call.
  check::History take(bool final_reads_complete);

 private:
  struct Noted {
    check::Operation operation;
    std::vector<check::Item> items;
  };
  const Scheduler& scheduler_;
  check::History history_;
  std::vector<Noted> all_;
  int64_t last_stamp_ = 0;
  check::Value last_value_ = 0;
  uint64_t acknowledged_ = 0;
};

}  // namespace millrace::sim
