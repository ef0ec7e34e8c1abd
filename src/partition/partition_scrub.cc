// What the background scrub asks of a partition.
#include "partition/partition.h"

namespace millrace::partition {

std::optional<log::ScrubTarget> Partition::scrub_target(Offset from) {
  {
    const std::lock_guard lock(mutex_);
    if (rest_ && rest_->segments < 2) return std::nullopt;  // only closed segments are scrubbed
  }
  if (!open_if_resting().ok()) return std::nullopt;  // which said why
  const std::lock_guard lock(mutex_);
  if (!log_) return std::nullopt;
  return log_->scrub_target(from);
}

bool Partition::note_damage(log::DamagedRange range, const std::shared_ptr<const io::File>& file) {
  const std::lock_guard lock(mutex_);
  const bool noted = log_ && log_->note_damage(std::move(range), file);
  if (noted) mark_damaged();
  return noted;
}

Status Partition::rebuild_indexes_of(Offset base) {
  const std::lock_guard lock(mutex_);
  return log_ ? log_->rebuild_indexes_of(base) : Status();
}

size_t Partition::damaged_ranges() const {
  const std::lock_guard lock(mutex_);
  return log_ ? log_->damaged_ranges() : 0;
}

}  // namespace millrace::partition
