// Lookup, replicated state, load, timers and parked requests; the protocol itself is in the other files.
#include "group/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace millrace::group {

GroupShard::GroupShard(GroupLimits limits, Trace trace) : limits_(limits), trace_(std::move(trace)) {
  ASSERT(limits_.session_timeout_ms_min > 0 &&
         limits_.session_timeout_ms_min <= limits_.session_timeout_ms_max);
  ASSERT(limits_.group_size_max > 0 && limits_.rebalance_timeout_ms_max > 0);
  ASSERT(limits_.records_per_tick_max > 0 && limits_.offsets_retention_check_interval_ms > 0);
}

// ---- replicated state

void GroupShard::apply(ByteView key, std::optional<ByteView> value, Now now, ProducerId producer) {
  (void)now;  // part of every machine's contract; nothing here depends on when it is applied
  const auto corrupt = [this](const Error& error) {
    ++counters_.records_corrupt;
    trace_.error("skipped a damaged record: {}", error.message);
  };
  auto decoded = decode_key(key);
  if (!decoded) return corrupt(decoded.error());
  if (const auto* offset_key = std::get_if<OffsetKey>(&*decoded)) {
    if (!value) return offsets_.erase(*offset_key);
    auto offset = decode_offset_value(*value);
    if (!offset) return corrupt(offset.error());
    if (producer == kNoProducerId) {
      offsets_.put(*offset_key, std::move(offset).value());
    } else {
      offsets_.put_pending(producer, *offset_key, std::move(offset).value());
    }
  } else if (const auto* group_key = std::get_if<GroupKey>(&*decoded)) {
    if (!value) {
      records_.erase(group_key->group);
      return;
    }
    auto metadata = decode_group_value(*value);
    if (!metadata) return corrupt(metadata.error());
    records_.insert_or_assign(group_key->group, std::move(metadata).value());
  } else {
    ++counters_.records_unknown;
  }
}

void GroupShard::apply_marker(ProducerId producer, bool committed) {
  offsets_.end_transaction(producer, committed);
}

void GroupShard::on_loaded(Now now) {
  ASSERT(groups_.empty() && parked_.empty());
  for (const auto& [group_id, record] : records_) {
    if (record.members.empty()) continue;
    if (!record.protocol || !record.leader || !record.members.contains(*record.leader)) {
      // Written by no coordinator; whoever still lives will join anew.
      ++counters_.records_corrupt;
      trace_.error("group {} was stored without a leader or protocol; its members are ignored", group_id);
      continue;
    }
    ClassicGroup& group = groups_.emplace(group_id, ClassicGroup(group_id)).first->second;
    group.generation = record.generation;
    for (const auto& [member_id, stored] : record.members) {
      Member member;
      member.member_id = member_id;
      member.group_instance_id = stored.group_instance_id;
      if (member.group_instance_id && group.static_member(*member.group_instance_id) != nullptr) {
        member.group_instance_id.reset();
      }
      member.client_id = stored.client_id;
      member.client_host = stored.client_host;
      member.rebalance_timeout_ms =
          std::clamp(stored.rebalance_timeout_ms, 1, limits_.rebalance_timeout_ms_max);
      member.session_timeout_ms = std::clamp(stored.session_timeout_ms, 1, limits_.session_timeout_ms_max);
      member.protocols.push_back({*record.protocol, stored.subscription});
      member.touch(now);
      group.add(std::move(member), record.protocol_type);
    }
    group.protocol = record.protocol;
    group.leader = record.leader;
    group.state = GroupState::stable;
    group.refresh_subscribed_topics();
    rearm(group);
    if (group.size() > static_cast<size_t>(limits_.group_size_max)) {
      // The limit has become smaller: the next generation keeps the first that join.
      Output none;
      prepare_rebalance(group, now, none);
      ASSERT(none.replies.empty() && none.records.empty());
    }
  }
  next_sweep_ms_ = now.mono_ms + limits_.offsets_retention_check_interval_ms;
}

// ---- lookup

const GroupMetadata* GroupShard::record_of(const std::string& group_id) const {
  const auto it = records_.find(group_id);
  return it == records_.end() ? nullptr : &it->second;
}

bool GroupShard::exists(const std::string& group_id) const {
  return groups_.contains(group_id) || records_.contains(group_id) || offsets_.topics_of(group_id) != nullptr;
}

std::optional<std::string> GroupShard::next_group(const std::optional<std::string>& group_id) const {
  std::optional<std::string> next = offsets_.next_group(group_id);
  const auto record = group_id ? records_.upper_bound(*group_id) : records_.begin();
  if (record != records_.end() && (!next || record->first < *next)) next = record->first;
  const auto live_group = group_id ? groups_.upper_bound(*group_id) : groups_.begin();
  if (live_group != groups_.end() && (!next || live_group->first < *next)) next = live_group->first;
  return next;
}

