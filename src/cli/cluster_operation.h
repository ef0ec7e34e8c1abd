// `millrace cluster drain`, `decommission`, `rebalance` and `replace`: commands that change which broker has
// what, and who votes. They wait for the end; repeated, they go on where they were.
#pragma once

#include "cli/context.h"
#include "cli/reassignment.h"

namespace millrace::cli {

struct ClusterDrain {
  int32_t node = -1;
  bool dry_run = false;
  int32_t at_once = kMovesAtOnce;
};
struct ClusterDecommission {
  int32_t node = -1;
  int32_t at_once = kMovesAtOnce;
};
struct ClusterRebalance {
  bool dry_run = false;
  int32_t at_once = kMovesAtOnce;
};
struct ClusterReplace {
  int32_t node = -1;
};

ExitCode run(const ClusterDrain& options, const Context& context);
ExitCode run(const ClusterDecommission& options, const Context& context);
ExitCode run(const ClusterRebalance& options, const Context& context);
ExitCode run(const ClusterReplace& options, const Context& context);

}  // namespace millrace::cli
