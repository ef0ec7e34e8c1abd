// The one binary: `millrace server`, `millrace dev` and the tool's commands.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "millrace/version.h"
#include "server/daemon.h"

namespace {

using millrace::server::DaemonOptions;

void add_set_option(CLI::App* command, DaemonOptions& options) {
  command
      ->add_option("--set", options.settings, "key=value over the file and the environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Millrace: a log platform that speaks Kafka's protocol", "millrace"};
  app.set_version_flag("--version", std::string(millrace::kVersion));
  app.require_subcommand(1);

  DaemonOptions server_options;
  CLI::App* server = app.add_subcommand("server", "Run a broker until SIGTERM");
  server->add_option("--config", server_options.config_file, "Properties file, with Kafka's key names")
      ->type_name("FILE");
  add_set_option(server, server_options);

  DaemonOptions dev_options;
  dev_options.dev = true;
  CLI::App* dev =
      app.add_subcommand("dev", "Run a broker for development: own data directory, topics made when used");
  dev->add_option("--data-dir", dev_options.data_directory, "Where its data lies (default: ./millrace-dev)");
  add_set_option(dev, dev_options);

  const auto tool = millrace::cli::add_commands(app);
  return millrace::cli::parse_and_run(app, *tool, argc, argv, [&] {
    return millrace::server::run_daemon(dev->parsed() ? dev_options : server_options);
  });
}
