/* Preloaded into a broker: its wall clock stands wrong by what the file CLOCK_SHIM says (milliseconds, a number in text), read
 * again ten times a second. The monotonic clocks stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long offset_ms;
static long long read_at_ms = -1000;

static int real(clockid_t clock, struct timespec *t) {
  return (int)syscall(SYS_clock_gettime, clock, t);
}

static long long offset(void) {
  struct timespec t;
  real(CLOCK_MONOTONIC_COARSE, &t);
  const long long now = (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
  if (now - __atomic_load_n(&read_at_ms, __ATOMIC_RELAXED) < 100) return __atomic_load_n(&offset_ms, __ATOMIC_RELAXED);
  __atomic_store_n(&read_at_ms, now, __ATOMIC_RELAXED);
  const char *path = getenv("CLOCK_SHIM");
  char text[32];
  long size = -1;
  const int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    size = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
  }
  text[size > 0 ? size : 0] = 0;
  __atomic_store_n(&offset_ms, size > 0 ? atoll(text) : 0, __ATOMIC_RELAXED);
  return __atomic_load_n(&offset_ms, __ATOMIC_RELAXED);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
  const int result = real(clock, t);
  if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  const long long ms = offset();
  t->tv_sec += ms / 1000;
  t->tv_nsec += (ms % 1000) * 1000000;
  if (t->tv_nsec < 0) {
    t->tv_nsec += 1000000000;
    --t->tv_sec;
  } else if (t->tv_nsec >= 1000000000) {
    t->tv_nsec -= 1000000000;
    ++t->tv_sec;
  }
  return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
  struct timespec t;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &t);
  tv->tv_sec = t.tv_sec;
  tv->tv_usec = t.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out != NULL) *out = t.tv_sec;
  return t.tv_sec;
}
