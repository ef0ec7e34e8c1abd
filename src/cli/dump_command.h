// `millrace dump`: what is in the files of a data directory. Reads only, needs no broker, goes on after
// damage.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"
#include "io/disk.h"

namespace millrace::cli {

struct Dump {
  std::vector<std::string> paths;  // files, or a partition's directory
  bool records = false;            // also the records of segments
  std::string decode = "auto";     // auto, none, offsets, transactions, metadata: how records are read
};

/// Exit code `failed` if anything was damaged.
ExitCode run(const Dump& options, Output output);
/// One path, appended to `out`; what is wrong goes to `problems`. Errors: not_found, io_error,
/// invalid_argument (no file of ours).
Status dump_path(io::Disk& disk, const std::string& path, const Dump& options, Output output,
                 std::string& out, std::vector<std::string>& problems);

}  // namespace millrace::cli
