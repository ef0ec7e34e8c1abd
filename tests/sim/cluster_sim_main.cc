// Runs the simulation of a whole cluster.
//
// usage: millrace-sim [--seed N | --seeds A..B | --minutes M | --counting N] [--jobs N] [--timeline]
//                     [--verbose] [--counters] [--twice PERCENT] [--hashes] [--least-seconds S]
//                     [--least-faults N] [--all-rare] [--plant NAME | --plants]
//   --seed N      one seed: its knobs, figures and hash
//   --seeds A..B  both included; default 1..100
//   --minutes M   seeds from A (1) on for so long
//   --counting N  seeds from A (1) on until so many count: those in which 200 writes were acknowledged
//   --least-seconds, --least-faults   fewer simulated seconds or faults in all are a failure
//   --jobs N      threads; default: the number of cores
//   --timeline    of one seed: step by step, then the operations around the first violation
//   --verbose     as --timeline, with what the nodes log
//   --twice P     this percentage of the seeds runs twice: the hashes must agree; default 1
//   --hashes      a line per seed
//   --counters    how often what was met
//   --plant NAME  with a mistake planted: ends with the first seed that finds it, which is no failure; its
//                 last line names plant, room, seed, seeds run, seconds, and what was found. With --seed as
//                 without
//   --plants      lists them
//   --all-rare    a rare state (sim/rare_states.h) that no seed met is a failure; so it is with --minutes 30
//                 or more
// Exit code 0 if no seed failed. The last line is `N passed, N failed`.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "seed_program.h"
#include "sim/cluster_sim.h"
#include "sim/plants.h"

