// The tool's commands, to be hung on the program's command line.
//
//   CLI::App app{"...", "millrace"};
//   auto tool = millrace::cli::add_commands(app);    // before parsing; keep it as long as `app`
//   CLI11_PARSE-like: return millrace::cli::parse_and_run(app, *tool, argc, argv, [&] { ... own commands ...
//   });
//
// A command runs after parsing, from parse_and_run(), never inside a CLI11 callback. Errors are told on
// standard error; the result is an exit code of exit_codes.h (as int).
#pragma once

#include <functional>
#include <memory>

namespace CLI {
class App;
}

namespace millrace::cli {

/// The options of all commands, and which of them was chosen.
class Commands {
 public:
  virtual ~Commands() = default;
  /// Whether the parsed command line names one of these commands.
  virtual bool chosen() const = 0;
  /// Runs it; the exit code.
  virtual int run() = 0;
};

/// Adds topic, produce, consume, group, config, cluster, partition, dump, verify, disk, perf and completion
/// to `app`. `app` must outlive the result and the result must outlive parsing. Call it after the program's
/// own commands have been added, or before: completion asks `app` when it runs.
std::unique_ptr<Commands> add_commands(CLI::App& app);

/// Parses, prints help and usage errors (exit codes 0 and 2), then runs the chosen command; `others` runs if
/// it is none of `commands`, and gives the exit code.
int parse_and_run(CLI::App& app, Commands& commands, int argc, char** argv,
                  const std::function<int()>& others);

}  // namespace millrace::cli
