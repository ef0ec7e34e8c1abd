// A Raft cluster in memory, from one seed: a network that drops, doubles, delays and parts, disks that lose
// what was not synced, a state machine that remembers everything. After every event the invariants are
// checked; the first violation throws SimFailure.
#pragma once

#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "raft/raft.h"

namespace millrace::raft {

struct SimFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct SimOptions {
  uint32_t seed = 1;
  int voters = 3;
  int learners = 0;
  double drop = 0.05;
  double duplicate = 0.05;
  int64_t delay_max_ms = 60;
  int64_t write_max_ms = 30;
  int64_t snapshot_every = 0;  // applied entries between snapshots; 0: never
  Options raft;
};

class ClusterSim {
 public:
  explicit ClusterSim(SimOptions options) : options_(std::move(options)), random_(options_.seed) {
    Membership m;
    for (int i = 1; i <= options_.voters; ++i) m.voters.emplace_back(i);
    for (int i = 1; i <= options_.learners; ++i) m.learners.emplace_back(options_.voters + i);
    initial_ = m;
    for (const auto* list : {&m.voters, &m.learners}) {
      for (const NodeId n : *list) add_node(n);
    }
  }

  // --- what a test does ---

  void add_node(NodeId id) {
    nodes_[id];
    start(id);
  }
  void run(int64_t ms) {
    const int64_t until = now_ms_ + ms;
    while (now_ms_ < until) one_event(until);
  }
  void crash(NodeId id) {
    Node& n = nodes_.at(id);
    if (!n.raft) return;
    // Writes reach the disk in order; the one that was under way may have got anywhere.
    while (!n.writes.empty() && chance(0.5)) {
      commit_write(n, n.writes.front(), n.writes.front().out.entries.size());
      n.writes.pop_front();
    }
    if (!n.writes.empty() && chance(0.5)) {
      const Write& torn = n.writes.front();
      if (!torn.out.snapshot) commit_write(n, torn, below(torn.out.entries.size() + 1));
    }
    n.writes.clear();
    n.raft.reset();
    ++n.life;
  }
  /// Everybody hears, true or not, that the process of `id` is gone.
  void say_gone(NodeId id) {
    for (auto& [other, n] : nodes_) {
      if (!n.raft || other == id) continue;
      n.raft->node_gone(id, now());
      after(other);
    }
  }
  void restart(NodeId id) {
    if (!nodes_.at(id).raft) start(id);
  }
  bool alive(NodeId id) const { return nodes_.at(id).raft != nullptr; }
  /// Nodes of different groups do not hear each other; a node in no group hears nobody.
  void partition(std::map<NodeId, int> groups) { groups_ = std::move(groups); }
  void heal() { groups_.clear(); }
  void set_faults(double drop, double duplicate) {
    options_.drop = drop;
    options_.duplicate = duplicate;
  }

  NodeId leader() const {
    NodeId found = kNobody;
    Term term{-1};
    for (const auto& [id, n] : nodes_) {
      if (n.raft && n.raft->leads() && n.raft->term() > term) {
        found = id;
        term = n.raft->term();
      }
    }
    return found;
  }
  Raft& raft(NodeId id) { return *nodes_.at(id).raft; }
  bool propose(NodeId id) {
    Node& n = nodes_.at(id);
    if (!n.raft) return false;
    std::vector<Slice> payloads;
    for (size_t i = 1 + below(3); i > 0; --i)
      payloads.push_back(Slice(to_bytes(std::to_string(++last_value_) + ";")));
    const bool taken = n.raft->propose(payloads, now()).ok();
    after(id);
    return taken;
  }
  Result<LogIndex> change(NodeId id, ChangeKind kind, NodeId node) {
    Result<LogIndex> r = raft(id).change_membership(kind, node, now());
    after(id);
    return r;
  }
  Status transfer(NodeId id, NodeId to) {
    Status s = raft(id).transfer_leadership(to, now());
    after(id);
    return s;
  }

  const std::string& state(NodeId id) const { return nodes_.at(id).state; }
  LogIndex committed() const { return committed_.empty() ? LogIndex(0) : committed_.rbegin()->first; }
  std::vector<NodeId> ids() const {
    std::vector<NodeId> out;
    for (const auto& [id, n] : nodes_) out.push_back(id);
    return out;
  }
  size_t snapshots_installed() const { return snapshots_installed_; }
  size_t elections() const { return leaders_.size(); }
  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  size_t below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(random_() % n); }
  Now now() const { return {now_ms_, now_ms_}; }

