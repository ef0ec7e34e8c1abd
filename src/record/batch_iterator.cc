#include "record/batch_iterator.h"

namespace millrace::record {

Result<std::optional<BatchView>> BatchIterator::next() {
  const ByteView rest = range_.subspan(position_);
  if (rest.size() < kBatchLengthEnd) return std::optional<BatchView>();
  const size_t size = BatchView::size_of(rest);
  if (size > rest.size()) return std::optional<BatchView>();
  TRY_ASSIGN(const BatchView batch, BatchView::parse(rest));
  position_ += batch.size();
  return std::optional<BatchView>(batch);
}

Result<BatchView> single_batch(ByteView record_set) {
  if (record_set.empty()) return Error(ErrorCode::invalid_record, "record set holds no batch");
  Result<BatchView> first = BatchView::frame(record_set);
  if (!first.ok()) {
    const bool other_format = first.code() == ErrorCode::unsupported_for_message_format;
    return Error(other_format ? ErrorCode::invalid_record : ErrorCode::corrupt_message,
                 first.error().message);
  }
  if (first->size() == record_set.size()) return first;
  const ByteView rest = record_set.subspan(first->size());
  const size_t second = BatchView::size_of(rest);
  if (second != 0 && second <= rest.size()) {
    return Error(ErrorCode::invalid_record, "record set holds more than one batch");
  }
  return Error(ErrorCode::corrupt_message, "bytes after the batch");
}

}  // namespace millrace::record
