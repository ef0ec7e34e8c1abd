// DescribeGroups (15), ListGroups (16), DeleteGroups (42) and OffsetDelete (47).
// DescribeGroups v6: an unknown group is 69 instead of a state "Dead". ListGroups v4: by state; v5: by type.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/assert.h"
#include "group/shard.h"

namespace millrace::group {
namespace {

constexpr std::string_view kClassicType = "classic";
constexpr int16_t kNotFoundInsteadOfDeadFrom = 6;

bool same_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

bool passes(const std::vector<std::string>& filter, std::string_view what) {
  return filter.empty() || std::any_of(filter.begin(), filter.end(),
                                       [&](const std::string& f) { return same_ignoring_case(f, what); });
}

}  // namespace

bool GroupShard::is_subscribed(const std::string& group_id, const std::string& topic) const {
  const ClassicGroup* group = live(group_id);
  return group != nullptr && group->is_subscribed(topic);
}

void GroupShard::handle(Token token, const DescribeGroupsRequest& request, const ClientContext& client,
                        Now now, Output& out) {
  (void)now;
  DescribeGroupsResponse response;
  for (const std::string& group_id : request.groups) {
    auto& described = response.groups.emplace_back();
    described.group_id = group_id;
    if (!exists(group_id)) {
      described.group_state = "Dead";
      if (client.api_version >= kNotFoundInsteadOfDeadFrom) {
        described.error_code = wire_number(ErrorCode::group_id_not_found);
        described.error_message = fmt::format("Group {} not found.", group_id);
      }
      continue;
    }
    const ClassicGroup* group = live(group_id);
    const GroupMetadata* record = record_of(group_id);
    described.group_state = std::string(state_name(state_of(group_id)));
    if (group != nullptr && group->protocol_type) {
      described.protocol_type = *group->protocol_type;
    } else if (record != nullptr) {
      described.protocol_type = record->protocol_type;
    }
    if (group == nullptr) continue;
    const bool stable = group->state == GroupState::stable;
    if (stable) described.protocol_data = *group->protocol;
    for (const auto& [member_id, member] : group->members()) {
      auto& m = described.members.emplace_back();
      m.member_id = member_id;
      m.group_instance_id = member.group_instance_id;
      m.client_id = member.client_id;
      m.client_host = member.client_host;
      if (!stable) continue;
      const auto stored = record->members.find(member_id);
      ASSERT(stored != record->members.end());
      m.member_metadata = stored->second.subscription;
      m.member_assignment = stored->second.assignment;
    }
  }
  out.reply(token, std::move(response));
}

void GroupShard::handle(Token token, const ListGroupsRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  (void)client;
  (void)now;
  ListGroupsResponse response;
  if (passes(request.types_filter, kClassicType)) {
    for (auto id = next_group(std::nullopt); id; id = next_group(id)) {
      const std::string_view state = state_name(state_of(*id));
      if (!passes(request.states_filter, state)) continue;
      auto& listed = response.groups.emplace_back();
      listed.group_id = *id;
      listed.group_state = std::string(state);
      listed.group_type = std::string(kClassicType);
      if (const ClassicGroup* group = live(*id); group != nullptr && group->protocol_type) {
        listed.protocol_type = *group->protocol_type;
      } else if (const GroupMetadata* record = record_of(*id)) {
        listed.protocol_type = record->protocol_type;
      }
    }
  }
  out.reply(token, std::move(response));
}

ErrorCode GroupShard::delete_group(const std::string& group_id, Output& out) {
  if (!exists(group_id)) return ErrorCode::group_id_not_found;
  if (state_of(group_id) != GroupState::empty) return ErrorCode::non_empty_group;
  if (const OffsetStore::Topics* topics = offsets_.topics_of(group_id)) {
    for (const auto& [topic, partitions] : *topics) {
      for (const auto& [partition, offset] : partitions) {
        out.records.push_back({encode_key(OffsetKey{group_id, topic, partition}), std::nullopt});
      }
    }
  }
  for (const OffsetKey& key : offsets_.pending_only(group_id)) {
    out.records.push_back({encode_key(key), std::nullopt});
  }
  if (record_of(group_id) != nullptr) out.records.push_back({encode_key(GroupKey{group_id}), std::nullopt});
  const auto it = groups_.find(group_id);
  if (it != groups_.end()) {
    // Promises to join die with the group; those clients will be told 25 and begin again.
    it->second.pending().clear();
    settle(group_id);
  }
  return ErrorCode::none;
}

void GroupShard::handle(Token token, const DeleteGroupsRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  (void)client;
  (void)now;
  DeleteGroupsResponse response;
  std::set<std::string> seen;
  for (const std::string& group_id : request.groups_names) {
    if (!seen.insert(group_id).second) continue;
    auto& result = response.results.emplace_back();
    result.group_id = group_id;
    result.error_code = wire_number(delete_group(group_id, out));
  }
  out.reply(token, std::move(response));
}

void GroupShard::handle(Token token, const OffsetDeleteRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  (void)client;
  (void)now;
  OffsetDeleteResponse response;
  const auto refuse = [&](ErrorCode code) {
    response.error_code = wire_number(code);
    out.reply(token, std::move(response));
  };
  if (!exists(request.group_id)) return refuse(ErrorCode::group_id_not_found);
  const ClassicGroup* group = live(request.group_id);
  if (group != nullptr && group->state != GroupState::empty && !group->is_consumer_group()) {
    // What other protocols' members use cannot be known.
    return refuse(ErrorCode::non_empty_group);
  }
  for (const auto& topic : request.topics) {
    auto& t = response.topics.emplace_back();
    t.name = topic.name;
    const bool subscribed = is_subscribed(request.group_id, topic.name);
    for (const auto& partition : topic.partitions) {
      auto& p = t.partitions.emplace_back();
      p.partition_index = partition.partition_index;
      if (subscribed) {
        p.error_code = wire_number(ErrorCode::group_subscribed_to_topic);
      } else if (offsets_.find(request.group_id, topic.name, partition.partition_index) != nullptr ||
                 offsets_.has_pending(request.group_id, topic.name, partition.partition_index)) {
        out.records.push_back(
            {encode_key(OffsetKey{request.group_id, topic.name, partition.partition_index}), std::nullopt});
      }
    }
  }
  out.reply(token, std::move(response));
}

}  // namespace millrace::group
