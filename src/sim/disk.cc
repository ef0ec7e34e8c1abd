#include "sim/disk.h"

#include <algorithm>
#include <functional>

#include "base/plants.h"

namespace millrace::sim {

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSector = 512;
constexpr uint64_t kReadAhead = 128 * 1024;
constexpr uint32_t kWorkEvent = 3;
constexpr uint32_t kDoneEvent = 4;

std::string leaf_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_under(const std::string& path, const std::string& directory) {
  return path.size() > directory.size() && path.starts_with(directory) &&
         (directory == "/" || path[directory.size()] == '/');
}

}  // namespace

class SimDisk::SimFile final : public io::File {
 public:
  SimFile(SimDisk& disk, std::string path, std::shared_ptr<Inode> inode)
      : disk_(disk), path_(std::move(path)), inode_(std::move(inode)), generation_(disk.generation_) {}

  Result<size_t> read_at(uint64_t position, MutableByteView out) const override {
    if (is_dead()) return dead();
    return disk_.read(*inode_, path_, position, out);
  }
  Result<std::optional<size_t>> read_at_cached(uint64_t position, MutableByteView out) const override {
    if (is_dead()) return dead();
    if (disk_.dice_.percent(10) || !disk_.is_cached(*inode_, position, out.size()))
      return std::optional<size_t>();
    TRY_ASSIGN(const size_t got, disk_.read(*inode_, path_, position, out));
    return std::optional<size_t>(got);
  }
  Status write_at(uint64_t position, std::span<const ByteView> pieces) override {
    if (is_dead()) return dead();
    return disk_.write(*inode_, path_, position, pieces);
  }
  using File::write_at;
  Status truncate(uint64_t size) override {
    if (is_dead()) return dead();
    return disk_.truncate(*inode_, path_, size);
  }
  Status sync() override {
    if (is_dead()) return dead();
    // As the real one does it: a second line of defence, which a planted retry does without, too.
    if (sync_failed_ && !planted(Plant::retry_failed_sync))
      return Error(ErrorCode::io_error, path_ + ": an earlier sync failed");
    Status synced = disk_.sync(*inode_, path_);
    sync_failed_ = !synced.ok();
    return synced;
  }
  void reserve(uint64_t) override {}
  Result<uint64_t> size() const override {
    if (is_dead()) return dead();
    return uint64_t{inode_->data.size()};
  }
  const std::string& path() const override { return path_; }
  const Inode& inode() const { return *inode_; }

 private:
  bool is_dead() const { return generation_ != disk_.generation_; }
  Error dead() const { return Error(ErrorCode::io_error, path_ + ": of an earlier life"); }

  SimDisk& disk_;
  const std::string path_;
  const std::shared_ptr<Inode> inode_;
  const uint64_t generation_;
  bool sync_failed_ = false;
};

class SimDisk::Lock final : public io::DirectoryLock {
 public:
  Lock(SimDisk& disk, std::string path)
      : disk_(disk), path_(std::move(path)), generation_(disk.generation_) {}
  ~Lock() override {
    if (generation_ == disk_.generation_) disk_.locks_.erase(path_);
  }

 private:
  SimDisk& disk_;
  const std::string path_;
  const uint64_t generation_;
};

// --- devices and power ---

void SimDisk::add_device(const std::string& root) {
  std::shared_ptr<Inode> at = root_;
  for (size_t from = 1; from <= root.size();) {
    const size_t slash = std::min(root.find('/', from), root.size());
    const std::string name = root.substr(from, slash - from);
    std::shared_ptr<Inode>& child = at->children[name];
    if (!child) child = std::make_shared<Inode>();
    child->is_directory = true;
    child->device = devices_.size();
    at->durable_children[name] = child;
    at = child;
    from = slash + 1;
  }
  Device device;
  device.root = root;
  devices_.push_back(std::move(device));
}

