#include "io/posix_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "io/posix_disk.h"
#include "io/posix_error.h"

namespace millrace::io {
namespace {

// Pieces of one pwritev; more are written in turns.
constexpr size_t kPiecesPerWrite = 256;
static_assert(kPiecesPerWrite <= IOV_MAX);

constexpr size_t kPageBytes = 4096;

// cachestat(2), Linux 6.5; the C library of Debian 12 does not know it yet.
constexpr long kCachestatNumber = 451;
struct CacheRange {
  uint64_t position;
  uint64_t length;
};
struct CacheState {
  uint64_t cached;
  uint64_t dirty;
  uint64_t writing_back;
  uint64_t evicted;
  uint64_t recently_evicted;
};

Error removed_error(const std::string& path) {
  return Error(ErrorCode::not_found, path + ": was removed");
}

}  // namespace

PinnedDescriptor::~PinnedDescriptor() {
  if (file_ != nullptr) file_->unpin();
}

PosixFile::PosixFile(std::shared_ptr<DescriptorCache> cache, std::string path, std::string location,
                     int flags)
    : cache_(std::move(cache)),
      path_(std::move(path)),
      reopen_flags_((flags & O_ACCMODE) | O_CLOEXEC),
      location_(std::move(location)) {}

Result<std::shared_ptr<PosixFile>> PosixFile::open(std::shared_ptr<DescriptorCache> cache,
                                                   const std::string& path, int flags) {
  std::string location = normalised(path);
  const std::shared_ptr<PosixFile> file(new PosixFile(std::move(cache), path, std::move(location), flags));
  DescriptorCache& shared = *file->cache_;
  // Registered before it is opened: a rename in between moves the name that will be opened.
  {
    const std::unique_lock names(shared.names_mutex());
    shared.add_name(*file);
  }
  {
    const std::shared_lock names(shared.names_mutex());
    if (file->removed_) return removed_error(path);
    TRY_ASSIGN(const PinnedDescriptor pinned, file->pin_named(flags | O_CLOEXEC));
  }
  return file;
}

PosixFile::~PosixFile() {
  {
    const std::unique_lock names(cache_->names_mutex());
    if (orphan_) cache_->orphan_gone();
    if (!removed_) cache_->erase_name(*this);
  }
  cache_->forget(*this);
  if (descriptor_ >= 0) ::close(descriptor_);
}

Error PosixFile::error_of(int number, const char* what) const {
  Error error = posix_error(number, what, path_);
  if (is_medium_failure(number)) cache_->report(path_, error);
  return error;
}

PinnedDescriptor PosixFile::pin_if_open() const {
  uint32_t state = state_.load(std::memory_order_relaxed);
  while ((state & kClosed) == 0) {
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      if (!recently_used_.load(std::memory_order_relaxed))
        recently_used_.store(true, std::memory_order_relaxed);
      return {this, descriptor_};
    }
  }
  return {};
}

Result<PinnedDescriptor> PosixFile::pin() const {
  if (PinnedDescriptor open = pin_if_open()) return open;
  const std::shared_lock names(cache_->names_mutex());
  if (removed_) return removed_error(path_);
  return pin_named(reopen_flags_);
}

Result<PinnedDescriptor> PosixFile::pin_named(int flags) const {
  const std::lock_guard opening(open_mutex_);
  if (PinnedDescriptor open = pin_if_open()) return open;
  int descriptor = -1;
  while ((descriptor = ::open(location_.c_str(), flags, 0644)) < 0) {
    const int number = errno;
    const bool out_of_descriptors = number == EMFILE || number == ENFILE;
    if (number == EINTR || (out_of_descriptors && cache_->close_one())) continue;
    return error_of(number, "open");
  }
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) {
    const int number = errno;
    ::close(descriptor);
    return error_of(number, "stat");
  }
  if (S_ISDIR(status.st_mode)) {
    ::close(descriptor);
    return error_of(EISDIR, "open");
  }
  const bool first_time = inode_ == 0;
  if (!first_time && (status.st_dev != device_ || status.st_ino != inode_)) {
    ::close(descriptor);
    Error error(ErrorCode::io_error, location_ + ": another file took this name");
    cache_->report(path_, error);
    return error;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  // The cache's bookkeeping is not part of the file's value; the file itself is never const.
  cache_->opened(const_cast<PosixFile&>(*this), descriptor);
  return PinnedDescriptor(this, descriptor);
}

void PosixFile::become_orphan() {
  ASSERT(!removed_);
  cache_->erase_name(*this);
  removed_ = true;
  if (!cache_->may_keep_orphan()) return;
  PinnedDescriptor kept = pin_if_open();
  if (!kept) {
    Result<PinnedDescriptor> opened = pin_named(reopen_flags_);
    if (!opened.ok()) return;
    kept = std::move(opened).value();
  }
  kept.keep_for_ever();
  orphan_ = true;
  cache_->orphan_kept();
}

Result<size_t> PosixFile::read_at(uint64_t position, MutableByteView out) const {
  TRY_ASSIGN(const PinnedDescriptor descriptor, pin());
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(descriptor.get(), out.data() + done, out.size() - done, static_cast<off_t>(position + done));
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      return error_of(errno, "read");
    }
    done += static_cast<size_t>(got);
  }
  return done;
}

