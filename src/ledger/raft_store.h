// The metadata log on disk: a partition log like any other (`__cluster_metadata-0`), so that its recovery,
// rolling and tools are those of every log. One Raft entry is one batch of one record: the key is one byte,
// the entry's kind, the value its payload; the entry's index is its offset + 1, its term the batch's leader
// epoch. Votes and terms live in `quorum-state`.
//
//   quorum-state                              text: "version: 0", "term: N", "vote: N" (-1: none), replaced
//                                             atomically
//   <index, 20 digits>-<term, 10>.checkpoint  a snapshot of the state: CRC-32C of what follows u32 | bytes of
//                                             the label u32 | label (RaftSnapshotMeta) | state
//   commit-file                               how far entries were durable, at most a second behind: damage
//                                             below is damage, above it a torn tail
//
// Every call blocks, one at a time: they run on the disk's pool.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "log/commit_file.h"
#include "log/log.h"
#include "raft/types.h"

namespace millrace::ledger {

inline constexpr std::string_view kHardStateFile = "quorum-state";
/// Errors: corrupt.
Result<raft::HardState> parse_hard_state(std::string_view text);

class RaftStore {
 public:
  RaftStore(io::Disk& disk, const io::Clock& clock, Trace trace)
      : disk_(disk), clock_(clock), trace_(std::move(trace)) {}

  /// Opens or creates the log in `directory` and reads everything. An unclean stop costs a scan. Errors:
  /// corrupt (damage below what was known to be durable, a snapshot that does not verify), io_error.
  Status open(const std::string& directory);
  /// What open() found; handed over once. Entries that the snapshot covers may be among them.
  std::vector<raft::Entry> take_entries() { return std::exchange(entries_, {}); }
  std::optional<raft::Snapshot> take_snapshot() { return std::exchange(snapshot_, std::nullopt); }
  const raft::HardState& hard_state() const { return hard_state_; }
  /// Whether open() found no quorum-state: this directory has never been part of a quorum, or has lost what
  /// it knew of it.
  bool is_blank() const { return blank_; }

  /// Durable when it returns.
  Status write_hard_state(const raft::HardState& state);
  /// Appends; entries at or above the first one's index are cut before. Durable when it returns. After
  /// no_space nothing was appended, and the same call may be made again.
  Status append(const std::vector<raft::Entry>& entries);
  /// Keeps a snapshot of the state after entry `snapshot.meta.index`, durable when it returns, and drops
  /// older snapshots and the segments that hold nothing beyond `entries_from` (the first entry still wanted).
  Status write_snapshot(const raft::Snapshot& snapshot, LogIndex entries_from);
  /// Replaces everything by a snapshot from the leader; the log goes on after its index.
  Status install_snapshot(const raft::Snapshot& snapshot);
  Status close(bool clean = true);

 private:
  Status read_entries();
  Status read_hard_state();
  Status read_snapshot();
  /// Entries that do not lead on from the snapshot go: a crash came between its file and the new log.
  Status join_snapshot();
  Status put_snapshot(const raft::Snapshot& snapshot);
  Status restart_log(Offset at);
  Status note_durable(Offset end, bool must_sync);

  io::Disk& disk_;
  const io::Clock& clock_;
  Trace trace_;
  std::string directory_;
  std::unique_ptr<log::Log> log_;
  std::unique_ptr<log::CommitFile> commits_;
  std::vector<raft::Entry> entries_;
  std::optional<raft::Snapshot> snapshot_;
  raft::HardState hard_state_;
  bool blank_ = true;
  int64_t commits_synced_ms_ = 0;
};

}  // namespace millrace::ledger
