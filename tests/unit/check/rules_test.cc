// Every rule: a history that breaks it and nothing else, and neighbours that do not.
#include "check/rules.h"

#include "check/timeline.h"
#include "support/catch.h"
#include "unit/check/history_rig.h"

namespace millrace::check {
namespace {

/// "lost-write lost-write": what is found, in order of the rules.
std::string found(const History& h) {
  std::string out;
  for (const Violation& v : check(h).violations) {
    if (!out.empty()) out += ' ';
    out += rule_name(v.rule);
    CHECK_FALSE(v.what.empty());
    CHECK_FALSE(timeline(h, v).empty());
    for (const uint32_t n : v.operations) CHECK(n < h.operations.size());
  }
  return out;
}
Operation& committed(Operation& o) {
  o.isolation = Isolation::read_committed;
  return o;
}
Operation& in_txn(Operation& o, int64_t txn) {
  o.txn = txn;
  return o;
}
void end_txn(HistoryRig& r, int64_t txn, HistoryRig::At at, Outcome outcome = Outcome::ok,
             Kind kind = Kind::txn_commit) {
  in_txn(r.add(kind, "p", at, {}, outcome), txn);
}

}  // namespace

TEST_CASE("an offset has one value") {
  HistoryRig r;
  r.send({1, 2}, 0, 10);
  r.poll({3, 4}, {r.item(0, 10)});
  CHECK(found(r.h).empty());
  r.poll({3, 4}, {r.item(0, 11)}, "d");
  CHECK(found(r.h) == "inconsistent-offset");
}

TEST_CASE("the same offset of two partitions may hold two values") {
  HistoryRig r;
  r.poll({3, 4}, {r.item(0, 10), r.item(0, 11, "t-1")});
  CHECK(found(r.h).empty());
}

TEST_CASE("duplicates are wrong only where idempotence was asked for") {
  HistoryRig r;
  Operation& o = r.send({1, 2}, kUnknown, 10);
  r.poll({3, 4}, {r.item(0, 10), r.item(1, 10)});
  CHECK(found(r.h).empty());
  r.h.operations[0].idempotent = true;
  (void)o;
  CHECK(found(r.h) == "duplicate");
}

TEST_CASE("an acknowledged value that readers passed is lost") {
  HistoryRig r;
  r.send({1, 2}, 0, 10);
  r.send({3, 4}, 1, 11);
  r.send({5, 6}, 2, 12);
  SECTION("not passed yet") {
    r.poll({7, 8}, {r.item(0, 10)});
    CHECK(found(r.h).empty());
    r.h.final_reads_complete = true;
    CHECK(found(r.h) == "lost-write lost-write");
  }
  SECTION("passed") {
    r.poll({7, 8}, {r.item(0, 10)});
    r.poll({9, 10}, {r.item(2, 12)}, "d");
    CHECK(found(r.h) == "lost-write");
  }
  SECTION("of unknown outcome: may be anywhere") {
    r.h.operations[1].outcome = Outcome::info;
    r.poll({7, 8}, {r.item(0, 10), r.item(2, 12)});
    r.h.final_reads_complete = true;
    CHECK(found(r.h).empty());
  }
}

TEST_CASE("what failed or was aborted is not read") {
  HistoryRig r;
  SECTION("failed") {
    r.send({1, 2}, kUnknown, 10, Outcome::fail);
    r.poll({3, 4}, {r.item(0, 10)});
    CHECK(found(r.h) == "aborted-read");
  }
  SECTION("aborted") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    end_txn(r, 7, {3, 4}, Outcome::ok, Kind::txn_abort);
    r.poll({5, 6}, {r.item(0, 10)});
    CHECK(found(r.h).empty());  // read_uncommitted may
    committed(r.poll({7, 8}, {r.item(0, 10)}, "d"));
    CHECK(found(r.h) == "aborted-read");
  }
  SECTION("not committed yet") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    committed(r.poll({3, 4}, {r.item(0, 10)}));
    end_txn(r, 7, {5, 6});
    CHECK(found(r.h) == "aborted-read");
  }
  SECTION("while the commit is under way") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    end_txn(r, 7, {3, 9});
    committed(r.poll({4, 5}, {r.item(0, 10)}));
    CHECK(found(r.h).empty());
  }
  SECTION("of unknown fate") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    end_txn(r, 7, {3, INT64_MAX}, Outcome::info);
    committed(r.poll({4, 5}, {r.item(0, 10)}));
    CHECK(found(r.h).empty());
  }
  SECTION("nobody ever asked for a commit") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    committed(r.poll({4, 5}, {r.item(0, 10)}));
    CHECK(found(r.h) == "aborted-read");
  }
  SECTION("a transaction's own") {
    in_txn(r.send({1, 2}, 0, 10), 7);
    in_txn(committed(r.poll({4, 6}, {r.item(0, 10)})), 7);
    end_txn(r, 7, {5, 9});
    CHECK(found(r.h) == "aborted-read");
  }
}

