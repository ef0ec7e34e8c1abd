// Ctrl-C and SIGTERM as something to ask about: while this lives they end nothing by themselves. Made before
// threads are started, which inherit the blocked signals.
#pragma once

#include <csignal>

namespace millrace::cli {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// Whether one has come since the start. The second one ends the process at once (exit code 130).
  bool arrived();
  /// Waits until `descriptor` can be read, or an interrupt comes: false.
  bool wait_readable(int descriptor);

 private:
  int descriptor_ = -1;
  bool arrived_ = false;
  sigset_t before_{};
};

}  // namespace millrace::cli
