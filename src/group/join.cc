// JoinGroup (11): who may enter, and whether it starts a rebalance.
// v4: a dynamic member is told its id first (79) and comes back with it; v5: static members (KIP-345); v9: a
// static leader that comes back is told to skip the assignment.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/assert.h"
#include "group/shard.h"
#include "group/subscription.h"

namespace millrace::group {
namespace {

constexpr int16_t kMemberIdRequiredFrom = 4;
constexpr int16_t kSkipAssignmentFrom = 9;

JoinGroupResponse join_error(ErrorCode code, const std::string& member_id) {
  JoinGroupResponse response;
  response.error_code = wire_number(code);
  response.member_id = member_id;
  return response;
}

/// "<client or instance>-<uuid>", the uuid in its usual form of 36 characters.
std::string new_member_id(const JoinGroupRequest& request, const ClientContext& client) {
  ASSERT(!client.fresh_uuid.is_zero());
  std::string id = request.group_instance_id ? *request.group_instance_id : client.client_id;
  for (size_t i = 0; i < client.fresh_uuid.bytes.size(); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) id += '-';
    id += fmt::format("{:02x}", client.fresh_uuid.bytes[i]);
  }
  return id;
}

/// The offered protocols; of two with one name the first.
std::vector<Protocol> protocols_of(const JoinGroupRequest& request) {
  std::vector<Protocol> protocols;
  std::set<std::string_view> names;
  for (const auto& p : request.protocols) {
    if (names.insert(p.name).second) protocols.push_back({p.name, p.metadata});
  }
  return protocols;
}

/// Whether a member with these two metadata would be assigned alike: of a consumer only the topics count,
/// since owned partitions and generation naturally differ after a restart.
bool same_interest(const ClassicGroup& group, const Bytes& before, const Bytes& after) {
  if (before == after) return true;
  if (!group.is_consumer_group()) return false;
  const auto old_topics = subscription_topics(before);
  return old_topics && old_topics == subscription_topics(after);
}

}  // namespace

void GroupShard::handle(Token token, const JoinGroupRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  if (const ErrorCode code = check_join(request, client); code != ErrorCode::none) {
    if (code == ErrorCode::invalid_request) ++counters_.limit_refusals;
    return out.reply(token, join_error(code, request.member_id));
  }
  const bool unknown = request.member_id.empty();
  ClassicGroup* group = find_group(request.group_id);
  if (group == nullptr) {
    if (!unknown) return out.reply(token, join_error(ErrorCode::unknown_member_id, request.member_id));
    if (std::max({records_.size(), offsets_.group_count(), groups_.size()}) >= limits_.groups_max) {
      ++counters_.limit_refusals;
      trace_.warn("group {} refused: the shard has {} groups", request.group_id, limits_.groups_max);
      return out.reply(token, join_error(ErrorCode::policy_violation, ""));
    }
    group = &make_group(request.group_id);
  }
  if (const ErrorCode code = admit(group, request); code != ErrorCode::none) {
    ++counters_.limit_refusals;
    if (group->find(request.member_id) != nullptr) {
      // The group was made smaller: this member finds no place in the next generation.
      expel(*group, request.member_id, code, out);
      after_removal(*group, now, out);
    }
    out.reply(token, join_error(code, ""));
  } else if (unknown) {
    join_unknown(token, request, client, *group, now, out);
  } else {
    join_known(token, request, client, *group, now, out);
  }
  settle(request.group_id);
}

ErrorCode GroupShard::check_join(const JoinGroupRequest& request, const ClientContext& client) const {
  if (request.group_id.empty() || request.group_id.size() > kIdBytesMax) return ErrorCode::invalid_group_id;
  if (request.session_timeout_ms < limits_.session_timeout_ms_min ||
      request.session_timeout_ms > limits_.session_timeout_ms_max) {
    return ErrorCode::invalid_session_timeout;
  }
  if (client.client_id.size() > kIdBytesMax || request.member_id.size() > kIdBytesMax + 64 ||
      request.group_instance_id.value_or("").size() > kIdBytesMax ||
      request.protocol_type.size() > kIdBytesMax ||
      request.protocols.size() > limits_.protocols_per_member_max) {
    return ErrorCode::invalid_request;
  }
  size_t bytes = 0;
  for (const auto& p : request.protocols) {
    if (p.name.size() > kIdBytesMax) return ErrorCode::invalid_request;
    bytes += p.name.size() + p.metadata.size();
  }
  return bytes > limits_.member_metadata_bytes_max ? ErrorCode::invalid_request : ErrorCode::none;
}

