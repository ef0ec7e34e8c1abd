// `millrace dev`: one or several brokers in this process until SIGTERM or SIGINT, and the commands by which
// another process of the same user kills, pauses and cuts off one of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/dev_commands.h"

namespace millrace::server {

inline constexpr uint16_t kDevPort = 9092;

struct DevOptions {
  int brokers = 1;
  uint16_t port = kDevPort;           // of broker 1
  std::string directory;              // empty: a temporary one
  std::vector<std::string> settings;  // key=value, for every broker
};

/// The process's exit code, see process_exit.h.
int run_dev(const DevOptions& options);
/// Asks the process that runs in `directory` (empty: the one started last). The exit code: 0; 1 it refused or
/// failed; 3 none runs.
int send_dev_command(const DevCommand& command, const std::string& directory);

}  // namespace millrace::server