  /// Runs until every live member has applied the same, or fails.
  void converge(int64_t limit_ms) {
    const int64_t until = now_ms_ + limit_ms;
    while (now_ms_ < until) {
      run(500);
      const NodeId l = leader();
      if (l == kNobody) continue;
      const LogIndex before = committed();
      (void)propose(l);
      run(2000);
      bool same = committed() > before && leader() == l;
      for (const NodeId n : raft_members(l))
        same = same && alive(n) && nodes_.at(n).applied == nodes_.at(l).applied;
      if (same) {
        for (const NodeId n : raft_members(l))
          require(state(n) == state(l), "states differ after convergence");
        return;
      }
    }
    throw SimFailure("no convergence by " + std::to_string(now_ms_));
  }

 private:
  struct Write {
    Output out;
    int64_t done_at;
  };
  struct Disk {
    HardState hard;
    std::optional<Snapshot> snapshot;
    std::vector<Entry> entries;
  };
  struct Node {
    Disk disk;
    std::unique_ptr<Raft> raft;
    uint64_t life = 0;
    std::deque<Write> writes;
    std::string state;  // every payload applied, in order
    LogIndex applied{0};
    LogIndex seen_commit{0};
    LogIndex snapshot_at{0};
    std::pair<LogIndex, Term> checked_end;
    HardState promised;  // the newest that a message or a disk has shown
  };
  struct Event {
    int64_t at;
    uint64_t order;
    NodeId node;
    uint64_t life;                     // writes die with the process
    std::shared_ptr<Message> message;  // null: a write is done
    bool operator>(const Event& o) const { return at != o.at ? at > o.at : order > o.order; }
  };

  static void require(bool holds, const std::string& what) {
    if (!holds) throw SimFailure(what);
  }
  std::vector<NodeId> raft_members(NodeId id) {
    std::vector<NodeId> out = raft(id).membership().voters;
    for (const NodeId n : raft(id).membership().learners) out.push_back(n);
    return out;
  }

  void start(NodeId id) {
    Node& n = nodes_.at(id);
    Options o = options_.raft;
    o.self = id;
    o.seed = random_();
    Restored r{n.disk.hard, n.disk.snapshot, n.disk.entries, initial_};
    auto opened = Raft::open(o, std::move(r), now());
    require(opened.ok(), "a disk that we wrote does not open");
    n.raft = std::move(opened).value();
    n.state = n.disk.snapshot ? std::string(as_text(n.disk.snapshot->data.view())) : "";
    n.applied = n.disk.snapshot ? n.disk.snapshot->meta.index : LogIndex(0);
    n.snapshot_at = n.applied;
    n.seen_commit = LogIndex(0);
    require(n.disk.hard.term >= n.promised.term, "a term went backwards over a restart");
    require(n.disk.hard.term > n.promised.term || n.promised.vote == kNobody ||
                n.disk.hard.vote == n.promised.vote,
            "a vote was forgotten over a restart");
    after(id);
  }

  void one_event(int64_t until) {
    int64_t next = until;
    if (!events_.empty()) next = std::min(next, events_.top().at);
    NodeId ticking = kNobody;
    for (auto& [id, n] : nodes_) {
      if (!n.raft || n.raft->next_deadline_mono_ms() >= next) continue;
      next = std::max(n.raft->next_deadline_mono_ms(), now_ms_);
      ticking = id;
    }
    now_ms_ = std::max(now_ms_, next);
    if (ticking != kNobody) {
      nodes_.at(ticking).raft->tick(now());
      after(ticking);
      return;
    }
    if (events_.empty() || events_.top().at > now_ms_) return;
    Event e = events_.top();
    events_.pop();
    Node& n = nodes_.at(e.node);
    if (!n.raft) return;
    if (e.message) {
      if (!connected(e.message->from, e.node)) return;
      n.raft->step(*e.message, now());
    } else {
      if (e.life != n.life) return;
      Write w = std::move(n.writes.front());
      n.writes.pop_front();
      commit_write(n, w, w.out.entries.size());
      n.raft->persisted(w.out.ticket, now());
    }
    after(e.node);
  }

  bool connected(NodeId a, NodeId b) const {
    if (groups_.empty()) return true;
    const auto ga = groups_.find(a);
    const auto gb = groups_.find(b);
    return ga != groups_.end() && gb != groups_.end() && ga->second == gb->second;
  }

