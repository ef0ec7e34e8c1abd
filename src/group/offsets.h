// Committed offsets of all groups of one shard: replicated state, changed only by applied records. Offsets
// committed inside a transaction wait under their producer until its marker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "group/records.h"

namespace millrace::group {

class OffsetStore {
 public:
  using Partitions = std::map<int32_t, CommittedOffset>;
  using Topics = std::map<std::string, Partitions, std::less<>>;

  /// A commit outside of transactions. It also overrides what an open transaction wrote before it.
  void put(const OffsetKey& key, CommittedOffset value);
  /// A tombstone: the committed offset and anything pending for it are gone.
  void erase(const OffsetKey& key);
  /// A commit in an open transaction: invisible until the marker.
  void put_pending(ProducerId producer, const OffsetKey& key, CommittedOffset value);
  /// The transaction's end: what it wrote becomes visible, or is forgotten.
  void end_transaction(ProducerId producer, bool committed);

  const CommittedOffset* find(std::string_view group, std::string_view topic, int32_t partition) const;
  /// nullptr if the group has none.
  const Topics* topics_of(std::string_view group) const;
  /// Committed partitions of the group.
  size_t count(std::string_view group) const;
  bool has_pending(std::string_view group) const;
  bool has_pending(std::string_view group, std::string_view topic, int32_t partition) const;
  /// What only open transactions have committed so far.
  std::vector<OffsetKey> pending_only(std::string_view group) const;
  /// The next group with committed or pending offsets after `group` (nullopt: the first); nullopt when there
  /// is none.
  std::optional<std::string> next_group(const std::optional<std::string>& group) const;
  size_t group_count() const { return groups_.size(); }

 private:
  struct GroupOffsets {
    Topics topics;
    size_t count = 0;
    std::map<OffsetKey, std::map<ProducerId, CommittedOffset>> pending;
  };
  void put_visible(GroupOffsets& group, const OffsetKey& key, CommittedOffset value);
  void forget_if_unused(const std::string& group);

  std::map<std::string, GroupOffsets, std::less<>> groups_;
  std::map<ProducerId, std::map<OffsetKey, bool>> transactions_;  // what each open transaction touched
};

}  // namespace millrace::group
