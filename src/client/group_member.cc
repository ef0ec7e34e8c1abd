#include "client/group_member.h"

#include <algorithm>
#include <set>
#include <utility>

#include "wire/messages/heartbeat.h"
#include "wire/messages/leave_group.h"

namespace millrace::client {
namespace {

constexpr int64_t kJoinSlackMs = 5'000;  // on top of the rebalance timeout that the broker waits
constexpr int64_t kPauseBeforeJoinMs = 200;
constexpr int64_t kLeaveTimeoutMs = 3'000;

bool membership_is_gone(ErrorCode code) {
  return code == ErrorCode::unknown_member_id || code == ErrorCode::illegal_generation;
}

bool may_come_back(ErrorCode code) {
  return is_retriable(code) || code == ErrorCode::closed || code == ErrorCode::timed_out ||
         code == ErrorCode::io_error;
}

}  // namespace

GroupMember::GroupMember(Client& client, GroupOptions options, Events events)
    : client_(client), options_(std::move(options)), events_(std::move(events)) {
  ASSERT(!options_.group.empty() && !options_.topics.empty());
}

GroupMember::~GroupMember() {
  if (heartbeat_ != 0) client_.loop().cancel(heartbeat_);
}

GroupIdentity GroupMember::identity() const {
  return {options_.group, member_id_, generation_, options_.instance_id};
}

void GroupMember::join() {
  if (state_ == State::stopped) return;
  state_ = State::joining;
  wire::JoinGroupRequest request;
  request.group_id = options_.group;
  request.session_timeout_ms = options_.session_timeout_ms;
  request.rebalance_timeout_ms = options_.rebalance_timeout_ms;
  request.member_id = member_id_;
  request.group_instance_id = options_.instance_id;
  request.protocol_type = kConsumerProtocolType;
  auto& protocol = request.protocols.emplace_back();
  protocol.name = kRangeProtocol;
  protocol.metadata = encode_subscription(options_.topics);
  CallOptions options;
  options.request_timeout_ms = options_.rebalance_timeout_ms + kJoinSlackMs;
  options.timeout_ms = options.request_timeout_ms;
  client_.call<wire::JoinGroupRequest>(
      Target::coordinator(options_.group, Lane::group), std::move(request), options,
      [](const wire::JoinGroupResponse& r) { return error_from_wire(r.error_code); },
      [this, life = std::weak_ptr<void>(life_)](Result<wire::JoinGroupResponse> response) {
        if (!life.expired()) joined(std::move(response));
      });
}

void GroupMember::joined(Result<wire::JoinGroupResponse> response) {
  if (state_ == State::stopped) return;
  if (!response.ok()) return join_later(std::move(response).error());
  const ErrorCode code = error_from_wire(response->error_code);
  switch (code) {
    case ErrorCode::none:
      break;
    case ErrorCode::member_id_required:
      member_id_ = response->member_id;
      return join();
    case ErrorCode::unknown_member_id:
      member_id_.clear();
      return join_later(Error(code));
    case ErrorCode::illegal_generation:
    case ErrorCode::rebalance_in_progress:
      return join_later(Error(code));
    default:
      if (may_come_back(code)) return join_later(Error(code));
      return failed(
          Error(code, "group " + options_.group + " cannot be joined: " + std::string(error_name(code))));
  }
  silent_since_ms_ = -1;
  member_id_ = response->member_id;
  generation_ = response->generation_id;
  protocol_ = response->protocol_name.value_or(kRangeProtocol);
  leads_ = response->leader == member_id_;
  if (!leads_ || response->skip_assignment) return sync({});
  if (protocol_ != kRangeProtocol) {
    return failed(
        Error(ErrorCode::inconsistent_group_protocol,
              "group " + options_.group + " chose the protocol " + protocol_ + ", which is not ours"));
  }
  lead(*response);
}

void GroupMember::lead(const wire::JoinGroupResponse& response) {
  auto members = std::make_shared<std::vector<MemberSubscription>>();
  std::set<std::string> topics;
  for (const auto& m : response.members) {
    MemberSubscription s;
    s.member_id = m.member_id;
    s.instance_id = m.group_instance_id;
    // A member whose subscription cannot be read gets nothing rather than stopping the group.
    if (Result<std::vector<std::string>> read = decode_subscription(m.metadata); read.ok()) {
      s.topics = std::move(read).value();
    }
    topics.insert(s.topics.begin(), s.topics.end());
    members->push_back(std::move(s));
  }
  client_.refresh(std::vector<std::string>(topics.begin(), topics.end()), false, 0,
                  [this, life = std::weak_ptr<void>(life_), members, topics](Status s) {
                    if (life.expired() || state_ == State::stopped) return;
                    if (!s.ok()) return join_later(std::move(s).error());
                    std::map<std::string, int32_t> counts;
                    for (const std::string& name : topics) {
                      if (const TopicInfo* t = client_.view().topic(name)) {
                        counts[name] = static_cast<int32_t>(t->partitions.size());
                      }
                    }
                    std::vector<wire::SyncGroupRequest::SyncGroupRequestAssignment> out;
                    for (const auto& [member, partitions] : assign_range(*members, counts)) {
                      out.push_back({member, encode_assignment(partitions)});
                    }
                    sync(std::move(out));
                  });
}

void GroupMember::sync(std::vector<wire::SyncGroupRequest::SyncGroupRequestAssignment> assignments) {
  wire::SyncGroupRequest request;
  request.group_id = options_.group;
  request.generation_id = generation_;
  request.member_id = member_id_;
  request.group_instance_id = options_.instance_id;
  request.protocol_type = kConsumerProtocolType;
  request.protocol_name = protocol_;
  request.assignments = std::move(assignments);
  CallOptions options;
  options.request_timeout_ms = options_.rebalance_timeout_ms + kJoinSlackMs;
  options.timeout_ms = options.request_timeout_ms;
  client_.call<wire::SyncGroupRequest>(
      Target::coordinator(options_.group, Lane::group), std::move(request), options,
      [](const wire::SyncGroupResponse& r) { return error_from_wire(r.error_code); },
      [this, life = std::weak_ptr<void>(life_)](Result<wire::SyncGroupResponse> response) {
        if (!life.expired()) synced(std::move(response));
      });
}

void GroupMember::synced(Result<wire::SyncGroupResponse> response) {
  if (state_ == State::stopped) return;
  if (!response.ok()) return join_later(std::move(response).error());
  const ErrorCode code = error_from_wire(response->error_code);
  if (code != ErrorCode::none) {
    if (code == ErrorCode::unknown_member_id) member_id_.clear();
    if (membership_is_gone(code) || code == ErrorCode::rebalance_in_progress || may_come_back(code)) {
      return join_later(Error(code));
    }
    return failed(Error(code, "group " + options_.group + ": " + std::string(error_name(code))));
  }
  Result<std::vector<TopicPartition>> assigned = decode_assignment(response->assignment);
  if (!assigned.ok()) return failed(std::move(assigned).error());
  state_ = State::stable;
  arm_heartbeat();
  events_.on_assigned(std::move(assigned).value());
}

void GroupMember::arm_heartbeat() {
  if (heartbeat_ != 0) client_.loop().cancel(heartbeat_);
  heartbeat_ = client_.loop().call_after(options_.heartbeat_interval_ms, [this] {
    heartbeat_ = 0;
    if (state_ == State::stable) beat();
  });
}

void GroupMember::beat() {
  wire::HeartbeatRequest request;
  request.group_id = options_.group;
  request.generation_id = generation_;
  request.member_id = member_id_;
  request.group_instance_id = options_.instance_id;
  CallOptions options;
  options.timeout_ms = options_.session_timeout_ms;
  options.request_timeout_ms = options_.session_timeout_ms;
  const int32_t generation = generation_;
  client_.call<wire::HeartbeatRequest>(
      Target::coordinator(options_.group, Lane::group), std::move(request), options,
      [](const wire::HeartbeatResponse& r) { return error_from_wire(r.error_code); },
      [this, life = std::weak_ptr<void>(life_), generation](Result<wire::HeartbeatResponse> response) {
        if (life.expired() || state_ != State::stable || generation != generation_) return;
        const ErrorCode code = response.ok() ? error_from_wire(response->error_code) : response.code();
        if (code == ErrorCode::none) return arm_heartbeat();
        if (code == ErrorCode::rebalance_in_progress) return rebalance();
        if (membership_is_gone(code)) {
          if (code == ErrorCode::unknown_member_id) member_id_.clear();
          return lost();
        }
        if (may_come_back(code)) return lost();  // the session has run out by now
        failed(Error(code, "group " + options_.group + ": " + std::string(error_name(code))));
      });
}

void GroupMember::rebalance() {
  state_ = State::giving_up;
  events_.on_giving_up([this, life = std::weak_ptr<void>(life_)] {
    if (!life.expired() && state_ == State::giving_up) join();
  });
}

void GroupMember::lost() {
  state_ = State::out;
  generation_ = -1;
  const std::weak_ptr<void> life = life_;
  events_.on_lost();
  if (!life.expired()) join();
}

void GroupMember::join_later(Error why) {
  if (!may_come_back(why.code) && !membership_is_gone(why.code) &&
      why.code != ErrorCode::rebalance_in_progress) {
    return failed(std::move(why));
  }
  const int64_t now = client_.now_ms();
  if (silent_since_ms_ < 0) silent_since_ms_ = now;
  if (now - silent_since_ms_ > options_.give_up_ms) return failed(std::move(why));
  state_ = State::out;
  client_.loop().call_after(kPauseBeforeJoinMs, [this, life = std::weak_ptr<void>(life_)] {
    if (!life.expired() && state_ == State::out) join();
  });
}

void GroupMember::failed(Error why) {
  state_ = State::stopped;
  events_.on_failed(std::move(why));
}

void GroupMember::leave(std::function<void()> done) {
  const bool member = !member_id_.empty() && !options_.instance_id;
  state_ = State::stopped;
  if (!member) return done();
  wire::LeaveGroupRequest request;
  request.group_id = options_.group;
  request.member_id = member_id_;
  auto& m = request.members.emplace_back();
  m.member_id = member_id_;
  m.reason = "the consumer was closed";
  CallOptions options;
  options.timeout_ms = kLeaveTimeoutMs;
  options.request_timeout_ms = kLeaveTimeoutMs;
  // On a connection of its own: a join that waits would hold it up.
  client_.call<wire::LeaveGroupRequest>(
      Target::coordinator(options_.group), std::move(request), options, nullptr,
      [done = std::move(done)](Result<wire::LeaveGroupResponse>) { done(); });
}

}  // namespace millrace::client