std::shared_ptr<SimDisk::Inode> SimDisk::find(const std::string& path) const {
  std::shared_ptr<Inode> at = root_;
  for (size_t from = 1; from < path.size();) {
    if (!at->is_directory) return nullptr;
    const size_t slash = std::min(path.find('/', from), path.size());
    const auto it = at->children.find(path.substr(from, slash - from));
    if (it == at->children.end()) return nullptr;
    at = it->second;
    from = slash + 1;
  }
  return at;
}

void SimDisk::clear_faults() {
  bool flipped = false;
  for (Device& d : devices_) {
    d.capacity = UINT64_MAX;
    d.errors = d.no_space = {};
    flipped = flipped || d.read_flip > 0;
    d.read_flip = d.syncs_until_error = 0;
    d.dead = false;
  }
  if (flipped) evict_all();
}

size_t SimDisk::device_of(const std::string& path) const {
  for (size_t i = 0; i < devices_.size(); ++i) {
    if (path == devices_[i].root || is_under(path, devices_[i].root)) return i;
  }
  return 0;
}

Error SimDisk::refused(const std::string& path, std::string_view what) const {
  Error error(ErrorCode::io_error, path + ": " + std::string(what));
  if (watch_) watch_(path, error);
  return error;
}

std::optional<Error> SimDisk::refuses(Call call, size_t device, const std::string& path) {
  if (devices_.empty()) return std::nullopt;
  const Device& d = devices_[device];
  const auto i = static_cast<size_t>(call);
  if (d.dead || dice_.per_million(d.errors[i])) {
    ++counters.refused[i];
    return refused(path, "input/output error");
  }
  if (dice_.per_million(d.no_space[i])) {
    ++counters.without_room[i];
    return Error(ErrorCode::no_space, path + ": no space left");
  }
  return std::nullopt;
}

bool SimDisk::powered() {
  if (changes_until_cut_ > 0 && --changes_until_cut_ == 0) power_out_ = true;
  return !power_out_;
}

Status SimDisk::no_power(const std::string& path) const {
  return Error(ErrorCode::io_error, path + ": power is out");
}

void SimDisk::kill_process() {
  ++counters.process_kills;
  ++generation_;
  watch_ = nullptr;
  changes_until_cut_ = 0;
  for (const auto& [job, event] : jobs_) scheduler_.cancel(event);
  jobs_.clear();
  waiting_.clear();
  held_ = false;
  locks_.clear();
}

void SimDisk::hold(bool held) {
  held_ = held;
  if (held) return;
  for (std::function<void()>& job : std::exchange(waiting_, {})) job();
}

void SimDisk::run_job(std::function<void()> job) {
  if (held_) {
    waiting_.push_back(std::move(job));
  } else {
    job();
  }
}

void SimDisk::power_cycle() {
  kill_process();
  --counters.process_kills;
  ++counters.power_cuts;
  power_out_ = false;
  errors_met_ = false;
  const bool lossless = dice_.percent(10);
  if (lossless) ++counters.lossless_cuts;
  std::set<Inode*> seen;
  cut_power(*root_, lossless, seen);
  for (Device& d : devices_) {
    const std::shared_ptr<Inode> top = find(d.root);
    d.used = top ? bytes_under(*top) : 0;
  }
}

uint64_t SimDisk::bytes_under(const Inode& inode) const {
  uint64_t bytes = inode.data.size();
  for (const auto& [name, child] : inode.children) bytes += bytes_under(*child);
  return bytes;
}

void SimDisk::give_back(const Inode& inode) {
  if (!devices_.empty()) devices_[inode.device].used -= inode.data.size();
}

// --- what a power cut leaves ---

