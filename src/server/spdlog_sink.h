// Where the program's trace lines go: one line each on standard error, through spdlog.
#pragma once

#include <memory>

#include "base/trace.h"

namespace millrace::server {

std::unique_ptr<TraceSink> make_spdlog_sink();

}  // namespace millrace::server
