// What a process has used so far, read from the kernel: of the brokers under load, and of the load itself.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace millrace::cli::perf {

struct ProcessCost {
  int64_t cpu_ns = 0;   // the process's CPU clock
  int64_t user_ns = 0;  // of it, in ticks of 10 ms
  int64_t system_ns = 0;
  uint64_t switches = 0;  // context switches of the threads that live
  uint64_t resident_bytes = 0;
  uint64_t resident_peak_bytes = 0;

  /// Since `before`; resident sizes are those of now.
  ProcessCost since(const ProcessCost& before) const;
};

/// Errors: not_found (no such process), io_error.
Result<ProcessCost> cost_of(int32_t pid);

}  // namespace millrace::cli::perf
