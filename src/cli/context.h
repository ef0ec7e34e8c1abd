// What every command is given beside its own options.
#pragma once

#include "cli/session.h"
#include "cli/terminal.h"

namespace millrace::cli {

struct Context {
  ConnectionOptions connection;
  Output output = Output::text;
};

}  // namespace millrace::cli
