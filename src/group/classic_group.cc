#include "group/classic_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "group/subscription.h"

namespace millrace::group {

std::string_view state_name(GroupState state) {
  switch (state) {
    case GroupState::empty:
      return "Empty";
    case GroupState::preparing_rebalance:
      return "PreparingRebalance";
    case GroupState::completing_rebalance:
      return "CompletingRebalance";
    case GroupState::stable:
      return "Stable";
  }
  return "Dead";
}

const Bytes* Member::metadata_for(std::string_view protocol) const {
  for (const Protocol& p : protocols) {
    if (p.name == protocol) return &p.metadata;
  }
  return nullptr;
}

Member* ClassicGroup::find(const std::string& member_id) {
  const auto it = members_.find(member_id);
  return it == members_.end() ? nullptr : &it->second;
}

const Member* ClassicGroup::find(const std::string& member_id) const {
  const auto it = members_.find(member_id);
  return it == members_.end() ? nullptr : &it->second;
}

const std::string* ClassicGroup::static_member(const std::string& group_instance_id) const {
  const auto it = static_members_.find(group_instance_id);
  return it == static_members_.end() ? nullptr : &it->second;
}

Member& ClassicGroup::add(Member member, const std::string& type) {
  ASSERT(!member.member_id.empty() && !member.join && !member.sync);
  if (members_.empty()) protocol_type = type;
  if (!leader) leader = member.member_id;
  if (member.group_instance_id) {
    const bool fresh = static_members_.emplace(*member.group_instance_id, member.member_id).second;
    ASSERT(fresh);
  }
  pending_.erase(member.member_id);
  count_protocols(member, 1);
  const std::string id = member.member_id;
  const auto [it, added] = members_.emplace(id, std::move(member));
  ASSERT(added);
  return it->second;
}

Member ClassicGroup::remove(const std::string& member_id) {
  const auto it = members_.find(member_id);
  ASSERT(it != members_.end());
  Member member = std::move(it->second);
  members_.erase(it);
  count_protocols(member, -1);
  if (member.join) --joins_parked_;
  if (member.group_instance_id) static_members_.erase(*member.group_instance_id);
  if (leader == member_id) {
    leader.reset();
    if (!members_.empty()) leader = members_.begin()->first;
  }
  return member;
}

void ClassicGroup::set_protocols(Member& member, std::vector<Protocol> protocols) {
  count_protocols(member, -1);
  member.protocols = std::move(protocols);
  count_protocols(member, 1);
}

std::pair<std::optional<Parked>, std::optional<Parked>> ClassicGroup::replace_static(
    const std::string& old_member_id, const std::string& new_member_id) {
  const auto it = members_.find(old_member_id);
  ASSERT(it != members_.end() && it->second.group_instance_id && !members_.contains(new_member_id));
  auto node = members_.extract(it);
  Member& member = node.mapped();
  if (member.join) --joins_parked_;
  const std::pair parked{std::exchange(member.join, std::nullopt), std::exchange(member.sync, std::nullopt)};
  member.member_id = new_member_id;
  static_members_[*member.group_instance_id] = new_member_id;
  if (leader == old_member_id) leader = new_member_id;
  node.key() = new_member_id;
  members_.insert(std::move(node));
  return parked;
}

void ClassicGroup::park_join(Member& member, Parked parked) {
  ASSERT(!member.join);
  member.join = parked;
  ++joins_parked_;
}

std::optional<Parked> ClassicGroup::take_join(Member& member) {
  if (member.join) --joins_parked_;
  return std::exchange(member.join, std::nullopt);
}

void ClassicGroup::count_protocols(const Member& member, int delta) {
  for (const Protocol& p : member.protocols) {
    size_t& n = protocol_support_[p.name];
    ASSERT(delta > 0 || n > 0);
    n = delta > 0 ? n + 1 : n - 1;
    if (n == 0) protocol_support_.erase(p.name);
  }
}

bool ClassicGroup::supports(const std::string& type, const std::vector<Protocol>& protocols) const {
  if (type.empty() || protocols.empty()) return false;
  if (members_.empty()) return true;
  if (protocol_type != type) return false;
  return std::any_of(protocols.begin(), protocols.end(), [this](const Protocol& p) {
    const auto it = protocol_support_.find(p.name);
    return it != protocol_support_.end() && it->second == members_.size();
  });
}

std::string ClassicGroup::vote() const {
  ASSERT(!members_.empty());
  std::map<std::string_view, size_t> votes;
  for (const auto& [id, member] : members_) {
    for (const Protocol& p : member.protocols) {
      const auto it = protocol_support_.find(p.name);
      if (it->second != members_.size()) continue;
      ++votes[p.name];
      break;
    }
  }
  // Every join was checked against what all the others know, so something is left to vote for.
  ASSERT(!votes.empty());
  auto best = votes.begin();
  for (auto it = votes.begin(); it != votes.end(); ++it) {
    if (it->second > best->second) best = it;
  }
  return std::string(best->first);
}

bool ClassicGroup::elect_joined_leader() {
  if (leader) {
    const Member* current = find(*leader);
    if (current != nullptr && current->join) return true;
  }
  for (const auto& [id, member] : members_) {
    if (!member.join) continue;
    leader = id;
    return true;
  }
  return false;
}

int32_t ClassicGroup::rebalance_timeout_ms() const {
  int32_t longest = 0;
  for (const auto& [id, member] : members_) longest = std::max(longest, member.rebalance_timeout_ms);
  return longest;
}

bool ClassicGroup::is_consumer_group() const {
  return protocol_type == kConsumerProtocolType;
}

bool ClassicGroup::is_subscribed(const std::string& topic) const {
  if (members_.empty()) return false;
  return subscribed_topics_ ? subscribed_topics_->contains(topic) : is_consumer_group();
}

void ClassicGroup::refresh_subscribed_topics() {
  subscribed_topics_.reset();
  if (!is_consumer_group() || !protocol) return;
  std::set<std::string> all;
  for (const auto& [id, member] : members_) {
    const Bytes* metadata = member.metadata_for(*protocol);
    std::optional<std::set<std::string>> topics;
    if (metadata != nullptr) topics = subscription_topics(*metadata);
    if (!topics) return;  // unknown: every topic counts as in use
    all.merge(*topics);
  }
  subscribed_topics_ = std::move(all);
}

int64_t ClassicGroup::next_deadline_ms() const {
  int64_t next = kNoDeadline;
  for (const auto& [id, member] : members_) next = std::min(next, member.deadline_ms());
  for (const auto& [id, deadline] : pending_) next = std::min(next, deadline);
  if (state == GroupState::preparing_rebalance) next = std::min(next, join_phase_deadline_ms);
  if (state == GroupState::completing_rebalance || state == GroupState::stable) {
    next = std::min(next, sync_phase_deadline_ms);
  }
  return next;
}

void ClassicGroup::check() const {
  size_t joins = 0;
  size_t statics = 0;
  for (const auto& [id, member] : members_) {
    ASSERT(id == member.member_id);
    ASSERT(!pending_.contains(id));
    if (member.join) ++joins;
    if (member.sync) ASSERT(state == GroupState::completing_rebalance);
    if (member.is_new) ASSERT(state == GroupState::preparing_rebalance);
    if (member.group_instance_id) {
      ++statics;
      const std::string* holder = static_member(*member.group_instance_id);
      ASSERT(holder != nullptr && *holder == id);
    }
  }
  ASSERT(joins == joins_parked_ && statics == static_members_.size());
  ASSERT(joins == 0 || state == GroupState::preparing_rebalance);
  ASSERT(state != GroupState::empty || members_.empty());
  if (state == GroupState::completing_rebalance || state == GroupState::stable) {
    ASSERT(!members_.empty() && protocol && leader && members_.contains(*leader));
  }
  // A parked request always has a moment at which it is answered.
  if (state == GroupState::preparing_rebalance) ASSERT(join_phase_deadline_ms != kNoDeadline);
  if (state == GroupState::completing_rebalance) ASSERT(sync_phase_deadline_ms != kNoDeadline);
  ASSERT(timer_ms <= next_deadline_ms());
}

std::string ClassicGroup::to_string() const {
  std::string text = fmt::format("{} generation {}", state_name(state), generation);
  if (protocol) text += fmt::format(" protocol {}", *protocol);
  if (!members_.empty()) text += fmt::format(" leader {} members", leader.value_or("none"));
  for (const auto& [id, member] : members_) {
    text += fmt::format(" {}{}{}", id, member.join ? "(joining)" : "", member.sync ? "(syncing)" : "");
  }
  if (!pending_.empty()) text += " pending";
  for (const auto& [id, deadline] : pending_) text += fmt::format(" {}", id);
  return text;
}

}  // namespace millrace::group
