// The consensus core of one node (Ongaro's thesis): a machine that is given messages, the time and news of
// the disk, and gives back what to persist, what to send and what is committed. No I/O, no threads, no clock;
// chance comes from a seed.
//
// The owner's round:
//
//   raft.step(message, now) / raft.tick(now) / raft.propose(...)     as often as things happen
//   Output out = raft.take_output();
//   send out.send; apply out.snapshot, out.committed; then note out.leadership
//   if (out.ticket != 0) write out.hard_state, out.snapshot, out.entries durably, then
//   raft.persisted(out.ticket, now) and take_output() again
//
// Writes may overlap later rounds but finish in ticket order. Whatever a write must precede (votes, vote
// requests, acknowledgements) is held back inside until its ticket is reported; replication to followers is
// not, it overlaps the leader's own write (thesis 10.2.1), which counts towards the majority only when
// reported.
//
// Beyond the basic algorithm: pre-vote (9.6), check-quorum (6.2) and votes refused while a leader is heard
// (4.2.3), leadership transfer (3.10), learners, one membership change at a time (4.1, and never before the
// leader committed an entry of its own term), snapshots in pieces (5), conflict hints by term (5.3 of the
// paper), several messages in flight to each follower. Committed entries are handed out once they are durable
// here too.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/time.h"
#include "raft/entry_log.h"
#include "raft/types.h"

namespace millrace::raft {

enum class Role : uint8_t { follower, pre_candidate, candidate, leader };

struct Options {
  NodeId self = kNobody;
  /// For election timeouts; different on every node.
  uint64_t seed = 0;
  int64_t election_timeout_ms = 1000;  // the least; each one is up to twice that
  int64_t heartbeat_ms = 250;
  size_t append_bytes_max = 1 << 20;        // entries in one message (one entry may be larger)
  size_t inflight_max = 16;                 // unanswered messages with entries per follower
  size_t uncommitted_bytes_max = 64 << 20;  // proposals refused beyond
  size_t snapshot_chunk_bytes = 1 << 20;
  uint64_t snapshot_bytes_max = uint64_t{2} << 30;  // refused from a leader
  int64_t trailing_entries = 1000;                  // kept behind a snapshot for followers that lag a little
  int64_t promotable_lag = 100;                     // entries a learner may miss when it becomes a voter
  /// What this node knows lies here. A membership that has another directory for it speaks of one that is
  /// lost.
  Uuid directory;
  /// False: a voter that has lost what it knew. It follows and acknowledges what it holds, but neither stands
  /// for election nor grants a vote: it may have forgotten entries and votes that others count on. In force
  /// while no membership says with which directory this node votes.
  bool may_vote = true;
};

/// What the store holds at start.
struct Restored {
  HardState hard_state;
  std::optional<Snapshot> snapshot;
  std::vector<Entry> entries;  // consecutive; those the snapshot covers may be there
  Membership initial;          // if neither snapshot nor entries say another
};

/// Whether this node leads, with everything before its term applied.
struct Leadership {
  bool leading = false;
  Term term;
};

struct Output {
  /// Not 0: the next three are to be persisted, in one go or in this order.
  uint64_t ticket = 0;
  std::optional<HardState> hard_state;
  /// Replaces the whole log and the state machine's state; the log goes on after its index.
  std::optional<Snapshot> snapshot;
  /// To be appended; what the store has at or above the first one's index is cut before.
  std::vector<Entry> entries;

  std::vector<Message> send;
  /// In order, each once; to be applied after `snapshot`.
  std::vector<Entry> committed;
  /// Changed, once `committed` has been applied.
  std::optional<Leadership> leadership;
};

enum class ChangeKind : uint8_t { add_learner, promote_learner, remove };

/// For status displays (DescribeQuorum).
struct PeerStatus {
  NodeId node = kNobody;
  LogIndex match;
  int64_t last_heard_mono_ms = 0;
};

class Raft {
 public:
  /// Error: corrupt (entries that do not follow each other, a membership that does not decode).
  static Result<std::unique_ptr<Raft>> open(Options options, Restored restored, Now now);

  void step(Message message, Now now);
  void tick(Now now);
  /// When tick() has something to do next.
  int64_t next_deadline_mono_ms() const;

  /// One entry per payload; the index of the first. Errors: not_controller (not leading, or handing over),
  /// limit_exceeded (too much is uncommitted).
  Result<LogIndex> propose(std::span<const Slice> payloads, Now now);
  /// Errors: not_controller; invalid_argument (no such node, the last voter, too far behind);
  /// concurrent_transactions (another change, or the leader's first entry, is not committed yet: try again).
  /// `directory`: what a learner that is promoted votes with; zero: not recorded.
  Result<LogIndex> change_membership(ChangeKind kind, NodeId node, Now now, const Uuid& directory = {});
  /// `node` says that it began anew: what it once acknowledged is found out again.
  void restart_peer(NodeId node);
  /// Whether this node's directory is one it may vote with, if it is a voter.
  bool may_vote() const;
  /// Hands leadership to a voter; given up after an election timeout. Errors: not_controller,
  /// invalid_argument.
  Status transfer_leadership(NodeId to, Now now);

  /// The owner knows that the process of `node` is gone: its machine refuses connections. If it led, nobody
  /// waits for its silence: the voters stand one after the other within a fraction of an election timeout,
  /// with pre-votes as ever, so that a mistake moves nothing while a majority hears the leader.
  void node_gone(NodeId node, Now now);
  /// Everything up to `ticket` is durable.
  void persisted(uint64_t ticket, Now now);
  /// What a snapshot of the state after entry `index`, which was handed out, is to be labelled with. Nothing
  /// if a snapshot beyond it has been installed or taken meanwhile: the one at hand is not worth keeping.
  std::optional<SnapshotMeta> snapshot_meta(LogIndex index) const;
  /// The owner has a durable snapshot: entries it covers may go, and followers may be sent it.
  void snapshot_taken(Snapshot snapshot);

