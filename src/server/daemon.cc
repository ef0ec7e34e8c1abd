#include "server/daemon.h"

#include <fmt/core.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <ctime>

#include "server/config.h"
#include "server/node.h"
#include "server/service_notify.h"
#include "server/spdlog_sink.h"

namespace millrace::server {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitConfig = 2;
constexpr int kExitDirectory = 3;
constexpr int kExitPort = 4;
constexpr int kExitStorage = 5;  // every data directory failed while serving

int exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::invalid_config:
    case ErrorCode::parse_error:
      return kExitConfig;
    case ErrorCode::inconsistent_cluster_id:
      return kExitDirectory;
    case ErrorCode::already_exists:
      return error.message.starts_with("listener ") || error.message.starts_with("admin.listener ")
                 ? kExitPort
                 : kExitDirectory;
    default:
      return kExitFailed;
  }
}

// Defaults that only a developer's machine wants; the user's own settings come after and win.
std::vector<std::string> dev_settings(const DaemonOptions& options) {
  std::vector<std::string> settings = {
      "log.dirs=" + (options.data_directory.empty() ? std::string("millrace-dev") : options.data_directory),
      "auto.create.topics.enable=true",
      "group.initial.rebalance.delay.ms=0",
  };
  settings.insert(settings.end(), options.settings.begin(), options.settings.end());
  return settings;
}

Result<ServerConfig> load(const DaemonOptions& options) {
  ConfigInputs inputs;
  std::string text;
  if (!options.config_file.empty()) {
    TRY_ASSIGN(text, read_config_file(options.config_file));
    inputs.file_name = options.config_file;
    inputs.file_text = text;
  }
  inputs.environment = process_environment();
  inputs.settings = options.dev ? dev_settings(options) : options.settings;
  return load_config(inputs);
}

}  // namespace

int run_daemon(const DaemonOptions& options) {
  // Every thread inherits the mask: the signals wait for this one.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

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
  const auto stop_asked = [&signals] {
    const timespec at_once{};
    return sigtimedwait(&signals, nullptr, &at_once) > 0;
  };
  if (const Status started = node.start(stop_asked); !started.ok()) {
    if (started.code() == ErrorCode::cancelled) return storage_lost ? kExitStorage : 0;
    fmt::print(stderr, "millrace: {}\n", started.error().message);
    return exit_code_of(started.error());
  }
  notify_service("READY=1\nSTATUS=serving");
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  notify_service("STOPPING=1");
  const Status stopped = node.stop();
  if (storage_lost) return kExitStorage;
  return stopped.ok() ? 0 : kExitFailed;
}

}  // namespace millrace::server
