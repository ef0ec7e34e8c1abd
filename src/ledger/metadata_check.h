// The offline check of the metadata log: its entries parse, follow each other and fold into an image. Reads
// only; `verify disk` prints what it finds and asks the image which partitions there ought to be.
#pragma once

#include <string>

#include "base/ids.h"
#include "io/disk.h"
#include "log/verify.h"
#include "meta/image.h"

namespace millrace::ledger {

struct MetadataVerdict {
  meta::Image image;  // up to the last entry that could be applied
  uint64_t entries = 0;
  Term term{0};  // of the last entry
  log::Findings findings;
};

/// `directory`: __cluster_metadata-0. Bytes, indexes and snapshots are log::verify_partition's matter.
/// Errors: not_found, io_error.
Result<MetadataVerdict> verify_metadata_log(io::Disk& disk, const std::string& directory);

}  // namespace millrace::ledger
