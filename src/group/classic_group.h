// A group of the classic protocol while it is alive: members, their parked requests, the state of the
// rebalance. All of it volatile; what survives is the GroupMetadata record that shard.cc keeps beside it.
// This file keeps the books (counts, votes, who waits); what happens when is decided in join.cc,
// rebalance.cc, sync.cc, heartbeat.cc and leave.cc. Owned by the GroupShard.
//
//   empty -> preparing_rebalance -> completing_rebalance -> stable
//     ^            |    ^  ^                 |    |            |
//     +------------+    |  +-----------------+    |            |      (dead: not there any more)
//                       +------------------------(+)-----------+
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "group/output.h"
#include "group/records.h"

namespace millrace::group {

enum class GroupState : uint8_t { empty, preparing_rebalance, completing_rebalance, stable };

/// Kafka's spelling: "PreparingRebalance".
std::string_view state_name(GroupState state);

struct Protocol {
  std::string name;
  Bytes metadata;
  bool operator==(const Protocol&) const = default;
};

/// A request that waits for its answer.
struct Parked {
  Token token;
  int16_t api_version = 0;
};

struct Member {
  std::string member_id;
  std::optional<std::string> group_instance_id;
  std::string client_id;
  std::string client_host;
  int32_t rebalance_timeout_ms = 0;
  int32_t session_timeout_ms = 0;
  std::vector<Protocol> protocols;  // best first

  /// Its first join is still unanswered: it lives until join_deadline_ms, whatever its session timeout.
  bool is_new = false;
  /// It must still send a SyncGroup in this generation.
  bool must_sync = false;
  std::optional<Parked> join;
  std::optional<Parked> sync;
  int64_t session_deadline_ms = kNoDeadline;  // mono
  int64_t join_deadline_ms = kNoDeadline;     // mono

  /// When it counts as gone unless something happens; none while a request of its own waits for us.
  int64_t deadline_ms() const {
    if (join) return is_new ? join_deadline_ms : kNoDeadline;
    return sync ? kNoDeadline : session_deadline_ms;
  }
  void touch(Now now) { session_deadline_ms = now.mono_ms + session_timeout_ms; }
  const Bytes* metadata_for(std::string_view protocol) const;
};

class ClassicGroup {
 public:
  explicit ClassicGroup(std::string group_id) : group_id_(std::move(group_id)) {}

  const std::string& group_id() const { return group_id_; }

  // Members. A Member's id, instance and protocols change only through these.
  const std::map<std::string, Member>& members() const { return members_; }
  size_t size() const { return members_.size(); }
  Member* find(const std::string& member_id);
  const Member* find(const std::string& member_id) const;
  /// The member id that holds this instance id; nullptr if none.
  const std::string* static_member(const std::string& group_instance_id) const;
  /// The first member becomes the leader and gives the group its protocol type.
  Member& add(Member member, const std::string& protocol_type);
  /// Takes the member out; the caller answers what it had parked.
  Member remove(const std::string& member_id);
  void set_protocols(Member& member, std::vector<Protocol> protocols);
  /// The instance's new process takes over the place of its old one (leadership too). Returns what the old
  /// one had parked: {join, sync}.
  std::pair<std::optional<Parked>, std::optional<Parked>> replace_static(const std::string& old_member_id,
                                                                         const std::string& new_member_id);
  void park_join(Member& member, Parked parked);
  std::optional<Parked> take_join(Member& member);
  size_t joins_parked() const { return joins_parked_; }

  // Members that were told an id and have not come back with it (v4+).
  std::map<std::string, int64_t>& pending() { return pending_; }
  const std::map<std::string, int64_t>& pending() const { return pending_; }

  /// Everybody known has rejoined.
  bool all_joined() const { return joins_parked_ == members_.size() && pending_.empty(); }
  /// Some protocol of the list is known to all present members, and the type fits.
  bool supports(const std::string& protocol_type, const std::vector<Protocol>& protocols) const;
  /// The protocol that most members prefer among those that all know; ties go to the smaller name. Not for an
  /// empty group.
  std::string vote() const;
  /// Keeps the leader if it has rejoined, else takes the first member that has; false if none has.
  bool elect_joined_leader();
  bool is_leader(const std::string& member_id) const { return leader == member_id; }
  int32_t rebalance_timeout_ms() const;
  /// Topics that its consumers read; nullopt if they cannot be known.
  bool is_subscribed(const std::string& topic) const;
  bool is_consumer_group() const;
  void refresh_subscribed_topics();

  /// Nothing here that the replicated record does not say.
  bool idle() const { return state == GroupState::empty && members_.empty() && pending_.empty(); }
  /// The earliest moment at which a tick has to look at the group.
  int64_t next_deadline_ms() const;
  /// Aborts if the books are wrong: our own promise.
  void check() const;
  /// A few lines for tests and the operator.
  std::string to_string() const;

  GroupState state = GroupState::empty;
  int32_t generation = 0;
  std::optional<std::string> protocol_type;
  std::optional<std::string> protocol;  // chosen for this generation
  std::optional<std::string> leader;

  // The join phase (preparing_rebalance). The first one of an empty group waits for more members in steps.
  bool initial_rebalance = false;
  bool new_member_added = false;
  int32_t initial_delay_left_ms = 0;
  int64_t join_phase_deadline_ms = kNoDeadline;
  /// Members that have not sent their SyncGroup by then are out (completing_rebalance and stable).
  int64_t sync_phase_deadline_ms = kNoDeadline;

  /// The shard's timer entry for this group; never later than next_deadline_ms().
  int64_t timer_ms = kNoDeadline;

 private:
  void count_protocols(const Member& member, int delta);

  std::string group_id_;
  std::map<std::string, Member> members_;
  std::map<std::string, std::string> static_members_;  // instance id -> member id
  std::map<std::string, int64_t> pending_;             // member id -> mono deadline
  std::map<std::string, size_t> protocol_support_;     // protocol -> members that know it
  size_t joins_parked_ = 0;
  std::optional<std::set<std::string>> subscribed_topics_;
};

}  // namespace millrace::group
