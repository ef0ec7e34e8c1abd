// What lies on a simulated disk of one replica: its batches, whatever the segments.
#pragma once

#include <string>

#include "sim/disk.h"

namespace millrace::sim {

/// The batches below `end`, one after the other.
Bytes replica_bytes(const SimDisk& disk, const std::string& directory, int64_t end);

}  // namespace millrace::sim
