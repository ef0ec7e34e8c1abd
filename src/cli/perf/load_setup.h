// Between what a person asked for and channels that can run: the topic, its leaders, versions, connections.
#pragma once

#include <string>

#include "cli/perf/perf_commands.h"

namespace millrace::cli::perf {

/// What was set up, for the report.
struct LoadScene {
  size_t partitions = 0;
  size_t brokers = 0;
  int32_t records_per_batch = 0;
  size_t batch_bytes = 0;    // in the log
  size_t payload_bytes = 0;  // keys and values of a batch, before compression
  std::string congestion;    // of the generator's sockets
};

/// Makes the topic if that is wanted and connects every channel of `run`. Errors: those of the client, and
/// connect_socket()'s.
Result<LoadScene> set_up(const PerfLoad& options, Session& session, LoadRun& run);

}  // namespace millrace::cli::perf
