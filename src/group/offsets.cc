#include "group/offsets.h"

#include <utility>

namespace millrace::group {

void OffsetStore::put_visible(GroupOffsets& group, const OffsetKey& key, CommittedOffset value) {
  if (group.topics[key.topic].insert_or_assign(key.partition, std::move(value)).second) ++group.count;
}

void OffsetStore::put(const OffsetKey& key, CommittedOffset value) {
  GroupOffsets& group = groups_[key.group];
  group.pending.erase(key);
  put_visible(group, key, std::move(value));
}

void OffsetStore::erase(const OffsetKey& key) {
  const auto it = groups_.find(key.group);
  if (it == groups_.end()) return;
  GroupOffsets& group = it->second;
  group.pending.erase(key);
  const auto topic = group.topics.find(key.topic);
  if (topic != group.topics.end() && topic->second.erase(key.partition) > 0) {
    --group.count;
    if (topic->second.empty()) group.topics.erase(topic);
  }
  forget_if_unused(key.group);
}

void OffsetStore::put_pending(ProducerId producer, const OffsetKey& key, CommittedOffset value) {
  groups_[key.group].pending[key].insert_or_assign(producer, std::move(value));
  transactions_[producer].insert_or_assign(key, true);
}

void OffsetStore::end_transaction(ProducerId producer, bool committed) {
  const auto open = transactions_.extract(producer);
  if (open.empty()) return;
  for (const auto& [key, touched] : open.mapped()) {
    const auto it = groups_.find(key.group);
    if (it == groups_.end()) continue;
    GroupOffsets& group = it->second;
    const auto pending = group.pending.find(key);
    if (pending != group.pending.end()) {
      auto written = pending->second.extract(producer);
      if (pending->second.empty()) group.pending.erase(pending);
      if (!written.empty() && committed) put_visible(group, key, std::move(written.mapped()));
    }
    forget_if_unused(key.group);
  }
}

void OffsetStore::forget_if_unused(const std::string& group) {
  const auto it = groups_.find(group);
  if (it != groups_.end() && it->second.count == 0 && it->second.pending.empty()) groups_.erase(it);
}

const CommittedOffset* OffsetStore::find(std::string_view group, std::string_view topic,
                                         int32_t partition) const {
  const Topics* topics = topics_of(group);
  if (topics == nullptr) return nullptr;
  const auto t = topics->find(topic);
  if (t == topics->end()) return nullptr;
  const auto p = t->second.find(partition);
  return p == t->second.end() ? nullptr : &p->second;
}

const OffsetStore::Topics* OffsetStore::topics_of(std::string_view group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second.topics;
}

size_t OffsetStore::count(std::string_view group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? 0 : it->second.count;
}

bool OffsetStore::has_pending(std::string_view group) const {
  const auto it = groups_.find(group);
  return it != groups_.end() && !it->second.pending.empty();
}

bool OffsetStore::has_pending(std::string_view group, std::string_view topic, int32_t partition) const {
  const auto it = groups_.find(group);
  if (it == groups_.end() || it->second.pending.empty()) return false;
  return it->second.pending.contains(OffsetKey{std::string(group), std::string(topic), partition});
}

std::vector<OffsetKey> OffsetStore::pending_only(std::string_view group) const {
  std::vector<OffsetKey> keys;
  const auto it = groups_.find(group);
  if (it == groups_.end()) return keys;
  for (const auto& [key, writers] : it->second.pending) {
    if (find(key.group, key.topic, key.partition) == nullptr) keys.push_back(key);
  }
  return keys;
}

std::optional<std::string> OffsetStore::next_group(const std::optional<std::string>& group) const {
  const auto it = group ? groups_.upper_bound(*group) : groups_.begin();
  if (it == groups_.end()) return std::nullopt;
  return it->first;
}

}  // namespace millrace::group
