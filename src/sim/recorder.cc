#include "sim/recorder.h"

#include <algorithm>

namespace millrace::sim {

int64_t Recorder::stamp() {
  last_stamp_ = std::max(last_stamp_ + 1, scheduler_.now_us());
  return last_stamp_;
}

Recorder::Id Recorder::invoke(check::Operation o, std::vector<check::Item> items) {
  o.invoked = stamp();
  all_.push_back({o, std::move(items)});
  return all_.size() - 1;
}

void Recorder::finish(Id id, check::Outcome outcome) {
  check::Operation& o = all_[id].operation;
  o.outcome = outcome;
  o.returned = stamp();
  if (o.kind == check::Kind::send && outcome == check::Outcome::ok) acknowledged_ += all_[id].items.size();
}

void Recorder::finish(Id id, check::Outcome outcome, std::vector<check::Item> items) {
  all_[id].items = std::move(items);
  finish(id, outcome);
}

check::History Recorder::take(bool final_reads_complete) {
  // Invocations were stamped in order.
  for (Noted& n : all_) history_.add(n.operation, n.items);
  all_.clear();
  history_.final_reads_complete = final_reads_complete;
  return std::move(history_);
}

}  // namespace millrace::sim
