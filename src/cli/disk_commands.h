// Commands on data directories that no broker is using: check everything, give up damage, take in a partition
// that comes from elsewhere. They need no broker and refuse where one runs: it holds the directory's lock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"
#include "io/disk.h"

namespace millrace::cli {

struct VerifyDisk {
  std::vector<std::string> paths;  // data directories or partition directories
  std::string config;              // a properties file whose log.dirs are meant too
  bool records = false;            // also decode every record
  bool force = false;              // also while a broker runs
  bool quiet = false;              // damage and the summary only
  size_t threads = 0;              // 0: as many as processors, at most 8
};

struct DiskRepair {
  std::string path;  // a partition's directory
  bool drop_from_damage = false;
  bool skip_damaged = false;
  bool dry_run = false;
  bool yes = false;
};

struct DiskAdopt {
  std::string path;  // a partition's directory
  std::string topic_id;
  int32_t leader_epoch = 0;
  bool yes = false;
};

/// Exit code `damaged` if anything is.
ExitCode run(const VerifyDisk& options, const Context& context);
ExitCode run(const DiskRepair& options, const Context& context);
ExitCode run(const DiskAdopt& options, const Context& context);

// The work behind them, on any disk (tests): `out` gets what is printed on standard output.
Result<ExitCode> verify_disk(io::Disk& disk, const VerifyDisk& options, Output output, std::string& out);
Result<ExitCode> repair_partition(io::Disk& disk, const DiskRepair& options, Output output, std::string& out);
Result<ExitCode> adopt_partition(io::Disk& disk, const DiskAdopt& options, Output output, std::string& out);

}  // namespace millrace::cli
