// A walk over the files of a partition for people: `dump` prints it.
// Reads only; goes on after damage where it can.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "log/batch_header.h"
#include "log/epoch_cache.h"
#include "log/offset_index.h"
#include "log/producer_state.h"
#include "log/time_index.h"
#include "log/txn_index.h"

namespace millrace::log {

struct DumpedBatch {
  BatchHeader header;
  uint64_t position = 0;
  bool crc_matches = true;
  ByteView bytes;  // valid during the call
};

struct SegmentDump {
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t valid_bytes = 0;  // up to the first damage
  uint64_t file_bytes = 0;
  Offset first_offset = kNoOffset;
  Offset next_offset = kNoOffset;
  int64_t max_timestamp = -1;
  std::vector<std::string> problems;  // sentences naming file and position; at most kMaxProblems
};

inline constexpr size_t kMaxProblems = 100;

/// Walks a .log file; `each` may be null. Damage is in the result; errors: not_found, io_error.
Result<SegmentDump> dump_segment(io::Disk& disk, const std::string& path,
                                 const std::function<void(const DumpedBatch&)>& each);

struct IndexDump {
  OffsetIndex offsets;
  TimeIndex times;
  TxnIndex txns;
  std::vector<std::string> problems;
};
/// Reads the indexes beside the .log file and compares every entry with it.
Result<IndexDump> dump_indexes(io::Disk& disk, const std::string& log_path);

Result<std::vector<ProducerEntry>> dump_snapshot(io::Disk& disk, const std::string& path);

}  // namespace millrace::log
