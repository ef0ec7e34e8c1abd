#include "cli/interrupts.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/exit_codes.h"

namespace millrace::cli {

Interrupts::Interrupts() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &mask, &before_);
  descriptor_ = ::signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
}

Interrupts::~Interrupts() {
  if (descriptor_ >= 0) ::close(descriptor_);
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool Interrupts::arrived() {
  signalfd_siginfo info;
  while (descriptor_ >= 0 && ::read(descriptor_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (arrived_) ::_exit(static_cast<int>(ExitCode::interrupted));
    arrived_ = true;
  }
  return arrived_;
}

bool Interrupts::wait_readable(int descriptor) {
  while (!arrived()) {
    pollfd both[2] = {{descriptor, POLLIN, 0}, {descriptor_, POLLIN, 0}};
    if (::poll(both, 2, -1) < 0) continue;
    if (arrived()) return false;
    if ((both[0].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0) return true;
  }
  return false;
}

}  // namespace millrace::cli