void SimDisk::survive(Inode& inode) {
  const size_t moments = inode.pending.size();
  // Up to which change each page got to the medium; one more may be torn.
  struct Fate {
    size_t applied = 0;
    uint64_t torn_sectors = 0;  // of the change after those
    bool garbage = false;
  };
  std::map<uint64_t, Fate> fates;
  for (const Change& c : inode.pending) {
    if (c.is_truncate || c.bytes.empty()) continue;
    for (uint64_t page = c.position / kPage; page <= (c.position + c.bytes.size() - 1) / kPage; ++page) {
      if (fates.contains(page)) continue;
      Fate& fate = fates[page];
      const uint64_t roll = dice_.below(100);
      if (roll < 35) {
        fate.applied = moments;
        ++counters.pages_kept;
      } else if (roll < 60) {
        ++counters.pages_dropped;
      } else if (roll < 70) {
        fate.applied = dice_.index(moments);
        ++counters.pages_between;
      } else if (roll < 88) {
        fate.applied = dice_.index(moments);
        fate.torn_sectors = 1 + dice_.below(kPage / kSector - 1);
        ++counters.pages_torn;
      } else {
        fate.garbage = true;
        ++counters.pages_garbage;
      }
    }
  }
  const size_t durable_size = inode.durable.size();
  const uint64_t size_roll = dice_.below(100);
  const size_t size_moment = size_roll < 50 ? moments : size_roll < 70 ? 0 : dice_.index(moments + 1);
  Bytes out = inode.durable;
  Bytes sized = inode.durable;  // only for its size
  size_t final_size = durable_size;
  std::set<uint64_t> written_sectors;
  for (size_t i = 0; i < moments; ++i) {
    const Change& c = inode.pending[i];
    if (i < size_moment) {
      final_size = c.is_truncate ? static_cast<size_t>(c.position)
                                 : std::max(final_size, static_cast<size_t>(c.position) + c.bytes.size());
    }
    if (c.is_truncate) {
      // Where the truncation reached the medium, what it cut reads as zeros.
      if (i < size_moment) {
        const size_t back = out.size();
        out.resize(static_cast<size_t>(c.position));
        out.resize(std::max(back, out.size()));
      }
      continue;
    }
    if (out.size() < c.position + c.bytes.size())
      out.resize(static_cast<size_t>(c.position) + c.bytes.size());
    for (uint64_t at = c.position; at < c.position + c.bytes.size();) {
      const uint64_t end = std::min((at / kSector + 1) * kSector, c.position + c.bytes.size());
      const Fate& fate = fates[at / kPage];
      const uint64_t sector_of_page = at % kPage / kSector;
      const bool reaches = i < fate.applied || (i == fate.applied && sector_of_page < fate.torn_sectors);
      if (!fate.garbage && reaches) {
        std::copy_n(c.bytes.begin() + static_cast<std::ptrdiff_t>(at - c.position), end - at,
                    out.begin() + static_cast<std::ptrdiff_t>(at));
        written_sectors.insert(at / kSector);
      } else if (fate.garbage) {
        const bool holds_durable = at / kSector * kSector < durable_size;
        const uint64_t kind = holds_durable ? 2 : dice_.below(3);
        for (uint64_t b = at; b < end; ++b) {
          if (kind == 0) out[static_cast<size_t>(b)] = static_cast<uint8_t>(dice_.next());
          if (kind == 1) out[static_cast<size_t>(b)] = 0;
        }
      }
      at = end;
    }
  }
  if (final_size > durable_size && !written_sectors.contains((final_size - 1) / kSector)) {
    ++counters.sizes_without_data;
  }
  out.resize(final_size);
  inode.durable = std::move(out);
}

void SimDisk::cut_power(Inode& inode, bool lossless, std::set<Inode*>& seen) {
  if (!seen.insert(&inode).second) return;
  if (!inode.is_directory) {
    if (lossless) {
      for (const Change& c : inode.pending) sim::apply(inode.durable, c);
    } else if (!inode.pending.empty()) {
      survive(inode);
    }
    inode.pending.clear();
    // What differs without being pending was dropped by a failed sync.
    inode.data = inode.durable;
    inode.flips.clear();
    chill(inode);
    return;
  }
  const size_t changes = inode.pending_names.size();
  const uint64_t roll = dice_.below(100);
  const size_t kept = lossless || roll < 35 ? changes : roll < 65 ? 0 : dice_.index(changes + 1);
  for (size_t i = 0; i < changes; ++i) {
    const NameChange& c = inode.pending_names[i];
    if (i < kept) {
      apply(inode.durable_children, c);
      continue;
    }
    ++counters.names_rolled_back;
    if (c.kind == NameChange::Kind::rename) ++counters.renames_rolled_back;
  }
  inode.pending_names.clear();
  inode.children = inode.durable_children;
  for (const auto& [name, child] : inode.children) cut_power(*child, lossless, seen);
}