TEST_CASE("a reader goes forward and leaves nothing out") {
  HistoryRig r;
  r.send({1, 2}, 0, 10);
  r.send({3, 4}, 1, 11);
  r.send({5, 6}, 2, 12);
  r.poll({7, 8}, {r.item(0, 10), r.item(1, 11), r.item(2, 12)}, "all");
  SECTION("back") {
    r.poll({9, 10}, {r.item(1, 11)});
    r.poll({11, 12}, {r.item(0, 10)});
    CHECK(found(r.h) == "poll-order");
  }
  SECTION("back after a rebalance") {
    r.poll({9, 10}, {r.item(1, 11)});
    r.poll({11, 12}, {r.item(0, 10)}).position_reset = true;
    CHECK(found(r.h).empty());
  }
  SECTION("back in the middle of a transaction") {
    in_txn(r.poll({9, 10}, {r.item(1, 11)}), 7);
    in_txn(r.poll({11, 12}, {r.item(0, 10)}), 7).position_reset = true;
    CHECK(found(r.h) == "poll-order");
  }
  SECTION("a step over") {
    r.poll({9, 10}, {r.item(0, 10)});
    r.poll({11, 12}, {r.item(2, 12)});
    CHECK(found(r.h) == "poll-order");
  }
  SECTION("a step over what nobody has acknowledged") {
    r.h.operations[1].outcome = Outcome::info;
    r.poll({9, 10}, {r.item(0, 10), r.item(2, 12)});
    CHECK(found(r.h).empty());
  }
  SECTION("two readers") {
    r.poll({9, 10}, {r.item(1, 11)});
    r.poll({11, 12}, {r.item(0, 10)}, "d");
    CHECK(found(r.h).empty());
  }
}

TEST_CASE("what is sent after an acknowledgement is stored after it") {
  HistoryRig r;
  r.send({1, 2}, 5, 10);
  r.send({2, 4}, 4, 11);  // began as the other returned: together
  CHECK(found(r.h).empty());
  r.send({3, 4}, 3, 12);
  CHECK(found(r.h) == "send-order");
}

TEST_CASE("a circle of reads between transactions") {
  HistoryRig r;
  in_txn(r.send({1, 2}, 0, 10), 1);
  in_txn(r.send({1, 2}, 1, 11), 2);
  in_txn(committed(r.poll({10, 30}, {r.item(1, 11)}, "a")), 1);
  end_txn(r, 1, {11, 40});
  end_txn(r, 2, {12, 40});
  committed(r.poll({50, 60}, {r.item(0, 10), r.item(1, 11)}));
  CHECK(found(r.h).empty());
  in_txn(committed(r.poll({10, 30}, {r.item(0, 10)}, "b")), 2);
  CHECK(found(r.h) == "circular-reads");
}

TEST_CASE("a committed transaction is there as a whole") {
  HistoryRig r;
  in_txn(r.send({1, 2}, 0, 10), 1);
  in_txn(r.send({3, 4}, 1, 11), 1);
  r.send({4, 5}, 3, 12);
  end_txn(r, 1, {5, INT64_MAX}, Outcome::info);
  SECTION("not there at all") {
    committed(r.poll({8, 9}, {r.item(3, 12)}));
    CHECK(found(r.h).empty());
  }
  SECTION("in part, the rest not passed") {
    committed(r.poll({8, 9}, {r.item(0, 10)}));
    CHECK(found(r.h).empty());
  }
  SECTION("in part") {
    committed(r.poll({8, 9}, {r.item(0, 10)}));
    committed(r.poll({8, 9}, {r.item(3, 12)}, "d"));
    CHECK(found(r.h) == "lost-write torn-transaction");
  }
}

