// What differs between the runs of the cluster simulation: drawn from the seed, a swarm of settings, so that
// each run is likely to be extreme in a few of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "meta/config_view.h"

namespace millrace::sim {

/// Kinds of faults; a run has some of them.
struct FaultKinds {
  bool kill = false, power = false, pause = false, partition = false, one_way = false, isolate = false,
       clog = false, cut = false, disk_error = false, disk_full = false, clock = false, drift = false,
       stop = false, slow_disk = false, client_kill = false, dead_disk = false, empty_disk = false,
       rot = false;
};

struct Knobs {
  int32_t nodes = 3;
  int32_t voters = 3;  // of the metadata quorum; the other nodes only follow it
  size_t data_loops = 1;
  size_t directories = 1;
  size_t recovery_threads = 1;
  int32_t topics = 2;
  int32_t partitions = 2;
  int16_t replication_factor = 3;
  int32_t min_insync = 2;
  bool fsync = true;
  int32_t segment_bytes = 65'536;
  int32_t index_interval = 4'096;
  int64_t replica_lag_ms = 10'000;
  int64_t election_timeout_ms = 1'000;
  size_t metadata_append_bytes = 1 << 20;  // 1: an entry a message
  int64_t session_timeout_ms = 4'000;      // of brokers
  int64_t heartbeat_ms = 500;
  int32_t replica_fetch_bytes = 1 << 20;
  int64_t replica_fetch_wait_ms = 500;
  int64_t checkpoint_ms = 60'000;
  int32_t offsets_partitions = 2;
  int32_t group_session_ms = 6'000;
  int64_t latency_us_max = 500;
  int32_t fetch_session_slots = 1'000;
  int64_t scrub_interval_ms = 0;  // 0: no scrub
  // Of the metadata log, see broker::MetadataLogSizes.
  int64_t snapshot_every_bytes = 20 << 20;
  int64_t trailing_entries = 1'000;
  int64_t snapshot_chunk_bytes = 1 << 20;
  bool voter_changes = false;  // votes are taken away and given back
  bool drains = false;         // brokers are emptied

  size_t producers = 4;
  size_t idempotent_percent = 60;
  size_t readers = 2;
  size_t group_members = 2;
  bool by_topic_id = true;
  bool fetch_sessions = true;
  int32_t fetch_bytes = 1 << 20;
  int32_t records_max = 5;
  int32_t value_bytes_max = 200;
  int64_t think_ms_max = 100;

  int64_t safety_ms = 50'000;
  int64_t fault_gap_ms = 1'000;      // between faults, in the mean
  int64_t fault_ms_max = 8'000;      // how long one lasts
  int32_t down_max = 1;              // nodes without which the run goes on at a time
  uint64_t second_blow_percent = 0;  // how often one misfortune brings another
  uint64_t hunt_percent = 0;         // how often a new leader of the metadata log is cut off at once
  FaultKinds faults;
};

Knobs draw_knobs(uint64_t seed);
std::string describe(const Knobs& knobs);
/// What every broker of the run is given as its properties.
std::shared_ptr<const meta::ConfigValues> broker_settings(const Knobs& knobs);

}  // namespace millrace::sim
