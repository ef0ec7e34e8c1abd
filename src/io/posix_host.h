// This machine and this process, from the kernel.
#pragma once

#include "io/host.h"

namespace millrace::io {

class PosixHost final : public Host {
 public:
  std::string hostname() const override;
  /// Cores this process may run on (its affinity mask), at least 1.
  unsigned cores() const override;
  int64_t process_id() const override;
  uint64_t descriptor_limit() const override;
  uint64_t resident_bytes() const override;
  int64_t cpu_ns() const override;
};

}  // namespace millrace::io
