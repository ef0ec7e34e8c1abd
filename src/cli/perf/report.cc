#include "cli/perf/report.h"

#include <fmt/format.h>

#include <cmath>

namespace millrace::cli::perf {
namespace {

double rounded(double v) {
  if (v == 0 || !std::isfinite(v)) return 0;
  // Six digits: a file of results is read by people too.
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::fabs(v))));
  return std::round(v * scale) / scale;
}

Json quantiles(const Histogram& h, bool buckets) {
  Json j = Json::object();
  const auto us = [](int64_t ns) { return rounded(static_cast<double>(ns) / 1e3); };
  j["count"] = h.count();
  j["mean"] = rounded(h.mean_ns() / 1e3);
  j["p50"] = us(h.quantile_ns(0.5));
  j["p90"] = us(h.quantile_ns(0.9));
  j["p99"] = us(h.quantile_ns(0.99));
  j["p99_9"] = us(h.quantile_ns(0.999));
  j["p99_99"] = us(h.quantile_ns(0.9999));
  j["max"] = us(h.max_ns());
  if (buckets) {
    Json list = Json::array();
    for (const auto& [end, count] : h.buckets()) list.push_back(Json::array({us(end), count}));
    j["buckets"] = std::move(list);
  }
  return j;
}

Json direction(const Tally& t, double seconds, bool buckets) {
  const double s = std::max(seconds, 1e-9);
  Json j = Json::object();
  j["requests"] = t.requests;
  j["records"] = t.records;
  j["bytes"] = t.bytes;
  j["requests_per_s"] = rounded(static_cast<double>(t.requests) / s);
  j["records_per_s"] = rounded(static_cast<double>(t.records) / s);
  j["mb_per_s"] = rounded(static_cast<double>(t.bytes) / 1e6 / s);
  if (t.empty > 0) j["empty"] = t.empty;
  j["latency_us"] = quantiles(t.latency, buckets);
  if (t.end_to_end.count() > 0) j["end_to_end_us"] = quantiles(t.end_to_end, buckets);
  Json errors = Json::object();
  for (const auto& [code, n] : t.errors) errors[std::string(error_name(code))] = n;
  j["errors"] = std::move(errors);
  return j;
}

Json broker_json(const BrokerCost& broker, const LoadOutcome& outcome) {
  const double cpu = static_cast<double>(broker.used.cpu_ns) / 1e9;
  const uint64_t bytes = outcome.calls.bytes + outcome.fetches.bytes;
  const uint64_t requests = outcome.calls.requests + outcome.fetches.requests;
  Json j = Json::object();
  j["pid"] = broker.pid;
  j["cpu_s"] = rounded(cpu);
  j["user_s"] = rounded(static_cast<double>(broker.used.user_ns) / 1e9);
  j["system_s"] = rounded(static_cast<double>(broker.used.system_ns) / 1e9);
  j["cores"] = rounded(cpu / std::max(outcome.seconds, 1e-9));
  j["cpu_us_per_request"] = requests > 0 ? Json(rounded(cpu * 1e6 / static_cast<double>(requests))) : Json();
  j["cpu_s_per_gb"] = bytes > 0 ? Json(rounded(cpu * 1e9 / static_cast<double>(bytes))) : Json();
  j["context_switches"] = broker.used.switches;
  j["rss_mb"] = rounded(static_cast<double>(broker.used.resident_bytes) / 1e6);
  j["rss_peak_mb"] = rounded(static_cast<double>(broker.used.resident_peak_bytes) / 1e6);
  return j;
}

std::string_view kind_name(LoadKind kind) {
  switch (kind) {
    case LoadKind::produce:
      return "produce";
    case LoadKind::consume:
      return "consume";
    case LoadKind::both:
      return "both";
    case LoadKind::commits:
      return "commits";
  }
  return "";
}

}  // namespace

