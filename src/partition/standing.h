// How this broker stands with the rest of its cluster: until when the controller, as far as is known here,
// counts it as alive, and which replicas still fetch from it. A leader that neither the controller nor its
// ISR has been heard of for a session may have a successor: what it took in now could never be committed
// here, and would be cut later.
//
// One for each broker, shared by its partitions. The control loop tells it of the controller's answers, data
// loops of fetches; anyone asks. While the session holds, asking costs one atomic read.
#pragma once

#include <atomic>
#include <map>
#include <mutex>

#include "base/ids.h"
#include "base/time.h"

namespace millrace::partition {

class Standing {
 public:
  /// The session lasts until then, at least; and a replica that is not heard of for `silence_ms` is silent.
  /// kNoDeadline: a broker that nobody else could stand in for.
  void hold_until(int64_t mono_ms, int64_t silence_ms);
  bool session_over(int64_t now_mono_ms) const {
    return now_mono_ms > until_ms_.load(std::memory_order_relaxed);
  }
  /// Of the session in force; INT64_MIN before the first.
  int64_t session_ends_mono_ms() const { return until_ms_.load(std::memory_order_relaxed); }

  /// A replica's fetch has arrived.
  void note_fetch(BrokerId replica, int64_t now_mono_ms);
  /// Whether it fetches. After a silence only when it has done so for a moment: what lay in the sockets of a
  /// process that was stopped for a while proves nothing.
  bool hears(BrokerId replica, int64_t now_mono_ms) const;

  /// Whether this broker should be named to clients at all; the control loop's judgement.
  void set_aside(bool aside) { aside_.store(aside, std::memory_order_relaxed); }
  bool aside() const { return aside_.load(std::memory_order_relaxed); }

 private:
  struct Heard {
    int64_t since_ms = 0;  // without a silence
    int64_t last_ms = 0;
  };

  std::atomic<int64_t> until_ms_ = INT64_MIN;
  std::atomic<bool> aside_ = false;
  mutable std::mutex mutex_;
  int64_t silence_ms_ = 0;
  std::map<BrokerId, Heard> heard_;  // as many as there are brokers that follow
};

}  // namespace millrace::partition
