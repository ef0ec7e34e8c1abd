// A disk in memory that can lose power: it knows which bytes and which names were synced. For tests of what
// lies on a disk; one thread. Faults are chosen by the test through hooks; crash() leaves what a power cut
// would.
//
//   bytes   durable after File::sync; a crash keeps, drops or tears each later write, in sectors of 512 bytes
//   names   (create, rename, remove) durable after sync_directory of their directory; a crash keeps a prefix
//   of the
//           later ones of each directory
//   sync    a failed one loses for good what it should have synced, though reads still see it (as Linux does)
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/disk.h"
#include "sim/byte_change.h"

namespace millrace::test {

enum class DiskOp {
  open,
  read,
  write,
  truncate,
  sync,
  rename,
  remove,
  make_directories,
  sync_directory,
  list
};

class MemoryDisk final : public io::Disk {
  using Change = sim::ByteChange;
  struct Inode {
    Bytes data;
    Bytes durable;
    std::vector<Change> unsynced;
  };
  using Names = std::map<std::string, std::shared_ptr<Inode>>;  // nullptr: a directory
  struct NameChange {
    enum class Kind { create, rename, remove } kind;
    std::string path;
    std::string to;
    std::shared_ptr<Inode> inode;
  };

 public:
  /// Asked before every operation; any code but `none` makes it fail. A failing write may first write a part:
  /// `torn_bytes` of it.
  std::function<ErrorCode(DiskOp, const std::string& path)> fault;
  size_t torn_bytes = 0;
  /// Whether a range would have to come from the medium.
  std::function<bool(const std::string& path, uint64_t position, size_t length)> is_cold;
  uint64_t capacity = UINT64_MAX;
  /// Counts of what was done, for tests of economy.
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t syncs = 0;

  MemoryDisk() { names_["/"] = durable_["/"] = nullptr; }

  // --- what a test does behind the program's back ---
  /// Places a file, durable, its directories too.
  void put(const std::string& path, Bytes content) {
    add_directories(path.substr(0, path.rfind('/')));
    auto inode = std::make_shared<Inode>();
    inode->durable = content;
    inode->data = std::move(content);
    names_[path] = durable_[path] = inode;
  }
  Bytes content(const std::string& path) const {
    const auto it = names_.find(path);
    return it == names_.end() || !it->second ? Bytes() : it->second->data;
  }
  bool has(const std::string& path) const { return names_.contains(path); }
  void erase(const std::string& path) {
    names_.erase(path);
    durable_.erase(path);
  }
  void flip_bit(const std::string& path, size_t byte, int bit) {
    Inode& inode = *names_.at(path);
    inode.data.at(byte) = static_cast<uint8_t>(inode.data.at(byte) ^ (1u << bit));
    if (byte < inode.durable.size()) inode.durable[byte] = inode.data[byte];
  }
  std::vector<std::string> paths() const {
    std::vector<std::string> out;
    for (const auto& [path, inode] : names_) {
      if (inode) out.push_back(path);
    }
    return out;
  }
  uint64_t used() const {
    uint64_t sum = 0;
    for (const auto& [path, inode] : names_) sum += inode ? inode->data.size() : 0;
    return sum;
  }
  /// Everything as it is becomes durable (a process kill loses nothing).
  void settle() {
    durable_ = names_;
    name_changes_.clear();
    for (const auto& [path, inode] : names_) {
      if (!inode) continue;
      inode->durable = inode->data;
      inode->unsynced.clear();
    }
  }
  /// Power cut. `choose(n)` gives a number below n: 0 keeps, 1 drops, others tear; no function: everything
  /// that was not synced is lost. Handles opened before see the old world and change nothing any more.
  void crash(const std::function<uint64_t(uint64_t)>& choose = nullptr) {
    std::map<std::string, bool> directory_stopped;
    for (const NameChange& change : name_changes_) {
      const std::string directory = io::parent_path(change.path);
      if (!choose || directory_stopped[directory]) continue;
      if (choose(4) == 1) {
        directory_stopped[directory] = true;
        continue;
      }
      apply(durable_, change);
    }
    name_changes_.clear();
    // A name whose directory did not survive is gone with it.
    for (auto it = durable_.begin(); it != durable_.end();) {
      const bool orphan = it->first != "/" && !durable_.contains(io::parent_path(it->first));
      it = orphan ? durable_.erase(it) : std::next(it);
    }
    std::map<const Inode*, std::shared_ptr<Inode>> fresh;
    names_.clear();
    for (auto& [path, inode] : durable_) {
      if (inode) {
        std::shared_ptr<Inode>& after = fresh[inode.get()];
        if (!after) after = survivor(*inode, choose);
        inode = after;
      }
      names_[path] = inode;
    }
    locks_.clear();
  }

