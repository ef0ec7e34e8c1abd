// A disk in memory that fails as disks fail: the disk of the simulator. Deterministic from its seed.
//
// What a power cut leaves of what was not synced:
//   bytes   per file a durable image and the ordered writes and truncations since. Every touched page of
//           4 KiB, independently: its newest content, what was durable, any content in between, torn at a
//           sector of 512 bytes, or garbage or zeros in sectors that held nothing durable. A sector that held
//           durable bytes is old or new, never garbage. The size is that of any moment since the last sync.
//   names   (create, rename, remove) per directory a prefix of the changes since its last sync
//   one cut in ten takes nothing
// A process that dies leaves everything as it was, synced or not: the page cache survives.
//
// What a file holds is in the page cache or is not: bytes that were written or read are, until a power cut or
// evict(). Only what comes from the medium can come wrong (bit flips, unreadable sectors).
//
// Each data directory is a device with a capacity and faults of its own. As with the real disk an error of
// the medium is told to who watches, one for want of space is not, and a file whose sync failed once never
// syncs again. The cut can be set to fall in the midst of anything: after so many further changes to the
// medium.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/disk.h"
#include "sim/byte_change.h"
#include "sim/dice.h"
#include "sim/scheduler.h"

namespace millrace::sim {

/// Mistakes that a test can plant: what the disk would look like to a program that forgot something.
struct DiskBugs {
  bool skip_directory_sync = false;   // sync_directory is never asked for
  bool skip_file_sync = false;        // fdatasync is never asked for
  bool skip_small_file_sync = false;  // ... for files that are replaced whole (*.tmp)
  bool sync_before_write = false;     // completion told before the work is done
  bool swallow_sync_error = false;    // a failed fdatasync is taken for success
  bool skip_truncate = false;         // a failed write is not cut away
  bool keep_clean_marker = false;     // the clean-shutdown marker is not removed
  bool misdirected_write = false;     // one write in fifty lands in the sector before
  bool stale_read = false;            // one read in two hundred gives zeros
  bool swallow_no_space = false;      // a short write is taken for a whole one
  bool swallow_write_error = false;   // the same of a failed one
  bool flip_on_write = false;         // one write in two hundred stores another byte
  bool cold_unverified = false;       // whatever lies on the medium is taken to be in the page cache
  bool forget_caps = false;           // the commit file never hears of a cut (frames of kind 2)
  bool forget_starts = false;         // ... nor where logs begin (frames of kind 3)
  bool keep_old_epochs = false;       // leader-epoch-checkpoint is never replaced
  bool keep_old_checkpoints = false;  // the checkpoint of log starts and ends stays the first one
};

/// What a call does, where it can be refused.
enum class Call : uint8_t {
  open,
  create,
  rename,
  remove,
  list,
  make,
  sync_directory,
  write,
  truncate,
  sync,
  read
};
inline constexpr size_t kCalls = 11;

struct DiskCounters {
  uint64_t power_cuts = 0, lossless_cuts = 0, process_kills = 0;
  uint64_t pages_kept = 0, pages_dropped = 0, pages_between = 0, pages_torn = 0, pages_garbage = 0;
  uint64_t sizes_without_data = 0, names_rolled_back = 0, renames_rolled_back = 0;
  uint64_t short_writes = 0, write_errors = 0, sync_errors = 0, read_errors = 0, read_flips = 0,
           slow_syncs = 0, bits_flipped = 0, files_lost = 0, sectors_lost = 0, files_cut = 0, evictions = 0,
           dead_devices = 0;
  std::array<uint64_t, kCalls> refused{};       // by the medium
  std::array<uint64_t, kCalls> without_room{};  // for want of space
};

class SimDisk final : public io::Disk {
 public:
  struct Device {
    std::string root;
    uint64_t capacity = UINT64_MAX;
    uint64_t used = 0;
    // Chances of one call, per million.
    std::array<uint64_t, kCalls> errors{};    // the medium refuses
    std::array<uint64_t, kCalls> no_space{};  // no room: create, rename, make, write
    uint64_t read_flip = 0;                   // a bit of what comes from the medium
    bool dead = false;                        // everything is refused
    uint64_t syncs_until_error = 0;           // 1: the next one fails; 0: none does
  };
  struct Timing {
    int64_t work_us_max = 300;      // from run() to the work
    int64_t done_us_max = 100;      // from the work to its completion
    uint64_t slow_per_million = 0;  // jobs that take ...
    int64_t slow_us_max = 2'000'000;
  };

  SimDisk(Scheduler& scheduler, Dice dice) : scheduler_(scheduler), dice_(dice) {
    root_->is_directory = true;
  }

  Timing timing;
  DiskBugs bugs;
  DiskCounters counters;

  /// A mount point: there, and durable.
  void add_device(const std::string& root);
  Device& device(size_t i) { return devices_[i]; }
  size_t devices() const { return devices_.size(); }
  void clear_faults();

