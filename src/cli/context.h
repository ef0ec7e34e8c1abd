// What every command is given beside its own options.
#pragma once

#include "cli/session.h"
#include "cli/terminal.h"

namespace millrace::cli {

struct Context {
  ConnectionOptions connection;
  Output output = Output::text;
  /// For commands that wait for what they began: until they give up waiting.
  int64_t wait_ms = 3'600'000;
};

}  // namespace millrace::cli