  // --- io::Disk ---
  Result<std::shared_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override {
    if (const ErrorCode code = ask(DiskOp::open, path); code != ErrorCode::none) return refusal(code, path);
    const auto it = names_.find(path);
    if (it != names_.end() && !it->second) return Error(ErrorCode::io_error, path + " is a directory");
    const bool must_exist = mode == io::OpenMode::read || mode == io::OpenMode::write;
    if (it == names_.end() && must_exist) return Error(ErrorCode::not_found, path);
    if (it != names_.end() && mode == io::OpenMode::create_new) return Error(ErrorCode::already_exists, path);
    std::shared_ptr<Inode> inode;
    if (it == names_.end()) {
      if (!names_.contains(io::parent_path(path))) return Error(ErrorCode::not_found, path);
      inode = std::make_shared<Inode>();
      change({NameChange::Kind::create, path, {}, inode});
    } else {
      inode = it->second;
    }
    return std::shared_ptr<io::File>(std::make_shared<MemoryFile>(*this, path, inode));
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (const ErrorCode code = ask(DiskOp::rename, from); code != ErrorCode::none) return refusal(code, from);
    if (!names_.contains(from)) return Error(ErrorCode::not_found, from);
    change({NameChange::Kind::rename, from, to, nullptr});
    return {};
  }
  Status remove(const std::string& path) override {
    if (const ErrorCode code = ask(DiskOp::remove, path); code != ErrorCode::none) return refusal(code, path);
    const auto it = names_.find(path);
    if (it == names_.end()) return Error(ErrorCode::not_found, path);
    if (!it->second) return Error(ErrorCode::io_error, path + " is a directory");
    change({NameChange::Kind::remove, path, {}, nullptr});
    return {};
  }
  Status remove_tree(const std::string& path) override {
    if (const ErrorCode code = ask(DiskOp::remove, path); code != ErrorCode::none) return refusal(code, path);
    std::vector<std::string> inside;
    for (const auto& [name, inode] : names_) {
      if (name == path || name.starts_with(path + "/")) inside.push_back(name);
    }
    for (auto it = inside.rbegin(); it != inside.rend(); ++it)
      change({NameChange::Kind::remove, *it, {}, nullptr});
    return {};
  }
  Status make_directories(const std::string& path) override {
    if (const ErrorCode code = ask(DiskOp::make_directories, path); code != ErrorCode::none)
      return refusal(code, path);
    for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      make_directory(path.substr(0, slash));
    }
    make_directory(path);
    return {};
  }
  Status sync_directory(const std::string& path) override {
    if (const ErrorCode code = ask(DiskOp::sync_directory, path); code != ErrorCode::none)
      return refusal(code, path);
    if (!names_.contains(path)) return Error(ErrorCode::not_found, path);
    ++syncs;
    std::erase_if(name_changes_, [&](const NameChange& c) {
      if (io::parent_path(c.path) != path && io::parent_path(c.to) != path) return false;
      apply(durable_, c);
      return true;
    });
    return {};
  }
  Result<std::vector<io::DirectoryEntry>> list(const std::string& path) override {
    if (const ErrorCode code = ask(DiskOp::list, path); code != ErrorCode::none) return refusal(code, path);
    const auto self = names_.find(path);
    if (self == names_.end() || self->second) return Error(ErrorCode::not_found, path);
    std::vector<io::DirectoryEntry> out;
    const std::string prefix = path == "/" ? path : path + "/";
    for (auto it = names_.lower_bound(prefix); it != names_.end() && it->first.starts_with(prefix); ++it) {
      const std::string name = it->first.substr(prefix.size());
      if (!name.empty() && name.find('/') == std::string::npos) out.push_back({name, !it->second});
    }
    return out;
  }
  bool exists(const std::string& path) override { return names_.contains(path); }
  Result<uint64_t> free_bytes(const std::string&) override { return capacity - std::min(capacity, used()); }
  Result<uint64_t> total_bytes(const std::string&) override { return capacity; }
  Result<std::unique_ptr<io::DirectoryLock>> lock_directory(const std::string& path) override {
    if (!locks_.insert(path).second) return Error(ErrorCode::already_exists, path);
    return std::unique_ptr<io::DirectoryLock>(std::make_unique<Lock>(*this, path));
  }
  void watch_failures(io::FailureWatch watch) override { watch_ = std::move(watch); }
  void run(io::Loop& home, std::function<void()> work, std::function<void()> done) override {
    work();
    home.post(std::move(done));
  }

