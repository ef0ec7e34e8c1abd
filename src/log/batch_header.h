// The 61 fixed bytes of a record batch (layout in record/batch.h), copied out, and the walk over the batches
// of a file that reads headers and skips what lies between. Whole batches are read only where a checksum is
// asked for.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "io/disk.h"
#include "record/batch.h"

namespace millrace::log {

struct BatchHeader {
  Offset base_offset = kNoOffset;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  ProducerId producer_id = kNoProducerId;
  int64_t max_timestamp = -1;
  uint32_t size = 0;  // whole batch, bytes
  int32_t last_offset_delta = 0;
  int32_t base_sequence = -1;
  int32_t record_count = 0;
  int16_t attributes = 0;
  ProducerEpoch producer_epoch = kNoProducerEpoch;

  Offset last_offset() const { return base_offset + last_offset_delta; }
  Offset next_offset() const { return base_offset + last_offset_delta + 1; }
  bool is_transactional() const { return (attributes & 0x10) != 0; }
  bool is_control() const { return (attributes & 0x20) != 0; }
  /// What the batch adds to a time index: nothing (-1) if compaction left no record in it.
  int64_t indexed_timestamp() const { return record_count > 0 ? max_timestamp : -1; }
  bool has_producer() const { return producer_id != kNoProducerId; }
  int32_t last_sequence() const;

  static BatchHeader of(const record::BatchView& batch);
  /// From at least kBatchHeaderSize bytes. Errors: corrupt (impossible length, delta or count),
  /// unsupported_for_message_format (magic).
  static Result<BatchHeader> decode(ByteView header);
};

/// `sequence` moved back by `count` >= 0 records: 0 is preceded by 2^31 - 1.
constexpr int32_t retreat_sequence(int32_t sequence, int32_t count) {
  return static_cast<int32_t>((static_cast<uint32_t>(sequence) - static_cast<uint32_t>(count)) & 0x7fffffffu);
}

enum class ReadMode : uint8_t {
  may_block,
  cached_only,  // would_block() tells when that was not enough
};

/// No batch that we hold whole in memory is larger (a length read from a damaged file may say anything).
inline constexpr size_t kBatchBytesMax = 256u << 20;

/// Walks the batches of `file` in [position, end). The caller's scratch buffer is reused from walk to walk.
class BatchScanner {
 public:
  BatchScanner(const io::File& file, uint64_t position, uint64_t end, Bytes& scratch, size_t window = 8192,
               ReadMode mode = ReadMode::may_block)
      : file_(file), position_(position), end_(end), scratch_(scratch), window_(window), mode_(mode) {}

  /// Steps to the next batch: true, or false at `end` or when would_block(). Errors: corrupt (with position),
  /// io_error. After corrupt, position() is where the damage begins.
  Result<bool> next();
  const BatchHeader& header() const { return header_; }
  /// Where the current batch begins.
  uint64_t position() const { return current_; }
  /// Where the next batch begins (after the current one), or where the damage is.
  uint64_t next_position() const { return position_; }
  /// Whether the current batch's checksum is right; reads it in pieces of bounded size.
  Result<bool> crc_matches();
  /// The whole current batch; valid until the next call. Errors: limit_exceeded (kBatchBytesMax), io_error.
  Result<ByteView> bytes();
  bool would_block() const { return would_block_; }

 private:
  /// Makes [position, position + count) available in the scratch buffer; fewer bytes at the end of the file.
  Result<ByteView> fill(uint64_t position, size_t count);

  const io::File& file_;
  uint64_t position_;
  uint64_t end_;
  Bytes& scratch_;
  size_t window_;
  ReadMode mode_;
  uint64_t current_ = 0;
  uint64_t buffered_from_ = 0;
  size_t buffered_ = 0;
  BatchHeader header_;
  bool would_block_ = false;
};

}  // namespace millrace::log
