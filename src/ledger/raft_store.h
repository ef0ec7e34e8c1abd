// The metadata log on disk: a partition log like any other (`__cluster_metadata-0`), so that its recovery,
// rolling and tools are those of every log. One Raft entry is one batch of one record: the key is one byte,
// the entry's kind, the value its payload; the entry's index is its offset + 1, its term the batch's leader
// epoch. Votes and terms live in `quorum-state`.
//
//   quorum-state   text: "version: 0", "term: N", "vote: N" (-1: none), replaced atomically
//
// Every call blocks, one at a time: they run on the disk's pool.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
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

  /// Opens or creates the log in `directory` and reads everything. An unclean stop costs a scan from the last
  /// checkpointed place. Errors: corrupt, io_error.
  Status open(const std::string& directory);
  /// What open() found; handed over once.
  std::vector<raft::Entry> take_entries() { return std::exchange(entries_, {}); }
  const raft::HardState& hard_state() const { return hard_state_; }

  /// Durable when it returns.
  Status write_hard_state(const raft::HardState& state);
  /// Appends; entries at or above the first one's index are cut before. Durable when it returns. After
  /// no_space nothing was appended, and the same call may be made again.
  Status append(const std::vector<raft::Entry>& entries);
  Status close(bool clean = true);

 private:
  Status read_entries();
  Status read_hard_state();

  io::Disk& disk_;
  const io::Clock& clock_;
  Trace trace_;
  std::string directory_;
  std::unique_ptr<log::Log> log_;
  std::vector<raft::Entry> entries_;
  raft::HardState hard_state_;
};

}  // namespace millrace::ledger
