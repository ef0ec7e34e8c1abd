// What waits at a partition's door, as data: keyed by what it waits for, told on the waiter's own loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "io/loop.h"

namespace millrace::partition {

/// A produce request that waits for commits. `tag` is whatever it gave when it began to wait.
class CommitWaiter {
 public:
  virtual ~CommitWaiter() = default;
  virtual io::Loop& loop() = 0;
  /// On loop(): none when everything up to the awaited offset is committed, otherwise what became of it.
  virtual void on_commit(uint64_t tag, ErrorCode outcome) = 0;
};

/// A fetch request that waits for data. One notice per arming: re-armed by looking again.
class DataWaiter {
 public:
  virtual ~DataWaiter() = default;
  virtual io::Loop& loop() = 0;
  virtual void on_data(uint64_t tag) = 0;
};

/// Commit waits in offset order. Guarded by the partition's lock; firing happens outside it.
class CommitWaits {
 public:
  struct Fired {
    std::shared_ptr<CommitWaiter> waiter;
    uint64_t tag = 0;
    ErrorCode outcome = ErrorCode::none;
  };

  void add(Offset committed_at, std::shared_ptr<CommitWaiter> waiter, uint64_t tag) {
    waits_.emplace(committed_at, Fired{std::move(waiter), tag, ErrorCode::none});
  }
  /// Moves out every wait for `high_watermark` or less.
  void take_up_to(Offset high_watermark, std::vector<Fired>& out) {
    auto end = waits_.upper_bound(high_watermark);
    for (auto it = waits_.begin(); it != end; ++it) out.push_back(std::move(it->second));
    waits_.erase(waits_.begin(), end);
  }
  /// The same, but they go on to wait in `next`.
  void move_up_to(Offset reached, CommitWaits& next) {
    const auto end = waits_.upper_bound(reached);
    next.waits_.insert(waits_.begin(), end);
    waits_.erase(waits_.begin(), end);
  }
  void take_all(ErrorCode outcome, std::vector<Fired>& out) {
    for (auto& [offset, fired] : waits_) {
      fired.outcome = outcome;
      out.push_back(std::move(fired));
    }
    waits_.clear();
  }
  bool empty() const { return waits_.empty(); }
  size_t size() const { return waits_.size(); }

 private:
  std::multimap<Offset, Fired> waits_;
};

/// Fetches that watch a partition. Guarded by the partition's lock.
class DataWatches {
 public:
  using Id = uint64_t;
  struct Watch {
    std::shared_ptr<DataWaiter> waiter;
    uint64_t tag = 0;
    bool armed = true;
  };

  /// Ids are even, or odd.
  explicit DataWatches(bool odd = false) : last_id_(odd ? 1 : 0) {}

  Id add(std::shared_ptr<DataWaiter> waiter, uint64_t tag) {
    last_id_ += 2;
    watches_.emplace(last_id_, Watch{std::move(waiter), tag, true});
    return last_id_;
  }
  void rearm(Id id) {
    if (auto it = watches_.find(id); it != watches_.end()) it->second.armed = true;
  }
  void remove(Id id) { watches_.erase(id); }
  /// Those to be told now; each is disarmed until it looks again.
  void take_armed(std::vector<Watch>& out) {
    for (auto& [id, w] : watches_) {
      if (!w.armed) continue;
      w.armed = false;
      out.push_back(w);
    }
  }
  size_t size() const { return watches_.size(); }
  bool empty() const { return watches_.empty(); }

 private:
  std::map<Id, Watch> watches_;
  Id last_id_;
};

}  // namespace millrace::partition
