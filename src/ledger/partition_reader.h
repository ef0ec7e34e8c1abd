// Reads a whole partition for a machine that is being loaded: in steps, the disk on the pool, the records on
// the loop, in order.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "io/disk.h"
#include "partition/partition.h"

namespace millrace::ledger {

struct StoredRecord {
  Offset offset;
  int64_t timestamp_ms = 0;
  ByteView key;
  std::optional<ByteView> value;  // nullopt: tombstone
};

class PartitionReader final : public std::enable_shared_from_this<PartitionReader> {
 public:
  using OnRecord = std::function<void(const StoredRecord&)>;
  using OnEnd = std::function<void(Status, uint64_t records)>;

  PartitionReader(io::Disk& disk, io::Loop& loop, std::shared_ptr<partition::Partition> partition)
      : disk_(disk), loop_(loop), partition_(std::move(partition)) {}

  /// From the log start to the high watermark; control batches are skipped. Callbacks on the loop.
  void run(OnRecord on_record, OnEnd on_end);

 private:
  struct Step;
  void next();
  void deliver(Step& step);

  io::Disk& disk_;
  io::Loop& loop_;
  const std::shared_ptr<partition::Partition> partition_;
  OnRecord on_record_;
  OnEnd on_end_;
  Offset at_{-1};
  uint64_t records_ = 0;
};

}  // namespace millrace::ledger