// --- bytes ---

void SimDisk::store(Inode& inode, Change change) {
  const size_t before = inode.data.size();
  sim::apply(inode.data, change);
  if (!devices_.empty()) devices_[inode.device].used += inode.data.size() - before;
  if (!inode.lost_sectors.empty()) {
    for (uint64_t s = change.position / kSector; s * kSector < change.position + change.bytes.size(); ++s)
      inode.lost_sectors.erase(s);
  }
  scheduler_.note(change.position);
  scheduler_.note_bytes(change.bytes);
  if (!change.bytes.empty()) {
    const uint64_t end = change.position + change.bytes.size();
    inode.flips.erase(inode.flips.lower_bound(change.position), inode.flips.lower_bound(end));
    inode.cold_pages.erase(inode.cold_pages.lower_bound(change.position / kPage),
                           inode.cold_pages.lower_bound((end + kPage - 1) / kPage));
  } else if (change.is_truncate) {
    inode.flips.erase(inode.flips.lower_bound(change.position), inode.flips.end());
  }
  inode.pending.push_back(std::move(change));
}

Status SimDisk::write(Inode& inode, const std::string& path, uint64_t position,
                      std::span<const ByteView> pieces) {
  Bytes bytes;
  for (const ByteView piece : pieces) bytes.insert(bytes.end(), piece.begin(), piece.end());
  const bool had_power = !power_out_;
  if (!powered()) {
    if (!had_power || bytes.empty()) return no_power(path);
    bytes.resize(dice_.index(bytes.size() + 1));  // what was under way when it went dark
    store(inode, {position, std::move(bytes), false});
    return no_power(path);
  }
  if (bytes.empty()) return {};
  Device& device = devices_[inode.device];
  if (std::optional<Error> error = refuses(Call::write, inode.device, path)) {
    ++(error->code == ErrorCode::no_space ? counters.short_writes : counters.write_errors);
    errors_met_ = true;
    bytes.resize(dice_.index(bytes.size()));
    store(inode, {position, std::move(bytes), false});
    if (bugs.swallow_write_error) return {};
    return *error;
  }
  if (path.ends_with("commit-file") && bytes.size() > 8 &&
      ((bugs.forget_caps && bytes[8] == 2) || (bugs.forget_starts && bytes[8] == 3))) {
    bytes[8] = 9;  // of a kind that nobody knows
  }
  const uint64_t end = std::max<uint64_t>(inode.data.size(), position + bytes.size());
  const uint64_t growth = end - inode.data.size();
  const uint64_t room = device.capacity - std::min(device.capacity, device.used);
  if (growth > room) {
    // A full disk takes what fits, then refuses.
    ++counters.short_writes;
    bytes.resize(static_cast<size_t>(bytes.size() - std::min<uint64_t>(bytes.size(), growth - room)));
    store(inode, {position, std::move(bytes), false});
    if (bugs.swallow_no_space) return {};
    return Error(ErrorCode::no_space, path + ": no space left");
  }
  if (bugs.flip_on_write && dice_.below(200) == 0)
    bytes[dice_.index(bytes.size())] ^= static_cast<uint8_t>(1u << dice_.below(8));
  if (bugs.misdirected_write && position >= kSector && dice_.below(50) == 0) position -= kSector;
  store(inode, {position, std::move(bytes), false});
  return {};
}

