#include "io/posix_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "io/posix_error.h"
#include "io/posix_file.h"

namespace millrace::io {
namespace {

constexpr const char* kLockName = ".lock";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

class PosixDirectoryLock final : public DirectoryLock {
 public:
  // The lock goes with the descriptor; the file stays, or two processes could lock two files of one name.
  explicit PosixDirectoryLock(int fd) : descriptor_(fd) {}

 private:
  Descriptor descriptor_;
};

int open_flags(OpenMode mode) {
  switch (mode) {
    case OpenMode::read:
      return O_RDONLY;
    case OpenMode::write:
      return O_RDWR;
    case OpenMode::create:
      return O_RDWR | O_CREAT;
    case OpenMode::create_new:
      return O_RDWR | O_CREAT | O_EXCL;
  }
  ASSERT(false);
}

}  // namespace

std::string normalised(const std::string& path) {
  std::string clean = std::filesystem::path(path).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  return clean;
}

PosixDisk::PosixDisk(PosixDiskOptions options)
    : descriptors_(std::make_shared<DescriptorCache>(options.descriptors_max)),
      workers_(options.threads, "disk"),
      syncers_(options.sync_threads, "sync"),
      readers_(options.read_threads, "read") {}

Error PosixDisk::failure(int number, std::string_view what, const std::string& path) const {
  Error error = posix_error(number, what, path);
  if (is_medium_failure(number)) descriptors_->report(path, error);
  return error;
}

PosixDisk::~PosixDisk() {
  stop();
}

void PosixDisk::stop() {
  workers_.stop();
  readers_.stop();
  syncers_.stop();
}

Result<std::shared_ptr<File>> PosixDisk::open(const std::string& path, OpenMode mode) {
  if (mode == OpenMode::create || mode == OpenMode::create_new) TRY(descriptors_->unsevered(path));
  TRY_ASSIGN(std::shared_ptr<PosixFile> file, PosixFile::open(descriptors_, path, open_flags(mode)));
  return std::shared_ptr<File>(std::move(file));
}

Status PosixDisk::rename(const std::string& from, const std::string& to) {
  TRY(descriptors_->unsevered(from));
  const std::string source = normalised(from);
  const std::string target = normalised(to);
  const std::unique_lock names(descriptors_->names_mutex());
  if (source == target) return {};
  if (::access(source.c_str(), F_OK) != 0) return failure(errno, "rename", from);
  // What is open at the target's name loses the name. Should the rename fail after all, it only loses what a
  // name gives: the descriptor stays.
  for (PosixFile* file : descriptors_->files_at(target, false)) file->become_orphan();
  if (::rename(source.c_str(), target.c_str()) != 0) return failure(errno, "rename", from);
  for (PosixFile* file : descriptors_->files_at(source, true)) {
    descriptors_->erase_name(*file);
    file->location_ = target + file->location_.substr(source.size());
    descriptors_->add_name(*file);
  }
  return {};
}

Status PosixDisk::remove(const std::string& path) {
  TRY(descriptors_->unsevered(path));
  const std::string name = normalised(path);
  struct stat status{};
  if (::lstat(name.c_str(), &status) != 0) return failure(errno, "remove", path);
  if (S_ISDIR(status.st_mode)) return failure(EISDIR, "remove", path);
  orphan(name, false);
  if (::unlink(name.c_str()) != 0) return failure(errno, "remove", path);
  return {};
}

Status PosixDisk::remove_tree(const std::string& path) {
  TRY(descriptors_->unsevered(path));
  const std::string name = normalised(path);
  orphan(name, true);
  std::error_code failed;
  std::filesystem::remove_all(name, failed);
  if (failed) return failure(failed.value(), "remove", path);
  return {};
}

// Unlinking a large file takes long, so it is not done under this lock.
void PosixDisk::orphan(const std::string& name, bool below) {
  const std::unique_lock names(descriptors_->names_mutex());
  for (PosixFile* file : descriptors_->files_at(name, below)) file->become_orphan();
}

Status PosixDisk::make_directories(const std::string& path) {
  TRY(descriptors_->unsevered(path));
  std::error_code failed;
  std::filesystem::create_directories(normalised(path), failed);
  if (failed) return failure(failed.value(), "make directory", path);
  return {};
}

Status PosixDisk::sync_directory(const std::string& path) {
  TRY(descriptors_->unsevered(path));
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return failure(errno, "open", path);
  if (::fsync(directory.get()) != 0) {
    // Whatever the reason, what should be durable may be lost: never an error that passes.
    const Error error(ErrorCode::io_error, "sync " + path + ": " + posix_message(errno));
    descriptors_->report(path, error);
    return error;
  }
  return {};
}

Result<std::vector<DirectoryEntry>> PosixDisk::list(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return failure(errno, "list", path);
  std::vector<DirectoryEntry> entries;
  int failed = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(directory);
    if (entry == nullptr) {
      failed = errno;
      break;
    }
    const std::string_view name(entry->d_name);
    if (name == "." || name == "..") continue;
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN || entry->d_type == DT_LNK) {
      struct stat status{};
      is_directory = ::fstatat(::dirfd(directory), entry->d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
    }
    entries.push_back({.name = std::string(name), .is_directory = is_directory});
  }
  ::closedir(directory);
  if (failed != 0) return failure(failed, "list", path);
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  return entries;
}

bool PosixDisk::exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

Result<uint64_t> PosixDisk::free_bytes(const std::string& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return failure(errno, "stat file system of", path);
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

Result<uint64_t> PosixDisk::total_bytes(const std::string& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return failure(errno, "stat file system of", path);
  return static_cast<uint64_t>(status.f_blocks) * status.f_frsize;
}

Result<std::unique_ptr<DirectoryLock>> PosixDisk::lock_directory(const std::string& path) {
  const std::string name = join_path(path, kLockName);
  Descriptor descriptor(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (descriptor.get() < 0) return failure(errno, "open", name);
  // An open-file-description lock belongs to this open file, so it also excludes this process's others.
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(descriptor.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES)
      return Error(ErrorCode::already_exists, path + " is in use by another process or broker");
    return failure(errno, "lock", name);
  }
  return std::unique_ptr<DirectoryLock>(std::make_unique<PosixDirectoryLock>(descriptor.release()));
}

void PosixDisk::run(Loop& home, std::function<void()> work, std::function<void()> done) {
  run_in(Lane::background, home, std::move(work), std::move(done));
}

void PosixDisk::run_in(Lane lane, Loop& home, std::function<void()> work, std::function<void()> done) {
  WorkerPool& pool = lane == Lane::sync ? syncers_ : lane == Lane::read ? readers_ : workers_;
  pool.run([&home, work = std::move(work), done = std::move(done)]() mutable {
    work();
    work = nullptr;  // what the work held is let go of before the loop goes on
    home.post(std::move(done));
  });
}

}  // namespace millrace::io