Json report_json(const PerfLoad& options, const LoadScene& scene, const LoadOutcome& outcome) {
  const bool calls = options.kind != LoadKind::consume;
  const bool fetches = options.kind == LoadKind::consume || options.kind == LoadKind::both;
  Json j = Json::object();
  j["load"] = kind_name(options.kind);
  Json s = Json::object();
  s["topic"] = options.topic;
  s["partitions"] = scene.partitions;
  s["brokers"] = scene.brokers;
  if (calls) {
    s["connections"] = options.connections;
    s["in_flight"] = options.in_flight;
    s["rate"] = options.run.rate;
    if (options.kind != LoadKind::commits) {
      s["acks"] = options.acks;
      s["records_per_batch"] = scene.records_per_batch;
      s["key_bytes"] = options.shape.key_bytes;
      s["value_bytes"] = options.shape.value_bytes;
      s["batch_bytes"] = scene.batch_bytes;
      s["payload_bytes"] = scene.payload_bytes;
      s["partitions_per_request"] = options.partitions_per_request;
      s["compression"] = options.compression;
      s["idempotent"] = options.idempotent;
    }
  }
  if (fetches) {
    s["consumers"] = options.consumers;
    s["fetchers"] = options.fetchers;
    s["fetch_max_bytes"] = options.limits.max_bytes;
    s["partition_max_bytes"] = options.limits.partition_max_bytes;
    s["min_bytes"] = options.limits.min_bytes;
    s["max_wait_ms"] = options.limits.max_wait_ms;
    s["verify"] = options.verify;
    s["sessions"] = !options.no_session;
  }
  s["congestion_control"] = scene.congestion;
  s["spin"] = options.run.spin;
  j["settings"] = std::move(s);
  j["seconds"] = rounded(outcome.seconds);
  if (calls) j["produce"] = direction(outcome.calls, outcome.seconds, options.buckets);
  if (fetches) j["fetch"] = direction(outcome.fetches, outcome.seconds, options.buckets);
  Json brokers = Json::array();
  for (const BrokerCost& b : outcome.brokers) brokers.push_back(broker_json(b, outcome));
  j["broker_processes"] = std::move(brokers);
  const double cpu = static_cast<double>(outcome.generator.cpu_ns) / 1e9;
  const double share = cpu / std::max(outcome.seconds, 1e-9);
  Json g = Json::object();
  g["cpu_s"] = rounded(cpu);
  g["cores"] = rounded(share);
  // Who spins is always busy: nothing can be said then.
  g["bound"] = options.run.spin ? Json() : Json(share > kGeneratorBoundAt);
  j["generator"] = std::move(g);
  j["load_average"] = rounded(outcome.load_average);
  Json samples = Json::array();
  for (const LoadSample& one : outcome.samples) {
    samples.push_back(Json::array({rounded(one.at_s), one.requests, one.bytes, one.fetched_bytes}));
  }
  j["samples"] = std::move(samples);  // seconds, requests, bytes produced, bytes fetched
  return j;
}

std::string report_text(const Json& j) {
  std::string out;
  const auto number = [](const Json& v) { return v.is_number() ? v.get<double>() : 0.0; };
  const auto line = [&out](std::string_view name, const std::string& text) {
    out += fmt::format("{:<22} {}\n", name, text);
  };
  const auto latency = [&](std::string_view name, const Json& l) {
    line(name, fmt::format("p50 {:.3f}  p90 {:.3f}  p99 {:.3f}  p99.9 {:.3f}  max {:.3f} ms",
                           number(l["p50"]) / 1e3, number(l["p90"]) / 1e3, number(l["p99"]) / 1e3,
                           number(l["p99_9"]) / 1e3, number(l["max"]) / 1e3));
  };
  line("window", fmt::format("{:.2f} s", number(j["seconds"])));
  for (const char* which : {"produce", "fetch"}) {
    if (!j.contains(which)) continue;
    const Json& d = j[which];
    line(which, fmt::format("{:.0f} requests/s  {:.0f} records/s  {:.1f} MB/s  ({} requests)",
                            number(d["requests_per_s"]), number(d["records_per_s"]), number(d["mb_per_s"]),
                            d["requests"].get<uint64_t>()));
    latency("  latency", d["latency_us"]);
    if (d.contains("end_to_end_us")) latency("  end to end", d["end_to_end_us"]);
    for (const auto& [name, n] : d["errors"].items())
      line("  errors", fmt::format("{} {}", n.get<uint64_t>(), name));
  }
  for (const Json& b : j["broker_processes"]) {
    line(fmt::format("process {}", b["pid"].get<int64_t>()),
         fmt::format("{:.2f} cores  {:.2f} us/request  {:.3f} s/GB  {} switches  rss {:.1f} MB (peak {:.1f})",
                     number(b["cores"]), number(b["cpu_us_per_request"]), number(b["cpu_s_per_gb"]),
                     b["context_switches"].get<uint64_t>(), number(b["rss_mb"]), number(b["rss_peak_mb"])));
  }
  const Json& g = j["generator"];
  const bool bound = g["bound"].is_boolean() && g["bound"].get<bool>();
  line("generator", fmt::format("{:.2f} cores{}", number(g["cores"]),
                                bound ? ": it may be what limits, compare CPU and not rates" : ""));
  line("congestion control", j["settings"]["congestion_control"].get<std::string>());
  return out;
}

}  // namespace millrace::cli::perf
