#include "io/posix_random.h"

#include <errno.h>
#include <sys/random.h>

namespace millrace::io {

void PosixRandom::fill(MutableByteView out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0) {
      // Any other failure means a kernel without getrandom: no secret may be made there.
      ASSERT(errno == EINTR);
      continue;
    }
    out = out.subspan(static_cast<size_t>(got));
  }
}

}  // namespace millrace::io
