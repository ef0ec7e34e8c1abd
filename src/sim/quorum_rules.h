// What holds between the members of a quorum at every moment, judged from their states alone.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "raft/raft.h"

namespace millrace::sim {

/// A node that runs; who is down promises nothing and may remember everything.
struct QuorumVoter {
  BrokerId id;
  const raft::Raft* core = nullptr;
};

/// What a leader was told to be there, is there, whatever happened since to those who said so, until a later
/// leader had something else in its place. What is broken; empty: nothing.
std::string forgotten_entry(const std::vector<QuorumVoter>& nodes);

/// Nobody who lacks what is committed up to `newest`, of `term`, could be elected by the logs that are there
/// (Raft's leader completeness, before it comes to an election). What is wrong; empty: nothing.
std::string incomplete_candidate(const std::vector<QuorumVoter>& nodes, LogIndex newest, Term term);

/// Who led in which term, and who cannot have voted for it: a vote is remembered for as long as the voter is
/// in its term.
class VoteMemory {
 public:
  /// What is wrong by now; empty: nothing.
  std::string look(const std::vector<QuorumVoter>& nodes);

 private:
  struct Reign {
    BrokerId leader;
    raft::Membership members;
    std::set<BrokerId> deniers;
  };
  std::map<Term, Reign> reigns_;  // the newest
};

}  // namespace millrace::sim
