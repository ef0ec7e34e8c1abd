#include "cli/perf/perf_commands.h"

#include <fmt/format.h>

#include <fstream>

#include "cli/perf/call_kinds.h"
#include "cli/perf/load_setup.h"
#include "cli/perf/report.h"

namespace millrace::cli::perf {
namespace {

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) return Error(ErrorCode::io_error, path + ": could not be written");
  return {};
}

ExitCode give(const Json& report, const std::string& text, const std::string& json_file, Output output) {
  if (!json_file.empty()) {
    if (const Status s = write_file(json_file, render_json(report)); !s.ok()) return fail(s.error());
  }
  const Status printed = print(output == Output::json ? render_json(report) : text);
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

}  // namespace

ExitCode run(const PerfLoad& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  LoadOptions how = options.run;
  how.until_ends = options.until_end;
  LoadRun load(std::move(how));
  const Result<LoadScene> scene = set_up(options, **session, load);
  if (!scene.ok()) return fail(scene.error());
  const auto on_second = [&](const LoadSample& s) {
    progress(fmt::format("{}{:.0f} s: {} requests/s, {:.1f} MB/s in, {:.1f} MB/s out",
                         s.at_s < 0 ? "warming up, " : "", s.at_s, s.requests,
                         static_cast<double>(s.bytes) / 1e6, static_cast<double>(s.fetched_bytes) / 1e6));
    return !(*session)->interrupts().arrived();
  };
  const Result<LoadOutcome> outcome = load.run(on_second);
  progress("");
  if (!outcome.ok()) return fail(outcome.error());
  const Json report = report_json(options, *scene, *outcome);
  const ExitCode code = give(report, report_text(report), options.json_file, context.output);
  if (code != ExitCode::ok) return code;
  // A measurement with refusals in it measured something else.
  const uint64_t errors = outcome->calls.error_count() + outcome->fetches.error_count();
  if (errors > 0) {
    complain(fmt::format("{} answers were errors", errors));
    return ExitCode::refused;
  }
  return ExitCode::ok;
}

ExitCode run(const PerfConnections& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto view = (*session)->metadata(std::vector<std::string>{});
  if (!view.ok()) return fail(view.error());
  if (view->brokers().empty()) return fail(Error(ErrorCode::not_found, "the cluster names no broker"));
  const io::Endpoint endpoint = view->brokers().begin()->second.endpoint;
  const auto costs = [&]() -> Result<std::vector<ProcessCost>> {
    std::vector<ProcessCost> all;
    for (const int32_t pid : options.broker_pids) {
      TRY_ASSIGN(ProcessCost cost, cost_of(pid));
      all.push_back(cost);
    }
    return all;
  };
  const auto before = costs();
  if (!before.ok()) return fail(before.error());
  const int64_t began = now_ns();
  std::vector<std::unique_ptr<CallChannel>> held;
  Tally tally;
  for (size_t i = 0; i < options.count; ++i) {
    const auto socket = connect_socket(endpoint, "", static_cast<int>(context.connection.timeout_ms));
    if (!socket.ok()) return fail_about(fmt::format("connection {}", i), socket.error());
    held.push_back(std::make_unique<CallChannel>(*socket, std::make_unique<VersionCalls>(), 1, true, tally));
    // Said something once: a broker knows them as clients.
    held.back()->begin();
    if (const Status s = held.back()->flush(); !s.ok()) return fail(s.error());
    held.back()->stop();
  }
  for (const auto& c : held) {
    while (!c->quiet()) {
      if (const Status s = c->on_ready(true, true); !s.ok()) return fail(s.error());
      if (now_ns() - began > 120'000'000'000) return fail(Error(ErrorCode::timed_out, "no answer"));
    }
  }
  const double opened_s = static_cast<double>(now_ns() - began) / 1e9;
  const auto opened = costs();
  if (!opened.ok()) return fail(opened.error());
  if (const Status s = (*session)->pause(static_cast<int64_t>(options.hold_s * 1e3)); !s.ok()) {
    return fail(s.error());
  }
  const auto after = costs();
  if (!after.ok()) return fail(after.error());
  Json report = Json::object();
  report["connections"] = options.count;
  report["opened_s"] = opened_s;
  report["held_s"] = options.hold_s;
  Json brokers = Json::array();
  std::string text = fmt::format("{} connections in {:.2f} s\n", options.count, opened_s);
  for (size_t i = 0; i < options.broker_pids.size(); ++i) {
    const double each = (static_cast<double>((*opened)[i].resident_bytes) -
                         static_cast<double>((*before)[i].resident_bytes)) /
                        static_cast<double>(options.count);
    const double cores =
        static_cast<double>((*after)[i].cpu_ns - (*opened)[i].cpu_ns) / 1e9 / std::max(options.hold_s, 1e-9);
    Json b = Json::object();
    b["pid"] = options.broker_pids[i];
    b["rss_bytes_per_connection"] = each;
    b["idle_cores"] = cores;
    brokers.push_back(std::move(b));
    text += fmt::format("process {}: {:.0f} bytes resident each, {:.4f} cores while they are held\n",
                        options.broker_pids[i], each, cores);
  }
  report["broker_processes"] = std::move(brokers);
  return give(report, text, "", context.output);
}

}  // namespace millrace::cli::perf