 private:
  static constexpr size_t kSector = 512;

  class MemoryFile final : public io::File {
   public:
    MemoryFile(MemoryDisk& disk, std::string path, std::shared_ptr<Inode> inode)
        : disk_(disk), path_(std::move(path)), inode_(std::move(inode)) {}
    Result<size_t> read_at(uint64_t position, MutableByteView out) const override {
      if (const ErrorCode code = disk_.ask(DiskOp::read, path_); code != ErrorCode::none)
        return disk_.refusal(code, path_);
      ++disk_.reads;
      if (position >= inode_->data.size()) return size_t{0};
      const size_t count = std::min<size_t>(out.size(), inode_->data.size() - static_cast<size_t>(position));
      std::copy_n(inode_->data.begin() + static_cast<std::ptrdiff_t>(position), count, out.begin());
      return count;
    }
    Result<std::optional<size_t>> read_at_cached(uint64_t position, MutableByteView out) const override {
      if (disk_.is_cold && disk_.is_cold(path_, position, out.size())) return std::optional<size_t>();
      TRY_ASSIGN(const size_t got, read_at(position, out));
      return std::optional<size_t>(got);
    }
    Status write_at(uint64_t position, std::span<const ByteView> pieces) override {
      Bytes bytes;
      for (const ByteView piece : pieces) bytes.insert(bytes.end(), piece.begin(), piece.end());
      ++disk_.writes;
      if (const ErrorCode code = disk_.ask(DiskOp::write, path_); code != ErrorCode::none) {
        bytes.resize(std::min(bytes.size(), disk_.torn_bytes));
        disk_.store(*inode_, {position, std::move(bytes), false});
        return disk_.refusal(code, path_);
      }
      const uint64_t end = std::max<uint64_t>(inode_->data.size(), position + bytes.size());
      const uint64_t growth = end - inode_->data.size();
      if (disk_.capacity != UINT64_MAX && growth > 0) {
        const uint64_t used = disk_.used();
        const uint64_t room = disk_.capacity - std::min(disk_.capacity, used);
        if (growth > room) {
          // A full disk takes what fits, then refuses.
          bytes.resize(static_cast<size_t>(bytes.size() - std::min<uint64_t>(bytes.size(), growth - room)));
          disk_.store(*inode_, {position, std::move(bytes), false});
          return Error(ErrorCode::no_space, path_);
        }
      }
      disk_.store(*inode_, {position, std::move(bytes), false});
      return {};
    }
    using File::write_at;
    Status truncate(uint64_t size) override {
      if (const ErrorCode code = disk_.ask(DiskOp::truncate, path_); code != ErrorCode::none)
        return disk_.refusal(code, path_);
      disk_.store(*inode_, {size, {}, true});
      return {};
    }
    Status sync() override {
      ++disk_.syncs;
      // For good, as with the real disk: what was written may be lost, and no later sync says otherwise.
      if (sync_failed_) return Error(ErrorCode::io_error, path_ + ": an earlier sync failed");
      if (const ErrorCode code = disk_.ask(DiskOp::sync, path_); code != ErrorCode::none) {
        sync_failed_ = true;
        inode_->unsynced.clear();
        return disk_.refusal(code, path_);
      }
      for (const Change& c : inode_->unsynced) apply(inode_->durable, c);
      inode_->unsynced.clear();
      return {};
    }
    void reserve(uint64_t) override {}
    Result<uint64_t> size() const override { return uint64_t{inode_->data.size()}; }
    const std::string& path() const override { return path_; }