  /// Power fails after so many further changes (writes, syncs, names); every call fails from then on.
  void cut_power_after(uint64_t changes) { changes_until_cut_ = changes + 1; }
  void cancel_cut() { changes_until_cut_ = 0; }
  bool power_is_out() const { return power_out_; }
  /// Whether a write or a sync has failed since the machine was switched on.
  bool errors_met() const { return errors_met_; }
  /// The machine is switched on again: what the medium holds is all there is. Jobs and handles are gone.
  void power_cycle();
  /// While it stands still (a paused process), jobs wait.
  void hold(bool held);
  /// The process died: jobs, handles and locks are gone, files are as they were.
  void kill_process();

  // --- damage of what lies still ---
  /// All devices are replaced by empty ones. The process is dead.
  void replace_all();
  void flip_bit(const std::string& path, uint64_t position, uint32_t bit);
  /// Whether a bit of this very file was flipped, under this name or another.
  bool is_rotten(const std::string& path) const;
  void lose_file(const std::string& path);
  /// Reads that touch the sector fail until it is written.
  void lose_sector(const std::string& path, uint64_t position);
  /// The file ends earlier than it did.
  void cut_file(const std::string& path, uint64_t size);
  void fill_with(const std::string& path, uint8_t byte);
  /// The page cache lets go of it.
  void evict(const std::string& path);
  /// ... and of everything: whatever came wrong into it is gone.
  void evict_all();

  // --- for the oracle ---
  std::vector<std::string> files_under(const std::string& directory) const;
  const Bytes* content(const std::string& path) const;
  const Bytes* durable_content(const std::string& path) const;
  /// What the network is given of a file in the page cache; nullopt if that is not (all) there.
  std::optional<Bytes> cached_content(const io::File& file, uint64_t position, size_t length) const;

  // --- io::Disk ---
  Result<std::shared_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status remove_tree(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<io::DirectoryEntry>> list(const std::string& path) override;
  bool exists(const std::string& path) override;
  Result<uint64_t> free_bytes(const std::string& path) override;
  Result<uint64_t> total_bytes(const std::string& path) override;
  Result<std::unique_ptr<io::DirectoryLock>> lock_directory(const std::string& path) override;
  void run(io::Loop& home, std::function<void()> work, std::function<void()> done) override;
  void watch_failures(io::FailureWatch watch) override { watch_ = std::move(watch); }

 private:
  void run_job(std::function<void()> job);
  /// An error of the medium: told to who watches.
  Error refused(const std::string& path, std::string_view what) const;
  class SimFile;
  class Lock;
  using Change = ByteChange;
  struct Inode;
  using Children = std::map<std::string, std::shared_ptr<Inode>>;
  struct NameChange {
    enum class Kind : uint8_t { create, remove, rename } kind;
    std::string name, to;
    std::shared_ptr<Inode> inode;  // of a create
  };
  /// A file or a directory; names belong to the directory that holds them.
  struct Inode {
    bool is_directory = false;
    size_t device = 0;
    // a file
    Bytes data;     // what a read gives
    Bytes durable;  // what a power cut surely leaves
    std::vector<Change> pending;
    std::set<uint64_t> lost_sectors;
    std::map<uint64_t, uint8_t> flips;  // on the medium: position to what is XORed on the way into the cache
    std::set<uint64_t> cold_pages;      // not in the page cache
    bool rotten = false;                // a bit of it was flipped
    // a directory
    Children children;
    Children durable_children;
    std::vector<NameChange> pending_names;
  };

  Status write(Inode& inode, const std::string& path, uint64_t position, std::span<const ByteView> pieces);
  Status truncate(Inode& inode, const std::string& path, uint64_t size);
  Status sync(Inode& inode, const std::string& path);
  Result<size_t> read(Inode& inode, const std::string& path, uint64_t position, MutableByteView out);
  bool is_cached(const Inode& inode, uint64_t position, size_t length) const;
  static void chill(Inode& inode);
  /// Whether the device refuses the call: what it says then.
  std::optional<Error> refuses(Call call, size_t device, const std::string& path);
  /// Counts a change to the medium; false: power is (now) out and nothing happens.
  bool powered();
  Status no_power(const std::string& path) const;
  size_t device_of(const std::string& path) const;
  void store(Inode& inode, Change change);
  static void apply(Children& children, const NameChange& change);
  static void change(Inode& directory, NameChange change);
  /// nullptr: not there.
  std::shared_ptr<Inode> find(const std::string& path) const;
  void survive(Inode& inode);
  void cut_power(Inode& directory, bool lossless, std::set<Inode*>& seen);
  uint64_t bytes_under(const Inode& inode) const;
  void give_back(const Inode& inode);
  void list_files(const Inode& directory, const std::string& path, std::vector<std::string>& out) const;

  Scheduler& scheduler_;
  Dice dice_;
  std::vector<Device> devices_;
  std::shared_ptr<Inode> root_ = std::make_shared<Inode>();
  std::set<std::string> locks_;
  std::map<uint64_t, Scheduler::EventId> jobs_;  // not yet completed
  uint64_t last_job_ = 0;
  bool held_ = false;
  std::vector<std::function<void()>> waiting_;  // jobs, while held
  uint64_t generation_ = 0;                     // handles of an earlier one are dead
  uint64_t changes_until_cut_ = 0;
  bool power_out_ = false;
  bool errors_met_ = false;
  io::FailureWatch watch_;
};

}  // namespace millrace::sim
