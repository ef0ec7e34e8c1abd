#include "record/validate.h"

#include <algorithm>
#include <utility>

#include "record/batch_iterator.h"
#include "record/builder.h"
#include "record/opened_batch.h"

namespace millrace::record {

namespace {

constexpr int16_t kZstdProduceVersionMin = 7;

Error invalid_record(std::string why) {
  return Error(ErrorCode::invalid_record, std::move(why));
}

struct TimestampBounds {
  int64_t earliest = INT64_MIN;
  int64_t latest = INT64_MAX;

  static TimestampBounds of(const ValidationRules& rules, Now now) {
    TimestampBounds b;
    if (rules.timestamp_type == TimestampType::log_append_time) return b;  // the client's are not kept
    ASSERT(rules.timestamp_before_max_ms >= 0 && rules.timestamp_after_max_ms >= 0 && now.wall_ms >= 0);
    if (rules.timestamp_before_max_ms != INT64_MAX) b.earliest = now.wall_ms - rules.timestamp_before_max_ms;
    if (rules.timestamp_after_max_ms < INT64_MAX - now.wall_ms) {
      b.latest = now.wall_ms + rules.timestamp_after_max_ms;
    }
    return b;
  }
  bool admit(int64_t timestamp) const {
    return timestamp == kNoTimestamp || (timestamp >= earliest && timestamp <= latest);
  }
};

Status check_codec(const BatchView& batch, const ValidationRules& rules) {
  if (batch.codec_bits() > static_cast<uint8_t>(Codec::zstd)) {
    return Error(ErrorCode::unsupported_compression_type, "unknown compression codec");
  }
  if (batch.codec() == Codec::zstd && rules.produce_version < kZstdProduceVersionMin) {
    return Error(ErrorCode::unsupported_compression_type, "zstd needs produce version 7");
  }
  return {};
}

/// What the header alone can tell.
Status check_header(const BatchView& batch, const ValidationRules& rules) {
  if (batch.base_offset() != Offset(0)) return invalid_record("base offset of a produced batch is not 0");
  if (batch.size() > rules.max_message_bytes) {
    return Error(ErrorCode::message_too_large, "batch larger than max.message.bytes");
  }
  if (!batch.crc_matches()) return Error(ErrorCode::corrupt_message, "batch CRC does not match");
  TRY(check_codec(batch, rules));
  if (batch.record_count() <= 0) return invalid_record("batch without records");
  if (batch.last_offset_delta() != batch.record_count() - 1) {
    return invalid_record("last offset delta and record count do not agree");
  }
  if (batch.is_control()) return invalid_record("clients may not write control batches");
  if (batch.has_delete_horizon()) return invalid_record("clients may not set a delete horizon");
  if (batch.has_producer()) {
    if (batch.producer_id() < ProducerId(0)) return invalid_record("negative producer id");
    if (batch.producer_epoch() < ProducerEpoch(0)) return invalid_record("producer id without an epoch");
    if (batch.base_sequence() < 0) return invalid_record("producer id without a sequence");
  } else if (batch.is_transactional()) {
    return invalid_record("transactional batch without producer id");
  }
  if (batch.timestamp_type() != TimestampType::create_time) {
    return Error(ErrorCode::invalid_timestamp, "clients may not use LogAppendTime");
  }
  return {};
}

/// The code a client is told when its batch, whose CRC is right, cannot be opened: retrying would not help.
Error as_client_error(Error error) {
  if (error.code == ErrorCode::limit_exceeded)
    return {ErrorCode::message_too_large, std::move(error.message)};
  if (error.code == ErrorCode::corrupt) return invalid_record(std::move(error.message));
  return error;
}

struct WalkResult {
  bool consecutive = true;
  int64_t max_timestamp = kNoTimestamp;
};

class RecordWalk {
 public:
  RecordWalk(const ValidationRules& rules, TimestampBounds bounds, std::vector<RecordError>* errors)
      : rules_(rules), bounds_(bounds), errors_(errors) {}

  Result<WalkResult> run(const OpenedBatch& opened) {
    RecordReader reader = opened.reader();
    Record record;
    WalkResult walk;
    while (true) {
      Result<bool> more = reader.next(record);
      if (!more.ok()) {
        if (errors_ != nullptr) errors_->clear();  // not one record is at fault but the batch
        return as_client_error(std::move(more).error());
      }
      if (!*more) break;
      const int64_t timestamp = opened.timestamp_of(record);
      walk.max_timestamp = std::max(walk.max_timestamp, timestamp);
      check(record, timestamp, reader.records_read() - 1);
    }
    if (bad_timestamp_) return Error(ErrorCode::invalid_timestamp, "record timestamp out of range");
    if (missing_key_) return invalid_record("a record of a compacted topic has no key");
    walk.consecutive = reader.consecutive();
    return walk;
  }

