// One measurement: channels under one epoll on the caller's thread, a time to warm up, a window that counts,
// then an orderly end.
//
// Open loop: request i is due at start + i / rate whatever the broker does, goes to the channels in turn, and
// its latency counts from that time, so that a broker that stands still is charged for everything that would
// have been sent meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cli/perf/call_channel.h"
#include "cli/perf/fetch_channel.h"
#include "cli/perf/process_cost.h"

namespace millrace::cli::perf {

struct LoadOptions {
  double warmup_s = 3;
  double seconds = 10;
  /// Ends after so many answers of calls (fetches, if there are no calls); 0: by time. No warm-up then.
  uint64_t requests_max = 0;
  /// Ends when the fetches have read everything.
  bool until_ends = false;
  double rate = 0;    // requests a second; 0: closed loop
  bool spin = false;  // never sleeps: latencies without the wake-up of the generator
  std::vector<int32_t> broker_pids;
};

struct LoadSample {
  double at_s = 0;  // since the window began
  uint64_t requests = 0;
  uint64_t bytes = 0;
  uint64_t fetched_bytes = 0;
};

struct BrokerCost {
  int32_t pid = 0;
  ProcessCost used;  // in the window
};

struct LoadOutcome {
  double seconds = 0;  // of the window
  Tally calls;
  Tally fetches;
  std::vector<LoadSample> samples;  // one a second
  std::vector<BrokerCost> brokers;
  ProcessCost generator;
  double load_average = 0;  // of the machine, at the end
};

class LoadRun {
 public:
  explicit LoadRun(LoadOptions options);
  ~LoadRun();

  Tally& calls_tally() { return calls_tally_; }
  Tally& fetches_tally() { return fetches_tally_; }
  void add(std::unique_ptr<CallChannel> channel) { calls_.push_back(std::move(channel)); }
  void add(std::unique_ptr<FetchChannel> channel) { fetches_.push_back(std::move(channel)); }

  /// `on_second` gets every sample as it comes, also those before the window (negative at_s), and says
  /// whether to go on. Errors: what broke a channel; cancelled (on_second said no); timed_out (requests were
  /// never answered).
  Result<LoadOutcome> run(const std::function<bool(const LoadSample&)>& on_second);

 private:
  static constexpr int64_t kDrainNs = 30'000'000'000;
  struct Watched {
    Channel* channel = nullptr;
    uint32_t events = 0;
  };

  Status watch_all();
  Status watch(size_t index);
  Status wait_and_serve(int64_t until_ns);
  void offer_due(int64_t now);
  bool over(int64_t now) const;
  Status begin_window(int64_t now);
  LoadSample sample(int64_t now);

  const LoadOptions options_;
  int epoll_ = -1;
  std::vector<std::unique_ptr<CallChannel>> calls_;
  std::vector<std::unique_ptr<FetchChannel>> fetches_;
  std::vector<Watched> watched_;
  Tally calls_tally_;
  Tally fetches_tally_;
  LoadSample before_;  // totals at the last sample

  int64_t began_ns_ = 0;
  uint64_t offered_ = 0;
  size_t next_channel_ = 0;
  int64_t window_ns_ = 0;  // when it began; 0: not yet
  std::vector<ProcessCost> costs_before_;
  ProcessCost own_before_;
};

}  // namespace millrace::cli::perf