size_t GroupShard::group_count() const {
  size_t n = 0;
  for (auto id = next_group(std::nullopt); id; id = next_group(id)) ++n;
  return n;
}

const ClassicGroup* GroupShard::live(const std::string& group_id) const {
  const auto it = groups_.find(group_id);
  return it == groups_.end() ? nullptr : &it->second;
}

GroupState GroupShard::state_of(const std::string& group_id) const {
  const ClassicGroup* group = live(group_id);
  return group == nullptr ? GroupState::empty : group->state;
}

ClassicGroup* GroupShard::find_group(const std::string& group_id) {
  const auto it = groups_.find(group_id);
  if (it != groups_.end()) return &it->second;
  return exists(group_id) ? &make_group(group_id) : nullptr;
}

ClassicGroup& GroupShard::make_group(const std::string& group_id) {
  const auto [it, added] = groups_.emplace(group_id, ClassicGroup(group_id));
  ASSERT(added);
  ClassicGroup& group = it->second;
  if (const GroupMetadata* record = record_of(group_id)) {
    group.generation = record->generation;
    if (!record->protocol_type.empty()) group.protocol_type = record->protocol_type;
  }
  return group;
}

void GroupShard::settle(const std::string& group_id) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end() || !it->second.idle()) return;
  timers_.erase({it->second.timer_ms, group_id});
  groups_.erase(it);
}

ErrorCode GroupShard::check_member(const ClassicGroup& group, const std::string& member_id,
                                   const std::optional<std::string>& group_instance_id) const {
  if (group_instance_id) {
    const std::string* holder = group.static_member(*group_instance_id);
    if (holder == nullptr) return ErrorCode::unknown_member_id;
    if (*holder != member_id) return ErrorCode::fenced_instance_id;
  }
  return group.find(member_id) == nullptr ? ErrorCode::unknown_member_id : ErrorCode::none;
}

GroupMetadata GroupShard::metadata_of(const ClassicGroup& group, Now now) const {
  GroupMetadata metadata;
  metadata.protocol_type = group.protocol_type.value_or("");
  metadata.generation = group.generation;
  metadata.current_state_timestamp_ms = now.wall_ms;
  if (group.members().empty()) return metadata;
  ASSERT(group.protocol && group.leader);
  metadata.protocol = group.protocol;
  metadata.leader = group.leader;
  for (const auto& [member_id, member] : group.members()) {
    GroupMetadata::Member& m = metadata.members[member_id];
    m.group_instance_id = member.group_instance_id;
    m.client_id = member.client_id;
    m.client_host = member.client_host;
    m.rebalance_timeout_ms = member.rebalance_timeout_ms;
    m.session_timeout_ms = member.session_timeout_ms;
    if (const Bytes* subscription = member.metadata_for(*group.protocol)) m.subscription = *subscription;
  }
  return metadata;
}

// ---- parked requests

void GroupShard::park_join(ClassicGroup& group, Member& member, Token token, const ClientContext& client) {
  group.park_join(member, {token, client.api_version});
  const bool fresh = parked_.emplace(token, ParkedAt{group.group_id(), member.member_id}).second;
  ASSERT(fresh);
}

void GroupShard::park_sync(ClassicGroup& group, Member& member, Token token, const ClientContext& client) {
  ASSERT(!member.sync);
  member.sync = Parked{token, client.api_version};
  const bool fresh = parked_.emplace(token, ParkedAt{group.group_id(), member.member_id}).second;
  ASSERT(fresh);
}

void GroupShard::answer_join(ClassicGroup& group, Member& member, JoinGroupResponse response, Output& out) {
  const std::optional<Parked> parked = group.take_join(member);
  if (!parked) return;
  parked_.erase(parked->token);
  out.reply(parked->token, std::move(response));
}

void GroupShard::answer_sync(Member& member, SyncGroupResponse response, Output& out) {
  if (!member.sync) return;
  parked_.erase(member.sync->token);
  out.reply(member.sync->token, std::move(response));
  member.sync.reset();
}

void GroupShard::answer(const std::optional<Parked>& join, const std::optional<Parked>& sync, ErrorCode code,
                        const std::string& member_id, Output& out) {
  if (join) {
    parked_.erase(join->token);
    JoinGroupResponse response;
    response.error_code = wire_number(code);
    response.member_id = member_id;
    out.reply(join->token, std::move(response));
  }
  if (sync) {
    parked_.erase(sync->token);
    SyncGroupResponse response;
    response.error_code = wire_number(code);
    out.reply(sync->token, std::move(response));
  }
}

