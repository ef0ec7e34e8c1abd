// The rules about single records: where they are, whether they are there, who may see them.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "check/evidence.h"

namespace millrace::check {

void check_offsets(const Evidence& e, Findings& out) {
  const std::vector<Sighting>& all = e.sightings();
  size_t first = 0;  // of those that agree about an offset
  for (size_t n = 1; n < all.size(); ++n) {
    const Sighting& a = all[first];
    const Sighting& b = all[n];
    const bool same_place = a.partition == b.partition && a.offset == b.offset;
    if (same_place && a.value == b.value) continue;
    first = n;
    if (same_place) {
      out.add(Rule::inconsistent_offset, [&] {
        return Violation{
            {},
            fmt::format("{} offset {} holds {} and {}", e.name_of(a.partition), a.offset, a.value, b.value),
            a.partition,
            a.offset,
            {a.operation, b.operation}};
      });
    }
  }
  // Epochs along the log; several sightings of one offset may differ only if the rule above is broken too.
  const Sighting* last = nullptr;
  for (const Sighting& s : all) {
    if (s.epoch < 0) continue;
    if (last != nullptr && last->partition == s.partition && s.epoch < last->epoch) {
      out.add(Rule::end_offset, [&] {
        return Violation{{},
                         fmt::format("{}: leader epoch {} at offset {}, but {} at offset {} before it",
                                     e.name_of(s.partition), s.epoch, s.offset, last->epoch, last->offset),
                         s.partition,
                         s.offset,
                         {last->operation, s.operation}};
      });
    }
    last = &s;
  }
}

void check_duplicates(const Evidence& e, Findings& out) {
  std::map<Value, const Sighting*> told;
  for (const Sighting& s : e.sightings()) {
    const ValueFacts* v = e.find(s.value);
    if (v == nullptr || !v->several_places || !e.operation(v->sent_by).idempotent) continue;
    const auto [at, first] = told.try_emplace(s.value, &s);
    if (first || at->second == nullptr) continue;
    const Sighting& a = *at->second;
    if (a.partition == s.partition && a.offset == s.offset) continue;
    at->second = nullptr;
    out.add(Rule::duplicate, [&] {
      return Violation{
          {},
          fmt::format("value {} of an idempotent producer is at {} offset {} and at {} offset {}", s.value,
                      e.name_of(a.partition), a.offset, e.name_of(s.partition), s.offset),
          s.partition,
          s.offset,
          {v->sent_by, a.operation, s.operation}};
    });
  }
}

void check_lost_writes(const Evidence& e, Findings& out) {
  const bool complete = e.history().final_reads_complete;
  for (const ValueFacts& v : e.values()) {
    if (v.outcome != Outcome::ok || v.read_by != kNoOperation) continue;
    if (e.committed(v.txn) != Fate::certain || e.history().compacted(v.partition)) continue;
    const PartitionEvidence& p = e.partition(v.partition);
    // What a transaction wrote is passed only by those who read what is committed, or by everybody.
    const int64_t highest = p.highest_read;
    const bool passed = v.offset != kUnknown && v.offset <= highest;
    if (!passed && !complete) continue;
    out.add(Rule::lost_write, [&] {
      const std::string where =
          v.offset == kUnknown ? std::string("an unknown offset") : fmt::format("offset {}", v.offset);
      return Violation{{},
                       passed
                           ? fmt::format("value {} was acknowledged at {} {} and never read, though readers "
                                         "came to {}",
                                         v.value, e.name_of(v.partition), where, highest)
                           : fmt::format("value {} was acknowledged at {} {} and never seen by the final "
                                         "reads, which end at {}",
                                         v.value, e.name_of(v.partition), where, highest),
                       v.partition,
                       v.offset,
                       {v.sent_by}};
    });
  }
}

void check_aborted_reads(const Evidence& e, Findings& out) {
  for (const ValueFacts& v : e.values()) {
    const auto tell = [&](uint32_t reader, std::string_view why) {
      out.add(Rule::aborted_read, [&] {
        return Violation{
            {},
            fmt::format("value {} was read at {} offset {} by {}, but {}", v.value, e.name_of(v.partition),
                        v.offset, e.history().clients.name(e.operation(reader).client), why),
            v.partition,
            v.offset,
            {v.sent_by, reader}};
      });
    };
    if (v.outcome == Outcome::fail && v.read_by != kNoOperation) {
      tell(v.read_by, "its send failed");
      continue;
    }
    if (v.txn == kUnknown || v.read_committed_by == kNoOperation) continue;
    if (e.committed(v.txn) == Fate::impossible) {
      tell(v.read_committed_by, "its transaction did not commit");
      continue;
    }
    const uint32_t end = e.transactions().at(v.txn).end_operation;
    if (end != kNoOperation && e.operation(v.read_committed_by).returned < e.operation(end).invoked) {
      tell(v.read_committed_by, "its transaction had not been committed yet");
    }
  }
  // A transaction that sees its own writes.
  for (const auto& [txn, facts] : e.transactions()) {
    for (const uint32_t n : facts.polls) {
      const Operation& o = e.operation(n);
      if (o.isolation != Isolation::read_committed) continue;
      for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
        const ValueFacts* v = e.find(i->value);
        if (v == nullptr || v->txn != txn) continue;
        out.add(Rule::aborted_read, [&, number = txn] {
          return Violation{{},
                           fmt::format("transaction {} polled its own uncommitted value {} at {} offset {}",
                                       number, i->value, e.name_of(i->partition), i->offset),
                           i->partition,
                           i->offset,
                           {v->sent_by, n}};
        });
      }
    }
  }
}

