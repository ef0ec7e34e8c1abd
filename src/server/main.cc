// The one binary: `millrace server`, `millrace dev` and the tool's commands.
#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "millrace/version.h"
#include "server/daemon.h"
#include "server/dev_daemon.h"
#include "server/embedded_limits.h"

namespace {

using millrace::server::DaemonOptions;
using millrace::server::DevCommand;
using millrace::server::DevVerb;

void add_set_option(CLI::App* command, std::vector<std::string>& settings) {
  command->add_option("--set", settings, "key=value over the file and the environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

// `millrace dev` runs brokers, `millrace dev VERB` does something to those that run.
class DevCommandLine {
 public:
  explicit DevCommandLine(CLI::App& app)
      : dev_(app.add_subcommand("dev", "Run brokers for development in one process; break one, mend it")) {
    dev_->add_option("--brokers", options_.brokers, "How many, all of one cluster (default: 1)")
        ->check(CLI::Range(1, millrace::server::kEmbeddedBrokersMax));
    dev_->add_option("--port", options_.port,
                     "The port of broker 1, the next one for broker 2 ... (default: 9092)")
        ->check(CLI::Range(1, 65535));
    dev_->add_option(
        "--directory", options_.directory,
        "Where the data lie, kept from run to run (default: a temporary one, removed at the end)");
    add_set_option(dev_, options_.settings);
    dev_->require_subcommand(0, 1);
    verb(DevVerb::kill, "End a broker at once, as kill -9 would");
    verb(DevVerb::stop, "End a broker cleanly, as SIGTERM would");
    verb(DevVerb::start, "Start a broker that was ended");
    verb(DevVerb::pause, "Let a broker stand still, as SIGSTOP would");
    verb(DevVerb::resume, "Let it go on");
    verb(DevVerb::isolate, "Let nothing pass between a broker and the others")
        ->add_flag("--clients", command_.clients, "Nor between it and clients");
    verb(DevVerb::heal, "Let everything pass again");
    verb(DevVerb::status, "What each broker does");
  }

  bool parsed() const { return dev_->parsed(); }
  int run() const {
    if (!chosen_) return millrace::server::run_dev(options_);
    return millrace::server::send_dev_command(command_, options_.directory);
  }

 private:
  CLI::App* verb(DevVerb verb, const std::string& what) {
    CLI::App* command = dev_->add_subcommand(std::string(millrace::server::dev_verb_name(verb)), what);
    command->fallthrough();  // --directory may stand behind it
    if (millrace::server::names_broker(verb)) {
      command->add_option("broker", command_.broker, "Its number")
          ->required()
          ->check(CLI::Range(1, millrace::server::kEmbeddedBrokersMax));
    }
    command->callback([this, verb] {
      chosen_ = true;
      command_.verb = verb;
    });
    return command;
  }

  CLI::App* dev_;
  millrace::server::DevOptions options_;
  DevCommand command_;
  bool chosen_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Millrace: a log platform that speaks Kafka's protocol", "millrace"};
  app.set_version_flag("--version", std::string(millrace::kVersion));
  app.require_subcommand(1);

  DaemonOptions server_options;
  CLI::App* server = app.add_subcommand("server", "Run a broker until SIGTERM");
  server->add_option("--config", server_options.config_file, "Properties file, with Kafka's key names")
      ->type_name("FILE");
  add_set_option(server, server_options.settings);

  DevCommandLine dev(app);

  const auto tool = millrace::cli::add_commands(app);
  return millrace::cli::parse_and_run(app, *tool, argc, argv, [&] {
    return dev.parsed() ? dev.run() : millrace::server::run_daemon(server_options);
  });
}
