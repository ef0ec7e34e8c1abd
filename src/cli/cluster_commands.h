// `millrace cluster`.
#pragma once

#include "cli/context.h"

namespace millrace::cli {

struct ClusterInfo {};

ExitCode run(const ClusterInfo& options, const Context& context);

}  // namespace millrace::cli
