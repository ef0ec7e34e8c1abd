// A history, sorted once for all rules: every value with its place and fate, every partition by offset, every
// transaction with its end. Lives no longer than the history it points into.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "check/rules.h"

namespace millrace::check {

inline constexpr uint32_t kNoOperation = UINT32_MAX;

enum class Fate : uint8_t { unknown, certain, impossible };  // of a write, or of a transaction's commit

struct ValueFacts {
  Value value = kUnknown;
  int64_t offset = kUnknown;  // the first that is known
  int64_t txn = kUnknown;
  uint32_t partition = 0;
  uint32_t sent_by = kNoOperation;
  uint32_t read_by = kNoOperation;            // the first poll that saw it
  uint32_t read_committed_by = kNoOperation;  // ... at read_committed
  int32_t key = -1;
  Outcome outcome = Outcome::info;
  bool several_places = false;
  bool tombstone = false;
};

/// One value seen at one place, by a send's answer or a poll.
struct Sighting {
  int64_t offset;
  Value value;
  uint32_t partition;
  uint32_t operation;
  int32_t epoch;
};

struct TxnFacts {
  Fate commit = Fate::impossible;  // nobody ever asked for it
  uint32_t end_operation = kNoOperation;
  std::vector<uint32_t> sends;
  std::vector<uint32_t> polls;
};

struct PartitionEvidence {
  std::vector<int64_t>
      must_be_visible;  // offsets, ascending: acknowledged, not of an uncommitted transaction
  int64_t highest_read = kUnknown;
  int64_t highest_read_committed = kUnknown;
};

class Evidence {
 public:
  explicit Evidence(const History& history);

  const History& history() const { return history_; }
  const ValueFacts* find(Value value) const;
  const std::vector<ValueFacts>& values() const { return values_; }      // by value
  const std::vector<Sighting>& sightings() const { return sightings_; }  // by partition, offset, value
  const std::map<int64_t, TxnFacts>& transactions() const { return txns_; }
  const PartitionEvidence& partition(uint32_t p) const { return partitions_[p]; }
  const Operation& operation(uint32_t i) const { return history_.operations[i]; }
  /// Whether the transaction committed; kUnknown (no transaction) did.
  Fate committed(int64_t txn) const;
  /// "t-0"
  const std::string& name_of(uint32_t partition) const { return history_.partitions.name(partition); }

 private:
  void gather_values();
  void gather_reads();
  void gather_transactions();
  void gather_partitions();

  const History& history_;
  std::vector<ValueFacts> values_;
  std::vector<Sighting> sightings_;
  std::map<int64_t, TxnFacts> txns_;
  std::vector<PartitionEvidence> partitions_;
};

/// Collects violations; keeps the first few of each rule.
class Findings {
 public:
  explicit Findings(Verdict& verdict) : verdict_(verdict) {}
  /// `make` is only called when the violation will be told.
  template <class Make>
  void add(Rule rule, Make make) {
    if (++verdict_.found[static_cast<size_t>(rule)] > kViolationsToldMax) return;
    Violation v = make();
    v.rule = rule;
    verdict_.violations.push_back(std::move(v));
  }

 private:
  Verdict& verdict_;
};

// Records: rules_records.cc
void check_offsets(const Evidence& e, Findings& out);           // 1, 12 (epochs)
void check_duplicates(const Evidence& e, Findings& out);        // 2
void check_lost_writes(const Evidence& e, Findings& out);       // 3
void check_aborted_reads(const Evidence& e, Findings& out);     // 4
void check_poll_order(const Evidence& e, Findings& out);        // 5
void check_send_order(const Evidence& e, Findings& out);        // 6
void check_compacted_values(const Evidence& e, Findings& out);  // 10
// Transactions, groups, ends: rules_groups.cc
void check_circular_reads(const Evidence& e, Findings& out);     // 7
void check_torn_transactions(const Evidence& e, Findings& out);  // 8
void check_group_offsets(const Evidence& e, Findings& out);      // 9
void check_ownership(const Evidence& e, Findings& out);          // 9
void check_sums(const Evidence& e, Findings& out);               // 11
void check_ends(const Evidence& e, Findings& out);               // 12

}  // namespace millrace::check
