// What a command of the tool tells its caller when it ends. The same table is printed by --help.
#pragma once

#include "base/error.h"

namespace millrace::cli {

enum class ExitCode : int {
  ok = 0,
  failed = 1,         // something went wrong that no other code says
  usage = 2,          // the command line makes no sense
  unreachable = 3,    // no broker answered
  not_found = 4,      // the topic, group, partition or file is not there
  refused = 5,        // the broker said no
  damaged = 6,        // stored data are damaged
  unfinished = 7,     // the time was over first; what was begun goes on
  interrupted = 130,  // Ctrl-C before the work was done
};

inline constexpr const char* kExitCodesHelp =
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 no broker reachable, 4 not found, 5 refused by the broker, "
    "6 stored data are damaged, 7 not finished in time (it goes on), 130 interrupted";

/// The exit code that is true about an error.
ExitCode exit_code_of(const Error& error);

}  // namespace millrace::cli
