#include "record/batch.h"

#include "base/crc32c.h"

namespace millrace::record {

namespace {

constexpr size_t kLengthAt = 8;
constexpr size_t kLeaderEpochAt = 12;
constexpr size_t kMagicAt = 16;
constexpr size_t kCrcAt = 17;
constexpr size_t kMaxTimestampAt = 35;
constexpr int16_t kLogAppendTimeBit = 0x08;
// Every format Kafka ever had keeps its magic at byte 16, so a length that covers it says which one this is.
constexpr int32_t kLengthWithMagic = static_cast<int32_t>(kMagicAt + 1 - kBatchLengthEnd);

void renew_crc(MutableByteView batch) {
  store_be<uint32_t>(batch.data() + kCrcAt, crc32c(batch.subspan(kCrcStart)));
}

}  // namespace

size_t BatchView::size_of(ByteView bytes) {
  if (bytes.size() < kBatchLengthEnd) return 0;
  const int32_t length = load_be<int32_t>(bytes.data() + kLengthAt);
  if (length < static_cast<int32_t>(kBatchHeaderSize - kBatchLengthEnd)) return 0;
  return kBatchLengthEnd + static_cast<size_t>(length);
}

Result<BatchView> BatchView::frame(ByteView bytes) {
  if (bytes.size() <= kMagicAt) return Error(ErrorCode::corrupt, "batch header truncated");
  const int32_t length = load_be<int32_t>(bytes.data() + kLengthAt);
  if (length >= kLengthWithMagic && load_be<int8_t>(bytes.data() + kMagicAt) != kMagic) {
    return Error(ErrorCode::unsupported_for_message_format, "record batch magic is not 2");
  }
  const size_t size = size_of(bytes);
  if (size == 0) return Error(ErrorCode::corrupt, "impossible batch length");
  if (size > bytes.size()) return Error(ErrorCode::corrupt, "batch truncated");
  return BatchView(bytes.first(size));
}

Result<BatchView> BatchView::parse(ByteView bytes) {
  TRY_ASSIGN(const BatchView batch, frame(bytes));
  const int32_t delta = batch.last_offset_delta();
  if (batch.base_offset() < Offset(0) || delta < 0 || batch.record_count() < 0) {
    return Error(ErrorCode::corrupt, "negative number in batch header");
  }
  if (batch.base_offset() > Offset(INT64_MAX) - delta - 1) {
    return Error(ErrorCode::corrupt, "batch offsets overflow");
  }
  return batch;
}

int32_t BatchView::last_sequence() const {
  if (base_sequence() < 0) return kNoSequence;
  return advance_sequence(base_sequence(), last_offset_delta());
}

bool BatchView::crc_matches() const {
  return crc() == crc32c(bytes_.subspan(kCrcStart));
}

void set_base_offset(MutableByteView batch, Offset base) {
  ASSERT(batch.size() >= kBatchHeaderSize);
  store_be<int64_t>(batch.data(), base.v);
}

void set_leader_epoch(MutableByteView batch, LeaderEpoch epoch) {
  ASSERT(batch.size() >= kBatchHeaderSize);
  store_be<int32_t>(batch.data() + kLeaderEpochAt, epoch.v);
}

void set_log_append_time(MutableByteView batch, int64_t timestamp_ms) {
  ASSERT(batch.size() >= kBatchHeaderSize);
  const auto attributes = load_be<int16_t>(batch.data() + kCrcStart);
  store_be<int16_t>(batch.data() + kCrcStart, static_cast<int16_t>(attributes | kLogAppendTimeBit));
  set_max_timestamp(batch, timestamp_ms);
}

void set_max_timestamp(MutableByteView batch, int64_t timestamp_ms) {
  ASSERT(batch.size() >= kBatchHeaderSize);
  store_be<int64_t>(batch.data() + kMaxTimestampAt, timestamp_ms);
  renew_crc(batch);
}

}  // namespace millrace::record
