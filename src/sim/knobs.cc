#include "sim/knobs.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/dice.h"

namespace millrace::sim {

namespace {

template <class T, size_t N>
T one_of(Dice& dice, const T (&choices)[N]) {
  return choices[dice.index(N)];
}

FaultKinds draw_faults(Dice& dice) {
  FaultKinds f;
  const auto draw = [&](uint64_t percent) { return dice.percent(percent); };
  f.kill = draw(80);
  f.power = draw(70);
  f.pause = draw(60);
  f.partition = draw(60);
  f.one_way = draw(50);
  f.isolate = draw(60);
  f.clog = draw(50);
  f.cut = draw(60);
  f.disk_error = draw(30);
  f.disk_full = draw(30);
  f.clock = draw(40);
  f.drift = draw(40);
  f.stop = draw(50);
  f.slow_disk = draw(30);
  f.client_kill = draw(30);
  return f;
}

// What came later, from dice of its own.
void draw_more(uint64_t seed, Knobs& k) {
  Dice dice(seed, "more knobs");
  FaultKinds& f = k.faults;
  // What a disk took along others must have.
  const bool safe = k.fsync && k.nodes > 2 && k.replication_factor > 1 && k.min_insync > 1;
  f.dead_disk = dice.percent(25) && k.fsync;
  f.empty_disk = dice.percent(30) && safe;
  k.voter_changes = dice.percent(30) && k.nodes > 2;
  k.drains = dice.percent(50);
  if (dice.percent(25)) k.fetch_session_slots = static_cast<int32_t>(dice.between(1, 4));
  if (dice.percent(60)) {
    k.snapshot_every_bytes = dice.skewed(500, 20'000);
    k.trailing_entries = dice.skewed(0, 100);
    k.snapshot_chunk_bytes = dice.skewed(128, 16'384);
  }
  if (k.faults.partition && dice.percent(30)) {
    k.hunt_percent = static_cast<uint64_t>(dice.between(30, 80));
    if (dice.percent(70)) k.metadata_append_bytes = 1;
  }
}

// Of dice of its own, too.
void draw_rot(uint64_t seed, Knobs& k) {
  Dice dice(seed, "rot knobs");
  // Others can stand in for a damaged replica.
  const bool safe = k.fsync && k.replication_factor > 1;
  k.faults.rot = dice.percent(50) && safe;
  if (!k.faults.rot) return;
  k.scrub_interval_ms = dice.skewed(500, 10'000);
  // Only what a checkpoint has noted may rot.
  if (dice.percent(70)) {
    k.checkpoint_ms = dice.between(1'000, 5'000);
    k.segment_bytes = static_cast<int32_t>(dice.skewed(4'096, 32'768));
  }
}

}  // namespace

Knobs draw_knobs(uint64_t seed) {
  Dice dice(seed, "knobs");
  Knobs k;
  k.nodes = one_of(dice, {1, 3, 3, 3, 3, 3, 3, 5});
  k.data_loops = 1 + dice.index(2);
  k.directories = dice.percent(25) ? 2 : 1;
  k.recovery_threads = 1 + dice.index(2);
  k.topics = static_cast<int32_t>(dice.between(1, 3));
  k.partitions = static_cast<int32_t>(dice.skewed(1, 6));
  k.replication_factor =
      static_cast<int16_t>(std::min<int64_t>(k.nodes, dice.percent(75) ? 3 : dice.between(1, 5)));
  k.min_insync = static_cast<int32_t>(
      std::min<int64_t>(k.replication_factor, dice.percent(70) ? 2 : dice.between(1, 3)));
  k.fsync = dice.percent(70);
  k.segment_bytes = static_cast<int32_t>(dice.skewed(4'096, 262'144));
  k.index_interval = static_cast<int32_t>(dice.skewed(64, 8'192));
  k.replica_lag_ms = dice.skewed(1'000, 10'000);
  k.election_timeout_ms = dice.between(300, 1'500);
  k.session_timeout_ms = dice.between(1'500, 6'000);
  k.heartbeat_ms = std::max<int64_t>(k.session_timeout_ms / dice.between(4, 8), 200);
  k.replica_fetch_bytes = static_cast<int32_t>(dice.skewed(2'048, 1 << 20));
  k.replica_fetch_wait_ms = dice.between(50, 500);
  k.checkpoint_ms = dice.between(1'000, 60'000);
  k.offsets_partitions = static_cast<int32_t>(dice.between(1, 4));
  k.group_session_ms = static_cast<int32_t>(dice.between(6'000, 10'000));
  k.latency_us_max = dice.skewed(200, 20'000);

  k.producers = static_cast<size_t>(dice.between(3, 6));
  k.idempotent_percent = dice.percent(20) ? 100 : 50;
  k.readers = static_cast<size_t>(dice.between(1, 2));
  k.group_members = static_cast<size_t>(dice.between(0, 3));
  k.by_topic_id = dice.percent(60);
  k.fetch_sessions = dice.percent(70);
  k.fetch_bytes = static_cast<int32_t>(dice.skewed(1'024, 1 << 20));
  k.records_max = static_cast<int32_t>(dice.between(1, 8));
  k.value_bytes_max = static_cast<int32_t>(dice.skewed(16, 1'500));
  k.think_ms_max = dice.between(40, 200);

  k.safety_ms = dice.between(40'000, 70'000);
  k.fault_gap_ms = dice.skewed(300, 2'500);
  k.fault_ms_max = dice.skewed(1'000, 12'000);
  k.down_max = k.nodes == 1 || dice.percent(15) ? k.nodes : (k.nodes - 1) / 2;
  k.faults = draw_faults(dice);
  // Acknowledged before it is synced: a power cut may take it from all replicas one after the other.
  if (!k.fsync) k.faults.power = k.faults.disk_error = false;
  if (k.nodes == 1) k.faults.partition = k.faults.one_way = false;
  k.voters = k.nodes;
  if (k.nodes > 1 && dice.percent(25)) k.nodes += static_cast<int32_t>(dice.between(1, 2));
  if (dice.percent(40)) k.metadata_append_bytes = 1;
  if (k.faults.kill && dice.percent(50)) k.second_blow_percent = 50;
  draw_more(seed, k);
  draw_rot(seed, k);
  // The largest batch of a producer fits.
  k.segment_bytes = std::max(k.segment_bytes, 4'096 + k.records_max * k.value_bytes_max);
  return k;
}

std::string describe(const Knobs& k) {
  std::string faults;
  const auto add = [&](bool on, const char* name) {
    if (on) faults += std::string(faults.empty() ? "" : " ") + name;
  };
  const FaultKinds& f = k.faults;
  add(f.kill, "kill");
  add(f.power, "power");
  add(f.pause, "pause");
  add(f.partition, "partition");
  add(f.one_way, "one-way");
  add(f.isolate, "isolate");
  add(f.clog, "clog");
  add(f.cut, "cut");
  add(f.disk_error, "disk-error");
  add(f.disk_full, "disk-full");
  add(f.clock, "clock");
  add(f.drift, "drift");
  add(f.stop, "stop");
  add(f.slow_disk, "slow-disk");
  add(f.client_kill, "client-kill");
  add(f.dead_disk, "dead-disk");
  add(f.empty_disk, "empty-disk");
  add(f.rot, "rot");
  add(k.voter_changes, "voters");
  add(k.drains, "drains");
  add(k.hunt_percent > 0, "hunt");
  return fmt::format(
      "{} nodes ({} voters) of {} loops and {} directories; {} topics of {} partitions, {} replicas, "
      "min.insync {}, {}; segments {}, lag {} ms, election {} ms{}, session {} ms, latency {} us, "
      "metadata snapshots each {} bytes; "
      "{} producers ({}% idempotent), "
      "{} readers, {} members; {} ms, a fault each {} ms for up to {} ms, {} down at most; faults: {}",
      k.nodes, k.voters, k.data_loops, k.directories, k.topics, k.partitions, k.replication_factor,
      k.min_insync, k.fsync ? "fsync" : "replicated", k.segment_bytes, k.replica_lag_ms,
      k.election_timeout_ms, k.metadata_append_bytes == 1 ? " by single entries" : "", k.session_timeout_ms,
      k.latency_us_max, k.snapshot_every_bytes, k.producers, k.idempotent_percent, k.readers, k.group_members,
      k.safety_ms, k.fault_gap_ms, k.fault_ms_max, k.down_max, faults);
}

// Straight into the broker: also values that a configuration file may not have.
std::shared_ptr<const meta::ConfigValues> broker_settings(const Knobs& k) {
  meta::ConfigValues v;
  const auto set = [&v](const char* key, auto value) { v[key] = fmt::format("{}", value); };
  set("log.index.interval.bytes", k.index_interval);
  set("log.durability", k.fsync ? "fsync" : "replicated");
  set("log.retention.ms", -1);
  set("log.retention.bytes", -1);
  set("log.flush.offset.checkpoint.interval.ms", k.checkpoint_ms);
  set("log.dirs.free.bytes.min", 0);
  set("default.replication.factor", k.replication_factor);
  set("min.insync.replicas", k.min_insync);
  set("replica.lag.time.max.ms", k.replica_lag_ms);
  set("replica.fetch.max.bytes", k.replica_fetch_bytes);
  set("replica.fetch.wait.max.ms", k.replica_fetch_wait_ms);
  set("broker.session.timeout.ms", k.session_timeout_ms);
  set("broker.heartbeat.interval.ms", k.heartbeat_ms);
  set("offsets.topic.num.partitions", k.offsets_partitions);
  set("offsets.topic.replication.factor", k.replication_factor);
  set("group.initial.rebalance.delay.ms", 100);
  set("auto.create.topics.enable", "false");
  set("log.message.timestamp.after.max.ms", INT64_MAX);
  set("log.message.timestamp.before.max.ms", INT64_MAX);
  set("offsets.retention.minutes", INT32_MAX);
  set("max.incremental.fetch.session.cache.slots", k.fetch_session_slots);
  set("log.scrub.bytes.per.second", k.scrub_interval_ms > 0 ? 50 << 20 : 0);
  if (k.scrub_interval_ms > 0) set("log.scrub.interval.ms", k.scrub_interval_ms);
  return std::make_shared<const meta::ConfigValues>(std::move(v));
}

}  // namespace millrace::sim
