/* Preloaded into a broker: counts what a request costs, for costs.py.
 *
 * The counters lie in the file that COUNTING_SHIM names, mapped and shared, as native 64-bit numbers in this order:
 *   0 allocations  1 frees  2 live bytes  3 bytes moved by memcpy and memmove (calls of kMoveMin bytes and more)
 *   4 system calls that move data or wait (recv, send, read, write, pread, pwrite, epoll_wait, sync, sendfile, ...)
 *   5 of them epoll_wait  6 of them receiving  7 of them sending  8 of them writing files  9 of them reading files
 *   10 of them syncing
 * Copies and calls inside the C library itself are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kCounters = 16, kMoveMin = 256 };
enum { ALLOCATIONS, FREES, LIVE, MOVED, CALLS, WAITS, RECEIVES, SENDS, WRITES, READS, SYNCS };

static int64_t unmapped[kCounters];
static int64_t *counters = unmapped;

static void add(int which, int64_t n) { __atomic_fetch_add(&counters[which], n, __ATOMIC_RELAXED); }
static void called(int kind) {
  add(CALLS, 1);
  add(kind, 1);
}

__attribute__((constructor)) static void map_counters(void) {
  const char *path = getenv("COUNTING_SHIM");
  if (path == NULL) return;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *p = mmap(NULL, sizeof(unmapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED) return;
  memcpy(p, unmapped, sizeof(unmapped)); /* what was counted before */
  counters = p;
}

/* Memory: glibc's own names below malloc are not replaced. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void *counted(void *p) {
  if (p != NULL) {
    add(ALLOCATIONS, 1);
    add(LIVE, (int64_t)malloc_usable_size(p));
  }
  return p;
}
static void given_back(void *p) {
  add(FREES, 1);
  add(LIVE, -(int64_t)malloc_usable_size(p));
}

void *malloc(size_t n) { return counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return counted(__libc_calloc(n, size)); }
void *realloc(void *p, size_t n) {
  if (p != NULL) given_back(p);
  return counted(__libc_realloc(p, n));
}
void *aligned_alloc(size_t alignment, size_t n) { return counted(__libc_memalign(alignment, n)); }
void *memalign(size_t alignment, size_t n) { return counted(__libc_memalign(alignment, n)); }
int posix_memalign(void **out, size_t alignment, size_t n) {
  void *p = counted(__libc_memalign(alignment, n));
  if (p == NULL) return ENOMEM;
  *out = p;
  return 0;
}
void free(void *p) {
  if (p == NULL) return;
  given_back(p);
  __libc_free(p);
}

/* The next definition of NAME, found once. */
#define NEXT(result, name, ...)                                                     \
  static result (*next_##name)(__VA_ARGS__);                                        \
  if (next_##name == NULL) *(void **)(&next_##name) = dlsym(RTLD_NEXT, #name)

void *memmove(void *to, const void *from, size_t n) {
  NEXT(void *, memmove, void *, const void *, size_t);
  if (n >= kMoveMin) add(MOVED, (int64_t)n);
  return next_memmove(to, from, n);
}
void *memcpy(void *to, const void *from, size_t n) {
  NEXT(void *, memcpy, void *, const void *, size_t);
  if (n >= kMoveMin) add(MOVED, (int64_t)n);
  return next_memcpy(to, from, n);
}

#define CALL(kind, result, name, parameters, arguments)                              \
  result name parameters {                                                           \
    static result(*next) parameters;                                                 \
    if (next == NULL) *(void **)(&next) = dlsym(RTLD_NEXT, #name);                   \
    called(kind);                                                                    \
    return next arguments;                                                           \
  }

CALL(RECEIVES, ssize_t, recv, (int s, void *b, size_t n, int f), (s, b, n, f))
CALL(RECEIVES, ssize_t, recvmsg, (int s, struct msghdr *m, int f), (s, m, f))
CALL(SENDS, ssize_t, send, (int s, const void *b, size_t n, int f), (s, b, n, f))
CALL(SENDS, ssize_t, sendmsg, (int s, const struct msghdr *m, int f), (s, m, f))
CALL(SENDS, ssize_t, sendfile, (int o, int i, off_t *at, size_t n), (o, i, at, n))
CALL(SENDS, ssize_t, sendfile64, (int o, int i, off64_t *at, size_t n), (o, i, at, n))
CALL(WRITES, ssize_t, write, (int f, const void *b, size_t n), (f, b, n))
CALL(WRITES, ssize_t, pwrite, (int f, const void *b, size_t n, off_t at), (f, b, n, at))
CALL(WRITES, ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t at), (f, b, n, at))
CALL(WRITES, ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t at), (f, v, n, at))
CALL(WRITES, ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t at), (f, v, n, at))
CALL(WRITES, int, fallocate, (int f, int mode, off_t at, off_t n), (f, mode, at, n))
CALL(WRITES, int, fallocate64, (int f, int mode, off64_t at, off64_t n), (f, mode, at, n))
CALL(READS, ssize_t, read, (int f, void *b, size_t n), (f, b, n))
CALL(READS, ssize_t, pread, (int f, void *b, size_t n, off_t at), (f, b, n, at))
CALL(READS, ssize_t, pread64, (int f, void *b, size_t n, off64_t at), (f, b, n, at))
CALL(READS, ssize_t, preadv2, (int f, const struct iovec *v, int n, off_t at, int flags), (f, v, n, at, flags))
CALL(READS, ssize_t, preadv64v2, (int f, const struct iovec *v, int n, off64_t at, int flags), (f, v, n, at, flags))
CALL(SYNCS, int, fsync, (int f), (f))
CALL(SYNCS, int, fdatasync, (int f), (f))
CALL(WAITS, int, epoll_wait, (int e, struct epoll_event *v, int n, int ms), (e, v, n, ms))