Status SimDisk::truncate(Inode& inode, const std::string& path, uint64_t size) {
  if (!powered()) return no_power(path);
  if (std::optional<Error> error = refuses(Call::truncate, inode.device, path)) return *error;
  if (bugs.skip_truncate && path.ends_with(".log")) return {};
  store(inode, {size, {}, true});
  return {};
}

Status SimDisk::sync(Inode& inode, const std::string& path) {
  if (!powered()) return no_power(path);
  if (bugs.skip_file_sync) return {};
  if (bugs.skip_small_file_sync && path.ends_with(".tmp")) return {};
  Device& device = devices_[inode.device];
  const bool chosen = device.syncs_until_error > 0 && --device.syncs_until_error == 0;
  std::optional<Error> error = refuses(Call::sync, inode.device, path);
  if (chosen || error) {
    // Some pages got there, the others are taken for clean: no later sync will write them.
    ++counters.sync_errors;
    errors_met_ = true;
    Bytes seen = inode.data;
    survive(inode);
    inode.data = std::move(seen);
    inode.pending.clear();
    if (bugs.swallow_sync_error) return {};
    return error ? *error : refused(path, "sync failed");
  }
  for (const Change& c : inode.pending) sim::apply(inode.durable, c);
  inode.pending.clear();
  return {};
}

bool SimDisk::is_cached(const Inode& inode, uint64_t position, size_t length) const {
  if (inode.cold_pages.empty() || length == 0 || bugs.cold_unverified) return true;
  const auto cold = inode.cold_pages.lower_bound(position / kPage);
  return cold == inode.cold_pages.end() || *cold * kPage >= position + length;
}

// What the cache held is let go of: what is wrong on the medium is what will be read.
void SimDisk::chill(Inode& inode) {
  for (const auto& [position, mask] : inode.flips) {
    if (position < inode.data.size()) inode.data[static_cast<size_t>(position)] ^= mask;
  }
  inode.flips.clear();
  for (uint64_t page = 0; page * kPage < inode.data.size(); ++page) inode.cold_pages.insert(page);
}

Result<size_t> SimDisk::read(Inode& inode, const std::string& path, uint64_t position, MutableByteView out) {
  if (power_out_) return Error(ErrorCode::io_error, path + ": power is out");
  if (position >= inode.data.size()) return size_t{0};
  const size_t count = std::min<size_t>(out.size(), inode.data.size() - static_cast<size_t>(position));
  const bool from_medium = !is_cached(inode, position, count);
  const Device& device = devices_[inode.device];
  if (from_medium) {
    if (std::optional<Error> error = refuses(Call::read, inode.device, path)) {
      ++counters.read_errors;
      return *error;
    }
    const auto lost = inode.lost_sectors.lower_bound(position / kSector);
    if (lost != inode.lost_sectors.end() && *lost * kSector < position + count) {
      ++counters.read_errors;
      return refused(path, "unreadable sector");
    }
    const uint64_t ahead = position + count + kReadAhead;
    inode.cold_pages.erase(inode.cold_pages.lower_bound(position / kPage),
                           inode.cold_pages.lower_bound((ahead + kPage - 1) / kPage));
    // The identity of a directory has no checksum (Kafka's format) and is taken to be safe.
    if (!path.ends_with("meta.properties") && dice_.per_million(device.read_flip)) {
      // On its way into the page cache, where it stays; what was read ahead, too.
      ++counters.read_flips;
      const uint64_t end = std::min<uint64_t>(ahead, inode.data.size());
      const uint64_t at = position + dice_.below(end - position);
      const auto mask = static_cast<uint8_t>(1u << dice_.below(8));
      inode.data[static_cast<size_t>(at)] ^= mask;
      if ((inode.flips[at] ^= mask) == 0) inode.flips.erase(at);
    }
  }
  std::copy_n(inode.data.begin() + static_cast<std::ptrdiff_t>(position), count, out.begin());
  if (bugs.stale_read && count > 0 && dice_.below(200) == 0) std::fill_n(out.begin(), count, uint8_t{0});
  return count;
}