  void commit_write(Node& n, const Write& w, size_t entries) {
    if (w.out.hard_state) n.disk.hard = *w.out.hard_state;
    if (w.out.snapshot) {
      n.disk.snapshot = w.out.snapshot;
      n.disk.entries.clear();
    }
    if (w.out.entries.empty()) return;
    while (!n.disk.entries.empty() && n.disk.entries.back().index >= w.out.entries.front().index) {
      n.disk.entries.pop_back();
    }
    for (size_t i = 0; i < entries; ++i) n.disk.entries.push_back(w.out.entries[i]);
  }

  // The owner's round, and the checks.
  void after(NodeId id) {
    Node& n = nodes_.at(id);
    const bool may_write = chance(0.7) || n.writes.empty();
    Output out = n.raft->take_output(may_write);
    if (out.snapshot) {
      n.state = std::string(as_text(out.snapshot->data.view()));
      n.applied = out.snapshot->meta.index;
      n.snapshot_at = n.applied;
      ++snapshots_installed_;
      check_snapshot(*out.snapshot);
    }
    for (const Entry& e : out.committed) {
      require(e.index == n.applied + 1, "entries are not handed out in order");
      n.applied = e.index;
      if (e.kind == EntryKind::payload) n.state += as_text(e.payload.view());
      check_committed(e, n);
    }
    for (Message& m : out.send) {
      check_promise(n, m);
      post(std::move(m));
    }
    if (out.leadership && out.leadership->leading) {
      require(n.raft->leads() && n.raft->term() == out.leadership->term, "leadership of a term that is over");
    }
    if (out.ticket != 0) {
      const int64_t earliest = n.writes.empty() ? now_ms_ : n.writes.back().done_at;
      const int64_t done =
          earliest + 1 + static_cast<int64_t>(below(static_cast<size_t>(options_.write_max_ms)));
      n.writes.push_back({std::move(out), done});
      events_.push({done, ++order_, id, n.life, nullptr});
    }
    if (options_.snapshot_every > 0 && n.applied - n.snapshot_at >= options_.snapshot_every) take_snapshot(n);
    check_node(id, n);
  }

  void take_snapshot(Node& n) {
    n.snapshot_at = n.applied;
    const std::optional<SnapshotMeta> meta = n.raft->snapshot_meta(n.applied);
    if (!meta) return;  // a newer one from the leader waits to be taken
    Snapshot s{*meta, Slice(to_bytes(n.state))};
    n.disk.snapshot = s;
    std::erase_if(n.disk.entries, [&s](const Entry& e) { return e.index <= s.meta.index; });
    n.raft->snapshot_taken(std::move(s));
  }

  void post(Message m) {
    if (chance(options_.drop)) return;
    const int copies = chance(options_.duplicate) ? 2 : 1;
    auto shared = std::make_shared<Message>(std::move(m));
    for (int i = 0; i < copies; ++i) {
      const int64_t delay = 1 + static_cast<int64_t>(below(static_cast<size_t>(options_.delay_max_ms)));
      if (nodes_.contains(shared->to)) events_.push({now_ms_ + delay, ++order_, shared->to, 0, shared});
    }
  }

  // --- invariants ---

  // Votes and terms that others may have seen are on the disk.
  void check_promise(Node& n, const Message& m) {
    const auto* reply = std::get_if<VoteReply>(&m.body);
    const auto* request = std::get_if<VoteRequest>(&m.body);
    const auto* append = std::get_if<AppendReply>(&m.body);
    if (reply != nullptr && reply->granted && !reply->pre) {
      require(n.disk.hard == HardState({m.term, m.to}), "a vote was given that is not on disk");
      n.promised = n.disk.hard;
    }
    if (request != nullptr && !request->pre) {
      require(n.disk.hard == HardState({m.term, m.from}), "votes asked for before our own is on disk");
      n.promised = n.disk.hard;
    }
    if (append != nullptr && append->success) {
      require(n.disk.hard.term >= m.term, "acknowledged in a term that is not on disk");
      require(durable_end(n) >= append->match, "acknowledged what is not on disk");
    }
  }

  static LogIndex durable_end(const Node& n) {
    if (!n.disk.entries.empty()) return n.disk.entries.back().index;
    return n.disk.snapshot ? n.disk.snapshot->meta.index : LogIndex(0);
  }
  static bool holds_durably(const Node& n, const Entry& e) {
    if (n.disk.snapshot && n.disk.snapshot->meta.index >= e.index) return true;
    for (const Entry& d : n.disk.entries) {
      if (d.index == e.index) return d.term == e.term;
    }
    return false;
  }

