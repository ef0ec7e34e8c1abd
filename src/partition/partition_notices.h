// Who is to be told of a change of one partition: gathered under its lock, told outside it.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "partition/partition.h"

namespace millrace::partition {

struct Partition::Notices {
  std::vector<CommitWaits::Fired> commits;
  std::vector<DataWatches::Watch> data;
  std::optional<Error> storage_failure;
  std::shared_ptr<DataWaiter> fetcher;  // owes the leader a durable end
  uint64_t fetcher_tag = 0;
};

// Who waits for the log to be opened, or for another to lead. Callers of one loop are told in the order in
// which they came, and nobody of that loop overtakes them: what one connection sends is appended in its
// order.
struct Partition::Waking {
  struct Waiter {
    io::Loop* loop = nullptr;
    std::function<void(const Status&)> then;
  };
  std::deque<Waiter> waiters;
  std::optional<Status> outcome;  // nullopt: being opened, or held
  bool held = false;

  std::deque<Waiter>::iterator first_of(const io::Loop& loop) {
    return std::find_if(waiters.begin(), waiters.end(), [&](const Waiter& w) { return w.loop == &loop; });
  }
};

}  // namespace millrace::partition
