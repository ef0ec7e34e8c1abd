// What the process may know of the machine it runs on.
#pragma once

#include <cstdint>
#include <string>

namespace millrace::io {

class Host {
 public:
  virtual ~Host() = default;
  virtual std::string hostname() const = 0;
  virtual unsigned cores() const = 0;
  virtual int64_t process_id() const = 0;
  /// Soft limit of open descriptors.
  virtual uint64_t descriptor_limit() const = 0;
  /// Resident memory of this process, bytes.
  virtual uint64_t resident_bytes() const = 0;
  /// CPU time this process has used, nanoseconds.
  virtual int64_t cpu_ns() const = 0;
};

}  // namespace millrace::io
