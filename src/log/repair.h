// Changes to a partition directory that an operator asks for while no broker runs: giving up damaged bytes so
// that the rest can be served again, and taking in a directory that comes from elsewhere. The caller holds
// the data directory's lock. Everything is durable when a call returns; what is interrupted is run again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"
#include "io/disk.h"
#include "log/commit_file.h"
#include "log/verify.h"

namespace millrace::log {

enum class RepairMode : uint8_t {
  drop_from_damage,  // the log ends before the first damage; everything after it is given up
  skip_damaged,      // only damaged bytes are given up: their offsets become a hole
};

struct Loss {
  std::string path;       // of the segment; empty: bytes that were there once
  uint64_t position = 0;  // in the segment
  uint64_t bytes = 0;
  Offset from;  // offsets [from, to) are lost
  Offset to;
  std::string why;
};

struct RepairPlan {
  std::string directory;
  RepairMode mode = RepairMode::drop_from_damage;
  std::vector<Loss> losses;  // ascending; empty: nothing is damaged
  Offset start;
  Offset end;                    // of the log after the repair
  std::vector<Offset> segments;  // base offsets before
};

/// Reads everything and says what a repair would give up. `log_start` and ends as the directory's files have
/// them. Errors: not_found, io_error.
Result<RepairPlan> plan_repair(io::Disk& disk, const std::string& directory, RepairMode mode,
                               const PartitionCheck& check);
/// Does it: keeps what is given up in .lost files beside the segments, cuts, removes what was made from it
/// (indexes, later snapshots, leader epochs). Errors: io_error, no_space.
Status carry_out(io::Disk& disk, const RepairPlan& plan);

/// The identity of a partition in the files of its data directory.
struct PartitionKey {
  TopicPartition name;
  std::optional<Uuid> topic_id;
};
/// Makes checkpoints and commit file of `data_directory` say that the partition ends at `end` and that this
/// is on disk; nullopt: makes them forget it, so that it is recovered as a whole.
Status record_end(io::Disk& disk, const std::string& data_directory, const PartitionKey& key,
                  std::optional<Offset> end);

/// Makes the commit file of `data_directory`, if there is one, say that everything below `end` is on disk:
/// the partition is recovered as a whole all the same, but what is missing below is damage, or was compacted.
Status vouch(io::Disk& disk, const std::string& data_directory, const CommitKey& key, Offset end);

struct Adoption {
  Uuid topic_id;
  LeaderEpoch leader_epoch{0};  // that every batch is to have: the new cluster counts from its own
};
struct Adopted {
  uint64_t batches = 0;
  uint64_t rewritten = 0;  // batches whose leader epoch was another
  Offset start{0};
  Offset end{0};
};
/// Makes a directory that comes from another topic or cluster one of `topic_id`. The leader epoch of a batch
/// is outside its checksum. What it is left with is on disk. Errors: corrupt (damage, nothing is changed
/// then), not_found, io_error.
Result<Adopted> adopt(io::Disk& disk, const std::string& directory, const Adoption& adoption);

}  // namespace millrace::log
