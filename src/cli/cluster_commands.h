// `millrace cluster`.
#pragma once

#include "cli/context.h"

namespace millrace::cli {

struct ClusterInfo {};
struct ClusterDirs {};

ExitCode run(const ClusterInfo& options, const Context& context);
/// The data directories of every broker: room, state, what they hold.
ExitCode run(const ClusterDirs& options, const Context& context);

}  // namespace millrace::cli
