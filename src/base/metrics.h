// Counters, gauges and histograms with Prometheus text exposition. One registry per broker, no globals.
//
// A writer asks once for a cell of its own (per loop) and then only adds with relaxed atomics; the exposition
// sums the cells of the same name and labels. The registry itself is filled during start-up and by one owner;
// reading may happen on any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// Latencies in nanoseconds, exposed in seconds: buckets by powers of two from 1 us to 67 s.
class Histogram {
 public:
  static constexpr size_t kBuckets = 27;
  void observe_ns(int64_t ns);
  uint64_t count() const;
  /// Upper bound of the bucket that holds the q-quantile (0..1), seconds; 0 when empty.
  double quantile(double q) const;

 private:
  friend class MetricsRegistry;
  std::array<std::atomic<uint64_t>, kBuckets + 1> buckets_{};
  std::atomic<uint64_t> sum_ns_{0};
};

class MetricsRegistry {
 public:
  /// A new cell of this counter; valid as long as the registry.
  Counter& counter(std::string name, std::string help, Labels labels = {});
  Histogram& histogram(std::string name, std::string help, Labels labels = {});
  /// Computed at exposition: `read` adds (labels, value) samples. Must be safe on the exposing thread.
  using Samples = std::vector<std::pair<Labels, double>>;
  void gauge(std::string name, std::string help, std::function<void(Samples&)> read);
  /// A gauge that only grows: typed as a counter.
  void computed_counter(std::string name, std::string help, std::function<void(Samples&)> read);

  /// Prometheus text format 0.0.4, families and label sets sorted.
  std::string expose() const;

 private:
  struct Family {
    std::string help;
    std::string type;
    std::map<Labels, std::vector<const Counter*>> counters;
    std::map<Labels, std::vector<const Histogram*>> histograms;
    std::vector<std::function<void(Samples&)>> readers;
  };
  Family& family(std::string name, std::string help, std::string_view type);

  std::map<std::string, Family> families_;
  std::deque<Counter> counters_;
  std::deque<Histogram> histograms_;
};

}  // namespace millrace
