// GroupShard: the coordinator of all groups of one `__consumer_offsets` partition, as a machine. Owned by the
// runner (ledger) that hosts the partition's leader; knows no clock, network or disk.
//
// handle() and tick() change volatile state only (live groups) and say which records to append; apply() alone
// changes replicated state (group metadata, offsets), on append as on load. Replies name requests by token:
// at once, or later for parked ones (JoinGroup until the rebalance, SyncGroup until the leader's). The runner
// releases no reply before the last record so far is committed, and throws the machine away when an append
// fails.
//
// Where to read on: shard.cc (lookup, apply, load, timers), join.cc, rebalance.cc, sync.cc, heartbeat.cc,
// leave.cc, offset_requests.cc, expiry.cc, admin.cc.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "base/trace.h"
#include "group/classic_group.h"
#include "group/limits.h"
#include "group/messages.h"
#include "group/offsets.h"
#include "group/output.h"
#include "group/records.h"

namespace millrace::group {

/// What a shard has done since it was made.
struct GroupCounters {
  uint64_t rebalances_started = 0;
  uint64_t rebalances_completed = 0;
  uint64_t members_expired = 0;
  uint64_t offsets_committed = 0;
  uint64_t offsets_expired = 0;
  uint64_t groups_expired = 0;
  uint64_t limit_refusals = 0;   // something of GroupLimits was reached
  uint64_t records_unknown = 0;  // of other machines, or of a newer version
  uint64_t records_corrupt = 0;
};

class GroupShard {
 public:
  explicit GroupShard(GroupLimits limits, Trace trace = {});

  // Requests. Each token is answered exactly once, in this Output or a later one.
  void handle(Token token, const JoinGroupRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const SyncGroupRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const HeartbeatRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const LeaveGroupRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const OffsetCommitRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const TxnOffsetCommitRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const OffsetFetchRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const DescribeGroupsRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const ListGroupsRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const DeleteGroupsRequest& request, const ClientContext& client, Now now,
              Output& out);
  void handle(Token token, const OffsetDeleteRequest& request, const ClientContext& client, Now now,
              Output& out);

  /// The requester's connection is gone: nothing will be answered to this token. A member that was parked
  /// with it has its session timeout to come back.
  void drop(Token token);

  /// One record of the partition, in order: on load, and right at append for what handle() and tick() gave.
  /// `producer` is set for records of transactional batches.
  void apply(ByteView key, std::optional<ByteView> value, Now now, ProducerId producer = kNoProducerId);
  /// A control record of the partition ended the producer's transaction.
  void apply_marker(ProducerId producer, bool committed);

  /// After the last apply() of a load: members of finished generations have a whole session from now to speak
  /// up.
  void on_loaded(Now now);

  /// Does what is due. May leave some of it to the next call, which then is due at once.
  void tick(Now now, Output& out);
  /// Never later than the next thing to do.
  int64_t next_deadline_mono_ms() const;

  const GroupCounters& counters() const { return counters_; }
  /// Answers still owed.
  size_t parked_count() const { return parked_.size(); }
  /// Groups with a record, offsets or members.
  size_t group_count() const;
  /// A live group; nullptr for one that has no members (tests, operator pages).
  const ClassicGroup* live(const std::string& group_id) const;
  /// Everything that apply() made, one line each; equal texts are equal states.
  std::string replicated_to_string() const;
  std::string to_string(const std::string& group_id) const;
  /// Aborts if volatile and replicated state contradict each other. Call with all records applied.
  void check() const;

 private:
  struct ParkedAt {
    std::string group_id;
    std::string member_id;
  };

