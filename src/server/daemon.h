// `millrace server`: load the configuration, run a node until SIGTERM or SIGINT.
#pragma once

#include <string>
#include <vector>

namespace millrace::server {

struct DaemonOptions {
  std::string config_file;            // empty: defaults
  std::vector<std::string> settings;  // key=value, over file and environment
};

/// The process's exit code, see process_exit.h.
int run_daemon(const DaemonOptions& options);

}  // namespace millrace::server
