#include "sim/quorum_rules.h"

#include <deque>
#include <map>
#include <memory>

#include "support/catch.h"

using namespace millrace;
using millrace::sim::forgotten_entry;
using millrace::sim::incomplete_candidate;
using millrace::sim::QuorumVoter;
using millrace::sim::VoteMemory;

namespace {

raft::Entry quorum_entry(int64_t index, int64_t term) {
  return {LogIndex(index), Term(term), raft::EntryKind::no_op, {}};
}

/// Three voters whose messages and writes are carried out at once.
class Quorum {
 public:
  std::unique_ptr<raft::Raft> opened(int32_t node, raft::HardState hard,
                                     std::vector<raft::Entry> entries) const {
    raft::Options options;
    options.self = BrokerId(node);
    options.seed = static_cast<uint64_t>(node);
    raft::Restored restored;
    restored.hard_state = hard;
    restored.entries = std::move(entries);
    restored.initial.voters = {BrokerId(1), BrokerId(2), BrokerId(3)};
    auto made = raft::Raft::open(options, std::move(restored), Now{now_ms, now_ms});
    REQUIRE(made.ok());
    return std::move(*made);
  }
  void open(int32_t node, raft::HardState hard = {}, std::vector<raft::Entry> entries = {}) {
    cores[BrokerId(node)] = opened(node, hard, std::move(entries));
  }
  void settle() {
    while (true) {
      std::deque<raft::Message> under_way;
      for (auto& [id, core] : cores) {
        for (raft::Output out = core->take_output();; out = core->take_output()) {
          under_way.insert(under_way.end(), out.send.begin(), out.send.end());
          if (out.ticket == 0) break;
          core->persisted(out.ticket, Now{now_ms, now_ms});
        }
      }
      if (under_way.empty()) return;
      for (raft::Message& m : under_way) {
        if (const auto to = cores.find(m.to); to != cores.end())
          to->second->step(std::move(m), Now{now_ms, now_ms});
      }
    }
  }
  /// The first of them stands.
  void elect() {
    now_ms += 10'000;
    cores.begin()->second->tick(Now{now_ms, now_ms});
    settle();
    REQUIRE(cores.begin()->second->leads());
  }
  std::vector<QuorumVoter> nodes() const {
    std::vector<QuorumVoter> all;
    for (const auto& [id, core] : cores) all.push_back({id, core.get()});
    return all;
  }

  std::map<BrokerId, std::unique_ptr<raft::Raft>> cores;
  int64_t now_ms = 1'000;
};

bool tells(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("what a leader was told to be there is there") {
  Quorum q;
  for (const int32_t n : {1, 2, 3}) q.open(n);
  q.elect();
  CHECK(forgotten_entry(q.nodes()) == "");

  SECTION("one that is down may remember everything") {
    q.cores.erase(BrokerId(2));
    CHECK(forgotten_entry(q.nodes()) == "");
  }
  SECTION("it was forgotten") {
    q.open(2, {q.cores[BrokerId(1)]->term(), BrokerId(1)});
    CHECK(tells(forgotten_entry(q.nodes()), "node 2 acknowledged entry 1 to node 1"));
  }
  SECTION("in a later term it may have gone") {
    q.open(2, {q.cores[BrokerId(1)]->term() + 1, BrokerId(3)});
    CHECK(forgotten_entry(q.nodes()) == "");
  }
}

TEST_CASE("who led was voted for") {
  Quorum q;
  for (const int32_t n : {1, 2, 3}) q.open(n);
  q.elect();
  VoteMemory memory;
  CHECK(memory.look(q.nodes()) == "");
  const Term term = q.cores[BrokerId(1)]->term();

  SECTION("two of three are enough") {
    q.open(2, {term, BrokerId(3)});
    CHECK(memory.look(q.nodes()) == "");
    SECTION("one after the other shows that it has not") {
      q.cores.erase(BrokerId(1));
      q.cores.erase(BrokerId(2));
      q.open(3);
      CHECK(tells(memory.look(q.nodes()), "only 1 of 3 voters can have voted"));
    }
  }
  SECTION("in a later term a vote is forgotten") {
    q.open(2, {term + 1, BrokerId(3)});
    q.open(3, {term + 1, BrokerId(3)});
    CHECK(memory.look(q.nodes()) == "");
  }
}

TEST_CASE("nobody who lacks what is committed could be elected") {
  Quorum q;
  q.open(1, {Term(3), BrokerId(1)}, {quorum_entry(1, 1), quorum_entry(2, 1), quorum_entry(3, 3)});
  q.open(2, {Term(3), BrokerId(1)}, {quorum_entry(1, 1), quorum_entry(2, 1), quorum_entry(3, 3)});
  q.open(3, {Term(2), BrokerId(3)}, {quorum_entry(1, 1), quorum_entry(2, 2)});
  CHECK(incomplete_candidate(q.nodes(), LogIndex(2), Term(1)) == "");
  // Without an entry of its own term on a majority the committed one may still be replaced.
  q.open(2, {Term(3), BrokerId(1)}, {quorum_entry(1, 1), quorum_entry(2, 1)});
  CHECK(tells(incomplete_candidate(q.nodes(), LogIndex(2), Term(1)),
              "node 3, which lacks it, has what 2 of 3 voters ask"));
  q.cores.erase(BrokerId(2));
  CHECK(incomplete_candidate(q.nodes(), LogIndex(2), Term(1)) == "");
}
