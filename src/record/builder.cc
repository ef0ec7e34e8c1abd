#include "record/builder.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/varint.h"

namespace millrace::record {

namespace {

constexpr size_t kBatchSizeMax = 0x7fffffff;

size_t zigzag_size(int64_t v) {
  return varint_size(zigzag(v));
}

size_t nullable_size(const OptionalBytes& b) {
  return b ? zigzag_size(static_cast<int64_t>(b->size())) + b->size() : 1;
}

size_t header_size(const Header& h) {
  return nullable_size(h.key) + nullable_size(h.value);
}

void put_zigzag(Bytes& out, int64_t v) {
  uint8_t encoded[kMaxVarint64];
  const size_t n = encode_varint(zigzag(v), encoded);
  out.insert(out.end(), encoded, encoded + n);
}

void put_nullable(Bytes& out, const OptionalBytes& b) {
  put_zigzag(out, b ? static_cast<int64_t>(b->size()) : -1);
  if (b) out.insert(out.end(), b->begin(), b->end());
}

/// Timestamps come from clients: any two may be 2^64 apart.
int64_t wrapping_difference(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}

}  // namespace

BatchHeader BatchHeader::of(const BatchView& batch) {
  return {.base_offset = batch.base_offset(),
          .leader_epoch = batch.leader_epoch(),
          .codec = batch.codec(),
          .timestamp_type = batch.timestamp_type(),
          .transactional = batch.is_transactional(),
          .control = batch.is_control(),
          .delete_horizon = batch.has_delete_horizon(),
          .last_offset_delta = batch.last_offset_delta(),
          .base_timestamp = batch.base_timestamp(),
          .max_timestamp = batch.max_timestamp(),
          .producer_id = batch.producer_id(),
          .producer_epoch = batch.producer_epoch(),
          .base_sequence = batch.base_sequence(),
          .record_count = batch.record_count()};
}

void seal_batch(MutableByteView batch, const BatchHeader& h) {
  ASSERT(batch.size() >= kBatchHeaderSize && batch.size() <= kBatchSizeMax);
  const int attributes = static_cast<int>(h.codec) | static_cast<int>(h.timestamp_type) << 3 |
                         (h.transactional ? 0x10 : 0) | (h.control ? 0x20 : 0) |
                         (h.delete_horizon ? 0x40 : 0);
  uint8_t* p = batch.data();
  store_be<int64_t>(p, h.base_offset.v);
  store_be<int32_t>(p + 8, static_cast<int32_t>(batch.size() - kBatchLengthEnd));
  store_be<int32_t>(p + 12, h.leader_epoch.v);
  store_be<int8_t>(p + 16, kMagic);
  store_be<int16_t>(p + 21, static_cast<int16_t>(attributes));
  store_be<int32_t>(p + 23, h.last_offset_delta);
  store_be<int64_t>(p + 27, h.base_timestamp);
  store_be<int64_t>(p + 35, h.max_timestamp);
  store_be<int64_t>(p + 43, h.producer_id.v);
  store_be<int16_t>(p + 51, h.producer_epoch.v);
  store_be<int32_t>(p + 53, h.base_sequence);
  store_be<int32_t>(p + 57, h.record_count);
  store_be<uint32_t>(p + 17, crc32c(batch.subspan(kCrcStart)));
}

Bytes assemble_batch(const BatchHeader& header, ByteView records) {
  Bytes batch(kBatchHeaderSize);
  batch.reserve(kBatchHeaderSize + records.size());
  batch.insert(batch.end(), records.begin(), records.end());
  seal_batch(batch, header);
  return batch;
}

BatchBuilder::BatchBuilder(BatchOptions options) : options_(options), batch_(kBatchHeaderSize) {}

void BatchBuilder::append(int64_t timestamp_ms, OptionalBytes key, OptionalBytes value,
                          std::span<const Header> headers) {
  size_t headers_size = zigzag_size(static_cast<int64_t>(headers.size()));
  for (const Header& h : headers) headers_size += header_size(h);
  encode(last_delta_ + 1, timestamp_ms, key, value, headers_size);
  put_zigzag(batch_, static_cast<int64_t>(headers.size()));
  for (const Header& h : headers) {
    put_nullable(batch_, h.key);
    put_nullable(batch_, h.value);
  }
}

void BatchBuilder::append_copy(const Record& record, int32_t offset_delta, int64_t timestamp_ms) {
  const ByteView headers = record.headers.encoded();
  encode(offset_delta, timestamp_ms, record.key, record.value,
         zigzag_size(record.headers.size()) + headers.size());
  put_zigzag(batch_, record.headers.size());
  batch_.insert(batch_.end(), headers.begin(), headers.end());
}

void BatchBuilder::encode(int32_t offset_delta, int64_t timestamp_ms, const OptionalBytes& key,
                          const OptionalBytes& value, size_t headers_size) {
  ASSERT(offset_delta > last_delta_);
  if (count_ == 0) {
    base_timestamp_ = options_.delete_horizon_ms.value_or(options_.base_timestamp.value_or(timestamp_ms));
    max_timestamp_ = timestamp_ms;
  }
  max_timestamp_ = std::max(max_timestamp_, timestamp_ms);
  const int64_t timestamp_delta = wrapping_difference(timestamp_ms, base_timestamp_);
  const size_t length = 1 + zigzag_size(timestamp_delta) + zigzag_size(offset_delta) + nullable_size(key) +
                        nullable_size(value) + headers_size;
  ASSERT(length <= kBatchSizeMax);
  put_zigzag(batch_, static_cast<int64_t>(length));
  batch_.push_back(0);  // attributes: none are defined
  put_zigzag(batch_, timestamp_delta);
  put_zigzag(batch_, offset_delta);
  put_nullable(batch_, key);
  put_nullable(batch_, value);
  last_delta_ = offset_delta;
  ++count_;
}

size_t BatchBuilder::record_size_max(const OptionalBytes& key, const OptionalBytes& value,
                                     std::span<const Header> headers) {
  // Length, attributes, two deltas and the header count at their longest.
  size_t size = kMaxVarint32 + 1 + kMaxVarint64 + kMaxVarint32 + kMaxVarint32;
  size += nullable_size(key) + nullable_size(value);
  for (const Header& h : headers) size += header_size(h);
  return size;
}

Bytes BatchBuilder::build() {
  ASSERT(options_.codec == Codec::none);
  seal_batch(batch_, header());
  Bytes built = std::move(batch_);
  clear();
  return built;
}

Result<Bytes> BatchBuilder::build(Codecs& codecs) {
  if (options_.codec == Codec::none) return build();
  const ByteView records = ByteView(batch_).subspan(kBatchHeaderSize);
  TRY_ASSIGN(const Bytes compressed, codecs.compress(options_.codec, records, options_.level));
  Bytes built = assemble_batch(header(), compressed);
  clear();
  return built;
}

BatchHeader BatchBuilder::header() const {
  ASSERT(count_ > 0 || options_.last_offset_delta.has_value());
  const int32_t last_delta = options_.last_offset_delta.value_or(last_delta_);
  ASSERT(last_delta >= last_delta_);
  const int64_t base_if_empty =
      options_.delete_horizon_ms.value_or(options_.base_timestamp.value_or(kNoTimestamp));
  return {.base_offset = options_.base_offset,
          .leader_epoch = options_.leader_epoch,
          .codec = options_.codec,
          .timestamp_type = options_.timestamp_type,
          .transactional = options_.transactional,
          .control = options_.control,
          .delete_horizon = options_.delete_horizon_ms.has_value(),
          .last_offset_delta = last_delta,
          .base_timestamp = count_ == 0 ? base_if_empty : base_timestamp_,
          .max_timestamp = options_.max_timestamp.value_or(max_timestamp_),
          .producer_id = options_.producer_id,
          .producer_epoch = options_.producer_epoch,
          .base_sequence = options_.base_sequence,
          .record_count = count_};
}

void BatchBuilder::clear() {
  batch_.assign(kBatchHeaderSize, 0);
  count_ = 0;
  last_delta_ = -1;
  base_timestamp_ = kNoTimestamp;
  max_timestamp_ = kNoTimestamp;
}

}  // namespace millrace::record