std::optional<Bytes> SimDisk::cached_content(const io::File& file, uint64_t position, size_t length) const {
  const auto& inode = static_cast<const SimFile&>(file).inode();
  if (position + length > inode.data.size()) return std::nullopt;
  const auto first = inode.data.begin() + static_cast<std::ptrdiff_t>(position);
  return Bytes(first, first + static_cast<std::ptrdiff_t>(length));
}

// --- damage ---

void SimDisk::replace_all() {
  ASSERT(locks_.empty());
  clear_faults();
  errors_met_ = false;
  for (Device& d : devices_) {
    const std::shared_ptr<Inode> top = find(d.root);
    ASSERT(top != nullptr);
    top->children.clear();
    top->durable_children.clear();
    top->pending_names.clear();
    d.used = 0;
  }
}

void SimDisk::flip_bit(const std::string& path, uint64_t position, uint32_t bit) {
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode) return;
  ++counters.bits_flipped;
  inode->rotten = true;
  const auto mask = static_cast<uint8_t>(1u << (bit % 8));
  const auto at = static_cast<size_t>(position);
  if (at < inode->durable.size()) inode->durable[at] ^= mask;
  if (at >= inode->data.size()) return;
  if (inode->cold_pages.contains(position / kPage)) {
    inode->data[at] ^= mask;
  } else if ((inode->flips[position] ^= mask) == 0) {
    inode->flips.erase(position);
  }
}

bool SimDisk::is_rotten(const std::string& path) const {
  const std::shared_ptr<Inode> inode = find(path);
  return inode && inode->rotten;
}

void SimDisk::evict(const std::string& path) {
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode || inode->is_directory || !inode->pending.empty()) return;
  ++counters.evictions;
  chill(*inode);
}

void SimDisk::evict_all() {
  const std::function<void(Inode&)> each = [&](Inode& inode) {
    if (!inode.is_directory) chill(inode);
    for (const auto& [name, child] : inode.children) each(*child);
  };
  each(*root_);
}

void SimDisk::cut_file(const std::string& path, uint64_t size) {
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode || inode->is_directory) return;
  ++counters.files_cut;
  if (size < inode->data.size()) inode->data.resize(static_cast<size_t>(size));
  if (size < inode->durable.size()) inode->durable.resize(static_cast<size_t>(size));
}

void SimDisk::fill_with(const std::string& path, uint8_t byte) {
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode || inode->is_directory) return;
  std::fill(inode->data.begin(), inode->data.end(), byte);
  std::fill(inode->durable.begin(), inode->durable.end(), byte);
}

void SimDisk::lose_file(const std::string& path) {
  const std::shared_ptr<Inode> directory = find(io::parent_path(path));
  if (!directory) return;
  ++counters.files_lost;
  directory->children.erase(leaf_of(path));
  directory->durable_children.erase(leaf_of(path));
}

void SimDisk::lose_sector(const std::string& path, uint64_t position) {
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode) return;
  ++counters.sectors_lost;
  inode->lost_sectors.insert(position / kSector);
}

void SimDisk::list_files(const Inode& directory, const std::string& path,
                         std::vector<std::string>& out) const {
  for (const auto& [name, child] : directory.children) {
    const std::string full = io::join_path(path, name);
    if (child->is_directory) {
      list_files(*child, full, out);
    } else {
      out.push_back(full);
    }
  }
}

std::vector<std::string> SimDisk::files_under(const std::string& directory) const {
  std::vector<std::string> out;
  const std::shared_ptr<Inode> inode = find(directory);
  if (inode && inode->is_directory) list_files(*inode, directory, out);
  return out;
}

const Bytes* SimDisk::content(const std::string& path) const {
  const std::shared_ptr<Inode> inode = find(path);
  return inode && !inode->is_directory ? &inode->data : nullptr;
}

const Bytes* SimDisk::durable_content(const std::string& path) const {
  const std::shared_ptr<Inode> directory = find(io::parent_path(path));
  if (!directory) return nullptr;
  const auto it = directory->durable_children.find(leaf_of(path));
  return it == directory->durable_children.end() || it->second->is_directory ? nullptr : &it->second->durable;
}

