// What a leader checks on a batch that a client produced, and what it does to it before the append. Pure: the
// rules and the time are parameters. Followers and coordinators append without it.
//
// Codes a client sees: corrupt_message (2) sizes or CRC; message_too_large (10) past max_message_bytes,
// before or after conversion, or inflating past inflated_max; invalid_timestamp (32);
// unsupported_compression_type (76); invalid_record (87) everything else.
//
// Header and CRC of every batch are checked, and every record of an uncompressed one. A compressed batch is
// opened only if a rule needs its records: strict, a compacted topic, another codec, or a bound on how old a
// record may be (the header has only the newest timestamp).
#pragma once

#include <string>
#include <vector>

#include "base/time.h"
#include "record/batch.h"
#include "record/codec.h"

namespace millrace::record {

inline constexpr size_t kMaxMessageBytesDefault = 1048588;
inline constexpr int64_t kTimestampAfterMaxDefaultMs = 3'600'000;
inline constexpr size_t kInflatedMaxDefault = size_t{64} * 1024 * 1024;
/// Record errors reported at most; the rest of the batch is refused with them.
inline constexpr size_t kRecordErrorsMax = 100;

struct ValidationRules {
  size_t max_message_bytes = kMaxMessageBytesDefault;
  TimestampType timestamp_type = TimestampType::create_time;
  int64_t timestamp_before_max_ms = INT64_MAX;  // how far behind the broker's clock a record may be
  int64_t timestamp_after_max_ms = kTimestampAfterMaxDefaultMs;  // and how far ahead
  bool compacted = false;                                        // every record needs a key
  TopicCompression compression = std::nullopt;                   // nothing: as the producer sent it
  int compression_level = kDefaultLevel;
  bool strict = false;  // open every batch
  size_t inflated_max = kInflatedMaxDefault;
  int16_t produce_version = INT16_MAX;  // zstd needs 7
};

/// Why one record was refused: `batch_index` counts from 0 within the batch (produce v8, KIP-467).
struct RecordError {
  int32_t batch_index = 0;
  std::string message;
};

/// A batch fit to be appended: base offset and leader epoch are still to be set in `bytes`.
struct ValidatedBatch {
  MutableByteView bytes;                      // the caller's buffer, or `rebuilt`
  Bytes rebuilt;                              // not empty if the batch had to be written anew
  bool opened = false;                        // every record was looked at
  int64_t log_append_time_ms = kNoTimestamp;  // unless the topic uses CreateTime

  ValidatedBatch() = default;
  ValidatedBatch(ValidatedBatch&&) = default;
  ValidatedBatch& operator=(ValidatedBatch&&) = default;
  ValidatedBatch(const ValidatedBatch&) = delete;  // `bytes` may point into `rebuilt`
  ValidatedBatch& operator=(const ValidatedBatch&) = delete;
};

/// Checks the one batch in `record_set`. May patch it in place: LogAppendTime, and a max timestamp that is
/// not that of the records. Rebuilds it if the topic wants another codec or its offset deltas are not 0, 1,
/// 2, ... `record_errors`, if given, receives the records at fault. After an error the bytes are unchanged.
Result<ValidatedBatch> validate(MutableByteView record_set, const ValidationRules& rules, Now now,
                                Codecs& codecs, std::vector<RecordError>* record_errors = nullptr);

}  // namespace millrace::record
