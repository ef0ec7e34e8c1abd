// The entries in memory, from the last compaction on, and the memberships among them.
#pragma once

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "raft/types.h"

namespace millrace::raft {

class EntryLog {
 public:
  /// Empty, right after `base`.
  explicit EntryLog(SnapshotMeta base);

  /// Everything up to here is in a snapshot and may be unknown here.
  LogIndex base_index() const { return base_index_; }
  LogIndex last_index() const { return base_index_ + static_cast<int64_t>(entries_.size()); }
  Term last_term() const { return entries_.empty() ? base_term_ : entries_.back().term; }
  /// nullopt before the base and after the end.
  std::optional<Term> term_at(LogIndex index) const;
  const Entry& at(LogIndex index) const;

  /// The next entry in order; a membership entry must decode (asserted: checked on the way in).
  void append(Entry entry);
  void truncate_from(LogIndex index);
  /// Forgets entries up to `index`.
  void compact_to(LogIndex index);

  /// Entries from `from` on: at least one if there is one, then as many as fit in `bytes_max`.
  std::vector<Entry> slice(LogIndex from, size_t bytes_max) const;
  /// The newest index <= `upto` whose term is <= `term`; the base if there is none.
  LogIndex newest_at_or_below(LogIndex upto, Term term) const;

  /// In force: the newest in the log, committed or not (thesis 4.1).
  const Membership& membership() const { return memberships_.back().second; }
  LogIndex membership_index() const { return memberships_.back().first; }
  /// As of `index`, which is not before the base.
  const Membership& membership_at(LogIndex index) const;

 private:
  LogIndex base_index_;
  Term base_term_;
  std::deque<Entry> entries_;
  std::vector<std::pair<LogIndex, Membership>> memberships_;  // never empty; the first is the base's
};

}  // namespace millrace::raft
