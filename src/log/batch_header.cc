#include "log/batch_header.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/endian.h"

namespace millrace::log {

int32_t BatchHeader::last_sequence() const {
  if (base_sequence < 0) return record::kNoSequence;
  return record::advance_sequence(base_sequence, last_offset_delta);
}

BatchHeader BatchHeader::of(const record::BatchView& batch) {
  return {.base_offset = batch.base_offset(),
          .leader_epoch = batch.leader_epoch(),
          .producer_id = batch.producer_id(),
          .max_timestamp = batch.max_timestamp(),
          .size = static_cast<uint32_t>(batch.size()),
          .last_offset_delta = batch.last_offset_delta(),
          .base_sequence = batch.base_sequence(),
          .record_count = batch.record_count(),
          .attributes = batch.attributes(),
          .producer_epoch = batch.producer_epoch()};
}

Result<BatchHeader> BatchHeader::decode(ByteView header) {
  ASSERT(header.size() >= record::kBatchHeaderSize);
  const uint8_t* p = header.data();
  const auto length = load_be<int32_t>(p + 8);
  constexpr auto kLengthMin = static_cast<int32_t>(record::kBatchHeaderSize - record::kBatchLengthEnd);
  constexpr auto kLengthMax = INT32_MAX - static_cast<int32_t>(record::kBatchLengthEnd);
  if (length < kLengthMin || length > kLengthMax) return Error(ErrorCode::corrupt, "impossible batch length");
  if (load_be<int8_t>(p + 16) != record::kMagic) {
    return Error(ErrorCode::unsupported_for_message_format, "not a batch of format 2");
  }
  const BatchHeader h{.base_offset = Offset(load_be<int64_t>(p)),
                      .leader_epoch = LeaderEpoch(load_be<int32_t>(p + 12)),
                      .producer_id = ProducerId(load_be<int64_t>(p + 43)),
                      .max_timestamp = load_be<int64_t>(p + 35),
                      .size = static_cast<uint32_t>(length) + static_cast<uint32_t>(record::kBatchLengthEnd),
                      .last_offset_delta = load_be<int32_t>(p + 23),
                      .base_sequence = load_be<int32_t>(p + 53),
                      .record_count = load_be<int32_t>(p + 57),
                      .attributes = load_be<int16_t>(p + 21),
                      .producer_epoch = ProducerEpoch(load_be<int16_t>(p + 51))};
  if (h.base_offset.v < 0 || h.last_offset_delta < 0 ||
      h.base_offset.v > INT64_MAX - 1 - h.last_offset_delta) {
    return Error(ErrorCode::corrupt, "impossible batch offsets");
  }
  if (h.record_count < 0) return Error(ErrorCode::corrupt, "negative record count");
  return h;
}

Result<ByteView> BatchScanner::fill(uint64_t position, size_t count) {
  if (position >= buffered_from_ && position + count <= buffered_from_ + buffered_) {
    return ByteView(scratch_).subspan(static_cast<size_t>(position - buffered_from_), count);
  }
  const auto want = static_cast<size_t>(std::min<uint64_t>(std::max(count, window_), end_ - position));
  if (scratch_.size() < want) scratch_.resize(want);
  const MutableByteView into = MutableByteView(scratch_).first(want);
  buffered_ = 0;
  size_t got = 0;
  if (mode_ == ReadMode::cached_only) {
    TRY_ASSIGN(const std::optional<size_t> cached, file_.read_at_cached(position, into));
    if (!cached || *cached < std::min(count, want)) {
      would_block_ = true;
      return ByteView();
    }
    got = *cached;
  } else {
    TRY_ASSIGN(got, file_.read_at(position, into));
  }
  buffered_from_ = position;
  buffered_ = got;
  return ByteView(scratch_).first(std::min(count, got));
}

Result<bool> BatchScanner::next() {
  if (position_ >= end_) return false;
  const auto corrupt_here = [this](const char* what) {
    return Error(ErrorCode::corrupt,
                 file_.path() + ": " + what + " at position " + std::to_string(position_));
  };
  if (end_ - position_ < record::kBatchHeaderSize) return corrupt_here("truncated batch header");
  TRY_ASSIGN(const ByteView bytes, fill(position_, record::kBatchHeaderSize));
  if (would_block_) return false;
  if (bytes.size() < record::kBatchHeaderSize) return corrupt_here("file is shorter than it was");
  Result<BatchHeader> header = BatchHeader::decode(bytes);
  if (!header) return corrupt_here(header.error().message.c_str());
  if (header->size > end_ - position_) return corrupt_here("truncated batch");
  header_ = *header;
  current_ = position_;
  position_ += header_.size;
  return true;
}

Result<bool> BatchScanner::crc_matches() {
  constexpr size_t kPiece = 256 * 1024;
  uint32_t expected = 0;
  uint32_t crc = 0;
  for (uint64_t at = current_; at < position_;) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(kPiece, position_ - at));
    TRY_ASSIGN(ByteView piece, fill(at, count));
    if (would_block_) return false;
    if (piece.size() < count) return false;
    at += count;
    if (at - count == current_) {
      expected = load_be<uint32_t>(&piece[17]);
      piece = piece.subspan(record::kCrcStart);
    }
    crc = crc32c(piece, crc);
  }
  return crc == expected;
}

Result<ByteView> BatchScanner::bytes() {
  if (header_.size > kBatchBytesMax) {
    return Error(ErrorCode::limit_exceeded,
                 file_.path() + ": batch of " + std::to_string(header_.size) + " bytes");
  }
  TRY_ASSIGN(const ByteView bytes, fill(current_, header_.size));
  if (!would_block_ && bytes.size() < header_.size) {
    return Error(ErrorCode::corrupt, file_.path() + ": file is shorter than it was");
  }
  return bytes;
}

}  // namespace millrace::log
