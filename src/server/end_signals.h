// SIGTERM and SIGINT, by which a process that runs brokers is told to end. Made before any other thread: all
// inherit the mask, and the signals wait for whoever asks here.
#pragma once

#include <csignal>
#include <ctime>

namespace millrace::server {

class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
  }

  /// Whether one has come; takes it.
  bool came() const {
    const timespec at_once{};
    return sigtimedwait(&signals_, nullptr, &at_once) > 0;
  }
  void wait() const {
    int number = 0;
    sigwait(&signals_, &number);
  }

 private:
  sigset_t signals_{};
};

}  // namespace millrace::server
