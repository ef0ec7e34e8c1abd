// The rules about more than single records: transactions, groups, sums and ends.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "check/evidence.h"

namespace millrace::check {
namespace {

/// Strongly connected components (Tarjan), without recursion; only those of more than one node.
std::vector<std::vector<uint32_t>> cycles_of(const std::vector<std::vector<uint32_t>>& edges) {
  constexpr uint32_t kUnseen = UINT32_MAX;
  const auto count = static_cast<uint32_t>(edges.size());
  std::vector<uint32_t> index(count, kUnseen);
  std::vector<uint32_t> low(count, 0);
  std::vector<bool> on_stack(count, false);
  std::vector<uint32_t> stack;
  struct Frame {
    uint32_t node;
    size_t next;
  };
  std::vector<Frame> frames;
  std::vector<std::vector<uint32_t>> found;
  uint32_t counter = 0;
  const auto enter = [&](uint32_t node) {
    index[node] = low[node] = counter++;
    stack.push_back(node);
    on_stack[node] = true;
    frames.push_back({node, 0});
  };
  for (uint32_t root = 0; root < count; ++root) {
    if (index[root] != kUnseen) continue;
    enter(root);
    while (!frames.empty()) {
      const uint32_t node = frames.back().node;
      if (frames.back().next < edges[node].size()) {
        const uint32_t to = edges[node][frames.back().next++];
        if (index[to] == kUnseen) {
          enter(to);
        } else if (on_stack[to]) {
          low[node] = std::min(low[node], index[to]);
        }
        continue;
      }
      frames.pop_back();
      if (!frames.empty()) low[frames.back().node] = std::min(low[frames.back().node], low[node]);
      if (low[node] != index[node]) continue;
      std::vector<uint32_t> component;
      uint32_t popped = kUnseen;
      do {
        popped = stack.back();
        stack.pop_back();
        on_stack[popped] = false;
        component.push_back(popped);
      } while (popped != node);
      if (component.size() > 1) found.push_back(std::move(component));
    }
  }
  return found;
}

}  // namespace

void check_circular_reads(const Evidence& e, Findings& out) {
  std::vector<int64_t> numbers;  // of committed transactions, ascending
  for (const auto& [txn, facts] : e.transactions()) {
    if (facts.commit == Fate::certain) numbers.push_back(txn);
  }
  const auto node_of = [&numbers](int64_t txn) -> uint32_t {
    const auto at = std::lower_bound(numbers.begin(), numbers.end(), txn);
    return at == numbers.end() || *at != txn ? kNoOperation : static_cast<uint32_t>(at - numbers.begin());
  };
  std::vector<std::vector<uint32_t>> edges(numbers.size());
  for (const int64_t reader : numbers) {
    const uint32_t to = node_of(reader);
    for (const uint32_t n : e.transactions().at(reader).polls) {
      const Operation& o = e.operation(n);
      if (o.outcome != Outcome::ok || o.isolation != Isolation::read_committed) continue;
      for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
        const ValueFacts* v = e.find(i->value);
        if (v == nullptr || v->txn == kUnknown || v->txn == reader) continue;
        const uint32_t from = node_of(v->txn);
        if (from != kNoOperation) edges[from].push_back(to);
      }
    }
  }
  for (const std::vector<uint32_t>& cycle : cycles_of(edges)) {
    out.add(Rule::circular_reads, [&] {
      Violation v;
      v.what = "transactions read each other's writes in a circle:";
      for (const uint32_t n : cycle) {
        v.what += fmt::format(" {}", numbers[n]);
        const TxnFacts& t = e.transactions().at(numbers[n]);
        v.operations.insert(v.operations.end(), t.polls.begin(), t.polls.end());
        v.operations.insert(v.operations.end(), t.sends.begin(), t.sends.end());
        if (v.operations.size() > 50) break;
      }
      return v;
    });
  }
}

