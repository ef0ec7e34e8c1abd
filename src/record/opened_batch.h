// A batch whose records can be read: inflated if it was compressed. Borrows the batch, owns what it inflated.
#pragma once

#include "record/batch.h"
#include "record/codec.h"
#include "record/record.h"

namespace millrace::record {

class OpenedBatch {
 public:
  /// Errors: those of Codecs::decompress(). A batch that compaction emptied opens without any codec.
  static Result<OpenedBatch> open(const BatchView& batch, Codecs& codecs, size_t inflated_max);

  const BatchView& batch() const { return batch_; }
  ByteView records() const { return compressed_ ? ByteView(inflated_) : batch_.records(); }
  RecordReader reader() const { return RecordReader(records(), batch_.record_count()); }

  /// Record deltas are as they were written and not checked: a nonsensical sum wraps instead of overflowing.
  Offset offset_of(const Record& r) const {
    return Offset(wrapping_sum(batch_.base_offset().v, r.offset_delta));
  }
  /// Unix milliseconds; the batch's append time if that is its timestamp type.
  int64_t timestamp_of(const Record& r) const { return record_timestamp(batch_, r); }

  static int64_t record_timestamp(const BatchView& batch, const Record& r) {
    if (batch.timestamp_type() == TimestampType::log_append_time) return batch.max_timestamp();
    return wrapping_sum(batch.base_timestamp(), r.timestamp_delta);
  }

 private:
  static int64_t wrapping_sum(int64_t a, int64_t b) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
  explicit OpenedBatch(const BatchView& batch) : batch_(batch) {}

  BatchView batch_;
  Bytes inflated_;
  bool compressed_ = false;
};

}  // namespace millrace::record
