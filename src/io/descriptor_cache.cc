#include "io/descriptor_cache.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "io/posix_file.h"

namespace millrace::io {
namespace {

constexpr size_t kStepsToFindClean = 256;

}  // namespace

void DescriptorCache::add_name(PosixFile& file) {
  names_.emplace(file.location_, &file);
}

void DescriptorCache::erase_name(PosixFile& file) {
  auto [it, last] = names_.equal_range(file.location_);
  while (it != last && it->second != &file) ++it;
  ASSERT(it != last);
  names_.erase(it);
}

std::vector<PosixFile*> DescriptorCache::files_at(const std::string& path, bool below) {
  std::vector<PosixFile*> found;
  const auto [first, last] = names_.equal_range(path);
  for (auto it = first; it != last; ++it) found.push_back(it->second);
  if (!below) return found;
  const std::string prefix = path + "/";
  for (auto it = names_.lower_bound(prefix); it != names_.end() && it->first.starts_with(prefix); ++it)
    found.push_back(it->second);
  return found;
}

void DescriptorCache::opened(PosixFile& file, int descriptor) {
  std::vector<int> closing;
  {
    const std::lock_guard lock(ring_mutex_);
    ASSERT(file.state_.load(std::memory_order_relaxed) == PosixFile::kClosed);
    file.descriptor_ = descriptor;
    file.ring_index_ = ring_.size();
    ring_.push_back(&file);
    file.recently_used_.store(true, std::memory_order_relaxed);
    file.state_.store(1, std::memory_order_release);
    while (ring_.size() > limit_) {
      const int victim = evict_any();
      if (victim < 0) break;  // all are in use
      closing.push_back(victim);
    }
  }
  for (const int victim : closing) ::close(victim);
}

void DescriptorCache::forget(PosixFile& file) {
  const std::lock_guard lock(ring_mutex_);
  if (file.ring_index_ == SIZE_MAX) return;
  ring_[file.ring_index_] = ring_.back();
  ring_[file.ring_index_]->ring_index_ = file.ring_index_;
  ring_.pop_back();
  file.ring_index_ = SIZE_MAX;
}

bool DescriptorCache::close_one() {
  int victim = -1;
  {
    const std::lock_guard lock(ring_mutex_);
    victim = evict_any();
  }
  if (victim >= 0) ::close(victim);
  return victim >= 0;
}

size_t DescriptorCache::open_count() const {
  const std::lock_guard lock(ring_mutex_);
  return ring_.size();
}

int DescriptorCache::evict_any() {
  const int clean = evict(false);
  return clean >= 0 ? clean : evict(true);
}

int DescriptorCache::evict(bool also_unsynced) {
  // Two rounds: the first may only take away second chances. A clean file is not searched for at any price.
  const size_t rounds = 2 * ring_.size();
  const size_t steps = also_unsynced ? rounds : std::min(rounds, kStepsToFindClean);
  for (size_t step = 0; step < steps; ++step) {
    if (hand_ >= ring_.size()) hand_ = 0;
    PosixFile& file = *ring_[hand_];
    if (!also_unsynced && file.unsynced_.load(std::memory_order_relaxed)) {
      ++hand_;
      continue;
    }
    if (file.recently_used_.exchange(false, std::memory_order_relaxed)) {
      ++hand_;
      continue;
    }
    uint32_t unused = 0;
    if (!file.state_.compare_exchange_strong(unused, PosixFile::kClosed, std::memory_order_acq_rel)) {
      ++hand_;
      continue;
    }
    ring_[hand_] = ring_.back();
    ring_[hand_]->ring_index_ = hand_;
    ring_.pop_back();
    file.ring_index_ = SIZE_MAX;
    return std::exchange(file.descriptor_, -1);
  }
  return -1;
}

}  // namespace millrace::io