TEST_CASE("a group's offsets are a register") {
  HistoryRig r;
  const auto commit = [&r](HistoryRig::At at, int64_t offset, Outcome outcome = Outcome::ok) {
    r.add(Kind::commit, "m", at, {r.item(offset, kUnknown)}, outcome).group =
        static_cast<int32_t>(r.h.groups.number("g"));
  };
  const auto fetched = [&r](HistoryRig::At at, int64_t offset) {
    r.add(Kind::fetch_commit, "m", at, {r.item(offset, kUnknown)}).group =
        static_cast<int32_t>(r.h.groups.number("g"));
  };
  fetched({0, 1}, kUnknown);
  commit({2, 3}, 5);
  fetched({4, 5}, 5);
  commit({6, 9}, 8);
  SECTION("while it is written: either") {
    fetched({7, 8}, 5);
    fetched({7, 8}, 8);
    CHECK(found(r.h).empty());
  }
  SECTION("old") {
    fetched({10, 11}, 5);
    CHECK(found(r.h) == "group-offsets");
  }
  SECTION("gone") {
    fetched({10, 11}, kUnknown);
    CHECK(found(r.h) == "group-offsets");
  }
  SECTION("invented") {
    fetched({10, 11}, 6);
    CHECK(found(r.h) == "group-offsets");
  }
  SECTION("a commit of unknown fate may come late") {
    commit({10, INT64_MAX}, 12, Outcome::info);
    commit({11, 12}, 13);
    fetched({13, 14}, 13);
    fetched({15, 16}, 12);
    CHECK(found(r.h).empty());
  }
  SECTION("back on purpose") {
    commit({10, 11}, 2);
    fetched({12, 13}, 2);
    CHECK(found(r.h).empty());
  }
  SECTION("a failed commit is not read") {
    commit({10, 11}, 12, Outcome::fail);
    fetched({12, 13}, 12);
    CHECK(found(r.h) == "group-offsets");
  }
}

TEST_CASE("a generation gives a partition to one member") {
  HistoryRig r;
  const auto assign = [&r](std::string_view client, HistoryRig::At at, int64_t generation) {
    Operation& o = r.add(Kind::assign, client, at, {r.item(kUnknown, kUnknown)});
    o.group = static_cast<int32_t>(r.h.groups.number("g"));
    o.generation = generation;
  };
  const auto commit = [&r](std::string_view client, HistoryRig::At at, int64_t generation) {
    Operation& o = r.add(Kind::commit, client, at, {r.item(3, kUnknown)});
    o.group = static_cast<int32_t>(r.h.groups.number("g"));
    o.generation = generation;
  };
  assign("a", {1, 2}, 1);
  assign("b", {3, 4}, 2);
  SECTION("one after the other") {
    commit("a", {3, 5}, 1);  // began before the new generation was known
    commit("b", {6, 7}, 2);
    CHECK(found(r.h).empty());
  }
  SECTION("two at once") {
    assign("c", {5, 6}, 2);
    CHECK(found(r.h) == "group-offsets");
  }
  SECTION("a commit from the past") {
    commit("a", {5, 6}, 1);
    CHECK(found(r.h) == "group-offsets");
  }
}

TEST_CASE("a compacted topic keeps the last value of a key") {
  HistoryRig r;
  r.h.set_compacted(r.h.partitions.number("t-0"));
  r.add(Kind::send, "p", {1, 2}, {r.keyed(0, 10, "k")});
  r.add(Kind::send, "p", {3, 4}, {r.keyed(1, 11, "l")});
  r.add(Kind::send, "p", {5, 6}, {r.keyed(2, 12, "k")});
  r.h.final_reads_complete = true;
  SECTION("the last ones") {
    r.poll({7, 8}, {r.keyed(1, 11, "l"), r.keyed(2, 12, "k")});
    CHECK(found(r.h).empty());
  }
  SECTION("an old one") {
    r.poll({7, 8}, {r.keyed(0, 10, "k"), r.keyed(1, 11, "l")});
    CHECK(found(r.h) == "compacted-value");
  }
  SECTION("deleted") {
    r.h.items[2].tombstone = true;
    r.poll({7, 8}, {r.keyed(1, 11, "l")});
    CHECK(found(r.h).empty());
  }
}

TEST_CASE("the bank's sum") {
  HistoryRig r;
  r.add(Kind::state, "c", {1, 2}, {r.item(kUnknown, 100)});
  r.add(Kind::state, "c", {3, 4}, {r.item(kUnknown, 100), r.item(kUnknown, 7, "other")});
  CHECK(found(r.h).empty());
  r.add(Kind::state, "c", {5, 6}, {r.item(kUnknown, 99)});
  CHECK(found(r.h) == "sum-changed");
}

