// CRC-32C (Castagnoli), the checksum of record batches and producer snapshots. RFC 3720 appendix B.4 vectors.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace millrace {

/// Extends `crc` (0 to begin) over `data`. Picks the hardware path of this CPU.
uint32_t crc32c(ByteView data, uint32_t crc = 0);
/// The portable path, for comparison in tests.
uint32_t crc32c_table(ByteView data, uint32_t crc = 0);

}  // namespace millrace
