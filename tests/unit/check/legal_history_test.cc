// Histories that a correct broker could give, made at random: concurrent sends, unknown outcomes, several
// readers, transactions, groups. All pass; each kind of tampering is found.
#include <algorithm>
#include <map>
#include <random>

#include "check/history_file.h"
#include "check/rules.h"
#include "support/catch.h"
#include "unit/check/history_rig.h"

namespace millrace::check {
namespace {

struct Shape {
  size_t operations = 300;
  int partitions = 3;
  int producers = 4;
  int readers = 3;
};

/// A log per partition; sends take effect at some moment between their two times.
class Broker {
 public:
  Broker(uint64_t seed, Shape shape)
      : random_(seed), shape_(shape), logs_(static_cast<size_t>(shape.partitions)) {
    for (int p = 0; p < shape.partitions; ++p) names_.push_back("t-" + std::to_string(p));
    for (const std::string& n : names_) (void)rig_.h.partitions.number(n);
  }

  History make() {
    group_ = static_cast<int32_t>(rig_.h.groups.number("g"));
    while (rig_.h.operations.size() < shape_.operations) {
      switch (pick(10)) {
        case 0:
        case 1:
        case 2:
        case 3:
          send();
          break;
        case 4:
          transaction();
          break;
        case 5:
          commit();
          break;
        case 6:
          ends();
          break;
        default:
          poll(static_cast<int>(pick(static_cast<size_t>(shape_.readers))), 5);
      }
    }
    for (int c = 0; c < shape_.readers; ++c) {
      while (behind(c)) poll(c, kFinalPoll);
    }
    rig_.h.final_reads_complete = true;
    auto& ops = rig_.h.operations;
    std::stable_sort(ops.begin(), ops.end(),
                     [](const Operation& a, const Operation& b) { return a.invoked < b.invoked; });
    return std::move(rig_.h);
  }

 private:
  struct Stored {
    Value value;
    bool committed;  // false: aborted, seen by read_uncommitted only
    int32_t epoch;
  };
  size_t pick(size_t n) { return static_cast<size_t>(random_() % n); }
  bool chance(size_t percent) { return pick(100) < percent; }
  /// The moment moves on; an operation spans it.
  HistoryRig::At span() {
    now_ += 10;
    return {now_ - static_cast<int64_t>(pick(9)), now_ + static_cast<int64_t>(pick(9))};
  }
  std::string producer() { return "p" + std::to_string(pick(static_cast<size_t>(shape_.producers))); }
  int64_t append(size_t p, Value v, bool committed) {
    if (chance(5)) ++epoch_;
    logs_[p].push_back({v, committed, epoch_});
    return static_cast<int64_t>(logs_[p].size()) - 1;
  }

  void send() {
    const size_t p = pick(logs_.size());
    const Value v = ++value_;
    const HistoryRig::At at = span();
    const size_t fate = pick(20);
    Operation* o = nullptr;
    if (fate == 0) {
      o = &rig_.add(Kind::send, producer(), at, {rig_.item(kUnknown, v, names_[p])}, Outcome::fail);
    } else if (fate < 3) {  // unknown: stored or not
      if (fate == 1) (void)append(p, v, true);
      o = &rig_.add(Kind::send, producer(), {at.from, INT64_MAX}, {rig_.item(kUnknown, v, names_[p])},
                    Outcome::info);
    } else {
      std::vector<Item> items;
      const size_t count = 1 + pick(3);
      for (size_t i = 0; i < count; ++i) {
        const Value each = i == 0 ? v : ++value_;
        items.push_back(rig_.item(append(p, each, true), each, names_[p]));
      }
      o = &rig_.add(Kind::send, producer(), at, items);
    }
    o->idempotent = true;
  }

  void transaction() {
    const int64_t txn = ++txns_;
    const size_t fate = pick(4);  // 0 aborted, 1 unknown and committed, 2.. committed
    const std::string who = producer();
    std::vector<HistoryRig::At> times;
    for (size_t i = 0; i < 2 + pick(3); ++i) {
      const size_t p = pick(logs_.size());
      const Value v = ++value_;
      const HistoryRig::At at = span();
      Operation& o = rig_.add(Kind::send, who, at, {rig_.item(append(p, v, fate != 0), v, names_[p])});
      o.txn = txn;
    }
    const HistoryRig::At at = span();
    Operation& end =
        rig_.add(fate == 0 ? Kind::txn_abort : Kind::txn_commit, who,
                 {at.from, fate == 1 ? INT64_MAX : at.to}, {}, fate == 1 ? Outcome::info : Outcome::ok);
    end.txn = txn;
    for (std::vector<Stored>& log : logs_) {
      if (chance(50)) log.push_back({kUnknown, false, epoch_});  // the marker takes an offset
    }
  }

