// What the process that runs brokers tells its caller when it ends.
#pragma once

#include "base/error.h"

namespace millrace::server {

constexpr int kExitFailed = 1;     // at run time
constexpr int kExitConfig = 2;     // the configuration is wrong
constexpr int kExitDirectory = 3;  // the data directory is another's or in use
constexpr int kExitPort = 4;       // a port is taken
constexpr int kExitStorage = 5;    // every data directory failed while serving

/// For a start that failed.
int exit_code_of(const Error& error);

}  // namespace millrace::server
