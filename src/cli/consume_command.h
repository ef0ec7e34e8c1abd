// `millrace consume`: records as text.
#pragma once

#include <cstdint>
#include <string>

#include "cli/context.h"

namespace millrace::cli {

struct Consume {
  std::string topic;
  std::string from;  // see arguments.h; empty: what the group committed, else the beginning
  std::string group;
  std::string partitions;  // "0,3,5-7"; empty: all
  int64_t count = -1;      // records, then stop
  bool exit_at_end = false;
  std::string format = "%s\\n";
  bool read_committed = false;
};

ExitCode run(const Consume& options, const Context& context);

}  // namespace millrace::cli
