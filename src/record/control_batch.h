// Control batches: one record that consumers never see, whose key says what it means.
//
//   key    version i16 = 0 | type i16
//   value  of a transaction marker (types 0 and 1): version i16 = 0 | coordinator epoch i32
#pragma once

#include "record/builder.h"

namespace millrace::record {

enum class ControlType : int16_t {
  unknown = -1,  // a type of a later version: skipped by readers
  abort = 0,
  commit = 1,
  leader_change = 2,
  snapshot_header = 3,
  snapshot_footer = 4,
  kraft_version = 5,
  kraft_voters = 6,
};

struct EndTransactionMarker {
  ProducerId producer_id = kNoProducerId;
  ProducerEpoch producer_epoch = kNoProducerEpoch;
  bool commit = false;
  int32_t coordinator_epoch = 0;
};

/// A control batch of one record, uncompressed. `options` gives the producer and the transactional bit.
Bytes build_control_batch(ControlType type, ByteView value, int64_t timestamp_ms, BatchOptions options = {});
/// The marker that ends a transaction in one partition: transactional, base sequence -1.
Bytes build_marker(const EndTransactionMarker& marker, int64_t timestamp_ms);

/// The type of a control batch. Errors: corrupt (no control batch, compressed, no record, or a malformed
/// key).
Result<ControlType> control_type(const BatchView& batch);
/// The marker in a control batch of type abort or commit. Errors: corrupt (anything else).
Result<EndTransactionMarker> read_marker(const BatchView& batch);

}  // namespace millrace::record
