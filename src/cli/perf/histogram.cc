#include "cli/perf/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace millrace::cli::perf {

size_t Histogram::index_of(uint64_t v) {
  constexpr size_t kExact = size_t{2} << kSubBits;
  if (v < kExact) return static_cast<size_t>(v);
  const size_t shift = static_cast<size_t>(std::bit_width(v)) - kSubBits - 1;
  return (shift << kSubBits) + static_cast<size_t>(v >> shift);
}

int64_t Histogram::upper_end(size_t index) {
  constexpr size_t kExact = size_t{2} << kSubBits;
  if (index < kExact) return static_cast<int64_t>(index);
  const size_t shift = (index >> kSubBits) - 1;
  const uint64_t mantissa = (index & ((size_t{1} << kSubBits) - 1)) | (size_t{1} << kSubBits);
  return static_cast<int64_t>(((mantissa + 1) << shift) - 1);
}

void Histogram::record(int64_t ns) {
  const int64_t v = std::max<int64_t>(ns, 0);
  ++buckets_[index_of(static_cast<uint64_t>(v))];
  ++count_;
  max_ = std::max(max_, v);
  sum_ += static_cast<double>(v);
}

void Histogram::add(const Histogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double Histogram::mean_ns() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

int64_t Histogram::quantile_ns(double q) const {
  if (count_ == 0) return 0;
  const auto wanted =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(upper_end(i), max_);
  }
  return max_;
}

std::vector<std::pair<int64_t, uint64_t>> Histogram::buckets() const {
  std::vector<std::pair<int64_t, uint64_t>> out;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (buckets_[i] > 0) out.emplace_back(upper_end(i), buckets_[i]);
  }
  return out;
}

}  // namespace millrace::cli::perf
