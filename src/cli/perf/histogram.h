// Latencies of a measurement: counts in logarithmic buckets, 128 to an octave, so that a quantile is off by
// less than 0.8 % whatever its size. Recording is a shift and an increment; nothing is allocated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace millrace::cli::perf {

class Histogram {
 public:
  /// Negative values count as 0.
  void record(int64_t ns);
  void add(const Histogram& other);
  void clear() { *this = Histogram(); }

  uint64_t count() const { return count_; }
  int64_t max_ns() const { return max_; }
  double mean_ns() const;
  /// The value below which the share `q` (0..1) of all lies, at the upper end of its bucket; 0 when empty.
  int64_t quantile_ns(double q) const;
  /// Upper end and count of every bucket that is not empty, ascending.
  std::vector<std::pair<int64_t, uint64_t>> buckets() const;

 private:
  static constexpr size_t kSubBits = 7;
  static constexpr size_t kBuckets = (64 - kSubBits) << kSubBits;
  static size_t index_of(uint64_t v);
  static int64_t upper_end(size_t index);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  int64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace millrace::cli::perf
