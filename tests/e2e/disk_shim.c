/* Preloaded into a broker: makes file operations fail as a control file says. For disk_fail.py.
 *
 * The file that DISK_SHIM names is read at each operation. A line is a rule:
 *
 *   OPERATION SUBSTRING FIRST COUNT ACTION [VALUE]
 *
 * OPERATION: sync (fsync, fdatasync), write (pwrite, pwritev), read (pread), open, rename. The rule speaks of operations on
 * paths that contain SUBSTRING; of those, counted since the rule was first seen, it hits COUNT from number FIRST (1: the
 * next). ACTION: error VALUE (an errno), short VALUE (a write takes that many bytes at most, the next fails with ENOSPC),
 * slow VALUE (waits so many milliseconds first). The first hit of each rule is noted in DISK_SHIM.log: the monotonic clock in
 * seconds, then the rule.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { kRulesMax = 16, kLineMax = 512 };

struct rule {
  char line[kLineMax];
  long seen;
  int told;
  int after_short;
};
static struct rule rules[kRulesMax];
static int rule_count;
static char content[8192];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Rules that stay keep their counts. */
static void reload(void) {
  static char now[sizeof content];
  const char *control = getenv("DISK_SHIM");
  long size = -1;
  if (control != NULL) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      size = syscall(SYS_read, fd, now, sizeof now - 1);
      syscall(SYS_close, fd);
    }
  }
  now[size > 0 ? size : 0] = 0;
  if (strcmp(now, content) == 0) return;
  strcpy(content, now);
  struct rule old[kRulesMax];
  int old_count = rule_count;
  memcpy(old, rules, sizeof old);
  rule_count = 0;
  for (char *save, *line = strtok_r(now, "\n", &save); line != NULL && rule_count < kRulesMax;
       line = strtok_r(NULL, "\n", &save)) {
    struct rule *r = &rules[rule_count++];
    memset(r, 0, sizeof *r);
    snprintf(r->line, sizeof r->line, "%s", line);
    for (int i = 0; i < old_count; ++i)
      if (strcmp(old[i].line, r->line) == 0) *r = old[i];
  }
}

static void tell(struct rule *r) {
  char path[4096], text[kLineMax + 64];
  struct timespec t;
  if (r->told) return;
  r->told = 1;
  clock_gettime(CLOCK_MONOTONIC, &t);
  snprintf(path, sizeof path, "%s.log", getenv("DISK_SHIM"));
  int size = snprintf(text, sizeof text, "%ld.%09ld %s\n", (long)t.tv_sec, t.tv_nsec, r->line);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  syscall(SYS_write, fd, text, size);
  syscall(SYS_close, fd);
}

/* 0: go on; an errno: fail with it; negative: write at most -value bytes. */
static long judge(const char *operation, const char *path) {
  long verdict = 0, wait_ms = 0;
  pthread_mutex_lock(&lock);
  reload();
  for (int i = 0; i < rule_count && verdict == 0; ++i) {
    struct rule *r = &rules[i];
    char op[32], part[256], action[32];
    long first, count, value = 0;
    if (sscanf(r->line, "%31s %255s %ld %ld %31s %ld", op, part, &first, &count, action, &value) < 5) continue;
    if (strcmp(op, operation) != 0 || strstr(path, part) == NULL) continue;
    if (r->after_short) {
      r->after_short = 0;
      verdict = ENOSPC;
      continue;
    }
    ++r->seen;
    if (r->seen < first || r->seen >= first + count) continue;
    tell(r);
    if (strcmp(action, "error") == 0) verdict = value;
    if (strcmp(action, "slow") == 0) wait_ms = value;
    if (strcmp(action, "short") == 0) {
      verdict = -value;
      r->after_short = 1;
    }
  }
  pthread_mutex_unlock(&lock);
  if (wait_ms > 0) {
    struct timespec t = {wait_ms / 1000, (wait_ms % 1000) * 1000000};
    nanosleep(&t, NULL);
  }
  return verdict;
}

static long judge_fd(const char *operation, int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long size = readlink(link, path, sizeof path - 1);
  if (size <= 0 || path[0] != '/') return 0;
  path[size] = 0;
  return judge(operation, path);
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (next == NULL) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(verdict) \
  do { \
    const long judged = (verdict); \
    if (judged > 0) { \
      errno = (int)judged; \
      return -1; \
    } \
  } while (0)

int fsync(int fd) {
  NEXT(fsync);
  FAIL_IF(judge_fd("sync", fd));
  return next(fd);
}

int fdatasync(int fd) {
  NEXT(fdatasync);
  FAIL_IF(judge_fd("sync", fd));
  return next(fd);
}

int rename(const char *from, const char *to) {
  NEXT(rename);
  FAIL_IF(judge("rename", from));
  return next(from, to);
}

#define READ(name, offset) \
  ssize_t name(int fd, void *out, size_t size, offset at) { \
    NEXT(name); \
    FAIL_IF(judge_fd("read", fd)); \
    return next(fd, out, size, at); \
  }
READ(pread, off_t)
READ(pread64, off64_t)

ssize_t __pread_chk(int fd, void *out, size_t size, off_t at, size_t room) {
  (void)room;
  return pread(fd, out, size, at);
}
ssize_t __pread64_chk(int fd, void *out, size_t size, off64_t at, size_t room) {
  (void)room;
  return pread64(fd, out, size, at);
}

#define WRITE(name, offset) \
  ssize_t name(int fd, const struct iovec *pieces, int count, offset at) { \
    NEXT(name); \
    long verdict = judge_fd("write", fd); \
    FAIL_IF(verdict); \
    if (verdict < 0 && count > 0) { \
      struct iovec one = pieces[0]; \
      if (one.iov_len > (size_t)-verdict) one.iov_len = (size_t)-verdict; \
      return next(fd, &one, 1, at); \
    } \
    return next(fd, pieces, count, at); \
  }
WRITE(pwritev, off_t)
WRITE(pwritev64, off64_t)

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    NEXT(name); \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0; \
    va_end(more); \
    FAIL_IF(judge("open", path)); \
    return next(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