 private:
  void check(const Record& record, int64_t timestamp, int32_t index) {
    if (rules_.compacted && !record.key) {
      missing_key_ = true;
      report(index, "a compacted topic needs a key");
    } else if (!bounds_.admit(timestamp)) {
      bad_timestamp_ = true;
      report(index, "timestamp " + std::to_string(timestamp) + " is out of range");
    }
  }
  void report(int32_t index, std::string message) {
    if (errors_ != nullptr && errors_->size() < kRecordErrorsMax) {
      errors_->push_back({index, std::move(message)});
    }
  }

  const ValidationRules& rules_;
  TimestampBounds bounds_;
  std::vector<RecordError>* errors_;
  bool bad_timestamp_ = false;
  bool missing_key_ = false;
};

/// assemble_batch(), unless that would be larger than the topic or the format allows.
Result<Bytes> assemble_within(const BatchHeader& header, ByteView records, const ValidationRules& rules) {
  const size_t size_max = std::min(rules.max_message_bytes, kInflatedBytesMax);
  ASSERT(size_max >= kBatchHeaderSize);  // the batch that came was no larger
  if (records.size() > size_max - kBatchHeaderSize) {
    return Error(ErrorCode::message_too_large, "converted batch larger than max.message.bytes");
  }
  return assemble_batch(header, records);
}

/// Records with deltas 0, 1, 2, ..., still uncompressed, behind room for a header.
Result<Bytes> renumber(const OpenedBatch& opened) {
  // A record of 7 bytes or more grows by 5 at most, so the result is less than twice as long.
  if (opened.records().size() > kInflatedBytesMax / 2) {
    return Error(ErrorCode::message_too_large, "batch too large to be renumbered");
  }
  const BatchView& batch = opened.batch();
  BatchBuilder builder({.base_timestamp = batch.base_timestamp()});
  RecordReader reader = opened.reader();
  Record record;
  while (true) {
    TRY_ASSIGN(const bool more, reader.next(record));
    if (!more) break;
    builder.append_copy(record, builder.count(), opened.timestamp_of(record));
  }
  return builder.build();
}

Result<Bytes> rebuild(const OpenedBatch& opened, const WalkResult& walk, Codec codec,
                      const ValidationRules& rules, Codecs& codecs) {
  Bytes renumbered;  // keeps `records` alive
  ByteView records = opened.records();
  if (!walk.consecutive) {
    TRY_ASSIGN(renumbered, renumber(opened));
    records = ByteView(renumbered).subspan(kBatchHeaderSize);
  }
  BatchHeader header = BatchHeader::of(opened.batch());
  header.codec = codec;
  if (codec == Codec::none) return assemble_within(header, records, rules);
  const int level = rules.compression ? rules.compression_level : kDefaultLevel;
  TRY_ASSIGN(const Bytes compressed, codecs.compress(codec, records, level));
  return assemble_within(header, compressed, rules);
}

}  // namespace

Result<ValidatedBatch> validate(MutableByteView record_set, const ValidationRules& rules, Now now,
                                Codecs& codecs, std::vector<RecordError>* record_errors) {
  TRY_ASSIGN(const BatchView batch, single_batch(record_set));
  TRY(check_header(batch, rules));
  const TimestampBounds bounds = TimestampBounds::of(rules, now);

  ValidatedBatch valid;
  valid.bytes = record_set;
  WalkResult walk;
  walk.max_timestamp = batch.max_timestamp();
  const Codec target = rules.compression.value_or(batch.codec());
  valid.opened = batch.codec() == Codec::none || rules.strict || rules.compacted || target != batch.codec() ||
                 bounds.earliest != INT64_MIN;
  if (valid.opened) {
    Result<OpenedBatch> opened = OpenedBatch::open(batch, codecs, rules.inflated_max);
    if (!opened.ok()) return as_client_error(std::move(opened).error());
    TRY_ASSIGN(walk, RecordWalk(rules, bounds, record_errors).run(*opened));
    if (target != batch.codec() || !walk.consecutive) {
      TRY_ASSIGN(valid.rebuilt, rebuild(*opened, walk, target, rules, codecs));
      valid.bytes = valid.rebuilt;
    }
  } else if (!bounds.admit(batch.max_timestamp())) {
    return Error(ErrorCode::invalid_timestamp, "max timestamp of the batch is out of range");
  }
  if (rules.timestamp_type == TimestampType::log_append_time) {
    valid.log_append_time_ms = now.wall_ms;
    set_log_append_time(valid.bytes, now.wall_ms);
  } else if (walk.max_timestamp != batch.max_timestamp()) {
    set_max_timestamp(valid.bytes, walk.max_timestamp);
  }
  return valid;
}

}  // namespace millrace::record
