// The entries of the metadata log (`__cluster_metadata`) as JSON.
#pragma once

#include "cli/json.h"
#include "record/record.h"

namespace millrace::cli {

/// {"kind": "payload", "records": [{"type", ...}]}, {"kind": "no_op"}, {"kind": "membership", ...}; "error"
/// where it is none of them: a dump goes on.
Json decode_metadata_entry(const record::OptionalBytes& key, const record::OptionalBytes& value);

}  // namespace millrace::cli
