#include "raft/entry_log.h"

#include <algorithm>

namespace millrace::raft {

EntryLog::EntryLog(SnapshotMeta base) : base_index_(base.index), base_term_(base.term) {
  memberships_.emplace_back(base.index, std::move(base.membership));
}

std::optional<Term> EntryLog::term_at(LogIndex index) const {
  if (index == base_index_) return base_term_;
  if (index < base_index_ || index > last_index()) return std::nullopt;
  return at(index).term;
}

const Entry& EntryLog::at(LogIndex index) const {
  ASSERT(index > base_index_ && index <= last_index());
  return entries_[static_cast<size_t>(index - base_index_ - 1)];
}

void EntryLog::append(Entry entry) {
  ASSERT(entry.index == last_index() + 1);
  ASSERT(entry.term >= last_term());
  if (entry.kind == EntryKind::membership) {
    memberships_.emplace_back(entry.index, decode_membership(entry.payload.view()).value());
  }
  entries_.push_back(std::move(entry));
}

void EntryLog::truncate_from(LogIndex index) {
  ASSERT(index > base_index_);
  while (last_index() >= index) entries_.pop_back();
  while (memberships_.back().first >= index) memberships_.pop_back();
  ASSERT(!memberships_.empty());
}

void EntryLog::compact_to(LogIndex index) {
  if (index <= base_index_) return;
  const std::optional<Term> term = term_at(index);
  ASSERT(term.has_value());
  while (memberships_.size() > 1 && memberships_[1].first <= index) memberships_.erase(memberships_.begin());
  while (base_index_ < index) {
    entries_.pop_front();
    ++base_index_;
  }
  base_term_ = *term;
}

std::vector<Entry> EntryLog::slice(LogIndex from, size_t bytes_max) const {
  ASSERT(from > base_index_);
  std::vector<Entry> out;
  size_t bytes = 0;
  for (LogIndex i = from; i <= last_index(); ++i) {
    const Entry& e = at(i);
    bytes += e.payload.size();
    if (!out.empty() && bytes > bytes_max) break;
    out.push_back(e);
  }
  return out;
}

LogIndex EntryLog::newest_at_or_below(LogIndex upto, Term term) const {
  LogIndex i = std::min(upto, last_index());
  while (i > base_index_ && at(i).term > term) i = i - 1;
  return std::max(i, base_index_);
}

const Membership& EntryLog::membership_at(LogIndex index) const {
  const Membership* found = &memberships_.front().second;
  for (const auto& [at, membership] : memberships_) {
    if (at <= index) found = &membership;
  }
  return *found;
}

}  // namespace millrace::raft