  static constexpr size_t kFinalPoll = 1000;
  bool behind(int reader) {
    for (size_t p = 0; p < logs_.size(); ++p) {
      if (positions_[{reader, p}] < logs_[p].size()) return true;
    }
    return false;
  }

  void poll(int reader, size_t most) {
    const HistoryRig::At at = span();
    const bool committed = reader % 2 == 0;
    std::vector<Item> items;
    bool reset = false;
    for (size_t p = 0; p < logs_.size(); ++p) {
      size_t& next = positions_[{reader, p}];
      if (most != kFinalPoll && chance(5)) {
        next = pick(next + 1);
        reset = true;
      }
      for (size_t n = 0; n < most && next < logs_[p].size(); ++n, ++next) {
        const Stored& s = logs_[p][next];
        if (s.value == kUnknown || (committed && !s.committed)) continue;
        Item i = rig_.item(static_cast<int64_t>(next), s.value, names_[p]);
        i.epoch = s.epoch;
        items.push_back(i);
      }
    }
    Operation& o = rig_.add(Kind::poll, "c" + std::to_string(reader), at, items);
    o.isolation = committed ? Isolation::read_committed : Isolation::read_uncommitted;
    o.position_reset = reset;
  }

  void commit() {
    const size_t p = pick(logs_.size());
    if (chance(50)) {
      const auto offset = static_cast<int64_t>(pick(logs_[p].size() + 1));
      rig_.add(Kind::commit, "m", span(), {rig_.item(offset, kUnknown, names_[p])}).group = group_;
      group_offsets_[p] = offset;
    } else {
      const auto at = group_offsets_.find(p);
      const int64_t offset = at == group_offsets_.end() ? kUnknown : at->second;
      rig_.add(Kind::fetch_commit, "m", span(), {rig_.item(offset, kUnknown, names_[p])}).group = group_;
    }
  }

  void ends() {
    const size_t p = pick(logs_.size());
    const auto end = static_cast<int64_t>(logs_[p].size());
    rig_.add(Kind::list_end, "l", span(), {rig_.item(end, kUnknown, names_[p])});
  }

