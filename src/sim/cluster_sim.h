// A whole cluster in one thread, from one seed: brokers, disks, network and clients in virtual time, broken
// in every way of the fault catalogue, and every answer that a client got judged.
//
// A run: the nodes found a quorum and the topics are made; clients work while faults come (safety);
// everything is mended, and what waits must finish in bounded time (liveness); everything is read once more,
// the replicas are compared, and the history is checked by the rules of check/rules.h. Some things are looked
// at all the time (invariants.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/plants.h"
#include "sim/client_process.h"

namespace millrace::sim {

struct ClusterSimOptions {
  uint64_t seed = 0;
  /// Told every step, if set; with `verbose` also what the nodes log.
  std::function<void(const std::string&)> narrate;
  bool verbose = false;
  Plant plant = Plant::none;  // only in a build that has them
};

struct ClusterSimOutcome {
  std::string failure;   // empty: none
  std::string found_by;  // the rule or kind of invariant: "lost-write", "raft", "liveness", ...
  std::string timeline;  // of the first violation of a rule
  std::string knobs;
  uint64_t hash = 0;
  uint64_t faults = 0;
  uint64_t acknowledged = 0;  // writes
  uint64_t operations = 0;
  uint64_t events = 0;
  int64_t simulated_ms = 0;
  Counts counts;
  RareCounts met{};

  /// Whether it tells something: a run in which hardly anything was written does not.
  bool counts_as_run() const { return acknowledged >= 200; }
};

ClusterSimOutcome run_cluster_sim(const ClusterSimOptions& options);

}  // namespace millrace::sim
