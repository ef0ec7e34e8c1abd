// `millrace cluster status`.
#pragma once

#include "cli/context.h"

namespace millrace::cli {

struct ClusterStatus {};

/// Nodes, the metadata quorum, the health of partitions, the room in data directories.
ExitCode run(const ClusterStatus& options, const Context& context);

}  // namespace millrace::cli