namespace {

using millrace::sim::ClusterSimOptions;
using millrace::sim::ClusterSimOutcome;
using millrace::sim::Counts;
using millrace::sim::current_seed;
using millrace::sim::on_threads;
using millrace::sim::RareCounts;
using millrace::sim::run_cluster_sim;
using millrace::sim::to_number;

constexpr double kMinutesForAllRare = 30;

struct Arguments {
  uint64_t first = 1, last = 100;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  double minutes = 0;
  uint64_t counting = 0;
  double least_seconds = 0;
  uint64_t least_faults = 0;
  bool one = false;
  bool timeline = false;
  bool verbose = false;
  bool counters = false;
  bool hashes = false;
  const millrace::sim::PlantName* plant = nullptr;
  bool all_rare = false;
  uint64_t twice = 1;
};

unsigned long long number(uint64_t n) {
  return static_cast<unsigned long long>(n);
}

void print_counts(const Counts& counts) {
  for (const auto& [name, count] : counts) std::printf("%12llu  %s\n", number(count), name.c_str());
}

/// How often each rare state was met and, if many seeds ran, by how many of them; how many never were.
uint64_t print_rare(const RareCounts& met, const RareCounts* runs) {
  uint64_t never = 0;
  std::printf("%12s %8s  rare state\n", "met", runs == nullptr ? "" : "runs");
  for (size_t i = 0; i < millrace::sim::kRareStateCount; ++i) {
    const millrace::sim::RareState& state = millrace::sim::kRareStates[i];
    if (met[i] == 0) ++never;
    std::printf("%12llu %8s  %-24s %s\n", number(met[i]),
                runs == nullptr ? "" : std::to_string((*runs)[i]).c_str(), std::string(state.name).c_str(),
                std::string(state.meaning).c_str());
  }
  std::printf("%zu rare states, %llu of them never met\n", millrace::sim::kRareStateCount, number(never));
  return never;
}

int run_one(const Arguments& arguments) {
  ClusterSimOptions options;
  options.seed = arguments.first;
  options.verbose = arguments.verbose;
  if (arguments.plant != nullptr) options.plant = arguments.plant->plant;
  if (arguments.timeline || arguments.verbose) {
    options.narrate = [](const std::string& line) { std::puts(line.c_str()); };
  }
  current_seed = options.seed;
  const ClusterSimOutcome o = run_cluster_sim(options);
  std::printf("seed %llu: %s\n", number(options.seed), o.knobs.c_str());
  if (arguments.counters) {
    print_counts(o.counts);
    (void)print_rare(o.met, nullptr);
  }
  std::printf("%llu events, %lld simulated ms, %llu faults, %llu operations, %llu acknowledged writes\n",
              number(o.events), static_cast<long long>(o.simulated_ms), number(o.faults),
              number(o.operations), number(o.acknowledged));
  std::printf("hash %016llx\n", number(o.hash));
  if (!o.timeline.empty()) std::printf("%s\n", o.timeline.c_str());
  if (!o.failure.empty()) std::printf("FAILED seed %llu: %s\n", number(options.seed), o.failure.c_str());
  std::printf("%d passed, %d failed\n", o.failure.empty() ? 1 : 0, o.failure.empty() ? 0 : 1);
  return o.failure.empty() ? 0 : 1;
}

struct Report {
  uint64_t passed = 0, failed = 0, idle = 0, faults = 0, acknowledged = 0, operations = 0, events = 0,
           twice = 0;
  int64_t simulated_ms = 0;
  Counts counts;
  RareCounts met{}, runs_met{};
};

int run_many(const Arguments& arguments) {
  Report report;
  std::mutex mutex;
  std::atomic<uint64_t> next{arguments.first};
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  std::atomic<uint64_t> claimed{0};
  const auto goes_on = [&](uint64_t seed) {
    if (arguments.minutes > 0) return seconds() < arguments.minutes * 60;
    if (arguments.counting > 0) return claimed++ < arguments.counting;
    return seed <= arguments.last;
  };
  const auto worker = [&] {
    for (uint64_t seed = next++; goes_on(seed); seed = next++) {
      current_seed = seed;
      ClusterSimOptions options;
      options.seed = seed;
      ClusterSimOutcome o = run_cluster_sim(options);
      const bool again = o.failure.empty() && seed % 100 < arguments.twice;
      if (again && run_cluster_sim(options).hash != o.hash) o.failure = "the same seed gave another run";
      const std::lock_guard lock(mutex);
      report.faults += o.faults;
      report.acknowledged += o.acknowledged;
      report.operations += o.operations;
      report.events += o.events;
      report.simulated_ms += o.simulated_ms;
      if (again) ++report.twice;
      for (const auto& [name, count] : o.counts) report.counts[name] += count;
      for (size_t i = 0; i < o.met.size(); ++i) {
        report.met[i] += o.met[i];
        if (o.met[i] > 0) ++report.runs_met[i];
      }
      if (arguments.hashes) std::printf("%llu %016llx\n", number(seed), number(o.hash));
      if (!o.failure.empty()) {
        ++report.failed;
        std::printf("FAILED seed %llu: %s\n", number(seed), o.failure.c_str());
      } else {
        ++report.passed;
        if (!o.counts_as_run()) {
          ++report.idle;
          --claimed;  // another one in its place
          std::printf("seed %llu does not count: %llu writes were acknowledged\n", number(seed),
                      number(o.acknowledged));
        }
      }
      std::fflush(stdout);
    }
  };
  on_threads(arguments.jobs, worker);
  if (arguments.counters) print_counts(report.counts);
  if (arguments.counters || arguments.all_rare) {
    const uint64_t never = print_rare(report.met, &report.runs_met);
    if (arguments.all_rare && never > 0) {
      ++report.failed;
      std::printf("FAILED %llu rare states were never met: what would find their bugs does not run\n",
                  number(never));
    }
  }
  if (static_cast<double>(report.simulated_ms) < arguments.least_seconds * 1000) {
    ++report.failed;
    std::printf("FAILED only %lld ms were simulated\n", static_cast<long long>(report.simulated_ms));
  }
  if (report.faults < arguments.least_faults) {
    ++report.failed;
    std::printf("FAILED only %llu faults\n", number(report.faults));
  }
  std::printf(
      "%llu seeds (%llu do not count), %.0f simulated seconds, %llu faults, %llu operations, "
      "%llu acknowledged writes, %llu events, %llu run twice, %.1f s\n",
      number(report.passed + report.failed), number(report.idle),
      static_cast<double>(report.simulated_ms) / 1000, number(report.faults), number(report.operations),
      number(report.acknowledged), number(report.events), number(report.twice), seconds());
  std::printf("%llu passed, %llu failed\n", number(report.passed), number(report.failed));
  return report.failed == 0 ? 0 : 1;
}

int run_planted(const Arguments& arguments) {
  std::mutex mutex;
  std::atomic<uint64_t> next{arguments.first};
  std::atomic<bool> over{false};
  uint64_t seeds = 0, found_by = 0;
  std::string failure;
  const auto began = std::chrono::steady_clock::now();
  const auto worker = [&] {
    for (uint64_t seed = next++; seed <= arguments.last && !over; seed = next++) {
      current_seed = seed;
      ClusterSimOptions options;
      options.seed = seed;
      options.plant = arguments.plant->plant;
      const ClusterSimOutcome o = run_cluster_sim(options);
      const std::lock_guard lock(mutex);
      ++seeds;
      if (o.failure.empty() || (!failure.empty() && found_by < seed)) continue;
      over = true;
      found_by = seed;
      failure = o.failure.substr(0, o.failure.find('\n'));
    }
  };
  on_threads(arguments.jobs, worker);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const std::string place =
      std::string(arguments.plant->name) + " (" + std::string(arguments.plant->room) + ")";
  if (failure.empty()) {
    std::printf("NOT FOUND %s: %llu seeds, %.1f s\n", place.c_str(), number(seeds), seconds);
    return 1;
  }
  std::printf("found %s: seed %llu, %llu seeds, %.1f s: %s\n", place.c_str(), number(found_by), number(seeds),
              seconds, failure.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto value = [&] { return millrace::sim::value_after(argc, argv, i); };
    if (a == "--seed") {
      arguments.first = arguments.last = to_number(value());
      arguments.one = true;
    } else if (a == "--seeds") {
      std::tie(arguments.first, arguments.last) = millrace::sim::to_seeds(value());
    } else if (a == "--minutes") {
      arguments.minutes = std::strtod(value().c_str(), nullptr);
    } else if (a == "--counting") {
      arguments.counting = to_number(value());
    } else if (a == "--least-seconds") {
      arguments.least_seconds = std::strtod(value().c_str(), nullptr);
    } else if (a == "--least-faults") {
      arguments.least_faults = to_number(value());
    } else if (a == "--jobs") {
      arguments.jobs = std::max(1U, static_cast<unsigned>(to_number(value())));
    } else if (a == "--timeline") {
      arguments.timeline = true;
    } else if (a == "--verbose") {
      arguments.verbose = true;
    } else if (a == "--counters") {
      arguments.counters = true;
    } else if (a == "--hashes") {
      arguments.hashes = true;
    } else if (a == "--plant") {
      const std::string name = value();
      arguments.plant = millrace::sim::find_plant(name);
      if (arguments.plant == nullptr || !millrace::sim::Planting::possible()) {
        std::fprintf(stderr,
                     arguments.plant == nullptr ? "there is no plant %s\n"
                                                : "%s: this build has no plants; the preset `plants` has\n",
                     name.c_str());
        return 2;
      }
    } else if (a == "--plants") {
      for (const auto& p : millrace::sim::plant_names())
        std::printf("%s %s\n", std::string(p.name).c_str(), std::string(p.room).c_str());
      return 0;
    } else if (a == "--all-rare") {
      arguments.all_rare = true;
    } else if (a == "--twice") {
      arguments.twice = to_number(value());
    } else {
      std::fprintf(stderr, "unknown argument %s\n", a.c_str());
      return 2;
    }
  }
  if (arguments.minutes >= kMinutesForAllRare) arguments.all_rare = true;
  millrace::sim::name_seed_on_abort();
  if (arguments.one) return run_one(arguments);
  return arguments.plant != nullptr ? run_planted(arguments) : run_many(arguments);
}