void GroupShard::drop(Token token) {
  const auto it = parked_.find(token);
  if (it == parked_.end()) return;
  const ParkedAt at = std::move(it->second);
  parked_.erase(it);
  const auto group_it = groups_.find(at.group_id);
  ASSERT(group_it != groups_.end());
  ClassicGroup& group = group_it->second;
  Member* member = group.find(at.member_id);
  ASSERT(member != nullptr);
  if (member->join && member->join->token == token) {
    const std::optional<Parked> join = group.take_join(*member);
    constexpr int16_t kFirstVersionThatKnowsItsId = 4;
    if (member->is_new && !member->group_instance_id && join->api_version < kFirstVersionThatKnowsItsId) {
      // It was never told its id, so nobody can come back as this member.
      member->session_deadline_ms = 0;  // long past
    }
  } else {
    ASSERT(member->sync && member->sync->token == token);
    member->sync.reset();
  }
  arm(group, member->deadline_ms());
}

// ---- timers

void GroupShard::arm(ClassicGroup& group, int64_t mono_ms) {
  if (mono_ms >= group.timer_ms) return;
  timers_.erase({group.timer_ms, group.group_id()});
  group.timer_ms = mono_ms;
  timers_.emplace(mono_ms, group.group_id());
}

void GroupShard::rearm(ClassicGroup& group) {
  timers_.erase({group.timer_ms, group.group_id()});
  group.timer_ms = group.next_deadline_ms();
  if (group.timer_ms != kNoDeadline) timers_.emplace(group.timer_ms, group.group_id());
}

int64_t GroupShard::next_deadline_mono_ms() const {
  return timers_.empty() ? next_sweep_ms_ : std::min(next_sweep_ms_, timers_.begin()->first);
}

void GroupShard::tick(Now now, Output& out) {
  while (!timers_.empty() && timers_.begin()->first <= now.mono_ms) {
    if (out.records.size() >= limits_.records_per_tick_max) return;
    const std::string group_id = timers_.begin()->second;
    const auto it = groups_.find(group_id);
    ASSERT(it != groups_.end());
    expire_group(it->second, now, out);
    rearm(it->second);
    settle(group_id);
  }
  if (now.mono_ms >= next_sweep_ms_) sweep_offsets(now, out);
}

// ---- inspection

std::string GroupShard::to_string(const std::string& group_id) const {
  if (const ClassicGroup* group = live(group_id)) return group->to_string();
  if (!exists(group_id)) return "Dead";
  const GroupMetadata* record = record_of(group_id);
  return record == nullptr ? "Empty" : fmt::format("Empty generation {}", record->generation);
}

std::string GroupShard::replicated_to_string() const {
  std::string text;
  for (const auto& [group_id, record] : records_) {
    text += fmt::format("group {} type '{}' generation {} protocol {} leader {} since {}\n", group_id,
                        record.protocol_type, record.generation, record.protocol.value_or("none"),
                        record.leader.value_or("none"), record.current_state_timestamp_ms);
    for (const auto& [member_id, m] : record.members) {
      text += fmt::format(
          "  member {} instance {} client {} {} timeouts {} {} subscription {:02x} assignment {:02x}\n",
          member_id, m.group_instance_id.value_or("none"), m.client_id, m.client_host, m.session_timeout_ms,
          m.rebalance_timeout_ms, fmt::join(m.subscription, ""), fmt::join(m.assignment, ""));
    }
  }
  for (auto id = offsets_.next_group(std::nullopt); id; id = offsets_.next_group(id)) {
    for (const auto& [topic, partitions] : *offsets_.topics_of(*id)) {
      for (const auto& [partition, o] : partitions) {
        text += fmt::format("offset {} {}-{} = {} epoch {} '{}' at {} until {} id {}{}\n", *id, topic,
                            partition, o.offset, o.leader_epoch, o.metadata, o.commit_timestamp_ms,
                            o.expire_timestamp_ms, o.topic_id.to_string(),
                            offsets_.has_pending(*id, topic, partition) ? " pending" : "");
      }
    }
    if (offsets_.has_pending(*id)) text += fmt::format("offset {} has pending ones\n", *id);
  }
  return text;
}

void GroupShard::check() const {
  size_t parked = 0;
  size_t timers = 0;
  for (const auto& [group_id, group] : groups_) {
    ASSERT(!group.idle());
    group.check();
    if (group.timer_ms != kNoDeadline) {
      ++timers;
      ASSERT(timers_.contains({group.timer_ms, group_id}));
    }
    for (const auto& [member_id, member] : group.members()) {
      for (const std::optional<Parked>& p : {member.join, member.sync}) {
        if (!p) continue;
        ++parked;
        const auto at = parked_.find(p->token);
        ASSERT(at != parked_.end() && at->second.group_id == group_id && at->second.member_id == member_id);
      }
    }
    if (group.state != GroupState::stable) continue;
    // A stable group is what was written.
    const GroupMetadata* record = record_of(group_id);
    ASSERT(record != nullptr && record->generation == group.generation && record->protocol == group.protocol);
    ASSERT(record->members.size() == group.size());
    for (const auto& [member_id, member] : group.members()) ASSERT(record->members.contains(member_id));
  }
  ASSERT(parked == parked_.size() && timers == timers_.size());
}

}  // namespace millrace::group
