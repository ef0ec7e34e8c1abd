// The records of `__consumer_offsets` and `__transaction_state` as JSON: keys begin with their type, values
// with their version (Kafka's own schemas).
#pragma once

#include "cli/json.h"
#include "record/record.h"

namespace millrace::cli {

/// {"kind", "key": {...}, "value": {...} or null for a tombstone}; {"kind": "unknown"} or "error" otherwise:
/// a dump goes on.
Json decode_offsets_record(const record::OptionalBytes& key, const record::OptionalBytes& value);
Json decode_transaction_record(const record::OptionalBytes& key, const record::OptionalBytes& value);

}  // namespace millrace::cli
