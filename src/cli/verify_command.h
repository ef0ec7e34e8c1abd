// `millrace verify history`: judges what clients recorded (check/history_file.h). Needs no broker.
#pragma once

#include <string>

#include "check/rules.h"
#include "cli/terminal.h"
#include "io/disk.h"

namespace millrace::cli {

struct VerifyHistory {
  std::string path;
  int64_t timelines = 1;  // violations that are drawn
};

/// Exit code `failed` if a rule is broken.
ExitCode run(const VerifyHistory& options, Output output);
/// Reads the file in pieces. Errors: not_found, io_error, parse_error (with the line), limit_exceeded,
/// unsupported_version.
Result<check::History> read_history(io::Disk& disk, const std::string& path);
/// What is printed.
std::string render_verdict(const check::History& history, const check::Verdict& verdict,
                           const VerifyHistory& options, Output output);

}  // namespace millrace::cli
