// Record batch v2 (magic 2): the header where it lies, for reading and for the three in-place patches a
// broker makes. Layout (big-endian), from Kafka's protocol guide:
//
//   0 base offset i64 | 8 batch length i32 (bytes after it) | 12 partition leader epoch i32 | 16 magic i8
//   17 crc u32 (CRC-32C of 21..end) | 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64
//   35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 count i32
//   61 records (one compressed blob if the codec says so)
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/endian.h"
#include "base/ids.h"
#include "base/result.h"

namespace millrace::record {

inline constexpr size_t kBatchHeaderSize = 61;
inline constexpr size_t kBatchLengthEnd = 12;  // base offset and length: enough to know a batch's size
inline constexpr size_t kCrcStart = 21;
inline constexpr int8_t kMagic = 2;
inline constexpr int64_t kNoTimestamp = -1;
inline constexpr int32_t kNoSequence = -1;

enum class Codec : uint8_t { none = 0, gzip = 1, snappy = 2, lz4 = 3, zstd = 4 };
enum class TimestampType : uint8_t { create_time = 0, log_append_time = 1 };

/// A view of one whole batch. Construct with parse(), which has checked that sizes agree.
class BatchView {
 public:
  /// The first batch of `bytes`: checks magic, that the length is at least a header and at most what is
  /// there. Not the CRC. Errors: corrupt (truncated or impossible), unsupported_for_message_format (magic).
  /// Also refuses numbers no writer makes (negative base offset, last offset delta or count, an offset past
  /// 2^63 - 1), so that offset arithmetic on a parsed view cannot overflow.
  static Result<BatchView> parse(ByteView bytes);
  /// Like parse(), but sizes and magic only: for a reader that judges the other fields itself.
  static Result<BatchView> frame(ByteView bytes);
  /// Size of the batch that begins at `bytes` by its length field; 0 if fewer than 12 bytes or an impossible
  /// length (less than a header). The whole batch need not be there.
  static size_t size_of(ByteView bytes);

  ByteView bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  ByteView records() const { return bytes_.subspan(kBatchHeaderSize); }

  Offset base_offset() const { return Offset(at<int64_t>(0)); }
  Offset last_offset() const { return base_offset() + last_offset_delta(); }
  Offset next_offset() const { return last_offset() + 1; }
  LeaderEpoch leader_epoch() const { return LeaderEpoch(at<int32_t>(12)); }
  int8_t magic() const { return at<int8_t>(16); }
  uint32_t crc() const { return at<uint32_t>(17); }
  int16_t attributes() const { return at<int16_t>(21); }
  int32_t last_offset_delta() const { return at<int32_t>(23); }
  int64_t base_timestamp() const { return at<int64_t>(27); }
  int64_t max_timestamp() const { return at<int64_t>(35); }
  ProducerId producer_id() const { return ProducerId(at<int64_t>(43)); }
  ProducerEpoch producer_epoch() const { return ProducerEpoch(at<int16_t>(51)); }
  int32_t base_sequence() const { return at<int32_t>(53); }
  /// Wraps at 2^31 - 1 to 0, as Kafka's sequences do. kNoSequence if the batch has none.
  int32_t last_sequence() const;
  int32_t record_count() const { return at<int32_t>(57); }

  /// Codec bits as they are: 5-7 are no codec of Kafka's.
  uint8_t codec_bits() const { return static_cast<uint8_t>(attributes() & 7); }
  Codec codec() const { return static_cast<Codec>(codec_bits()); }
  TimestampType timestamp_type() const { return static_cast<TimestampType>((attributes() >> 3) & 1); }
  bool is_transactional() const { return (attributes() & 0x10) != 0; }
  bool is_control() const { return (attributes() & 0x20) != 0; }
  bool has_delete_horizon() const { return (attributes() & 0x40) != 0; }
  bool has_producer() const { return producer_id() != kNoProducerId; }

  bool crc_matches() const;

 private:
  explicit BatchView(ByteView b) : bytes_(b) {}
  template <class T>
  T at(size_t position) const {
    return load_be<T>(bytes_.data() + position);
  }
  ByteView bytes_;
};

/// The in-place patches. Base offset and leader epoch lie outside the CRC.
void set_base_offset(MutableByteView batch, Offset base);
void set_leader_epoch(MutableByteView batch, LeaderEpoch epoch);
/// LogAppendTime: timestamp type bit and max timestamp, then a new CRC over the (still compressed) batch.
void set_log_append_time(MutableByteView batch, int64_t timestamp_ms);
/// Max timestamp alone (CreateTime, when the client's header did not say what its records say), then a new
/// CRC.
void set_max_timestamp(MutableByteView batch, int64_t timestamp_ms);

/// `sequence` advanced by `count` >= 0 records: 2^31 - 1 is followed by 0.
constexpr int32_t advance_sequence(int32_t sequence, int32_t count) {
  return static_cast<int32_t>((static_cast<uint32_t>(sequence) + static_cast<uint32_t>(count)) & 0x7fffffffu);
}

}  // namespace millrace::record
