#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace millrace {

void assert_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "millrace: assertion failed: %s (%s:%d)\n", expression, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace millrace
