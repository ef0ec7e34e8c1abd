// The batches that lie one after another in a byte range: a produce record set (exactly one), a fetch
// response or a piece of a segment (many, the last one possibly cut off).
#pragma once

#include <optional>

#include "record/batch.h"

namespace millrace::record {

class BatchIterator {
 public:
  explicit BatchIterator(ByteView range) : range_(range) {}

  /// The next whole batch; nothing at the end of the range or before a torn tail. Errors as
  /// BatchView::parse(), and the iterator stays at the batch that was refused. The CRC is not checked.
  Result<std::optional<BatchView>> next();

  /// Bytes of the range that whole batches took so far.
  size_t position() const { return position_; }
  /// After next() returned nothing: bytes of a last batch that is not whole, 0 for a clean end.
  size_t torn_bytes() const { return range_.size() - position_; }
  /// Size that the torn batch says it has; 0 if not even its length is there.
  size_t torn_batch_size() const { return BatchView::size_of(range_.subspan(position_)); }

 private:
  ByteView range_;
  size_t position_ = 0;
};

/// The one batch that a produce record set must hold. Errors are those a client is told: invalid_record
/// (none, several, magic other than 2), corrupt_message (sizes that do not agree). Fields are not judged.
Result<BatchView> single_batch(ByteView record_set);

}  // namespace millrace::record
