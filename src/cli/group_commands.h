// `millrace group`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"

namespace millrace::cli {

struct GroupList {
  std::string state;  // only groups in this state
};
struct GroupDescribe {
  std::vector<std::string> groups;
};
struct GroupDelete {
  std::vector<std::string> groups;
  bool yes = false;
};
struct GroupResetOffsets {
  std::string group;
  std::vector<std::string> topics;  // "topic" or "topic:0,3"
  bool all_topics = false;          // those with committed offsets
  bool to_earliest = false;
  bool to_latest = false;
  int64_t to_offset = -1;
  std::string to_timestamp;
  bool shifts = false;
  int64_t shift_by = 0;
  bool execute = false;
  bool yes = false;
};

ExitCode run(const GroupList& options, const Context& context);
ExitCode run(const GroupDescribe& options, const Context& context);
ExitCode run(const GroupDelete& options, const Context& context);
ExitCode run(const GroupResetOffsets& options, const Context& context);

}  // namespace millrace::cli