ErrorCode GroupShard::admit(const ClassicGroup* group, const JoinGroupRequest& request) const {
  const auto size_max = static_cast<size_t>(limits_.group_size_max);
  const Member* member = group->find(request.member_id);
  if (member == nullptr && request.member_id.empty() && request.group_instance_id) {
    const std::string* holder = group->static_member(*request.group_instance_id);
    if (holder != nullptr) member = group->find(*holder);
  }
  bool room = true;
  switch (group->state) {
    case GroupState::empty:
      break;
    case GroupState::preparing_rebalance:
      room = (member != nullptr && member->join) || group->joins_parked() < size_max;
      break;
    case GroupState::completing_rebalance:
    case GroupState::stable:
      room = member != nullptr || group->size() < size_max;
      break;
  }
  return room ? ErrorCode::none : ErrorCode::group_max_size_reached;
}

void GroupShard::join_unknown(Token token, const JoinGroupRequest& request, const ClientContext& client,
                              ClassicGroup& group, Now now, Output& out) {
  if (!group.supports(request.protocol_type, protocols_of(request))) {
    return out.reply(token, join_error(ErrorCode::inconsistent_group_protocol, ""));
  }
  const std::string member_id = new_member_id(request, client);
  if (group.find(member_id) != nullptr || group.pending().contains(member_id)) {
    // The same random id twice: the client may ask again.
    return out.reply(token, join_error(ErrorCode::coordinator_not_available, ""));
  }
  if (request.group_instance_id) {
    if (const std::string* holder = group.static_member(*request.group_instance_id)) {
      const std::string old_member_id = *holder;
      return replace_static_member(token, request, client, group, old_member_id, member_id, now, out);
    }
    return add_and_rebalance(token, request, client, group, member_id, now, out);
  }
  if (client.api_version < kMemberIdRequiredFrom) {
    return add_and_rebalance(token, request, client, group, member_id, now, out);
  }
  if (group.pending().size() >= static_cast<size_t>(limits_.pending_members_max)) {
    ++counters_.limit_refusals;
    return out.reply(token, join_error(ErrorCode::group_max_size_reached, ""));
  }
  const int64_t deadline = now.mono_ms + request.session_timeout_ms;
  group.pending().emplace(member_id, deadline);
  arm(group, deadline);
  out.reply(token, join_error(ErrorCode::member_id_required, member_id));
}

void GroupShard::join_known(Token token, const JoinGroupRequest& request, const ClientContext& client,
                            ClassicGroup& group, Now now, Output& out) {
  const std::string& member_id = request.member_id;
  std::vector<Protocol> protocols = protocols_of(request);
  if (!group.supports(request.protocol_type, protocols)) {
    return out.reply(token, join_error(ErrorCode::inconsistent_group_protocol, member_id));
  }
  if (group.pending().contains(member_id)) {
    // Ids are reserved for dynamic members only.
    if (request.group_instance_id)
      return out.reply(token, join_error(ErrorCode::unknown_member_id, member_id));
    return add_and_rebalance(token, request, client, group, member_id, now, out);
  }
  if (const ErrorCode code = check_member(group, member_id, request.group_instance_id);
      code != ErrorCode::none) {
    return out.reply(token, join_error(code, member_id));
  }
  Member& member = *group.find(member_id);
  const bool unchanged = member.protocols == protocols;
  switch (group.state) {
    case GroupState::empty:
      ASSERT(false);  // an empty group has no members
      break;
    case GroupState::preparing_rebalance:
      break;
    case GroupState::completing_rebalance:
      if (!unchanged) break;
      // It may have missed the answer of this generation.
      member.touch(now);
      return out.reply(token, joined(group, member));
    case GroupState::stable: {
      if (group.is_leader(member_id) || !unchanged) break;
      member.touch(now);
      return out.reply(token, joined(group, member));
    }
  }
  update_and_rebalance(token, request, client, group, member, now, out);
}

void GroupShard::add_and_rebalance(Token token, const JoinGroupRequest& request, const ClientContext& client,
                                   ClassicGroup& group, const std::string& member_id, Now now, Output& out) {
  Member fresh;
  fresh.member_id = member_id;
  fresh.group_instance_id = request.group_instance_id;
  fresh.client_id = client.client_id;
  fresh.client_host = client.client_host;
  fresh.session_timeout_ms = request.session_timeout_ms;
  fresh.rebalance_timeout_ms =
      std::clamp(request.rebalance_timeout_ms < 0 ? request.session_timeout_ms : request.rebalance_timeout_ms,
                 1, limits_.rebalance_timeout_ms_max);
  fresh.protocols = protocols_of(request);
  fresh.is_new = true;
  fresh.join_deadline_ms = now.mono_ms + limits_.new_member_join_timeout_ms;
  fresh.touch(now);
  Member& member = group.add(std::move(fresh), request.protocol_type);
  park_join(group, member, token, client);
  arm(group, member.join_deadline_ms);
  // Asks the first rebalance to wait another step for the ones still on their way.
  if (group.state == GroupState::preparing_rebalance && group.initial_rebalance)
    group.new_member_added = true;
  rebalance_if_idle_else_complete(group, now, out);
}

