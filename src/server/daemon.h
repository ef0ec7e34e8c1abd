// `millrace server` and `millrace dev`: load the configuration, run a node until SIGTERM or SIGINT.
#pragma once

#include <string>
#include <vector>

namespace millrace::server {

struct DaemonOptions {
  std::string config_file;            // empty: defaults
  std::vector<std::string> settings;  // key=value, over file and environment
  bool dev = false;                   // a data directory of its own, topics created when used
  std::string data_directory;         // dev: where; empty: ./millrace-dev
};

/// The process's exit code: 0 stopped cleanly, 1 failed at run time, 2 the configuration is wrong, 3 the data
/// directory is another's or in use, 4 a port is taken.
int run_daemon(const DaemonOptions& options);

}  // namespace millrace::server
