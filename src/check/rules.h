// The twelve rules that a history of a Kafka-like log must obey (after the anomalies that Jepsen's Kafka
// workload and the log's own promises name). Each is a function of the evidence alone; all are linear or
// sort once. What Kafka does not promise is not flagged: interleaved sends of transactions (G0), cycles that
// need the order of writes, duplicates of producers that are not idempotent, jumps after a rebalance.
//
// The rules suppose: at least one reader reads every partition from its beginning, and nothing is removed by
// retention while it runs (partitions of compacted topics are named as such).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check/history.h"

namespace millrace::check {

enum class Rule : uint8_t {
  inconsistent_offset = 1,  // one offset with two values
  duplicate,                // one value of an idempotent producer at two offsets
  lost_write,               // acknowledged, passed by readers, never read
  aborted_read,             // read though it failed, was aborted, or was not committed yet
  poll_order,               // a reader goes back or skips
  send_order,               // sent after an acknowledgement, stored before it
  circular_reads,           // transactions that read each other's writes in a cycle
  torn_transaction,         // part of a committed transaction is read, part is not there
  group_offsets,            // a committed offset is lost or old; two owners in one generation
  compacted_value,          // the last value of a key is not the last acknowledged one
  sum_changed,              // the bank
  end_offset,               // an end that goes back, or an epoch that does
};
inline constexpr size_t kRuleCount = 12;
inline constexpr size_t kViolationsToldMax = 10;  // of one rule; the rest is counted

struct Violation {
  Rule rule = Rule::inconsistent_offset;
  std::string what;                 // a sentence with names and numbers
  uint32_t partition = UINT32_MAX;  // UINT32_MAX: no single one
  int64_t offset = kUnknown;
  std::vector<uint32_t> operations;  // indices into History::operations, as evidence
};

struct Verdict {
  std::vector<Violation> violations;             // by rule
  std::array<uint64_t, kRuleCount + 1> found{};  // all of them, by Rule's number
  uint64_t operations = 0;
  uint64_t values = 0;
  uint64_t transactions = 0;

  bool ok() const { return violations.empty(); }
  uint64_t count(Rule rule) const { return found[static_cast<size_t>(rule)]; }
};

/// "lost-write": how reports and programs name a rule.
std::string_view rule_name(Rule rule);

/// All rules.
Verdict check(const History& history);

}  // namespace millrace::check