void check_torn_transactions(const Evidence& e, Findings& out) {
  const bool complete = e.history().final_reads_complete;
  for (const auto& [txn, facts] : e.transactions()) {
    if (facts.commit != Fate::certain) continue;
    const ValueFacts* seen = nullptr;
    const ValueFacts* missing = nullptr;
    for (const uint32_t n : facts.sends) {
      const Operation& o = e.operation(n);
      if (o.outcome != Outcome::ok) continue;
      for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
        const ValueFacts* v = e.find(i->value);
        if (v == nullptr || e.history().compacted(v->partition)) continue;
        if (v->read_committed_by != kNoOperation) {
          seen = v;
        } else if (complete ||
                   (v->offset != kUnknown && v->offset <= e.partition(v->partition).highest_read_committed)) {
          missing = v;
        }
      }
    }
    if (seen == nullptr || missing == nullptr) continue;
    out.add(Rule::torn_transaction, [&, number = txn] {
      return Violation{{},
                       fmt::format("of transaction {} value {} was read at {} offset {}, but value {} at {} "
                                   "offset {} was passed and not seen",
                                   number, seen->value, e.name_of(seen->partition), seen->offset,
                                   missing->value, e.name_of(missing->partition), missing->offset),
                       missing->partition,
                       missing->offset,
                       {seen->sent_by, missing->sent_by, seen->read_committed_by}};
    });
  }
}

void check_group_offsets(const Evidence& e, Findings& out) {
  struct Write {
    int64_t invoked, returned;  // returned: INT64_MAX while it may still happen
    int64_t offset;
    uint32_t operation;
    bool certain;
  };
  struct Read {
    int64_t invoked, returned, offset;
    uint32_t operation;
  };
  struct Register {
    std::vector<Write> writes;
    std::vector<Read> reads;
  };
  std::map<std::pair<int32_t, uint32_t>, Register> registers;  // group, partition
  const auto& ops = e.history().operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::commit && o.kind != Kind::fetch_commit) continue;
    Fate fate = o.outcome == Outcome::ok ? Fate::certain : Fate::unknown;
    if (o.outcome == Outcome::fail) continue;
    if (o.kind == Kind::fetch_commit && fate != Fate::certain) continue;
    int64_t returned = o.returned;
    if (o.kind == Kind::commit && o.txn != kUnknown) {
      // Takes effect with its transaction.
      const Fate commit = e.committed(o.txn);
      if (commit == Fate::impossible) continue;
      if (commit == Fate::unknown) fate = Fate::unknown;
      const auto t = e.transactions().find(o.txn);
      if (t != e.transactions().end() && t->second.end_operation != kNoOperation) {
        const Operation& end = e.operation(t->second.end_operation);
        returned = end.outcome == Outcome::ok ? end.returned : INT64_MAX;
        if (end.outcome != Outcome::ok) fate = Fate::unknown;
      }
    }
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      Register& r = registers[{o.group, i->partition}];
      if (o.kind == Kind::commit) {
        const bool certain = fate == Fate::certain;
        r.writes.push_back({o.invoked, certain ? returned : INT64_MAX, i->offset, n, certain});
      } else {
        r.reads.push_back({o.invoked, o.returned, i->offset, n});
      }
    }
  }
  for (auto& [key, r] : registers) {
    // By the end: whatever returned before a read began, and of those the one that began last.
    std::vector<Write> by_return = r.writes;
    std::sort(by_return.begin(), by_return.end(),
              [](const Write& a, const Write& b) { return a.returned < b.returned; });
    std::sort(r.reads.begin(), r.reads.end(),
              [](const Read& a, const Read& b) { return a.invoked < b.invoked; });
    std::multimap<int64_t, const Write*> by_offset;
    for (const Write& w : r.writes) by_offset.emplace(w.offset, &w);
    size_t next = 0;
    const Write* newest = nullptr;
    for (const Read& read : r.reads) {
      for (; next < by_return.size() && by_return[next].returned < read.invoked; ++next) {
        const Write& w = by_return[next];
        if (w.certain && (newest == nullptr || w.invoked > newest->invoked)) newest = &w;
      }
      if (newest == nullptr && read.offset == kUnknown) continue;
      bool allowed = false;
      const auto [first, last] = by_offset.equal_range(read.offset);
      for (auto w = first; w != last && !allowed; ++w) {
        allowed = w->second->invoked <= read.returned &&
                  (newest == nullptr || w->second->returned >= newest->invoked);
      }
      if (allowed) continue;
      out.add(Rule::group_offsets, [&, group = key.first, partition = key.second] {
        Violation v;
        v.partition = partition;
        v.offset = read.offset;
        const std::string& name = e.history().groups.name(static_cast<uint32_t>(group));
        if (newest == nullptr) {
          v.what = fmt::format("group {}: {} had offset {}, which nobody committed", name,
                               e.name_of(partition), read.offset);
          v.operations = {read.operation};
        } else {
          v.what = fmt::format("group {}: {} had offset {} although {} was committed before", name,
                               e.name_of(partition), read.offset, newest->offset);
          v.operations = {newest->operation, read.operation};
        }
        return v;
      });
    }
  }
}

