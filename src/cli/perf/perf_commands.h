// `millrace perf`: load on a broker, and what it did under it. The generator speaks the raw protocol over its
// own sockets with batches that were encoded beforehand, so that it costs less than what it measures.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/perf/frames.h"
#include "cli/perf/load_run.h"

namespace millrace::cli::perf {

/// Which load; what does not concern it is not looked at.
enum class LoadKind : uint8_t { produce, consume, both, commits };

struct PerfLoad {
  explicit PerfLoad(LoadKind k) : kind(k) {}

  LoadKind kind;
  std::string topic = "perf";
  int32_t create_partitions = 0;  // 0: the topic is there
  int16_t replication_factor = 1;
  std::vector<std::string> configs;

  // Producers.
  size_t connections = 8;
  size_t in_flight = 5;
  std::string acks = "all";
  RecordShape shape;
  std::string compression = "none";
  size_t batch_bytes = 0;  // as many records as fit; 0: shape.records
  size_t partitions_per_request = 1;
  bool idempotent = false;

  // Consumers.
  size_t consumers = 1;  // each reads everything
  size_t fetchers = 1;   // connections of one of them
  FetchLimits limits;
  bool from_beginning = false;
  bool until_end = false;
  bool verify = false;
  bool read_committed = false;
  bool no_session = false;

  std::string group = "perf";

  std::string congestion;
  bool buckets = false;   // histograms into the JSON
  std::string json_file;  // the result also into this file
  LoadOptions run;
};

struct PerfConnections {
  size_t count = 1000;
  double hold_s = 10;
  std::vector<int32_t> broker_pids;
};

struct PerfGroup {
  std::string topic = "perf";
  std::string group = "perf-group";
  size_t members = 10;
  int64_t heartbeat_ms = 100;  // how soon members hear that the group changes
  std::string json_file;
};

ExitCode run(const PerfLoad& options, const Context& context);
ExitCode run(const PerfConnections& options, const Context& context);
ExitCode run(const PerfGroup& options, const Context& context);

}  // namespace millrace::cli::perf