// --- names ---

void SimDisk::apply(Children& children, const NameChange& change) {
  switch (change.kind) {
    case NameChange::Kind::create:
      children[change.name] = change.inode;
      break;
    case NameChange::Kind::remove:
      children.erase(change.name);
      break;
    case NameChange::Kind::rename: {
      const auto it = children.find(change.name);
      if (it == children.end()) break;
      std::shared_ptr<Inode> moved = it->second;
      children.erase(it);
      children[change.to] = std::move(moved);
      break;
    }
  }
}

void SimDisk::change(Inode& directory, NameChange change) {
  apply(directory.children, change);
  directory.pending_names.push_back(std::move(change));
}

Result<std::shared_ptr<io::File>> SimDisk::open(const std::string& path, io::OpenMode mode) {
  if (power_out_) return Error(ErrorCode::io_error, path + ": power is out");
  std::shared_ptr<Inode> inode = find(path);
  if (inode && inode->is_directory) return Error(ErrorCode::io_error, path + " is a directory");
  const bool must_exist = mode == io::OpenMode::read || mode == io::OpenMode::write;
  if (!inode && must_exist) return Error(ErrorCode::not_found, path);
  if (inode && mode == io::OpenMode::create_new) return Error(ErrorCode::already_exists, path);
  if (!inode) {
    const std::shared_ptr<Inode> directory = find(io::parent_path(path));
    if (!directory || !directory->is_directory) return Error(ErrorCode::not_found, path);
    if (!powered()) return Error(ErrorCode::io_error, path + ": power is out");
    if (std::optional<Error> error = refuses(Call::create, device_of(path), path)) return *error;
    inode = std::make_shared<Inode>();
    inode->device = device_of(path);
    change(*directory, {NameChange::Kind::create, leaf_of(path), {}, inode});
  } else if (std::optional<Error> error = refuses(Call::open, inode->device, path)) {
    return *error;
  }
  return std::shared_ptr<io::File>(std::make_shared<SimFile>(*this, path, inode));
}

// Only within a directory: nothing here moves a file to another one.
Status SimDisk::rename(const std::string& from, const std::string& to) {
  if (power_out_) return no_power(from);
  ASSERT(io::parent_path(from) == io::parent_path(to));
  if (!find(from)) return Error(ErrorCode::not_found, from);
  if (!powered()) return no_power(from);
  if (std::optional<Error> error = refuses(Call::rename, device_of(from), from)) return *error;
  if (bugs.keep_old_epochs && to.ends_with("/leader-epoch-checkpoint") && find(to)) return {};
  if (bugs.keep_old_checkpoints && to.ends_with("-offset-checkpoint") && find(to)) return {};
  if (const std::shared_ptr<Inode> old = find(to)) give_back(*old);
  change(*find(io::parent_path(from)), {NameChange::Kind::rename, leaf_of(from), leaf_of(to), nullptr});
  return {};
}

Status SimDisk::remove(const std::string& path) {
  if (power_out_) return no_power(path);
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode) return Error(ErrorCode::not_found, path);
  if (inode->is_directory) return Error(ErrorCode::io_error, path + " is a directory");
  if (bugs.keep_clean_marker && path.ends_with("cleanshutdown")) return {};
  if (!powered()) return no_power(path);
  if (std::optional<Error> error = refuses(Call::remove, inode->device, path)) return *error;
  give_back(*inode);
  change(*find(io::parent_path(path)), {NameChange::Kind::remove, leaf_of(path), {}, nullptr});
  return {};
}

Status SimDisk::remove_tree(const std::string& path) {
  if (power_out_) return no_power(path);
  const std::shared_ptr<Inode> inode = find(path);
  if (!inode) return {};
  const Children inside = inode->children;
  for (const auto& [name, child] : inside) {
    TRY(remove_tree(io::join_path(path, name)));
  }
  if (!powered()) return no_power(path);
  give_back(*inode);
  change(*find(io::parent_path(path)), {NameChange::Kind::remove, leaf_of(path), {}, nullptr});
  return {};
}

