// What the background scrub asks of a partition.
#include "partition/partition.h"

namespace millrace::partition {

std::optional<log::ScrubTarget> Partition::scrub_target(Offset from) const {
  const std::lock_guard lock(mutex_);
  return log_->scrub_target(from);
}

bool Partition::note_damage(log::DamagedRange range, const std::shared_ptr<const io::File>& file) {
  const std::lock_guard lock(mutex_);
  return log_->note_damage(std::move(range), file);
}

Status Partition::rebuild_indexes_of(Offset base) {
  const std::lock_guard lock(mutex_);
  return log_->rebuild_indexes_of(base);
}

size_t Partition::damaged_ranges() const {
  const std::lock_guard lock(mutex_);
  return log_->damaged_ranges();
}

}  // namespace millrace::partition
