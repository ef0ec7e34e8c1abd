// Histories as text: one JSON object a line, so that a harness appends as it goes and any tool can read it.
//
//   {"history":1}                                          first line: the version
//   {"compacted":["topic-0"]}                              facts, anywhere
//   {"final_reads":true}                                   readers have reached every end after the last send
//   {"op":"send","result":"ok","client":"p1","from":10,"to":20,"idempotent":true,"txn":3,
//    "items":[["topic-0",5,101],["topic-0",null,102]]}
//
//   op          send poll commit fetch_commit txn_begin txn_commit txn_abort list_end assign revoke state
//   result      ok; fail: certainly not applied; info: unknown. A send that asked for less than acks=all is
//               info, whatever was answered
//   from, to    times of one clock; `to` absent: never returned
//   items       [partition, offset, value, leader epoch, key, tombstone], the rest may be absent, null:
//   unknown group, generation (commit, fetch_commit, assign, revoke), txn (a number, unique in the history)
//   idempotent (send), committed (poll, list_end: read_committed), reset (poll: the position may have jumped)
//
// A last line without its end (a killed writer) is ignored. Everything else that does not fit is an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "check/history.h"

namespace millrace::check {

inline constexpr size_t kHistoryLineBytesMax = size_t{16} << 20;
inline constexpr size_t kHistoryOperationsMax = 50'000'000;
inline constexpr size_t kHistoryItemsMax = 400'000'000;

/// Takes the text in pieces of any size.
class HistoryReader {
 public:
  /// Errors: parse_error (with the line), limit_exceeded, unsupported_version.
  Status feed(std::string_view text);
  /// What was read, operations in order of invocation. Errors: parse_error (no history at all).
  Result<History> finish();

 private:
  Status line(std::string_view text);

  History history_;
  std::string rest_;  // of a line whose end has not come
  uint64_t lines_ = 0;
};

/// One line with its end; `history` gives the names and the items.
std::string encode_operation(const History& history, const Operation& operation);
/// The first line.
std::string encode_history_start();
/// Everything, for small histories.
std::string encode_history(const History& history);

}  // namespace millrace::check
