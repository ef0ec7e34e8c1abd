#include "replica/leader.h"

#include <algorithm>

#include "base/assert.h"

namespace millrace::replica {

Leader::Leader(BrokerId self, LeaderEpoch epoch, const std::vector<BrokerId>& isr, size_t min_insync,
               Ends local, Offset high_watermark)
    : self_(self), epoch_(epoch), min_insync_(min_insync), high_watermark_(high_watermark) {
  ASSERT(local.durable_end <= local.log_end);
  for (const BrokerId id : isr) isr_.emplace(id, Ends{});
  ASSERT(isr_.contains(self_));
  isr_[self_] = local;
  high_watermark_ = std::min(high_watermark_, local.log_end);
  (void)advance();  // nobody waits yet
}

bool Leader::on_local(Ends ends) {
  ASSERT(ends.durable_end <= ends.log_end);
  Ends& mine = isr_[self_];
  ASSERT(mine.durable_end <= ends.durable_end);
  mine = ends;
  return advance();
}

bool Leader::set_min_insync(size_t min_insync) {
  min_insync_ = min_insync;
  return advance();
}

std::vector<BrokerId> Leader::isr() const {
  std::vector<BrokerId> ids;
  ids.reserve(isr_.size());
  for (const auto& [id, ends] : isr_) ids.push_back(id);
  return ids;
}

bool Leader::advance() {
  if (!enough_in_sync()) return false;
  Offset smallest = isr_.begin()->second.durable_end;
  for (const auto& [id, ends] : isr_) smallest = std::min(smallest, ends.durable_end);
  if (smallest <= high_watermark_) return false;
  high_watermark_ = smallest;
  return true;
}

}  // namespace millrace::replica