  std::mt19937_64 random_;
  Shape shape_;
  HistoryRig rig_;
  std::vector<std::string> names_;
  std::vector<std::vector<Stored>> logs_;
  std::map<std::pair<int, size_t>, size_t> positions_;
  std::map<size_t, int64_t> group_offsets_;
  int32_t group_ = 0;
  Value value_ = 0;
  int64_t txns_ = 0;
  int64_t now_ = 0;
  int32_t epoch_ = 0;
};

enum class Tampering {
  lose,         // an acknowledged value vanishes from all reads
  swap_value,   // a read gives another value
  repeat,       // a value is read again at a later offset
  read_failed,  // a failed value is read
  end_back,     // an end is told too low
  group_back,   // a group's offset becomes an older one
  reorder,      // a late send got an early offset
  epoch_back    // an epoch decreases
};

/// False if the history has nothing to tamper with.
bool tamper(History& h, Tampering how, std::mt19937_64& random) {
  const auto choose = [&](auto fits) -> Operation* {
    std::vector<size_t> all;
    for (size_t n = 0; n < h.operations.size(); ++n) {
      if (fits(h.operations[n])) all.push_back(n);
    }
    return all.empty() ? nullptr : &h.operations[all[random() % all.size()]];
  };
  const auto good_send = [](const Operation& o) {
    return o.kind == Kind::send && o.outcome == Outcome::ok && o.txn == kUnknown;
  };
  switch (how) {
    case Tampering::lose: {
      const Operation* o = choose(good_send);
      if (o == nullptr) return false;
      const Value v = h.items[o->first_item].value;
      for (Operation& p : h.operations) {
        if (p.kind != Kind::poll) continue;
        for (uint32_t i = p.first_item; i < p.first_item + p.items; ++i) {
          if (h.items[i].value == v) h.items[i].offset = h.items[i].value = kUnknown;
        }
      }
      return true;
    }
    case Tampering::swap_value:
    case Tampering::repeat:
    case Tampering::epoch_back: {
      const Operation* o = choose([](const Operation& x) { return x.kind == Kind::poll && x.items >= 3; });
      if (o == nullptr) return false;
      Item* i = &h.items[o->first_item];
      if (i[0].partition != i[1].partition || i[0].value == i[1].value) return false;
      if (how == Tampering::swap_value) std::swap(i[0].value, i[1].value);
      if (how == Tampering::repeat) i[1].value = i[0].value;
      if (how == Tampering::epoch_back) {
        i[0].epoch = i[1].epoch + 1;
      }
      return true;
    }
    case Tampering::read_failed: {
      const Operation* o =
          choose([](const Operation& x) { return x.kind == Kind::send && x.outcome == Outcome::fail; });
      Operation* p = choose([](const Operation& x) { return x.kind == Kind::poll && x.items > 0; });
      if (o == nullptr || p == nullptr) return false;
      h.items[p->first_item].value = h.items[o->first_item].value;
      return true;
    }
    case Tampering::end_back: {
      const Operation* o = choose([](const Operation& x) { return x.kind == Kind::list_end; });
      if (o == nullptr || h.items[o->first_item].offset < 20) return false;
      h.items[o->first_item].offset -= 15;
      return true;
    }
    case Tampering::group_back: {
      const Operation* o = choose([&h](const Operation& x) {
        return x.kind == Kind::fetch_commit && h.items[x.first_item].offset >= 0;
      });
      if (o == nullptr) return false;
      h.items[o->first_item].offset = kUnknown;
      return true;
    }
    case Tampering::reorder: {
      Operation* o = choose(good_send);
      if (o == nullptr || o->invoked > h.operations.back().invoked / 2) return false;
      o->invoked = h.operations.back().invoked + 100;
      o->returned = o->invoked + 1;
      std::stable_sort(h.operations.begin(), h.operations.end(),
                       [](const Operation& a, const Operation& b) { return a.invoked < b.invoked; });
      return true;
    }
  }
  return false;
}

std::string first_of(const Verdict& v) {
  if (v.ok()) return "";
  return std::string(rule_name(v.violations.front().rule)) + ": " + v.violations.front().what;
}

}  // namespace

TEST_CASE("legal histories pass") {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    const History h = Broker(seed, {}).make();
    const Verdict v = check(h);
    INFO("seed " << seed << " " << first_of(v));
    REQUIRE(v.ok());
  }
}

TEST_CASE("tampering is found") {
  const auto [how, rule] = GENERATE(table<Tampering, Rule>({
      {Tampering::lose, Rule::lost_write},
      {Tampering::swap_value, Rule::inconsistent_offset},
      {Tampering::repeat, Rule::duplicate},
      {Tampering::read_failed, Rule::aborted_read},
      {Tampering::end_back, Rule::end_offset},
      {Tampering::group_back, Rule::group_offsets},
      {Tampering::reorder, Rule::send_order},
      {Tampering::epoch_back, Rule::end_offset},
  }));
  size_t tried = 0;
  for (uint64_t seed = 1; seed <= 200 && tried < 25; ++seed) {
    History h = Broker(seed, {}).make();
    std::mt19937_64 random(seed);
    if (!tamper(h, how, random)) continue;
    ++tried;
    const Verdict v = check(h);
    INFO("tampering " << static_cast<int>(how) << " seed " << seed << " first " << first_of(v));
    if (how == Tampering::repeat && v.count(rule) == 0) {
      CHECK(v.count(Rule::inconsistent_offset) > 0);  // of a producer without idempotence
    } else if (how == Tampering::group_back && v.ok()) {
      continue;  // the first commit was still under way
    } else {
      CHECK(v.count(rule) > 0);
    }
  }
  CHECK(tried >= 10);
}

TEST_CASE("a million operations", "[.budget]") {
  const History h = Broker(7, {1'000'000, 16, 8, 4}).make();
  const std::string text = encode_history(h);
  HistoryReader reader;
  for (size_t at = 0; at < text.size(); at += 1 << 20) {
    REQUIRE(reader.feed(std::string_view(text).substr(at, 1 << 20)).ok());
  }
  const auto again = reader.finish();
  REQUIRE(again.ok());
  CHECK(check(*again).ok());
}

}  // namespace millrace::check