Result<std::optional<size_t>> PosixFile::read_at_cached(uint64_t position, MutableByteView out) const {
  const PinnedDescriptor descriptor = pin_if_open();
  if (!descriptor) return std::optional<size_t>();
  size_t done = 0;
  while (done < out.size()) {
    const iovec piece{out.data() + done, out.size() - done};
    const ssize_t got =
        ::preadv2(descriptor.get(), &piece, 1, static_cast<off_t>(position + done), RWF_NOWAIT);
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      // EOPNOTSUPP: a file system that cannot say. It may block, then.
      if (errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS) return std::optional<size_t>();
      return error_of(errno, "read");
    }
    done += static_cast<size_t>(got);
  }
  return std::optional<size_t>(done);
}

void PosixFile::forget_cached(uint64_t position, size_t length) const {
  const PinnedDescriptor descriptor = pin_if_open();
  if (!descriptor) return;
  (void)::posix_fadvise(descriptor.get(), static_cast<off_t>(position), static_cast<off_t>(length),
                        POSIX_FADV_DONTNEED);
}

bool PosixFile::is_cached(uint64_t position, size_t length) const {
  if (length == 0) return true;
  const PinnedDescriptor descriptor = pin_if_open();
  if (!descriptor) return false;
  CacheRange range{position, length};
  CacheState state{};
  if (::syscall(kCachestatNumber, descriptor.get(), &range, &state, 0U) == 0) {
    const uint64_t pages = (position + length - 1) / kPageBytes - position / kPageBytes + 1;
    return state.cached >= pages;
  }
  // An older kernel: the first, middle and last byte stand for the rest.
  for (const uint64_t probe : {position, position + length / 2, position + length - 1}) {
    uint8_t byte = 0;
    const iovec piece{&byte, 1};
    if (::preadv2(descriptor.get(), &piece, 1, static_cast<off_t>(probe), RWF_NOWAIT) < 0) return false;
  }
  return true;
}

Status PosixFile::write_at(uint64_t position, std::span<const ByteView> pieces) {
  TRY(cache_->unsevered(path_));
  TRY_ASSIGN(const PinnedDescriptor descriptor, pin());
  unsynced_.store(true, std::memory_order_relaxed);
  std::array<iovec, kPiecesPerWrite> vector;
  size_t next = 0;    // the first piece not written whole
  size_t offset = 0;  // what of it is written
  while (next < pieces.size()) {
    size_t count = 0;
    size_t skip = offset;
    for (size_t i = next; i < pieces.size() && count < vector.size(); ++i) {
      const ByteView rest = pieces[i].subspan(skip);
      skip = 0;
      if (rest.empty()) continue;
      // pwritev does not write to what it is given.
      vector[count++] = iovec{const_cast<uint8_t*>(rest.data()), rest.size()};
    }
    if (count == 0) break;
    const ssize_t got =
        ::pwritev(descriptor.get(), vector.data(), static_cast<int>(count), static_cast<off_t>(position));
    if (got < 0) {
      if (errno == EINTR) continue;
      return error_of(errno, "write");
    }
    // A disk that fills up answers with a short count first; the next turn says why.
    if (got == 0) return Error(ErrorCode::io_error, "write " + path_ + ": nothing was written");
    position += static_cast<uint64_t>(got);
    auto written = static_cast<size_t>(got);
    while (written > 0) {
      const size_t rest = pieces[next].size() - offset;
      if (written < rest) {
        offset += written;
        break;
      }
      written -= rest;
      ++next;
      offset = 0;
    }
  }
  return {};
}

Status PosixFile::truncate(uint64_t size) {
  TRY(cache_->unsevered(path_));
  TRY_ASSIGN(const PinnedDescriptor descriptor, pin());
  unsynced_.store(true, std::memory_order_relaxed);
  while (::ftruncate(descriptor.get(), static_cast<off_t>(size)) != 0) {
    if (errno != EINTR) return error_of(errno, "truncate");
  }
  return {};
}

Status PosixFile::sync() {
  TRY(cache_->unsevered(path_));
  if (sync_failed_.load(std::memory_order_relaxed))
    return Error(ErrorCode::io_error, "sync " + path_ + ": an earlier sync failed");
  TRY_ASSIGN(const PinnedDescriptor descriptor, pin());
  // Cleared before: a write that comes meanwhile sets it again.
  unsynced_.store(false, std::memory_order_relaxed);
  if (::fdatasync(descriptor.get()) != 0) {
    const int number = errno;
    sync_failed_.store(true, std::memory_order_relaxed);
    // Also for want of space (a file system that gives blocks late): what was written may be lost, and no
    // room made afterwards brings it back.
    Error error(ErrorCode::io_error, "sync " + path_ + ": " + posix_message(number));
    cache_->report(path_, error);
    return error;
  }
  return {};
}

void PosixFile::reserve(uint64_t size) {
  if (!cache_->unsevered(path_).ok()) return;
  const Result<PinnedDescriptor> descriptor = pin();
  if (!descriptor.ok()) return;
  // Best effort: a file system without it, or without room, shows at the write.
  (void)::fallocate(descriptor.value().get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
}

Result<uint64_t> PosixFile::size() const {
  TRY_ASSIGN(const PinnedDescriptor descriptor, pin());
  struct stat status{};
  if (::fstat(descriptor.get(), &status) != 0) return error_of(errno, "stat");
  return static_cast<uint64_t>(status.st_size);
}

}  // namespace millrace::io
