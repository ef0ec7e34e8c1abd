// Hosts the Raft core on its store: carries out what the core wants (persist, send, commit) and nothing else.
// Lives on one loop, which never touches a data file: persistence runs on the disk's pool, one write at a
// time; what arrives meanwhile is gathered into the next.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/loop.h"
#include "io/random.h"
#include "ledger/raft_store.h"
#include "raft/raft.h"

namespace millrace::ledger {

class RaftRunner {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    io::Random* random = nullptr;
    Trace trace;
  };
  struct Quorum {
    BrokerId self;
    /// In force if the log says nothing else.
    raft::Membership initial;
    /// See raft::Options::may_vote.
    bool may_vote = true;
    Uuid directory;
    int64_t election_timeout_ms = 1000;
    size_t append_bytes_max = 1 << 20;  // entries in one message
    int64_t heartbeat_ms = 250;
    /// Kept behind a snapshot, for followers that lag a little.
    int64_t trailing_entries = 1000;
    /// Of a snapshot, in one message.
    size_t snapshot_chunk_bytes = 1 << 20;
  };
  struct Handlers {
    /// Messages for other nodes; losing some is allowed.
    std::function<void(std::vector<raft::Message>)> send;
    /// The state machine's whole state as of entry `meta.index`, in place of what was committed before: at
    /// start, and when the leader sent it because the entries are not there any more.
    std::function<void(const raft::SnapshotMeta& meta, const Slice& state)> on_snapshot;
    /// Entries became committed, in order, each once; of all kinds.
    std::function<void(const std::vector<raft::Entry>&)> on_commit;
    /// Another node leads as far as is known here, or nobody (kNoBroker).
    std::function<void(BrokerId leader)> on_leader;
    /// This node began (true) or ceased to lead; when it begins, everything before its term has been
    /// committed.
    std::function<void(bool leading)> on_leadership;
    /// The store failed; nothing more will be committed here.
    std::function<void(const Error&)> on_failure;
  };

  explicit RaftRunner(Environment environment)
      : env_(std::move(environment)), store_(*env_.disk, *env_.clock, env_.trace) {}

  /// Reads the log. Blocking, once, before start().
  Status open(const std::string& directory) { return store_.open(directory); }
  /// On the loop.
  void start(Quorum quorum, Handlers handlers);
  /// A message of another node arrived.
  void step(raft::Message message);
  /// Appends one entry and returns its index. Errors: not_controller (not leading), limit_exceeded,
  /// kafka_storage_error (failed, or no space: then only until there is some again).
  Result<LogIndex> propose(Bytes payload);
  /// As raft::Raft::change_membership.
  Result<LogIndex> change_membership(raft::ChangeKind kind, BrokerId node, const Uuid& directory = {});
  /// As raft::Raft::restart_peer.
  void restart_peer(BrokerId node);
  /// As raft::Raft::may_vote.
  bool may_vote() const { return raft_->may_vote(); }
  /// As raft::Raft::transfer_leadership.
  Status transfer_leadership(BrokerId to);
  /// As raft::Raft::node_gone.
  void node_gone(BrokerId node);
  /// Keeps the state as of committed entry `index`, so that the entries before it may go. `state` is made on
  /// the disk's pool. Nothing happens while another one is being kept.
  void keep_snapshot(LogIndex index, std::function<Bytes()> state);

  /// See RaftStore::is_blank.
  bool is_blank() const { return store_.is_blank(); }
  /// Makes a blank directory part of a quorum: from now on a lost vote would be noticed. Blocking, before
  /// start().
  Status take_part() { return store_.write_hard_state({}); }
  bool started() const { return raft_ != nullptr; }
  /// The core, for whoever judges it; nullptr before start().
  const raft::Raft* core() const { return raft_.get(); }
  bool leading() const;
  BrokerId leader() const { return raft_ ? raft_->leader() : kNoBroker; }
  Term term() const;
  /// What DescribeQuorum shows.
  LogIndex commit_index() const { return raft_->commit_index(); }
  LogIndex end_index() const { return raft_->log().last_index(); }
  const raft::Membership& membership() const { return raft_->membership(); }
  std::vector<raft::PeerStatus> peers() const { return raft_->peers(); }
  /// See raft::Raft; INT64_MIN before start().
  int64_t led_until_mono_ms() const { return raft_ ? raft_->led_until_mono_ms() : INT64_MIN; }
  /// Blocking, when the loop has stopped calling.
  Status close() { return store_.close(!failed_); }
  /// The store's directory failed elsewhere: nothing is written to it any more. On the loop.
  void abandon(const Error& why) { fail(why); }

 private:
  /// Carries out what the core wants, until it wants nothing.
  void pump();
  struct Job;
  void pump_soon();
  void write(raft::Output& output);
  void write_snapshot();
  void run(const std::shared_ptr<Job>& job);
  void on_written(const std::shared_ptr<Job>& job);
  void arm_tick();
  void fail(const Error& why);

  const Environment env_;
  RaftStore store_;
  Handlers handlers_;
  std::unique_ptr<raft::Raft> raft_;
  bool writing_ = false;
  bool pumping_ = false;
  bool failed_ = false;
  bool no_space_ = false;  // what is to be written waits for room
  bool pump_armed_ = false;
  BrokerId told_leader_ = kNoBroker;
  bool keeping_ = false;  // a snapshot is being kept, or waits to be
  std::shared_ptr<raft::Snapshot> to_keep_;
  int64_t trailing_entries_ = 0;
  io::TimerId timer_ = 0;
  int64_t timer_at_ms_ = 0;
};

}  // namespace millrace::ledger