  void check_committed(const Entry& e, const Node& by) {
    const auto known = committed_.find(e.index);
    if (known != committed_.end()) {
      require(known->second.first == e.term && known->second.second == text(e), "a committed entry changed");
      return;
    }
    require(e.index == committed() + 1, "commits with a gap");
    committed_[e.index] = {e.term, text(e)};
    // Some membership that was in force when it committed has it on a majority of its disks.
    const Membership& m = by.raft->log().membership_at(std::max(e.index, by.raft->log().base_index()));
    bool backed = backed_by_majority(m, e);
    if (!backed) backed = backed_by_majority(by.raft->membership(), e);
    require(backed, "committed without a majority of disks at " + std::to_string(e.index.v));
  }
  bool backed_by_majority(const Membership& m, const Entry& e) const {
    size_t holders = 0;
    for (const NodeId v : m.voters) {
      if (nodes_.contains(v) && holds_durably(nodes_.at(v), e)) ++holders;
    }
    return holders >= m.majority();
  }

  void check_snapshot(const Snapshot& s) {
    require(committed() >= s.meta.index, "a snapshot beyond what is committed");
    require(committed_.at(s.meta.index).first == s.meta.term, "a snapshot of another history");
  }

  void check_node(NodeId id, Node& n) {
    const Raft& r = *n.raft;
    require(r.commit_index() >= n.seen_commit, "the commit index went backwards");
    n.seen_commit = r.commit_index();
    require(r.commit_index() <= r.log().last_index(), "committed beyond the log");
    require(r.delivered_index() == n.applied, "delivered and applied differ");
    const EntryLog& log = r.log();
    if (log.base_index().v > 0) {
      require(n.disk.snapshot || !n.writes.empty(), "compacted without a snapshot");
    }
    check_log_matching(log, n);
    if (!r.leads()) return;
    size_t open_changes = 0;
    for (LogIndex i = std::max(committed(), log.base_index()) + 1; i <= log.last_index(); ++i) {
      if (log.at(i).kind == EntryKind::membership) ++open_changes;
    }
    require(open_changes <= 1, "two uncommitted membership changes at a leader");
    const auto [at, fresh] = leaders_.emplace(r.term(), id);
    require(at->second == id, "two leaders in term " + std::to_string(r.term().v));
    const auto later = led_since_.upper_bound(r.term());
    if (later != led_since_.end())
      require(r.led_until_mono_ms() <= later->second, "a leader is sure of a time in which another led");
    if (fresh) {
      led_since_[r.term()] = now_ms_;
      // Leader completeness.
      for (const auto& [index, entry] : committed_) {
        if (index <= log.base_index()) continue;
        require(log.term_at(index) == entry.first,
                "a leader without committed entry " + std::to_string(index.v));
      }
    }
  }

  // Log matching: an (index, term) always has the same content and the same predecessor.
  void check_log_matching(const EntryLog& log, Node& n) {
    const std::pair end(log.last_index(), log.last_term());
    if (end == n.checked_end) return;
    n.checked_end = end;
    for (LogIndex i = std::max(log.base_index() + 1, log.last_index() - 20); i <= log.last_index(); ++i) {
      const Entry& e = log.at(i);
      const auto [at, fresh] =
          entries_.emplace(std::pair(i, e.term), std::pair(text(e), log.term_at(i - 1).value()));
      require(at->second.first == text(e), "one (index, term), two entries");
      require(at->second.second == log.term_at(i - 1), "one (index, term), two predecessors");
    }
  }

  static std::string text(const Entry& e) {
    return std::to_string(static_cast<int>(e.kind)) + ":" + std::string(as_text(e.payload.view()));
  }

  SimOptions options_;
  std::mt19937 random_;
  int64_t now_ms_ = 0;
  uint64_t order_ = 0;
  uint64_t last_value_ = 0;
  Membership initial_;
  std::map<NodeId, Node> nodes_;
  std::map<NodeId, int> groups_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  size_t snapshots_installed_ = 0;

  std::map<LogIndex, std::pair<Term, std::string>> committed_;
  std::map<std::pair<LogIndex, Term>, std::pair<std::string, Term>> entries_;
  std::map<Term, NodeId> leaders_;
  std::map<Term, int64_t> led_since_;
};

}  // namespace millrace::raft
