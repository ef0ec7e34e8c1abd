// Runs the storage simulation over many seeds.
//
// usage: millrace-storage-sim [--seed N | --seeds A..B] [--jobs N] [--verbose] [--plant BUG]
//                             [--no-sightings] [--twice PERCENT] [--flips]
//   --seed N      one seed, told step by step
//   --seeds A..B  both included; default 1..1000
//   --jobs N      threads; default: the number of cores
//   --plant BUG   with a mistake planted: ends at the first seed that finds it ("all": a table of them all)
//   --flips       every read may bring flipped bits
//   --twice P     this percentage of the seeds runs twice: the hashes must agree; default 1
// Prints how often each rare state was met; with 5,000 seeds or more, one that was never met is a failure.
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
#include "sim/storage_sim.h"

namespace {

using millrace::sim::current_seed;
using millrace::sim::on_threads;
using millrace::sim::run_storage_sim;
using millrace::sim::StorageBugs;
using millrace::sim::StorageSimOptions;
using millrace::sim::StorageSimOutcome;
using millrace::sim::to_number;

struct Arguments {
  uint64_t first = 1, last = 1000;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  bool verbose = false;
  bool flips = false;
  bool sightings = true;
  uint64_t twice = 1;
  std::string bug;
};

struct Report {
  uint64_t passed = 0, failed = 0, operations = 0, crashes = 0, twice = 0;
  uint64_t first_failure = UINT64_MAX;
  std::string why;
  millrace::sim::Sightings sightings;
};

Report run(const Arguments& arguments, const StorageBugs& bugs, bool stop_at_first) {
  Report report;
  std::mutex mutex;
  std::atomic<uint64_t> next{arguments.first};
  std::atomic<bool> stop{false};
  const auto worker = [&] {
    for (uint64_t seed = next++; seed <= arguments.last && !stop; seed = next++) {
      current_seed = seed;
      StorageSimOptions options;
      options.seed = seed;
      options.bugs = bugs;
      options.flips_on_the_way = arguments.flips;
      if (arguments.verbose) options.narrate = [](const std::string& line) { std::puts(line.c_str()); };
      StorageSimOutcome outcome = run_storage_sim(options);
      const bool again = !stop_at_first && seed % 100 < arguments.twice;
      if (again && run_storage_sim(options).hash != outcome.hash && outcome.failure.empty()) {
        outcome.failure = "the same seed gave another run";
      }
      const std::lock_guard lock(mutex);
      report.operations += outcome.operations;
      report.crashes += outcome.crashes;
      if (again) ++report.twice;
      for (const auto& [name, count] : outcome.sightings) report.sightings[name] += count;
      if (outcome.failure.empty()) {
        ++report.passed;
        continue;
      }
      ++report.failed;
      if (seed < report.first_failure) {
        report.first_failure = seed;
        report.why = outcome.failure;
      }
      if (stop_at_first) {
        stop = true;
      } else if (report.failed <= 50) {
        std::printf("FAILED seed %llu: %s\n", static_cast<unsigned long long>(seed), outcome.failure.c_str());
        std::fflush(stdout);
      }
    }
  };
  on_threads(arguments.jobs, worker);
  return report;
}

int run_planted(const Arguments& arguments) {
  unsigned found = 0, missed = 0;
  std::printf("%-24s %8s  %s\n", "planted", "seed", "found by");
  for (const std::string_view name : millrace::sim::plantable_bugs()) {
    if (arguments.bug != "all" && arguments.bug != name) continue;
    StorageBugs bugs;
    if (!millrace::sim::plant(bugs, name)) continue;
    const Report report = run(arguments, bugs, true);
    const std::string text(name);
    if (report.failed > 0) {
      ++found;
      std::printf("%-24s %8llu  %s\n", text.c_str(), static_cast<unsigned long long>(report.first_failure),
                  report.why.c_str());
    } else {
      ++missed;
      std::printf("%-24s %8s  not found\n", text.c_str(), "-");
    }
    std::fflush(stdout);
  }
  std::printf("%u passed, %u failed\n", found, missed);
  return missed == 0 && found > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto value = [&] { return millrace::sim::value_after(argc, argv, i); };
    if (a == "--seed") {
      arguments.first = arguments.last = to_number(value());
      arguments.verbose = true;
      arguments.jobs = 1;
    } else if (a == "--seeds") {
      std::tie(arguments.first, arguments.last) = millrace::sim::to_seeds(value());
    } else if (a == "--jobs") {
      arguments.jobs = std::max(1u, static_cast<unsigned>(to_number(value())));
    } else if (a == "--verbose") {
      arguments.verbose = true;
    } else if (a == "--plant") {
      arguments.bug = value();
    } else if (a == "--twice") {
      arguments.twice = to_number(value());
    } else if (a == "--flips") {
      arguments.flips = true;
    } else if (a == "--no-sightings") {
      arguments.sightings = false;
    } else {
      std::fprintf(stderr, "unknown argument %s\n", a.c_str());
      return 2;
    }
  }
  millrace::sim::name_seed_on_abort();
  if (!arguments.bug.empty() && !(arguments.verbose && arguments.first == arguments.last)) {
    return run_planted(arguments);
  }
  StorageBugs bugs;
  if (!arguments.bug.empty()) (void)millrace::sim::plant(bugs, arguments.bug);
  const auto began = std::chrono::steady_clock::now();
  Report report = run(arguments, bugs, false);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const uint64_t seeds = report.passed + report.failed;
  if (arguments.sightings) {
    for (const auto& [name, count] : report.sightings) {
      std::printf("%12llu  %s\n", static_cast<unsigned long long>(count), name.c_str());
    }
    for (const std::string_view name : millrace::sim::expected_sightings()) {
      if (report.sightings.contains(name)) continue;
      const std::string text(name);
      std::printf("%12d  %s\n", 0, text.c_str());
      if (seeds >= 5000) {
        std::printf("FAILED never met: %s\n", text.c_str());
        ++report.failed;
      }
    }
  }
  std::printf("%llu seeds, %llu operations, %llu crashes, %llu run twice, %.1f s\n",
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(report.operations),
              static_cast<unsigned long long>(report.crashes), static_cast<unsigned long long>(report.twice),
              seconds);
  std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(report.passed),
              static_cast<unsigned long long>(report.failed));
  return report.failed == 0 ? 0 : 1;
}