   private:
    MemoryDisk& disk_;
    const std::string path_;
    std::shared_ptr<Inode> inode_;
    bool sync_failed_ = false;
  };

  class Lock final : public io::DirectoryLock {
   public:
    Lock(MemoryDisk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
    ~Lock() override { disk_.locks_.erase(path_); }

   private:
    MemoryDisk& disk_;
    std::string path_;
  };

  /// An error of the medium is told to who watches, as the real disk does.
  Error refusal(ErrorCode code, const std::string& path) const {
    Error error(code, path);
    if (code == ErrorCode::io_error && watch_) watch_(path, error);
    return error;
  }

  ErrorCode ask(DiskOp op, const std::string& path) const {
    return fault ? fault(op, path) : ErrorCode::none;
  }

  void store(Inode& inode, Change change) {
    apply(inode.data, change);
    inode.unsynced.push_back(std::move(change));
  }

  static void apply(Bytes& data, const Change& change) { sim::apply(data, change); }
  static void apply(Names& names, const NameChange& change) {
    switch (change.kind) {
      case NameChange::Kind::create:
        names[change.path] = change.inode;
        break;
      case NameChange::Kind::remove:
        names.erase(change.path);
        break;
      case NameChange::Kind::rename: {
        std::vector<std::pair<std::string, std::shared_ptr<Inode>>> moved;
        for (auto it = names.lower_bound(change.path); it != names.end();) {
          if (it->first != change.path && !it->first.starts_with(change.path + "/")) {
            if (!it->first.starts_with(change.path)) break;
            ++it;
            continue;
          }
          moved.emplace_back(change.to + it->first.substr(change.path.size()), it->second);
          it = names.erase(it);
        }
        for (auto& [path, inode] : moved) names[path] = std::move(inode);
        break;
      }
    }
  }

  void change(NameChange c) {
    apply(names_, c);
    name_changes_.push_back(std::move(c));
  }

  void make_directory(const std::string& path) {
    if (!names_.contains(path)) change({NameChange::Kind::create, path, {}, nullptr});
  }

  void add_directories(const std::string& path) {
    for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      names_[path.substr(0, slash)] = durable_[path.substr(0, slash)] = nullptr;
    }
    if (!path.empty()) names_[path] = durable_[path] = nullptr;
  }

  static std::shared_ptr<Inode> survivor(const Inode& inode,
                                         const std::function<uint64_t(uint64_t)>& choose) {
    auto after = std::make_shared<Inode>();
    after->data = inode.durable;
    for (const Change& c : inode.unsynced) {
      const uint64_t fate = choose ? choose(4) : 1;
      if (fate == 0) {
        apply(after->data, c);
      } else if (fate > 1 && !c.is_truncate) {
        // Sector by sector: some reached the medium.
        for (size_t at = 0; at < c.bytes.size();) {
          const size_t count =
              std::min(c.bytes.size() - at, kSector - static_cast<size_t>((c.position + at) % kSector));
          if (choose(2) == 0) {
            const auto first = c.bytes.begin() + static_cast<std::ptrdiff_t>(at);
            apply(after->data,
                  {c.position + at, Bytes(first, first + static_cast<std::ptrdiff_t>(count)), false});
          }
          at += count;
        }
      }
    }
    after->durable = after->data;
    return after;
  }

  Names names_;
  Names durable_;
  std::vector<NameChange> name_changes_;
  std::set<std::string> locks_;
  io::FailureWatch watch_;
};

}  // namespace millrace::test
