// ASSERT: our own promises, checked in every build. What the network or a disk said is never asserted.
#pragma once

namespace millrace {

[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace millrace

#define ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::millrace::assert_failed(#expression, __FILE__, __LINE__))
