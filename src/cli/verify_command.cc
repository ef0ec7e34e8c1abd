#include "cli/verify_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "check/history_file.h"
#include "check/timeline.h"
#include "cli/json.h"
#include "io/posix_disk.h"

namespace millrace::cli {
namespace {

constexpr size_t kHistoryPieceBytes = size_t{1} << 20;

/// Names come from the file: they cannot move the cursor.
std::string printable_lines(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out += printable(std::string_view(text).substr(at, end - at)) + "\n";
    at = end + 1;
  }
  return out;
}

Json json_of_violation(const check::History& history, const check::Violation& v) {
  Json j;
  j["rule"] = check::rule_name(v.rule);
  j["what"] = v.what;
  j["partition"] = v.partition == UINT32_MAX ? Json() : Json(history.partitions.name(v.partition));
  j["offset"] = v.offset == check::kUnknown ? Json() : Json(v.offset);
  j["operations"] = Json::array();
  for (const uint32_t n : v.operations) {
    j["operations"].push_back(check::describe(history, history.operations[n]));
  }
  return j;
}

}  // namespace

Result<check::History> read_history(io::Disk& disk, const std::string& path) {
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::read));
  check::HistoryReader reader;
  Bytes buffer(kHistoryPieceBytes);
  for (uint64_t position = 0;;) {
    TRY_ASSIGN(const size_t got, file->read_at(position, MutableByteView(buffer.data(), buffer.size())));
    if (got == 0) break;
    TRY(reader.feed(std::string_view(reinterpret_cast<const char*>(buffer.data()), got)));
    position += got;
  }
  return reader.finish();
}

std::string render_verdict(const check::History& history, const check::Verdict& verdict,
                           const VerifyHistory& options, Output output) {
  const auto draw = static_cast<size_t>(std::max<int64_t>(0, options.timelines));
  if (output == Output::json) {
    Json j;
    j["ok"] = verdict.ok();
    j["operations"] = verdict.operations;
    j["values"] = verdict.values;
    j["transactions"] = verdict.transactions;
    j["found"] = Json::object();
    for (size_t r = 1; r <= check::kRuleCount; ++r) {
      j["found"][std::string(check::rule_name(static_cast<check::Rule>(r)))] = verdict.found[r];
    }
    j["violations"] = Json::array();
    for (const check::Violation& v : verdict.violations) {
      j["violations"].push_back(json_of_violation(history, v));
    }
    return render_json(j);
  }
  std::string out;
  for (size_t n = 0; n < verdict.violations.size(); ++n) {
    const check::Violation& v = verdict.violations[n];
    if (n < draw) {
      out += printable_lines(check::timeline(history, v)) + "\n";
    } else {
      out += printable(fmt::format("{}: {}", check::rule_name(v.rule), v.what)) + "\n";
    }
  }
  for (size_t r = 1; r <= check::kRuleCount; ++r) {
    if (verdict.found[r] <= check::kViolationsToldMax) continue;
    out += fmt::format("{}: {} in all\n", check::rule_name(static_cast<check::Rule>(r)), verdict.found[r]);
  }
  out += fmt::format("{}: {} operations, {} values, {} transactions\n", verdict.ok() ? "ok" : "violated",
                     verdict.operations, verdict.values, verdict.transactions);
  return out;
}

ExitCode run(const VerifyHistory& options, Output output) {
  io::PosixDisk disk({.descriptors_max = 4, .threads = 1});
  const Result<check::History> history = read_history(disk, options.path);
  if (!history.ok()) return fail_about(options.path, history.error());
  const check::Verdict verdict = check::check(*history);
  const Status printed = print(render_verdict(*history, verdict, options, output));
  if (!printed.ok()) return fail(printed.error());
  return verdict.ok() ? ExitCode::ok : ExitCode::failed;
}

}  // namespace millrace::cli