Status SimDisk::make_directories(const std::string& path) {
  if (power_out_) return no_power(path);
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (!find(part)) {
      if (!powered()) return no_power(path);
      if (std::optional<Error> error = refuses(Call::make, device_of(path), path)) return *error;
      auto made = std::make_shared<Inode>();
      made->is_directory = true;
      made->device = device_of(path);
      change(*find(io::parent_path(part)), {NameChange::Kind::create, leaf_of(part), {}, std::move(made)});
    }
    if (slash == std::string::npos) return {};
  }
}

Status SimDisk::sync_directory(const std::string& path) {
  if (!powered()) return no_power(path);
  const std::shared_ptr<Inode> directory = find(path);
  if (!directory) return Error(ErrorCode::not_found, path);
  if (bugs.skip_directory_sync) return {};
  if (std::optional<Error> error = refuses(Call::sync_directory, device_of(path), path)) return *error;
  for (const NameChange& c : directory->pending_names) apply(directory->durable_children, c);
  directory->pending_names.clear();
  return {};
}

Result<std::vector<io::DirectoryEntry>> SimDisk::list(const std::string& path) {
  if (power_out_) return Error(ErrorCode::io_error, path + ": power is out");
  const std::shared_ptr<Inode> directory = find(path);
  if (!directory || !directory->is_directory) return Error(ErrorCode::not_found, path);
  if (std::optional<Error> error = refuses(Call::list, device_of(path), path)) return *error;
  std::vector<io::DirectoryEntry> out;
  for (const auto& [name, child] : directory->children) out.push_back({name, child->is_directory});
  return out;
}

bool SimDisk::exists(const std::string& path) {
  return find(path) != nullptr;
}

Result<uint64_t> SimDisk::free_bytes(const std::string& path) {
  const Device& d = devices_[device_of(path)];
  return d.capacity - std::min(d.capacity, d.used);
}

Result<uint64_t> SimDisk::total_bytes(const std::string& path) {
  return devices_[device_of(path)].capacity;
}

Result<std::unique_ptr<io::DirectoryLock>> SimDisk::lock_directory(const std::string& path) {
  if (!locks_.insert(path).second) return Error(ErrorCode::already_exists, path);
  return std::unique_ptr<io::DirectoryLock>(std::make_unique<Lock>(*this, path));
}

// The work happens at one moment, its completion is told at a later one: a cut may fall between them.
void SimDisk::run(io::Loop& home, std::function<void()> work, std::function<void()> done) {
  const uint64_t job = ++last_job_;
  int64_t wait = dice_.between(0, timing.work_us_max);
  if (dice_.per_million(timing.slow_per_million)) {
    ++counters.slow_syncs;
    wait += dice_.between(0, timing.slow_us_max);
  }
  int64_t tell = dice_.between(0, timing.done_us_max);
  if (bugs.sync_before_write) std::swap(work, done);
  const bool swapped = bugs.sync_before_write;
  jobs_[job] = scheduler_.at(
      scheduler_.now_us() + wait, kWorkEvent,
      [this, job, tell, swapped, &home, work = std::move(work), done = std::move(done)]() mutable {
        jobs_.erase(job);
        run_job([this, job, tell, swapped, &home, work = std::move(work), done = std::move(done)]() mutable {
          if (swapped) {
            home.post(std::move(work));
          } else {
            work();
          }
          jobs_[job] = scheduler_.at(scheduler_.now_us() + tell, kDoneEvent,
                                     [this, job, swapped, &home, done = std::move(done)]() mutable {
                                       jobs_.erase(job);
                                       if (swapped) {
                                         done();
                                       } else {
                                         home.post(std::move(done));
                                       }
                                     });
        });
      });
}

}  // namespace millrace::sim