TEST_CASE("an end does not go back, nor do epochs") {
  HistoryRig r;
  r.send({1, 2}, 4, 10);
  r.add(Kind::list_end, "c", {2, 3}, {r.item(0, kUnknown)});  // together with the send
  CHECK(found(r.h).empty());
  SECTION("below what was acknowledged") {
    r.add(Kind::list_end, "c", {5, 6}, {r.item(4, kUnknown)});
    CHECK(found(r.h) == "end-offset");
  }
  SECTION("below what was said") {
    r.add(Kind::list_end, "c", {5, 6}, {r.item(9, kUnknown)});
    r.add(Kind::list_end, "d", {7, 8}, {r.item(8, kUnknown)});
    CHECK(found(r.h) == "end-offset");
  }
  SECTION("the last stable offset may be lower") {
    r.add(Kind::list_end, "c", {5, 6}, {r.item(9, kUnknown)});
    committed(r.add(Kind::list_end, "d", {7, 8}, {r.item(3, kUnknown)}));
    CHECK(found(r.h).empty());
    committed(r.add(Kind::list_end, "d", {9, 10}, {r.item(2, kUnknown)}));
    CHECK(found(r.h) == "end-offset");
  }
  SECTION("a deposed leader may tell less, its successor may not") {
    const auto told = [&r](int64_t end, int32_t epoch) {
      Item i = r.item(end, kUnknown);
      i.epoch = epoch;
      return i;
    };
    Item read = r.item(4, 10);
    read.epoch = 3;
    r.poll({3, 4}, {read});
    r.add(Kind::list_end, "c", {5, 6}, {told(8, 4)});
    r.add(Kind::list_end, "d", {7, 8}, {told(2, 3)});
    CHECK(found(r.h).empty());
    SECTION("within an epoch") {
      r.add(Kind::list_end, "c", {9, 10}, {told(7, 4)});
      CHECK(found(r.h) == "end-offset");
    }
    SECTION("from one to the next") {
      r.add(Kind::list_end, "c", {9, 10}, {told(7, 5)});
      CHECK(found(r.h) == "end-offset");
    }
    SECTION("without records of an earlier epoch") {
      HistoryRig other;
      other.send({1, 2}, 4, 10);
      other.poll({3, 4}, {read});
      other.add(Kind::list_end, "c", {5, 6}, {told(4, 4)});
      CHECK(found(other.h) == "end-offset");
    }
  }
  SECTION("epochs") {
    Item a = r.item(4, 10);
    Item b = r.item(5, 11);
    a.epoch = 3;
    b.epoch = 3;
    r.poll({5, 6}, {a, b});
    CHECK(found(r.h).empty());
    b.offset = 6;
    b.value = 12;
    b.epoch = 2;
    r.poll({7, 8}, {b});
    CHECK(found(r.h) == "end-offset");
  }
}

TEST_CASE("the rest of many violations is counted") {
  HistoryRig r;
  for (int i = 0; i < 100; ++i) r.send({i, i + 1}, i, i);
  r.send({200, 201}, 100, 100);
  r.poll({300, 301}, {r.item(100, 100)});
  const Verdict v = check(r.h);
  CHECK(v.violations.size() == kViolationsToldMax);
  CHECK(v.count(Rule::lost_write) == 100);
  CHECK(v.operations == 102);
}

TEST_CASE("a timeline shows the evidence and its neighbours") {
  HistoryRig r;
  r.send({10, 20}, 5, 101);
  r.send({15, INT64_MAX}, kUnknown, 102, Outcome::info);
  r.poll({30, 40}, {r.item(5, 101), r.item(6, 102)}, "c1");
  r.poll({50, 60}, {r.item(5, 103)}, "c2");
  const Verdict v = check(r.h);
  REQUIRE(v.violations.size() == 1);
  const std::string t = timeline(r.h, v.violations.front());
  CHECK(t.find("inconsistent-offset: t-0 offset 5 holds 101 and 103") == 0);
  CHECK(t.find("> [") != std::string::npos);
  CHECK(t.find("p send ok 10..20 t-0@5=101") != std::string::npos);
  CHECK(t.find("c2 poll ok 50..60 t-0@5=103") != std::string::npos);
  CHECK(describe(r.h, r.h.operations[1]) == "p send info 15..never t-0@?=102");
}

}  // namespace millrace::check