void check_ownership(const Evidence& e, Findings& out) {
  struct Owner {
    uint32_t client, operation;
  };
  std::map<std::tuple<int32_t, int64_t, uint32_t>, Owner> owners;         // group, generation, partition
  std::map<int32_t, std::vector<std::pair<int64_t, uint32_t>>> assigned;  // group: time, operation
  const auto& ops = e.history().operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::assign || o.outcome != Outcome::ok || o.generation == kUnknown) continue;
    assigned[o.group].emplace_back(o.returned, n);
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      const auto [at, first] = owners.try_emplace({o.group, o.generation, i->partition}, Owner{o.client, n});
      if (first || at->second.client == o.client) continue;
      out.add(Rule::group_offsets, [&] {
        return Violation{
            {},
            fmt::format("group {}: {} and {} both own {} in generation {}",
                        e.history().groups.name(static_cast<uint32_t>(o.group)),
                        e.history().clients.name(at->second.client), e.history().clients.name(o.client),
                        e.name_of(i->partition), o.generation),
            i->partition,
            kUnknown,
            {at->second.operation, n}};
      });
    }
  }
  // Commits of members that belong to the past.
  for (auto& [group, list] : assigned) {
    std::sort(list.begin(), list.end());
    std::vector<std::pair<int64_t, uint32_t>> commits;
    for (uint32_t n = 0; n < ops.size(); ++n) {
      const Operation& o = ops[n];
      if (o.kind == Kind::commit && o.outcome == Outcome::ok && o.group == group &&
          o.generation != kUnknown) {
        commits.emplace_back(o.invoked, n);
      }
    }
    std::sort(commits.begin(), commits.end());
    size_t next = 0;
    uint32_t newest = kNoOperation;
    for (const auto& [invoked, n] : commits) {
      for (; next < list.size() && list[next].first < invoked; ++next) {
        const uint32_t a = list[next].second;
        if (newest == kNoOperation || e.operation(a).generation > e.operation(newest).generation) newest = a;
      }
      if (newest == kNoOperation || e.operation(n).generation >= e.operation(newest).generation) continue;
      out.add(Rule::group_offsets, [&, number = n, name = group] {
        return Violation{{},
                         fmt::format("group {}: {} committed in generation {} after generation {} had begun",
                                     e.history().groups.name(static_cast<uint32_t>(name)),
                                     e.history().clients.name(e.operation(number).client),
                                     e.operation(number).generation, e.operation(newest).generation),
                         UINT32_MAX,
                         kUnknown,
                         {newest, number}};
      });
    }
  }
}

void check_sums(const Evidence& e, Findings& out) {
  std::map<uint32_t, std::pair<Value, uint32_t>> sums;  // set of accounts: sum, operation
  const auto& ops = e.history().operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::state || o.outcome != Outcome::ok) continue;
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      const auto [at, first] = sums.try_emplace(i->partition, i->value, n);
      if (first || at->second.first == i->value) continue;
      out.add(Rule::sum_changed, [&] {
        return Violation{
            {},
            fmt::format("{}: the sum was {} and is {}", e.name_of(i->partition), at->second.first, i->value),
            i->partition,
            kUnknown,
            {at->second.second, n}};
      });
    }
  }
}

