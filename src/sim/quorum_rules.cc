#include "sim/quorum_rules.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::sim {

namespace {

constexpr size_t kReignsKept = 4;

const raft::Raft* core_of(const std::vector<QuorumVoter>& nodes, BrokerId id) {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [id](const QuorumVoter& v) { return v.id == id; });
  return at == nodes.end() ? nullptr : at->core;
}

std::string judge_peers(const std::vector<QuorumVoter>& nodes, const QuorumVoter& leads) {
  const raft::Raft& leader = *leads.core;
  for (const raft::PeerStatus& p : leader.peers()) {
    const raft::Raft* core = core_of(nodes, p.node);
    if (core == nullptr || core->term() > leader.term()) continue;
    if (std::max(core->log().base_index(), leader.log().base_index()) >= p.match) continue;
    if (core->log().term_at(p.match) == leader.log().term_at(p.match)) continue;
    return fmt::format(
        "node {} acknowledged entry {} to node {}, which leads in term {}, and does not have it", p.node.v,
        p.match.v, leads.id.v, leader.term().v);
  }
  return {};
}

}  // namespace

std::string forgotten_entry(const std::vector<QuorumVoter>& nodes) {
  for (const QuorumVoter& node : nodes) {
    if (!node.core->leads()) continue;
    std::string wrong = judge_peers(nodes, node);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string VoteMemory::look(const std::vector<QuorumVoter>& nodes) {
  for (const QuorumVoter& n : nodes) {
    if (!n.core->leads()) continue;
    // Changed by this very leader: with whose votes it was elected is not known here.
    const raft::EntryLog& log = n.core->log();
    const bool as_elected = log.term_at(log.membership_index()) != n.core->term();
    reigns_.try_emplace(n.core->term(),
                        Reign{n.id, as_elected ? n.core->membership() : raft::Membership(), {}});
  }
  while (reigns_.size() > kReignsKept) reigns_.erase(reigns_.begin());
  for (auto& [term, reign] : reigns_) {
    const std::vector<BrokerId>& voters = reign.members.voters;
    if (voters.empty()) continue;
    for (const BrokerId id : voters) {
      const raft::Raft* core = core_of(nodes, id);
      // In a later term it may have forgotten; in an earlier one it has not voted in this.
      if (core != nullptr && (core->term() < term || (core->term() == term && core->vote() != reign.leader)))
        reign.deniers.insert(id);
    }
    const size_t supporters = voters.size() - reign.deniers.size();
    if (supporters >= reign.members.majority()) continue;
    return fmt::format("node {} led in term {}, and only {} of {} voters can have voted for it",
                       reign.leader.v, term.v, supporters, voters.size());
  }
  return {};
}

std::string incomplete_candidate(const std::vector<QuorumVoter>& nodes, LogIndex newest, Term term) {
  std::vector<QuorumVoter> voters;
  std::copy_if(nodes.begin(), nodes.end(), std::back_inserter(voters),
               [](const QuorumVoter& v) { return v.core->membership().is_voter(v.id); });
  for (const QuorumVoter& candidate : voters) {
    const raft::EntryLog& log = candidate.core->log();
    if (log.base_index() >= newest || log.term_at(newest) == term) continue;
    const raft::Membership& asked = candidate.core->membership();
    const auto supporters = std::count_if(voters.begin(), voters.end(), [&](const QuorumVoter& voter) {
      if (!asked.is_voter(voter.id)) return false;
      const raft::EntryLog& theirs = voter.core->log();
      if (log.last_term() != theirs.last_term()) return log.last_term() > theirs.last_term();
      return log.last_index() >= theirs.last_index();
    });
    if (static_cast<size_t>(supporters) < asked.majority()) continue;
    return fmt::format(
        "entry {} of term {} is committed, and node {}, which lacks it, has what {} of {} voters ask "
        "of a leader",
        newest.v, term.v, candidate.id.v, supporters, asked.voters.size());
  }
  return {};
}

}  // namespace millrace::sim
