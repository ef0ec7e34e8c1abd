// What the consensus core speaks of: entries, membership, snapshots, messages. The bytes they travel and rest
// in are the runner's matter.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"

namespace millrace::raft {

/// A node is known by its broker number.
using NodeId = BrokerId;
inline constexpr NodeId kNobody = kNoBroker;

enum class EntryKind : uint8_t {
  payload = 0,     // the state machine's
  no_op = 1,       // a new leader's first entry: what was before it commits with it
  membership = 2,  // an encoded Membership, in force as soon as it is in the log
};

struct Entry {
  LogIndex index;
  Term term;
  EntryKind kind = EntryKind::payload;
  Slice payload;
};

/// Who votes and who only follows. Both sorted, no node in both.
struct Membership {
  std::vector<NodeId> voters;
  std::vector<NodeId> learners;
  /// The directories that voters vote with, as far as they were made voters after the founding; ascending.
  /// Such a node votes with no other: one that lost its directory has forgotten what it promised.
  std::vector<std::pair<NodeId, Uuid>> directories{};

  const Uuid* directory_of(NodeId node) const;
  bool is_voter(NodeId node) const;
  bool is_learner(NodeId node) const;
  bool contains(NodeId node) const { return is_voter(node) || is_learner(node); }
  size_t majority() const { return voters.size() / 2 + 1; }
  bool operator==(const Membership&) const = default;
};

/// count of voters u32 | voters i32 each | count of learners u32 | learners i32 each | if there are any:
/// count of directories u32 | node i32, directory id 16 bytes each; big-endian.
Bytes encode_membership(const Membership& membership);
/// Error: corrupt (lengths, not sorted, a node twice, no voter, a
/// directory of none).
Result<Membership> decode_membership(ByteView bytes);

/// What must survive a crash besides log and snapshot.
struct HardState {
  Term term{0};
  NodeId vote = kNobody;  // in `term`

  bool operator==(const HardState&) const = default;
};

/// The last entry a snapshot contains, and the membership as of it.
struct SnapshotMeta {
  LogIndex index{0};
  Term term{0};
  Membership membership;

  bool operator==(const SnapshotMeta&) const = default;
};

struct Snapshot {
  SnapshotMeta meta;
  Slice data;
};

// --- messages ---

struct VoteRequest {
  bool pre =
      false;  // would you vote for me? (thesis 9.6); the message's term is then one ahead of the sender's
  bool transfer = false;  // the leader itself wants this election (thesis 3.10)
  LogIndex last_index;
  Term last_term;
  /// With which directory the asked one votes, as far as the candidate's membership says (KIP-853).
  Uuid voter_directory{};
};

struct VoteReply {
  bool pre = false;
  bool granted = false;
};

/// Also the heartbeat, with no entries.
struct AppendRequest {
  LogIndex prev_index;
  Term prev_term;
  LogIndex commit;
  std::vector<Entry> entries;
};

struct AppendReply {
  bool success = false;
  LogIndex prev_index;  // of the request
  LogIndex match;       // success: the log agrees with the leader's up to here, durably
  LogIndex hint_index;  // failure: the newest entry that may agree,
  Term hint_term;       // and its term
};

/// A piece of a snapshot.
struct SnapshotRequest {
  SnapshotMeta meta;
  uint64_t offset = 0;
  uint64_t total = 0;
  Slice data;
};

/// What of it has arrived; the whole is acknowledged by an AppendReply.
struct SnapshotReply {
  LogIndex index;
  uint64_t next_offset = 0;
};

/// Stand for election now (leadership transfer).
struct TimeoutNow {};

struct Message {
  NodeId from = kNobody;
  NodeId to = kNobody;
  Term term;
  std::variant<VoteRequest, VoteReply, AppendRequest, AppendReply, SnapshotRequest, SnapshotReply, TimeoutNow>
      body;
  /// The leader's monotonic clock when it asked; what answers it repeats that.
  int64_t asked_mono_ms = 0;
};

}  // namespace millrace::raft
