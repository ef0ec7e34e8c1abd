// The result of a load: for people as a table, for programs as JSON.
#pragma once

#include <string>

#include "cli/json.h"
#include "cli/perf/load_setup.h"

namespace millrace::cli::perf {

/// Above this share of a core the generator, and not the broker, may be what was measured.
inline constexpr double kGeneratorBoundAt = 0.85;

Json report_json(const PerfLoad& options, const LoadScene& scene, const LoadOutcome& outcome);
std::string report_text(const Json& report);

}  // namespace millrace::cli::perf
