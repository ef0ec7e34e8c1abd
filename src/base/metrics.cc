#include "base/metrics.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace millrace {
namespace {

// Bucket i holds values up to 2^i microseconds.
size_t bucket_of(int64_t ns) {
  const auto us = static_cast<uint64_t>(std::max<int64_t>(ns, 0) + 999) / 1000;
  return std::min<size_t>(us <= 1 ? 0 : static_cast<size_t>(std::bit_width(us - 1)), Histogram::kBuckets);
}

double bucket_seconds(size_t i) {
  return static_cast<double>(uint64_t{1} << i) * 1e-6;
}

std::string escape_label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string label_text(const Labels& labels, std::string_view extra = {}) {
  if (labels.empty() && extra.empty()) return {};
  std::string out = "{";
  for (const auto& [name, value] : labels) {
    if (out.size() > 1) out.push_back(',');
    out += name + "=\"" + escape_label(value) + "\"";
  }
  if (!extra.empty()) {
    if (out.size() > 1) out.push_back(',');
    out += extra;
  }
  out.push_back('}');
  return out;
}

}  // namespace

void Histogram::observe_ns(int64_t ns) {
  buckets_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(static_cast<uint64_t>(std::max<int64_t>(ns, 0)), std::memory_order_relaxed);
}

uint64_t Histogram::count() const {
  uint64_t n = 0;
  for (const auto& b : buckets_) n += b.load(std::memory_order_relaxed);
  return n;
}

double Histogram::quantile(double q) const {
  const uint64_t total = count();
  if (total == 0) return 0;
  const auto rank = static_cast<uint64_t>(q * static_cast<double>(total - 1)) + 1;
  uint64_t seen = 0;
  for (size_t i = 0; i <= kBuckets; ++i) {
    seen += buckets_[i].load(std::memory_order_relaxed);
    if (seen >= rank) return bucket_seconds(i);
  }
  return bucket_seconds(kBuckets);
}

MetricsRegistry::Family& MetricsRegistry::family(std::string name, std::string help, std::string_view type) {
  Family& f = families_[std::move(name)];
  ASSERT(f.type.empty() || f.type == type);
  f.type = type;
  f.help = std::move(help);
  return f;
}

Counter& MetricsRegistry::counter(std::string name, std::string help, Labels labels) {
  Counter& c = counters_.emplace_back();
  family(std::move(name), std::move(help), "counter").counters[std::move(labels)].push_back(&c);
  return c;
}

Histogram& MetricsRegistry::histogram(std::string name, std::string help, Labels labels) {
  Histogram& h = histograms_.emplace_back();
  family(std::move(name), std::move(help), "histogram").histograms[std::move(labels)].push_back(&h);
  return h;
}

void MetricsRegistry::gauge(std::string name, std::string help, std::function<void(Samples&)> read) {
  family(std::move(name), std::move(help), "gauge").readers.push_back(std::move(read));
}

void MetricsRegistry::computed_counter(std::string name, std::string help,
                                       std::function<void(Samples&)> read) {
  family(std::move(name), std::move(help), "counter").readers.push_back(std::move(read));
}

std::string MetricsRegistry::expose() const {
  std::string out;
  for (const auto& [name, f] : families_) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, f.help, name, f.type);
    for (const auto& [labels, cells] : f.counters) {
      uint64_t sum = 0;
      for (const Counter* c : cells) sum += c->value();
      out += fmt::format("{}{} {}\n", name, label_text(labels), sum);
    }
    for (const auto& [labels, cells] : f.histograms) {
      std::array<uint64_t, Histogram::kBuckets + 1> sums{};
      uint64_t sum_ns = 0;
      for (const Histogram* h : cells) {
        for (size_t i = 0; i < sums.size(); ++i) sums[i] += h->buckets_[i].load(std::memory_order_relaxed);
        sum_ns += h->sum_ns_.load(std::memory_order_relaxed);
      }
      uint64_t cumulative = 0;
      for (size_t i = 0; i < Histogram::kBuckets; ++i) {
        cumulative += sums[i];
        out += fmt::format("{}_bucket{} {}\n", name,
                           label_text(labels, fmt::format("le=\"{}\"", bucket_seconds(i))), cumulative);
      }
      cumulative += sums[Histogram::kBuckets];
      out += fmt::format("{}_bucket{} {}\n", name, label_text(labels, "le=\"+Inf\""), cumulative);
      out += fmt::format("{}_sum{} {}\n", name, label_text(labels), static_cast<double>(sum_ns) * 1e-9);
      out += fmt::format("{}_count{} {}\n", name, label_text(labels), cumulative);
    }
    Samples samples;
    for (const auto& read : f.readers) read(samples);
    std::sort(samples.begin(), samples.end());
    for (const auto& [labels, value] : samples)
      out += fmt::format("{}{} {}\n", name, label_text(labels), value);
  }
  return out;
}

}  // namespace millrace
