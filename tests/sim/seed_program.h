// What the programs around the simulations share: a seed whose run ends the process is named all the same,
// and how seeds are told on the command line.
#pragma once

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace millrace::sim {

/// Of the run that this thread is in.
inline thread_local uint64_t current_seed = 0;

inline void name_seed_on_abort() {
  const auto tell = [](int signal) {
    char text[64];
    const int n = std::snprintf(text, sizeof text, "FAILED seed %llu: signal %d\n",
                                static_cast<unsigned long long>(current_seed), signal);
    (void)!write(1, text, static_cast<size_t>(n));
    _exit(3);
  };
  std::signal(SIGABRT, tell);
  std::signal(SIGSEGV, tell);
}

inline uint64_t to_number(const std::string& text) {
  return std::strtoull(text.c_str(), nullptr, 10);
}

/// `worker` on so many threads, this one among them.
template <typename Worker>
void on_threads(unsigned count, const Worker& worker) {
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < count; ++i) threads.emplace_back(worker);
  worker();
  for (std::thread& t : threads) t.join();
}

/// `A..B`, or `A` alone.
inline std::pair<uint64_t, uint64_t> to_seeds(const std::string& range) {
  const size_t dots = range.find("..");
  return {to_number(range), to_number(dots == std::string::npos ? range : range.substr(dots + 2))};
}

/// The value that follows argument `i`; ends the program if there is none.
inline std::string value_after(int argc, char** argv, int& i) {
  if (i + 1 >= argc) {
    std::fprintf(stderr, "%s needs a value\n", argv[i]);
    std::exit(2);
  }
  return argv[++i];
}

}  // namespace millrace::sim
