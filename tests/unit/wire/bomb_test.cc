// Lying counts and lengths: whatever four bytes claim, nothing large is allocated before it is seen. The
// operators below count for the whole test program.
#include <atomic>
#include <cstdlib>
#include <new>

#include "support/catch.h"
#include "support/wire_cases.h"

namespace {
std::atomic<size_t> largest_allocation{0};
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MILLRACE_SANITIZED
#endif
#endif
#if !defined(MILLRACE_SANITIZED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(size_t n) {
  size_t seen = largest_allocation.load(std::memory_order_relaxed);
  while (n > seen && !largest_allocation.compare_exchange_weak(seen, n, std::memory_order_relaxed)) {
  }
  if (void* p = std::malloc(n == 0 ? 1 : n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
#endif

namespace millrace::wire::cases {
namespace {

constexpr size_t kAllowed = 512 * 1024;

void try_bomb(const MessageCase& c, int16_t version, Bytes bytes, size_t at, ByteView lie) {
  for (size_t i = 0; i < lie.size() && at + i < bytes.size(); ++i) bytes[at + i] = lie[i];
  largest_allocation = 0;
  const Recoded r = c.recode(bytes, version);
  const size_t largest = largest_allocation;
  if (largest > kAllowed) {
    FAIL(c.name << " version " << version << " allocated " << largest << " for " << bytes.size() << " bytes");
  }
}

TEST_CASE("counts and lengths of two thousand million allocate nothing") {
  constexpr uint8_t kInt32Max[] = {0x7f, 0xff, 0xff, 0xff};
  constexpr uint8_t kVarintMax[] = {0xff, 0xff, 0xff, 0xff, 0x07};
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      const Bytes bytes = c.random(static_cast<uint64_t>(v) * 17 + 5, v);
      const size_t step = 1 + bytes.size() / 500;
      for (size_t at = 0; at < bytes.size(); at += step) {
        try_bomb(c, v, bytes, at, kInt32Max);
        try_bomb(c, v, bytes, at, kVarintMax);
      }
    }
  }
}

TEST_CASE("a frame that is all count is refused") {
  for (const MessageCase& c : all_cases()) {
    for (int16_t v = c.min; v <= c.max; ++v) {
      Bytes bytes(1000, 0x7f);
      largest_allocation = 0;
      (void)c.recode(bytes, v);
      INFO(c.name << " version " << v);
      CHECK(largest_allocation <= kAllowed);
    }
  }
}

}  // namespace
}  // namespace millrace::wire::cases
