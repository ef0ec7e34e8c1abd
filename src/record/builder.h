// Building record batches: what a client sends, a coordinator appends, and compaction or conversion writes
// anew.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>

#include "record/batch.h"
#include "record/codec.h"
#include "record/record.h"

namespace millrace::record {

/// Values of a batch header. The length and the CRC follow from the bytes.
struct BatchHeader {
  Offset base_offset{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  Codec codec = Codec::none;
  TimestampType timestamp_type = TimestampType::create_time;
  bool transactional = false;
  bool control = false;
  bool delete_horizon = false;  // base_timestamp is then the horizon
  int32_t last_offset_delta = 0;
  int64_t base_timestamp = kNoTimestamp;
  int64_t max_timestamp = kNoTimestamp;
  ProducerId producer_id = kNoProducerId;
  ProducerEpoch producer_epoch = kNoProducerEpoch;
  int32_t base_sequence = kNoSequence;
  int32_t record_count = 0;

  static BatchHeader of(const BatchView& batch);
};

/// Writes the header into the first 61 bytes of `batch`, whose records are in place: length and CRC included.
void seal_batch(MutableByteView batch, const BatchHeader& header);

/// `header` and compressed (or plain) `records` as one sealed batch. header.codec says which.
Bytes assemble_batch(const BatchHeader& header, ByteView records);

struct BatchOptions {
  Codec codec = Codec::none;
  int level = kDefaultLevel;
  Offset base_offset{0};  // a client sends 0
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  ProducerId producer_id = kNoProducerId;
  ProducerEpoch producer_epoch = kNoProducerEpoch;
  int32_t base_sequence = kNoSequence;
  bool transactional = false;
  bool control = false;
  TimestampType timestamp_type = TimestampType::create_time;
  /// Base timestamp; the first record's if absent.
  std::optional<int64_t> base_timestamp = std::nullopt;
  /// Sets the delete horizon, which takes the place of the base timestamp.
  std::optional<int64_t> delete_horizon_ms = std::nullopt;
  /// Max timestamp; the largest of the records if absent.
  std::optional<int64_t> max_timestamp = std::nullopt;
  /// Last offset delta; the last record's if absent. Compaction keeps it though the records are gone.
  std::optional<int32_t> last_offset_delta = std::nullopt;
};

class BatchBuilder {
 public:
  explicit BatchBuilder(BatchOptions options = {});

  /// The next record, at the offset after the last one's. Timestamp in Unix milliseconds or kNoTimestamp.
  void append(int64_t timestamp_ms, OptionalBytes key, OptionalBytes value,
              std::span<const Header> headers = {});
  /// A record as it was read from another batch, at `offset_delta` (larger than the last one's).
  void append_copy(const Record& record, int32_t offset_delta, int64_t timestamp_ms);

  int32_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  /// Bytes of the batch so far, before compression.
  size_t size() const { return batch_.size(); }
  /// What append() of such a record would add at most.
  static size_t record_size_max(const OptionalBytes& key, const OptionalBytes& value,
                                std::span<const Header> headers = {});

  /// The sealed batch; the builder is empty afterwards and can be used again. Without a codec only
  /// (asserted). A batch without records is built only if the options give its last offset delta (asserted).
  Bytes build();
  /// As build(), compressed as the options say. Errors: those of Codecs::compress().
  Result<Bytes> build(Codecs& codecs);

  /// Producer fields of the next build(), for a caller that numbers batches when it sends them.
  void set_base_sequence(int32_t sequence) { options_.base_sequence = sequence; }

 private:
  /// Encodes what precedes the headers; `headers_size` is the encoded size of what follows.
  void encode(int32_t offset_delta, int64_t timestamp_ms, const OptionalBytes& key,
              const OptionalBytes& value, size_t headers_size);
  BatchHeader header() const;
  void clear();

  BatchOptions options_;
  Bytes batch_;  // room for the header, then the records
  int32_t count_ = 0;
  int32_t last_delta_ = -1;
  int64_t base_timestamp_ = kNoTimestamp;
  int64_t max_timestamp_ = kNoTimestamp;
};

}  // namespace millrace::record
