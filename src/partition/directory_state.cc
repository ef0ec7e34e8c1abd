#include "partition/directory_state.h"

#include <algorithm>

namespace millrace::partition {
namespace {

// Room above the floor before a full directory takes batches again: a sixteenth of the floor, within bounds.
constexpr uint64_t kResumeMarginMax = uint64_t{64} << 20;

uint64_t resume_above(uint64_t floor) {
  return floor + std::min(floor / 16, kResumeMarginMax);
}

}  // namespace

bool DirectoryState::fail(const Error& why) {
  const std::lock_guard lock(failure_mutex_);
  if (state_.load(std::memory_order_relaxed) == State::failed) return false;
  failure_ = why.message;
  state_.store(State::failed, std::memory_order_release);
  return true;
}

std::string DirectoryState::failure() const {
  const std::lock_guard lock(failure_mutex_);
  return failure_;
}

bool DirectoryState::note_room(uint64_t free_bytes, uint64_t total_bytes, uint64_t floor_bytes) {
  free_bytes_.store(free_bytes, std::memory_order_relaxed);
  total_bytes_.store(total_bytes, std::memory_order_relaxed);
  floor_bytes_.store(floor_bytes, std::memory_order_relaxed);
  State known = state_.load(std::memory_order_relaxed);
  State next = known;
  if (known == State::serving && free_bytes < floor_bytes) next = State::full;
  if (known == State::full && free_bytes >= resume_above(floor_bytes)) next = State::serving;
  // It may have failed meanwhile, and that stays.
  return next != known && state_.compare_exchange_strong(known, next, std::memory_order_relaxed);
}

void DirectoryState::note_no_space() {
  no_space_.fetch_add(1, std::memory_order_relaxed);
  if (floor_bytes_.load(std::memory_order_relaxed) == 0) return;
  State known = State::serving;
  (void)state_.compare_exchange_strong(known, State::full, std::memory_order_relaxed);
}

Status DirectoryState::refusal(Origin origin) const {
  switch (state_.load(std::memory_order_acquire)) {
    case State::serving:
      return {};
    case State::full:
      if (origin == Origin::broker) return {};
      return Error(ErrorCode::kafka_storage_error,
                   "log dir " + path_ + " has " + std::to_string(free_bytes()) +
                       " bytes free, fewer than the floor of " + std::to_string(floor_bytes()) +
                       " (log.dirs.free.bytes.min)");
    case State::failed:
      return Error(ErrorCode::kafka_storage_error, "log dir " + path_ + " is offline: " + failure());
  }
  ASSERT(false);
}

}  // namespace millrace::partition