  /// `may_persist` false: leaves what is to be persisted for later (a write is under way).
  Output take_output(bool may_persist = true);

  Role role() const { return role_; }
  bool leads() const { return role_ == Role::leader; }
  Term term() const { return hard_.term; }
  NodeId vote() const { return hard_.vote; }
  NodeId leader() const { return leader_; }
  LogIndex commit_index() const { return commit_; }
  LogIndex delivered_index() const { return delivered_; }
  const EntryLog& log() const { return log_; }
  const Membership& membership() const { return log_.membership(); }
  /// Of the followers, while leading.
  std::vector<PeerStatus> peers() const;
  /// While leading: until then nobody else led. A majority has answered what was asked at this time or later,
  /// whenever the answers arrived; INT64_MAX: nobody else is a voter. Not leading: INT64_MIN.
  int64_t led_until_mono_ms() const;
  /// A part of a leader's snapshot is here, and not all of it.
  bool is_taking_snapshot() const { return incoming_.has_value(); }

 private:
  enum class Flow : uint8_t { probe, replicate, snapshot };
  struct Progress {
    Flow flow = Flow::probe;
    LogIndex match{0};
    LogIndex next{1};
    std::deque<LogIndex> inflight;  // last index of each unanswered message
    bool probing = false;           // one unanswered probe is out
    LogIndex commit_sent{0};
    int64_t last_heard_ms = 0;
    int64_t answered_ms = INT64_MIN;  // the newest question, by our clock, that it has answered
    int64_t next_beat_ms = 0;
    std::shared_ptr<const Snapshot> snapshot;  // being sent
    uint64_t snapshot_offset = 0;
  };
  struct PendingWrite {
    uint64_t ticket;
    LogIndex last;  // of the log as it was written, as far as it still stands
  };
  struct Incoming {
    SnapshotMeta meta;
    uint64_t total = 0;
    Bytes data;
  };

  Raft(Options options, HardState hard, EntryLog log, std::shared_ptr<const Snapshot> snapshot, Now now);

  // raft.cc
  void see(Now now) { now_ms_ = std::max(now_ms_, now.mono_ms); }
  bool is_voter() const { return membership().is_voter(options_.self); }
  bool may_stand() const { return is_voter() && may_vote(); }
  void become_follower(Term term, NodeId leader);
  void reset_election_timer();
  uint64_t next_random();
  void send(NodeId to, Term term, decltype(Message::body) body, bool after_writes);
  void append_entry(EntryKind kind, Slice payload);
  void truncate_log(LogIndex from);
  void deliver(Output& out);
  void note_leadership(Output& out);

  // election.cc
  int64_t turn_ms() const;
  void campaign(bool pre, bool transfer);
  void count_votes();
  void become_leader();
  bool hears_leader() const;
  bool is_up_to_date(const VoteRequest& request) const;
  bool may_vote_for(const VoteRequest& request) const;
  void on_vote_request(const Message& m, const VoteRequest& request);
  void on_vote_reply(const Message& m, const VoteReply& reply);

  // replication.cc
  void replicate(NodeId to, Progress& p, bool beat);
  void replicate_all();
  void refresh_progress();
  void advance_commit();
  void check_quorum();
  void on_append_request(const Message& m, AppendRequest& request);
  Progress* answered(const Message& m);
  void on_append_reply(const Message& m, const AppendReply& reply);
  void continue_transfer();

  // snapshot.cc
  void begin_snapshot(NodeId to, Progress& p);
  void send_chunk(NodeId to, Progress& p);
  void on_snapshot_request(const Message& m, SnapshotRequest& request);
  void on_snapshot_reply(const Message& m, const SnapshotReply& reply);
  void install(Snapshot snapshot);

  const Options options_;
  int64_t now_ms_;
  int64_t asked_ms_ = 0;  // of the message that is being answered
  uint64_t random_;

  HardState hard_;
  EntryLog log_;
  std::shared_ptr<const Snapshot> snapshot_;  // the newest; there is one whenever the log was compacted

  Role role_ = Role::follower;
  NodeId leader_ = kNobody;
  LogIndex commit_{0};
  LogIndex delivered_{0};
  int64_t election_deadline_ms_ = 0;
  int64_t leader_heard_ms_;
  NodeId gone_ = kNobody;       // the leader whose process is gone
  int64_t hasty_until_ms_ = 0;  // till then elections follow each other quickly

  // Candidates.
  std::set<NodeId> votes_;
  bool transferring_in_ = false;  // this election is the old leader's wish
  uint64_t vote_written_by_ = 0;  // our own vote counts when this ticket is reported

  // The leader.
  std::map<NodeId, Progress> progress_;
  LogIndex first_of_term_{0};
  size_t uncommitted_bytes_ = 0;
  NodeId transfer_to_ = kNobody;
  int64_t transfer_deadline_ms_ = 0;
  bool transfer_sent_ = false;

  std::optional<Incoming> incoming_;

  // Persistence: every change of hard state or log is numbered; a ticket is the number of the last one it
  // covers.
  uint64_t changes_ = 0;
  uint64_t changes_taken_ = 0;
  uint64_t changes_durable_ = 0;
  bool hard_changed_ = false;
  std::optional<LogIndex> write_from_;
  std::optional<Snapshot> install_;
  std::deque<PendingWrite> writes_;
  LogIndex durable_{0};

  std::vector<Message> outbox_;
  std::vector<std::pair<uint64_t, Message>> held_;
  Leadership told_;
};

}  // namespace millrace::raft