void check_poll_order(const Evidence& e, Findings& out) {
  struct Position {
    int64_t offset = kUnknown;
    int64_t txn = kUnknown;
    uint32_t operation = kNoOperation;
  };
  std::map<uint64_t, Position> positions;  // client, partition
  const auto& ops = e.history().operations;
  for (uint32_t n = 0; n < ops.size(); ++n) {
    const Operation& o = ops[n];
    if (o.kind != Kind::poll) continue;
    if (o.position_reset) {
      // May jump, unless in the middle of a transaction.
      const uint64_t first = uint64_t{o.client} << 32;
      for (auto p = positions.lower_bound(first); p != positions.end() && p->first >> 32 == o.client; ++p) {
        if (o.txn == kUnknown || p->second.txn != o.txn) p->second.offset = kUnknown;
      }
    }
    if (o.outcome != Outcome::ok) continue;
    for (const Item* i = e.history().begin_of(o); i != e.history().end_of(o); ++i) {
      if (i->offset < 0) continue;
      Position& p = positions[(uint64_t{o.client} << 32) | i->partition];
      const Position before = p;
      p = {i->offset, o.txn, n};
      if (before.offset == kUnknown) continue;
      const auto tell = [&](std::string how) {
        out.add(Rule::poll_order, [&] {
          return Violation{{},
                           fmt::format("{} read {} offset {} after {}{}", e.history().clients.name(o.client),
                                       e.name_of(i->partition), i->offset, before.offset, how),
                           i->partition,
                           i->offset,
                           {before.operation, n}};
        });
      };
      if (i->offset <= before.offset) {
        tell(": it went back");
        continue;
      }
      if (i->offset == before.offset + 1 || e.history().compacted(i->partition)) continue;
      const std::vector<int64_t>& must = e.partition(i->partition).must_be_visible;
      const auto skipped = std::upper_bound(must.begin(), must.end(), before.offset);
      if (skipped != must.end() && *skipped < i->offset) tell(fmt::format(" and skipped {}", *skipped));
    }
  }
}

void check_send_order(const Evidence& e, Findings& out) {
  struct Sent {
    int64_t invoked, returned, offset;
    uint32_t operation;
  };
  std::vector<std::vector<Sent>> by_partition(e.history().partitions.size());
  for (const ValueFacts& v : e.values()) {
    if (v.offset == kUnknown || v.several_places) continue;
    const Operation& o = e.operation(v.sent_by);
    const int64_t returned = o.outcome == Outcome::ok ? o.returned : INT64_MAX;
    by_partition[v.partition].push_back({o.invoked, returned, v.offset, v.sent_by});
  }
  for (uint32_t p = 0; p < by_partition.size(); ++p) {
    std::vector<Sent>& sent = by_partition[p];
    std::vector<uint32_t> by_return(sent.size());
    for (uint32_t n = 0; n < sent.size(); ++n) by_return[n] = n;
    std::sort(sent.begin(), sent.end(), [](const Sent& a, const Sent& b) { return a.invoked < b.invoked; });
    std::sort(by_return.begin(), by_return.end(),
              [&sent](uint32_t a, uint32_t b) { return sent[a].returned < sent[b].returned; });
    size_t next = 0;
    const Sent* highest = nullptr;
    for (const Sent& s : sent) {
      for (; next < by_return.size() && sent[by_return[next]].returned < s.invoked; ++next) {
        const Sent& done = sent[by_return[next]];
        if (highest == nullptr || done.offset > highest->offset) highest = &done;
      }
      if (highest == nullptr || s.offset > highest->offset) continue;
      out.add(Rule::send_order, [&] {
        return Violation{{},
                         fmt::format("{}: a send that began after offset {} was acknowledged got offset {}",
                                     e.name_of(p), highest->offset, s.offset),
                         p,
                         s.offset,
                         {highest->operation, s.operation}};
      });
    }
  }
}

void check_compacted_values(const Evidence& e, Findings& out) {
  if (!e.history().final_reads_complete) return;
  struct Last {
    const ValueFacts* acked = nullptr;
    int64_t read_offset = kUnknown;
  };
  std::map<std::pair<uint32_t, int32_t>, Last> keys;
  for (const ValueFacts& v : e.values()) {
    if (v.key < 0 || v.offset == kUnknown || !e.history().compacted(v.partition)) continue;
    Last& last = keys[{v.partition, v.key}];
    const bool acked = v.outcome == Outcome::ok && e.committed(v.txn) == Fate::certain;
    if (acked && (last.acked == nullptr || v.offset > last.acked->offset)) last.acked = &v;
    if (v.read_by != kNoOperation) last.read_offset = std::max(last.read_offset, v.offset);
  }
  for (const auto& [key, last] : keys) {
    if (last.acked == nullptr || last.acked->tombstone || last.read_offset >= last.acked->offset) continue;
    const ValueFacts& v = *last.acked;
    out.add(Rule::compacted_value, [&, number = key.second, read = last.read_offset] {
      return Violation{
          {},
          fmt::format("{} key {}: value {} at offset {} was acknowledged last, but readers found "
                      "nothing after offset {}",
                      e.name_of(v.partition), e.history().keys.name(static_cast<uint32_t>(number)), v.value,
                      v.offset, read),
          v.partition,
          v.offset,
          {v.sent_by}};
    });
  }
}

}  // namespace millrace::check
