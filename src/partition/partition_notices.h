// Who is to be told of a change of one partition: gathered under its lock, told outside it.
#pragma once

#include <optional>
#include <vector>

#include "partition/partition.h"

namespace millrace::partition {

struct Partition::Notices {
  std::vector<CommitWaits::Fired> commits;
  std::vector<DataWatches::Watch> data;
  std::optional<Error> storage_failure;
};

}  // namespace millrace::partition
