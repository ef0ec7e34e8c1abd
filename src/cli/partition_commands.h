// `millrace partition`.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/reassignment.h"

namespace millrace::cli {

struct PartitionReassign {
  std::vector<std::string> moves;  // TOPIC:P=1,2,3; with `cancel` TOPIC or TOPIC:P
  bool cancel = false;
  int64_t throttle = 0;  // bytes a second; 0: none
  int32_t at_once = kMovesAtOnce;
};
struct PartitionElect {
  std::vector<std::string> partitions;  // TOPIC or TOPIC:P; none: all that need it
  bool preferred = false;               // the default
  bool unclean = false;
};
struct PartitionList {
  bool reassigning = false;
  bool under_replicated = false;
  bool leaderless = false;
};

ExitCode run(const PartitionReassign& options, const Context& context);
ExitCode run(const PartitionElect& options, const Context& context);
ExitCode run(const PartitionList& options, const Context& context);

}  // namespace millrace::cli
