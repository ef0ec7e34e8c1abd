// What is known of one data directory: whether it serves, and how much room it has. One shared object per
// directory; the broker's disk watch writes it, every partition in the directory reads it before it appends,
// from any thread and without a lock.
//
//   serving   room above the floor
//   full      below the floor: batches of clients are refused before anything is written; what the broker
//             itself appends (group offsets, metadata) may use the rest, and reads go on
//   failed    a file operation met a failing medium: nothing is written or read here again before a restart
//
// Going from serving to full and back is the watch's; `failed` is for good and may be said by anybody.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/result.h"

namespace millrace::partition {

enum class Origin : uint8_t { client, broker };  // who appends

class DirectoryState {
 public:
  explicit DirectoryState(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }

  bool serving() const { return state_.load(std::memory_order_relaxed) == State::serving; }
  bool full() const { return state_.load(std::memory_order_relaxed) == State::full; }
  bool failed() const { return state_.load(std::memory_order_acquire) == State::failed; }
  /// Ok, or kafka_storage_error with the reason: nothing may be appended.
  Status may_append(Origin origin) const {
    if (serving()) return {};
    return refusal(origin);
  }
  /// Ok, or kafka_storage_error with the reason. For reads, and for whatever is not an append.
  Status usable() const {
    if (!failed()) return {};
    return refusal(Origin::broker);
  }

  /// The medium fails. True the first time; later reasons are dropped.
  bool fail(const Error& why);
  /// Why it failed; empty if it did not.
  std::string failure() const;

  /// What the file system says now. Below `floor_bytes` (0: no floor) the directory becomes full; it serves
  /// again when the room is a little larger than that, so that it does not change with every batch. True if
  /// it changed.
  bool note_room(uint64_t free_bytes, uint64_t total_bytes, uint64_t floor_bytes);
  /// A write found no space: with a floor in force clients are refused from now on, until note_room() knows
  /// better.
  void note_no_space();

  /// Something in it does not fit its checksum.
  void note_damage() { damaged_.store(true, std::memory_order_relaxed); }
  /// Since the start. Nobody needs to look at every partition where this is false.
  bool damaged() const { return damaged_.load(std::memory_order_relaxed); }

  uint64_t free_bytes() const { return free_bytes_.load(std::memory_order_relaxed); }
  uint64_t total_bytes() const { return total_bytes_.load(std::memory_order_relaxed); }
  uint64_t floor_bytes() const { return floor_bytes_.load(std::memory_order_relaxed); }
  /// Writes that found no space, since the start.
  uint64_t no_space_count() const { return no_space_.load(std::memory_order_relaxed); }

 private:
  enum class State : uint8_t { serving, full, failed };
  Status refusal(Origin origin) const;

  const std::string path_;
  std::atomic<State> state_{State::serving};
  std::atomic<uint64_t> free_bytes_{0};
  std::atomic<uint64_t> total_bytes_{0};
  std::atomic<uint64_t> floor_bytes_{0};
  std::atomic<uint64_t> no_space_{0};
  std::atomic<bool> damaged_ = false;
  mutable std::mutex failure_mutex_;
  std::string failure_;
};

}  // namespace millrace::partition
