#include "check/rules.h"

#include <algorithm>

#include "check/evidence.h"

namespace millrace::check {

std::string_view rule_name(Rule rule) {
  switch (rule) {
    case Rule::inconsistent_offset:
      return "inconsistent-offset";
    case Rule::duplicate:
      return "duplicate";
    case Rule::lost_write:
      return "lost-write";
    case Rule::aborted_read:
      return "aborted-read";
    case Rule::poll_order:
      return "poll-order";
    case Rule::send_order:
      return "send-order";
    case Rule::circular_reads:
      return "circular-reads";
    case Rule::torn_transaction:
      return "torn-transaction";
    case Rule::group_offsets:
      return "group-offsets";
    case Rule::compacted_value:
      return "compacted-value";
    case Rule::sum_changed:
      return "sum-changed";
    case Rule::end_offset:
      return "end-offset";
  }
  return "?";
}

Verdict check(const History& history) {
  const Evidence e(history);
  Verdict verdict;
  verdict.operations = history.operations.size();
  verdict.values = e.values().size();
  verdict.transactions = e.transactions().size();
  Findings out(verdict);
  check_offsets(e, out);
  check_duplicates(e, out);
  check_lost_writes(e, out);
  check_aborted_reads(e, out);
  check_poll_order(e, out);
  check_send_order(e, out);
  check_circular_reads(e, out);
  check_torn_transactions(e, out);
  check_group_offsets(e, out);
  check_ownership(e, out);
  check_compacted_values(e, out);
  check_sums(e, out);
  check_ends(e, out);
  std::stable_sort(verdict.violations.begin(), verdict.violations.end(),
                   [](const Violation& a, const Violation& b) { return a.rule < b.rule; });
  return verdict;
}

}  // namespace millrace::check
