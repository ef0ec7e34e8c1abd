// What clients asked and were told, as a list of operations: the evidence that the rules of check/rules.h
// judge. Written by the simulator, the chaos harness, or anybody who drives a broker with unique values. A
// History belongs to its maker; nothing here knows a broker.
//
// Every produced value is a number that is used once in the whole history. Times are of one clock (the
// harness's, monotonic, any unit): an operation that returned before another was invoked happened before it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace millrace::check {

using Value = int64_t;
inline constexpr int64_t kUnknown = -1;

enum class Kind : uint8_t {
  send,          // produce; offsets as far as known
  poll,          // records read, and where the next poll would begin
  commit,        // group offsets written
  fetch_commit,  // group offsets read back
  txn_begin,     // of `producer`; one at a time
  txn_commit,    // TxnEnd with commit
  txn_abort,     //
  list_end,      // ListOffsets latest / a fetch's high watermark
  assign,        // a member learns which partitions are its own from now on
  revoke,        // ... or are no longer
  state          // an end-to-end sum that must never change (the bank)
};

enum class Outcome : uint8_t {
  ok,
  fail,  // certainly not applied
  info   // unknown
};

enum class Isolation : uint8_t { read_uncommitted, read_committed };

/// One record, or one offset of a commit; one partition of an assignment.
struct Item {
  uint32_t partition = 0;     // History::partition_name
  int64_t offset = kUnknown;  // committed/read offset; end offset of list_end
  Value value = kUnknown;     // state: the sum
  int32_t epoch = -1;         // leader epoch of the batch it came in; list_end: of the leader that told
  int32_t key = -1;           // of compacted topics: History::key_name; -1 none
  bool tombstone = false;     // the value deletes its key
};

struct Operation {
  Kind kind = Kind::send;
  Outcome outcome = Outcome::info;
  Isolation isolation = Isolation::read_uncommitted;
  bool idempotent = false;        // send: of an idempotent producer
  bool position_reset = false;    // poll: first after seek, rebalance or (re)start: may jump
  uint32_t client = 0;            // process: one operation at a time
  int64_t txn = kUnknown;         // number of the transaction it belongs to; poll: inside it
  int64_t generation = kUnknown;  // assign, commit: of the group
  int32_t group = -1;             // History::group_name
  int64_t invoked = 0;
  int64_t returned = INT64_MAX;  // never: INT64_MAX
  uint32_t first_item = 0;       // into History::items
  uint32_t items = 0;
};

/// What a topic's rules are, as far as judging goes.
struct PartitionFacts {
  bool compacted = false;
};

/// Names as small numbers, in order of appearance.
class Names {
 public:
  uint32_t number(std::string_view name);
  /// Nothing known: "?".
  const std::string& name(uint32_t number) const;
  size_t size() const { return names_.size(); }

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string, uint32_t> numbers_;
};

struct History {
  std::vector<Operation> operations;  // in order of invocation
  std::vector<Item> items;
  Names partitions;  // "topic-0"
  Names clients;
  Names groups;
  Names keys;
  std::vector<PartitionFacts> facts;  // by partition; missing: none of them
  bool final_reads_complete = false;  // readers have reached the end of every partition after the last send

  const Item* begin_of(const Operation& o) const { return items.data() + o.first_item; }
  const Item* end_of(const Operation& o) const { return items.data() + o.first_item + o.items; }
  /// Appends an operation with its items.
  void add(Operation o, const std::vector<Item>& its);
  bool compacted(uint32_t partition) const { return partition < facts.size() && facts[partition].compacted; }
  void set_compacted(uint32_t partition);
};

/// "send", "ok": the words of the file and of the reports.
std::string_view word(Kind kind);
std::string_view word(Outcome outcome);

}  // namespace millrace::check
