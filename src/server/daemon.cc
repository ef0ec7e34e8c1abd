#include "server/daemon.h"

#include <fmt/core.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

#include "server/config.h"
#include "server/end_signals.h"
#include "server/node.h"
#include "server/process_exit.h"
#include "server/service_notify.h"
#include "server/spdlog_sink.h"

namespace millrace::server {
namespace {

Result<ServerConfig> load(const DaemonOptions& options) {
  ConfigInputs inputs;
  std::string text;
  if (!options.config_file.empty()) {
    TRY_ASSIGN(text, read_config_file(options.config_file));
    inputs.file_name = options.config_file;
    inputs.file_text = text;
  }
  inputs.environment = process_environment();
  inputs.settings = options.settings;
  return load_config(inputs);
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  const EndSignals signals;
  Result<ServerConfig> config = load(options);
  if (!config.ok()) {
    fmt::print(stderr, "millrace: {}\n", config.error().message);
    return kExitConfig;
  }
  const std::unique_ptr<TraceSink> sink = make_spdlog_sink();
  std::atomic<bool> storage_lost{false};
  Node node(std::move(*config), sink.get(), [&storage_lost] {
    storage_lost = true;
    (void)::kill(::getpid(), SIGTERM);
  });
  if (const Status started = node.start([&signals] { return signals.came(); }); !started.ok()) {
    if (started.code() == ErrorCode::cancelled) return storage_lost ? kExitStorage : 0;
    fmt::print(stderr, "millrace: {}\n", started.error().message);
    return exit_code_of(started.error());
  }
  notify_service("READY=1\nSTATUS=serving");
  signals.wait();
  notify_service("STOPPING=1");
  const Status stopped = node.stop();
  if (storage_lost) return kExitStorage;
  return stopped.ok() ? 0 : kExitFailed;
}

}  // namespace millrace::server
