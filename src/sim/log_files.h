// A second, naive reader of a partition's files on the simulated disk, against which recovery is judged: it
// knows no index, no checkpoint and no clean stop, only batches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/disk.h"

namespace millrace::sim {

struct FoundLog {
  int64_t end = 0;             // of the longest valid prefix
  bool torn = false;           // there are bytes after it
  bool segments_lost = false;  // there are segments after it
};
/// `holes`: of a compacted log. Segments wholly below `log_start` are none. Nothing if a compacted segment
/// was about to take its place.
std::optional<FoundLog> find_log(const SimDisk& disk, const std::string& directory, bool holes,
                                 int64_t log_start);

struct ClosedSegment {
  std::string path;
  int64_t base = 0;
  int64_t end = 0;  // where the next segment begins
};
std::vector<ClosedSegment> closed_segments(const SimDisk& disk, const std::string& directory);
/// Segments of partitions, closed or not, of which a bit was flipped; not those that were put aside.
std::vector<std::string> rotten_segments(const SimDisk& disk);

struct FoundBatch {
  std::string path;
  uint64_t position = 0;
  uint64_t size = 0;
};
/// Some batch that lies wholly in [from, below).
std::optional<FoundBatch> find_batch_below(const SimDisk& disk, const std::string& directory, int64_t from,
                                           int64_t below, Dice& dice);

}  // namespace millrace::sim