// A leader that is deposed and does not know it yet may tell an old end: Kafka promises no more. Ends that
// came with the epoch of their leader are therefore held against what was known of that epoch and of earlier
// ones alone: ends told in them, and records of earlier epochs, which the leader has had from its beginning.
void check_ends(const Evidence& e, Findings& out) {
  struct Known {
    int64_t returned;
    int64_t end;  // nothing less may be told from now on
    uint32_t partition, operation;
    int32_t epoch;        // -1: unknown
    bool told;            // by a leader as its end
    bool committed_only;  // a last stable offset: says nothing less about both kinds of end
  };
  const auto epoch_at = [&e](uint32_t partition, int64_t offset) {
    const auto before = [](const Sighting& s, const std::pair<uint32_t, int64_t>& place) {
      return std::pair(s.partition, s.offset) < place;
    };
    const std::vector<Sighting>& all = e.sightings();
    auto s = std::lower_bound(all.begin(), all.end(), std::pair(partition, offset), before);
    for (; s != all.end() && s->partition == partition && s->offset == offset; ++s) {
      if (s->epoch >= 0) return s->epoch;
    }
    return -1;
  };
  std::vector<Known> known;
  const auto& ops = e.history().operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.outcome != Outcome::ok) continue;
    const bool end = o.kind == Kind::list_end;
    if (!end && o.kind != Kind::poll && o.kind != Kind::send) continue;
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      if (i->offset < 0) continue;
      const int32_t epoch = end || i->epoch >= 0 ? i->epoch : epoch_at(i->partition, i->offset);
      known.push_back({o.returned, end ? i->offset : i->offset + 1, i->partition, n, epoch, end,
                       o.kind != Kind::send && o.isolation == Isolation::read_committed});
    }
  }
  std::sort(known.begin(), known.end(),
            [](const Known& a, const Known& b) { return a.returned < b.returned; });
  struct Highest {
    const Known* of_all = nullptr;
    std::map<int32_t, const Known*> told;     // by epoch
    std::map<int32_t, const Known*> records;  // by epoch

    void note(const Known& k) {
      const auto raise = [&k](const Known*& to) {
        if (to == nullptr || k.end > to->end) to = &k;
      };
      raise(of_all);
      if (k.epoch >= 0) raise((k.told ? told : records)[k.epoch]);
    }
    const Known* least_for(int32_t epoch) const {
      if (epoch < 0) return of_all;
      const Known* out = nullptr;
      for (const auto* kind : {&told, &records}) {
        for (const auto& [of, k] : *kind) {
          if (of > epoch || (of == epoch && !k->told)) break;
          if (out == nullptr || k->end > out->end) out = k;
        }
      }
      return out;
    }
  };
  std::vector<Highest> highest(e.history().partitions.size());            // of high watermarks
  std::vector<Highest> highest_committed(e.history().partitions.size());  // of last stable offsets
  size_t next = 0;
  for (uint32_t n = 0; n < ops.size(); ++n) {  // by invocation
    const Operation& o = ops[n];
    if (o.kind != Kind::list_end || o.outcome != Outcome::ok) continue;
    for (; next < known.size() && known[next].returned < o.invoked; ++next) {
      const Known& k = known[next];
      highest[k.partition].note(k);
      if (k.committed_only) highest_committed[k.partition].note(k);
    }
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      const bool committed = o.isolation == Isolation::read_committed;
      const Known* least = (committed ? highest_committed : highest)[i->partition].least_for(i->epoch);
      if (i->offset < 0 || least == nullptr || i->offset >= least->end) continue;
      out.add(Rule::end_offset, [&] {
        return Violation{{},
                         fmt::format("{}: the end was said to be {} after {} had been known",
                                     e.name_of(i->partition), i->offset, least->end),
                         i->partition,
                         i->offset,
                         {least->operation, n}};
      });
    }
  }
}

}  // namespace millrace::check
