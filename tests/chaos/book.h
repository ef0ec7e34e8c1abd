// The history file of one workload program and the counts of what its workers reached. Written on the
// clients' loop only; the counts may be read by anybody.
//
// Values are numbers that are used once in the whole run: a program is given a range of its own. Times are
// microseconds of the monotonic clock, which all programs of one machine share.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "check/history.h"

namespace millrace::chaos {

/// Microseconds.
int64_t clock_us();

/// One record of an operation; what is not known is kUnknown.
struct Entry {
  std::string_view topic;
  int32_t partition = 0;
  int64_t offset = check::kUnknown;
  check::Value value = check::kUnknown;
  int32_t epoch = -1;  // of the leader
};

struct Note {
  check::Kind kind = check::Kind::send;
  check::Outcome outcome = check::Outcome::info;
  std::string_view client;
  std::string_view group = {};
  int64_t generation = check::kUnknown;
  int64_t invoked = 0;
  int64_t returned = check::kUnknown;  // kUnknown: never
  bool idempotent = false;
  bool reset = false;
};

class Book {
 public:
  /// Begins the file. Ends the program if it cannot be written.
  Book(const std::string& path, check::Value first_value);
  ~Book();
  Book(const Book&) = delete;
  Book& operator=(const Book&) = delete;

  check::Value next_value() { return next_value_++; }
  void add(const Note& note, const std::vector<Entry>& entries);
  void flush();
  /// Counts an error that a client saw.
  void error(std::string_view where, ErrorCode code);
  std::string errors() const;

  std::atomic<int64_t> acknowledged = 0;  // records
  std::atomic<int64_t> refused = 0;       // records, certainly not written
  std::atomic<int64_t> unknown = 0;       // records
  std::atomic<int64_t> polled = 0;        // records
  std::atomic<int64_t> commits = 0;       // acknowledged

 private:
  std::FILE* file_;
  check::Value next_value_;
  std::map<std::string, int64_t> errors_;
};

}  // namespace millrace::chaos
