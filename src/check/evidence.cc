#include "check/evidence.h"

#include <algorithm>
#include <tuple>

namespace millrace::check {

Evidence::Evidence(const History& history) : history_(history) {
  partitions_.resize(history.partitions.size());
  gather_values();
  gather_reads();
  gather_transactions();
  gather_partitions();
}

void Evidence::gather_values() {
  const auto& ops = history_.operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::send) continue;
    for (const Item* i = history_.begin_of(o); i != history_.end_of(o); ++i) {
      if (i->value == kUnknown) continue;
      ValueFacts v;
      v.value = i->value;
      v.partition = i->partition;
      v.txn = o.txn;
      v.sent_by = n;
      v.key = i->key;
      v.outcome = o.outcome;
      v.tombstone = i->tombstone;
      values_.push_back(v);
      if (o.outcome == Outcome::ok && i->offset >= 0) {
        sightings_.push_back({i->offset, i->value, i->partition, n, i->epoch});
      }
    }
  }
  // A value is used once; of a maker that breaks this the first send counts.
  const auto by_value = [](const ValueFacts& a, const ValueFacts& b) { return a.value < b.value; };
  std::stable_sort(values_.begin(), values_.end(), by_value);
  const auto same = [](const ValueFacts& a, const ValueFacts& b) { return a.value == b.value; };
  values_.erase(std::unique(values_.begin(), values_.end(), same), values_.end());
}

const ValueFacts* Evidence::find(Value value) const {
  const auto at = std::lower_bound(values_.begin(), values_.end(), value,
                                   [](const ValueFacts& v, Value x) { return v.value < x; });
  return at != values_.end() && at->value == value ? &*at : nullptr;
}

void Evidence::gather_reads() {
  const auto& ops = history_.operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::poll || o.outcome != Outcome::ok) continue;
    const bool committed = o.isolation == Isolation::read_committed;
    for (const Item* i = history_.begin_of(o); i != history_.end_of(o); ++i) {
      if (i->offset < 0) continue;
      PartitionEvidence& p = partitions_[i->partition];
      p.highest_read = std::max(p.highest_read, i->offset);
      if (committed) p.highest_read_committed = std::max(p.highest_read_committed, i->offset);
      sightings_.push_back({i->offset, i->value, i->partition, n, i->epoch});
      auto* v = const_cast<ValueFacts*>(find(i->value));
      if (v == nullptr) continue;
      if (v->read_by == kNoOperation) v->read_by = n;
      if (committed && v->read_committed_by == kNoOperation) v->read_committed_by = n;
    }
  }
  for (const Sighting& s : sightings_) {
    auto* v = const_cast<ValueFacts*>(find(s.value));
    if (v == nullptr) continue;
    if (v->offset == kUnknown) {
      v->offset = s.offset;
      v->partition = s.partition;
    } else if (v->offset != s.offset || v->partition != s.partition) {
      v->several_places = true;
    }
  }
  std::sort(sightings_.begin(), sightings_.end(), [](const Sighting& a, const Sighting& b) {
    return std::tie(a.partition, a.offset, a.value, a.operation) <
           std::tie(b.partition, b.offset, b.value, b.operation);
  });
}

void Evidence::gather_transactions() {
  const auto& ops = history_.operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.txn == kUnknown) continue;
    TxnFacts& t = txns_[o.txn];
    switch (o.kind) {
      case Kind::send:
        t.sends.push_back(n);
        break;
      case Kind::poll:
        t.polls.push_back(n);
        break;
      case Kind::txn_commit:
        if (t.commit == Fate::certain) break;
        if (o.outcome == Outcome::ok) t.commit = Fate::certain;
        if (o.outcome == Outcome::info) t.commit = Fate::unknown;
        if (o.outcome != Outcome::fail) t.end_operation = n;
        break;
      case Kind::txn_abort:
        // An abort that went through after a commit of unknown fate decides it.
        if (o.outcome == Outcome::ok && t.commit != Fate::certain) t.commit = Fate::impossible;
        break;
      default:
        break;
    }
  }
  // A part of it was read by those who read what is committed only: then all of it is.
  for (const ValueFacts& v : values_) {
    if (v.txn == kUnknown || v.read_committed_by == kNoOperation) continue;
    TxnFacts& t = txns_[v.txn];
    if (t.commit == Fate::unknown) t.commit = Fate::certain;
  }
}

Fate Evidence::committed(int64_t txn) const {
  if (txn == kUnknown) return Fate::certain;
  const auto at = txns_.find(txn);
  return at == txns_.end() ? Fate::unknown : at->second.commit;
}

void Evidence::gather_partitions() {
  for (const ValueFacts& v : values_) {
    const bool acked = v.outcome == Outcome::ok && committed(v.txn) == Fate::certain;
    if (acked && v.offset != kUnknown && !v.several_places) {
      partitions_[v.partition].must_be_visible.push_back(v.offset);
    }
  }
  for (PartitionEvidence& p : partitions_) std::sort(p.must_be_visible.begin(), p.must_be_visible.end());
}

}  // namespace millrace::check