  // shard.cc
  bool exists(const std::string& group_id) const;
  /// The next group of any kind after this one (nullopt: the first), in order of ids.
  std::optional<std::string> next_group(const std::optional<std::string>& group_id) const;
  /// The live group, made from its record if there is one; nullptr if the group does not exist.
  ClassicGroup* find_group(const std::string& group_id);
  ClassicGroup& make_group(const std::string& group_id);
  /// Where the group's state is needed without making it live.
  GroupState state_of(const std::string& group_id) const;
  /// Ends a piece of work on a group: forgets it if idle.
  void settle(const std::string& group_id);
  /// The group has something to do at `mono_ms` at the latest.
  void arm(ClassicGroup& group, int64_t mono_ms);
  void rearm(ClassicGroup& group);
  void park_join(ClassicGroup& group, Member& member, Token token, const ClientContext& client);
  void park_sync(ClassicGroup& group, Member& member, Token token, const ClientContext& client);
  void answer_join(ClassicGroup& group, Member& member, JoinGroupResponse response, Output& out);
  void answer_sync(Member& member, SyncGroupResponse response, Output& out);
  void answer(const std::optional<Parked>& join, const std::optional<Parked>& sync, ErrorCode code,
              const std::string& member_id, Output& out);
  ErrorCode check_member(const ClassicGroup& group, const std::string& member_id,
                         const std::optional<std::string>& group_instance_id) const;
  GroupMetadata metadata_of(const ClassicGroup& group, Now now) const;
  const GroupMetadata* record_of(const std::string& group_id) const;

  // join.cc
  ErrorCode check_join(const JoinGroupRequest& request, const ClientContext& client) const;
  ErrorCode admit(const ClassicGroup* group, const JoinGroupRequest& request) const;
  void join_unknown(Token token, const JoinGroupRequest& request, const ClientContext& client,
                    ClassicGroup& group, Now now, Output& out);
  void join_known(Token token, const JoinGroupRequest& request, const ClientContext& client,
                  ClassicGroup& group, Now now, Output& out);
  void add_and_rebalance(Token token, const JoinGroupRequest& request, const ClientContext& client,
                         ClassicGroup& group, const std::string& member_id, Now now, Output& out);
  void update_and_rebalance(Token token, const JoinGroupRequest& request, const ClientContext& client,
                            ClassicGroup& group, Member& member, Now now, Output& out);
  void replace_static_member(Token token, const JoinGroupRequest& request, const ClientContext& client,
                             ClassicGroup& group, const std::string& old_member_id,
                             const std::string& member_id, Now now, Output& out);
  JoinGroupResponse joined(const ClassicGroup& group, const Member& member) const;

  // rebalance.cc
  void prepare_rebalance(ClassicGroup& group, Now now, Output& out);
  void rebalance_if_idle_else_complete(ClassicGroup& group, Now now, Output& out);
  void complete_join_if_all_joined(ClassicGroup& group, Now now, Output& out);
  void complete_join(ClassicGroup& group, Now now, Output& out);
  void on_join_phase_deadline(ClassicGroup& group, Now now, Output& out);
  void on_sync_phase_deadline(ClassicGroup& group, Now now, Output& out);
  /// Takes the member out and answers what it had parked; the caller decides what the group does next.
  void expel(ClassicGroup& group, const std::string& member_id, ErrorCode code, Output& out);
  void after_removal(ClassicGroup& group, Now now, Output& out);

  // offset_requests.cc
  ErrorCode check_commit(const std::string& group_id, int32_t generation, const std::string& member_id,
                         const std::optional<std::string>& group_instance_id, bool transactional,
                         int16_t api_version, Now now);
  /// One record for each partition of `request`; partitions that may not be written get their error in
  /// `response`.
  template <class Request, class Response>
  void append_offsets(const Request& request, Response& response, int64_t expires_ms, Now now, Output& out);

  // admin.cc
  ErrorCode delete_group(const std::string& group_id, Output& out);
  bool is_subscribed(const std::string& group_id, const std::string& topic) const;

  // expiry.cc
  void expire_group(ClassicGroup& group, Now now, Output& out);
  void sweep_offsets(Now now, Output& out);
  void sweep_offsets_of(const std::string& group_id, Now now, Output& out);

  GroupLimits limits_;
  Trace trace_;
  GroupCounters counters_;

  // Replicated.
  std::map<std::string, GroupMetadata, std::less<>> records_;
  OffsetStore offsets_;

  // Volatile.
  std::map<std::string, ClassicGroup> groups_;
  std::set<std::pair<int64_t, std::string>> timers_;  // (mono ms, group)
  std::map<Token, ParkedAt> parked_;
  int64_t next_sweep_ms_ = kNoDeadline;  // mono
  std::optional<std::string> sweep_at_;  // the sweep goes on after this group; nullopt begins a new one
};

}  // namespace millrace::group
