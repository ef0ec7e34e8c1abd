// The leader's half of one partition's replication, as a pure machine: whose ends are known, and how far the
// high watermark may go. It knows nothing of locks, logs or time.
//
// Every replica has two ends: the log end and the durable end (what it has fsynced; in `replicated`
// durability the durable end is the log end). The high watermark is the smallest durable end over the maximal
// ISR, leader included, and never retreats. With fewer ISR members than the effective min.insync.replicas it
// stands still (KIP-966).
#pragma once

#include <map>
#include <vector>

#include "base/ids.h"

namespace millrace::replica {

struct Ends {
  Offset log_end{0};
  Offset durable_end{0};
};

class Leader {
 public:
  /// `isr` contains `self`. `high_watermark` is what is known to be committed already.
  Leader(BrokerId self, LeaderEpoch epoch, const std::vector<BrokerId>& isr, size_t min_insync, Ends local,
         Offset high_watermark);

  /// The local log grew or was synced. True if the high watermark advanced.
  bool on_local(Ends ends);
  /// The configured minimum changed (already capped by the replication factor). True if the mark advanced.
  bool set_min_insync(size_t min_insync);

  /// Whether acks=all may be accepted now.
  bool enough_in_sync() const { return isr_.size() >= min_insync_; }
  Offset high_watermark() const { return high_watermark_; }
  LeaderEpoch epoch() const { return epoch_; }
  Ends local() const { return isr_.at(self_); }
  std::vector<BrokerId> isr() const;

 private:
  bool advance();

  BrokerId self_;
  LeaderEpoch epoch_;
  std::map<BrokerId, Ends> isr_;
  size_t min_insync_;
  Offset high_watermark_;
};

}  // namespace millrace::replica