void GroupShard::update_and_rebalance(Token token, const JoinGroupRequest& request,
                                      const ClientContext& client, ClassicGroup& group, Member& member,
                                      Now now, Output& out) {
  // A second join of one member: the first was given up by its client, whose retry this is.
  answer(group.take_join(member), std::nullopt, ErrorCode::rebalance_in_progress, member.member_id, out);
  group.set_protocols(member, protocols_of(request));
  member.client_id = client.client_id;
  member.client_host = client.client_host;
  member.session_timeout_ms = request.session_timeout_ms;
  member.rebalance_timeout_ms =
      std::clamp(request.rebalance_timeout_ms < 0 ? request.session_timeout_ms : request.rebalance_timeout_ms,
                 1, limits_.rebalance_timeout_ms_max);
  member.touch(now);
  answer(std::nullopt, std::exchange(member.sync, std::nullopt), ErrorCode::rebalance_in_progress,
         member.member_id, out);
  park_join(group, member, token, client);
  if (member.is_new) arm(group, member.join_deadline_ms);
  rebalance_if_idle_else_complete(group, now, out);
}

void GroupShard::replace_static_member(Token token, const JoinGroupRequest& request,
                                       const ClientContext& client, ClassicGroup& group,
                                       const std::string& old_member_id, const std::string& member_id,
                                       Now now, Output& out) {
  const bool was_leader = group.is_leader(old_member_id);
  const auto [old_join, old_sync] = group.replace_static(old_member_id, member_id);
  answer(old_join, old_sync, ErrorCode::fenced_instance_id, old_member_id, out);
  Member& member = *group.find(member_id);
  Bytes old_metadata;
  if (group.protocol) {
    if (const Bytes* m = member.metadata_for(*group.protocol)) old_metadata = *m;
  }
  if (group.state != GroupState::stable) {
    return update_and_rebalance(token, request, client, group, member, now, out);
  }

  const std::vector<Protocol> old_protocols = member.protocols;
  group.set_protocols(member, protocols_of(request));
  const Bytes* new_metadata = member.metadata_for(*group.protocol);
  if (new_metadata == nullptr || group.vote() != *group.protocol ||
      !same_interest(group, old_metadata, *new_metadata)) {
    return update_and_rebalance(token, request, client, group, member, now, out);
  }

  // The assignment stays good: only the member's name changes, and that is written.
  member.client_id = client.client_id;
  member.client_host = client.client_host;
  member.session_timeout_ms = request.session_timeout_ms;
  member.rebalance_timeout_ms =
      std::clamp(request.rebalance_timeout_ms < 0 ? request.session_timeout_ms : request.rebalance_timeout_ms,
                 1, limits_.rebalance_timeout_ms_max);
  member.must_sync = false;
  member.touch(now);
  arm(group, member.session_deadline_ms);
  GroupMetadata metadata = metadata_of(group, now);
  const GroupMetadata* record = record_of(group.group_id());
  ASSERT(record != nullptr);
  for (auto& [id, m] : metadata.members) {
    const auto stored = record->members.find(id == member_id ? old_member_id : id);
    if (stored != record->members.end()) m.assignment = stored->second.assignment;
  }
  out.records.push_back({encode_key(GroupKey{group.group_id()}), encode_value(metadata)});

  JoinGroupResponse response = joined(group, member);
  if (was_leader) {
    if (client.api_version >= kSkipAssignmentFrom) {
      response.skip_assignment = true;
    } else {
      // Below v9 it must take itself for a follower, or it would assign without knowing the members.
      response.leader = old_member_id;
      response.members.clear();
    }
  }
  out.reply(token, std::move(response));
}

JoinGroupResponse GroupShard::joined(const ClassicGroup& group, const Member& member) const {
  ASSERT(group.protocol && group.leader);
  JoinGroupResponse response;
  response.generation_id = group.generation;
  response.protocol_type = group.protocol_type;
  response.protocol_name = *group.protocol;
  response.leader = *group.leader;
  response.member_id = member.member_id;
  if (!group.is_leader(member.member_id)) return response;
  for (const auto& [id, m] : group.members()) {
    auto& listed = response.members.emplace_back();
    listed.member_id = id;
    listed.group_instance_id = m.group_instance_id;
    if (const Bytes* metadata = m.metadata_for(*group.protocol)) listed.metadata = *metadata;
  }
  return response;
}

}  // namespace millrace::group
