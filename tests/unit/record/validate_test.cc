#include "record/validate.h"

#include <functional>

#include "fixtures.h"
#include "golden.h"
#include "record/opened_batch.h"

namespace millrace::record {
namespace {

using namespace fixtures;

constexpr Now kNow{.mono_ms = 1, .wall_ms = 1'000'000};

struct Verdict {
  ErrorCode code = ErrorCode::none;
  std::vector<RecordError> errors;
};

Verdict judged(Bytes batch, const ValidationRules& rules = {}) {
  Codecs codecs;
  Verdict v;
  v.code = validate(batch, rules, kNow, codecs, &v.errors).code();
  return v;
}

/// The verdict on a sound batch after one change to its header, CRC made right again.
ErrorCode after(const std::function<void(Bytes&)>& change, Codec codec = Codec::none) {
  Bytes batch = client_batch(codec);
  change(batch);
  reseal(batch);
  return judged(batch).code;
}

template <class T>
ErrorCode with_field(size_t position, T value) {
  return after([&](Bytes& b) { poke<T>(b, position, value); });
}

/// A batch of `codec` whose records blob is `records`.
Bytes batch_of(Codec codec, ByteView records, int32_t count) {
  Codecs codecs;
  BatchHeader header{.codec = codec,
                     .last_offset_delta = count - 1,
                     .base_timestamp = 1000,
                     .max_timestamp = 1000,
                     .record_count = count};
  const Result<Bytes> packed = codecs.compress(codec, records);
  REQUIRE(packed.ok());
  return assemble_batch(header, *packed);
}

TEST_CASE("a sound batch passes as it came") {
  for (const Codec codec : kAllCodecs) {
    for (const bool strict : {false, true}) {
      CAPTURE(codec_name(codec), strict);
      Bytes batch = client_batch(codec);
      const Bytes before = batch;
      Codecs codecs;
      const Result<ValidatedBatch> valid = validate(batch, {.strict = strict}, kNow, codecs);
      REQUIRE(valid.ok());
      CHECK(valid->rebuilt.empty());
      CHECK(valid->bytes.data() == batch.data());
      CHECK(valid->bytes.size() == batch.size());
      CHECK(valid->opened == (strict || codec == Codec::none));
      CHECK(valid->log_append_time_ms == kNoTimestamp);
      CHECK(batch == before);
    }
  }
  CHECK(judged(from_hex(golden::kPlainBatch), {.timestamp_after_max_ms = INT64_MAX}).code == ErrorCode::none);
}

TEST_CASE("each header rule has its code") {
  CHECK(with_field<int64_t>(0, 1) == ErrorCode::invalid_record);
  CHECK(with_field<int64_t>(0, -1) == ErrorCode::invalid_record);
  CHECK(with_field<int8_t>(16, 1) == ErrorCode::invalid_record);
  CHECK(with_field<int8_t>(16, 0) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(57, 0) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(57, -3) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(57, 4) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(57, INT32_MIN) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(23, 3) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(23, -1) == ErrorCode::invalid_record);
  CHECK(with_field<int32_t>(12, 55) == ErrorCode::none);  // the leader epoch is ours to set
  CHECK(with_field<int16_t>(21, 0x08) == ErrorCode::invalid_timestamp);
  CHECK(with_field<int16_t>(21, 0x10) == ErrorCode::invalid_record);  // transactional, no producer
  CHECK(with_field<int16_t>(21, 0x20) == ErrorCode::invalid_record);
  CHECK(with_field<int16_t>(21, 0x40) == ErrorCode::invalid_record);
  for (const int16_t bits : {int16_t{5}, int16_t{6}, int16_t{7}}) {
    CHECK(with_field<int16_t>(21, bits) == ErrorCode::unsupported_compression_type);
  }
}

TEST_CASE("producer fields") {
  const auto with_producer = [](int64_t id, int16_t epoch, int32_t sequence, int16_t attributes = 0) {
    return after([&](Bytes& b) {
      poke<int64_t>(b, 43, id);
      poke<int16_t>(b, 51, epoch);
      poke<int32_t>(b, 53, sequence);
      poke<int16_t>(b, 21, attributes);
    });
  };
  CHECK(with_producer(0, 0, 0) == ErrorCode::none);
  CHECK(with_producer(9, 3, INT32_MAX) == ErrorCode::none);
  CHECK(with_producer(9, 3, 0, 0x10) == ErrorCode::none);
  CHECK(with_producer(9, 3, -1) == ErrorCode::invalid_record);
  CHECK(with_producer(9, -1, 0) == ErrorCode::invalid_record);
  CHECK(with_producer(-2, 0, 0) == ErrorCode::invalid_record);
}

TEST_CASE("sizes, counts of batches and CRC") {
  const Bytes good = client_batch(Codec::none);
  CHECK(judged({}).code == ErrorCode::invalid_record);
  Bytes two = good;
  two.insert(two.end(), good.begin(), good.end());
  CHECK(judged(two).code == ErrorCode::invalid_record);
  Bytes trailing = good;
  trailing.push_back(0);
  CHECK(judged(trailing).code == ErrorCode::corrupt_message);
  CHECK(judged(good, {.max_message_bytes = good.size()}).code == ErrorCode::none);
  CHECK(judged(good, {.max_message_bytes = good.size() - 1}).code == ErrorCode::message_too_large);
}

TEST_CASE("a batch cut or bent anywhere is refused, with every codec") {
  for (const Codec codec : kAllCodecs) {
    const Bytes good = client_batch(codec);
    for (size_t n = 1; n < good.size(); ++n) {
      REQUIRE(judged(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n))).code ==
              ErrorCode::corrupt_message);
      // Cut, and its length made to agree: the CRC knows.
      if (n >= kBatchHeaderSize) {
        Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
        poke<int32_t>(cut, 8, static_cast<int32_t>(n - kBatchLengthEnd));
        REQUIRE(judged(cut).code == ErrorCode::corrupt_message);
        // And its CRC made to agree as well: the records know.
        reseal(cut);
        REQUIRE(judged(cut, {.strict = true}).code == ErrorCode::invalid_record);
      }
    }
    for (size_t i = 17; i < good.size(); ++i) {
      Bytes bent = good;
      bent[i] ^= 0x04;
      REQUIRE(judged(bent).code == ErrorCode::corrupt_message);
    }
  }
}

TEST_CASE("zstd needs produce version 7") {
  CHECK(judged(client_batch(Codec::zstd), {.produce_version = 6}).code ==
        ErrorCode::unsupported_compression_type);
  CHECK(judged(client_batch(Codec::zstd), {.produce_version = 7}).code == ErrorCode::none);
  CHECK(judged(client_batch(Codec::lz4), {.produce_version = 3}).code == ErrorCode::none);
}

TEST_CASE("timestamp bounds") {
  const auto at = [](int64_t timestamp, Codec codec, ValidationRules rules) {
    return judged(client_batch(codec, 1, timestamp), rules).code;
  };
  const ValidationRules bounds{.timestamp_before_max_ms = 500, .timestamp_after_max_ms = 300};
  for (const Codec codec : kAllCodecs) {
    CAPTURE(codec_name(codec));
    CHECK(at(kNow.wall_ms - 500, codec, bounds) == ErrorCode::none);
    CHECK(at(kNow.wall_ms - 501, codec, bounds) == ErrorCode::invalid_timestamp);
    CHECK(at(kNow.wall_ms + 300, codec, bounds) == ErrorCode::none);
    CHECK(at(kNow.wall_ms + 301, codec, bounds) == ErrorCode::invalid_timestamp);
    CHECK(at(kNoTimestamp, codec, bounds) == ErrorCode::none);
    CHECK(at(INT64_MAX, codec, {}) == ErrorCode::invalid_timestamp);
    CHECK(at(INT64_MAX, codec, {.timestamp_after_max_ms = INT64_MAX}) == ErrorCode::none);
    CHECK(at(0, codec, {}) == ErrorCode::none);
    // With LogAppendTime the client's timestamps do not matter.
    ValidationRules append_time = bounds;
    append_time.timestamp_type = TimestampType::log_append_time;
    CHECK(at(INT64_MAX, codec, append_time) == ErrorCode::none);
  }
}

TEST_CASE("a record too old hides behind a younger one") {
  Codecs codecs;
  for (const Codec codec : kAllCodecs) {
    BatchBuilder builder({.codec = codec});
    builder.append(kNow.wall_ms, as_bytes("k"), as_bytes("v"));
    builder.append(kNow.wall_ms - 501, as_bytes("k"), as_bytes("v"));
    const Result<Bytes> batch = builder.build(codecs);
    REQUIRE(batch.ok());
    const Verdict v = judged(*batch, {.timestamp_before_max_ms = 500});
    CHECK(v.code == ErrorCode::invalid_timestamp);
    REQUIRE(v.errors.size() == 1);
    CHECK(v.errors[0].batch_index == 1);
    CHECK(judged(*batch).code == ErrorCode::none);
  }
}

TEST_CASE("records out of bounds are named") {
  BatchBuilder builder;
  for (const int64_t timestamp : {kNow.wall_ms, kNow.wall_ms + 9000, kNow.wall_ms, int64_t{5}}) {
    builder.append(timestamp, as_bytes("k"), as_bytes("v"));
  }
  const Verdict v = judged(builder.build(), {.timestamp_before_max_ms = 500, .timestamp_after_max_ms = 300});
  CHECK(v.code == ErrorCode::invalid_timestamp);
  REQUIRE(v.errors.size() == 2);
  CHECK(v.errors[0].batch_index == 1);
  CHECK(v.errors[1].batch_index == 3);
  CHECK(v.errors[1].message == "timestamp 5 is out of range");
}

TEST_CASE("a compacted topic needs keys") {
  Codecs codecs;
  for (const Codec codec : kAllCodecs) {
    CHECK(judged(client_batch(codec), {.compacted = true}).code == ErrorCode::none);
    BatchBuilder builder({.codec = codec});
    builder.append(1, as_bytes("k"), as_bytes("v"));
    builder.append(1, std::nullopt, as_bytes("v"));
    builder.append(1, as_bytes(""), as_bytes("v"));
    builder.append(1, std::nullopt, as_bytes("v"));
    const Result<Bytes> batch = builder.build(codecs);
    REQUIRE(batch.ok());
    CHECK(judged(*batch).code == ErrorCode::none);
    const Verdict v = judged(*batch, {.compacted = true});
    CHECK(v.code == ErrorCode::invalid_record);
    REQUIRE(v.errors.size() == 2);
    CHECK(v.errors[0].batch_index == 1);
    CHECK(v.errors[1].batch_index == 3);
    CHECK_FALSE(v.errors[1].message.empty());
  }
}

TEST_CASE("the list of record errors is bounded") {
  BatchBuilder builder;
  for (int i = 0; i < 1000; ++i) builder.append(1, std::nullopt, std::nullopt);
  const Verdict v = judged(builder.build(), {.compacted = true});
  CHECK(v.code == ErrorCode::invalid_record);
  CHECK(v.errors.size() == kRecordErrorsMax);
}

TEST_CASE("malformed records are found where records are read") {
  const Bytes malformed = {12, 0, 0, 0, 80, 1, 0};
  const Bytes trailing = {12, 0, 0, 0, 1, 1, 0, 0};
  for (const Codec codec : kAllCodecs) {
    for (const Bytes& records : {malformed, trailing}) {
      const Bytes batch = batch_of(codec, records, 1);
      CHECK(judged(batch, {.strict = true}).code == ErrorCode::invalid_record);
      CHECK(judged(batch, {.compacted = true}).code == ErrorCode::invalid_record);
      CHECK(judged(batch).code == (codec == Codec::none ? ErrorCode::invalid_record : ErrorCode::none));
    }
  }
  // A blob that is no gzip at all.
  Bytes nonsense = client_batch(Codec::none);
  nonsense[22] = 1;
  reseal(nonsense);
  CHECK(judged(nonsense, {.strict = true}).code == ErrorCode::invalid_record);
}

TEST_CASE("record errors are not reported for a malformed batch") {
  const Bytes null_key_then_nonsense = {12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 80, 1, 0};
  const Verdict v = judged(batch_of(Codec::none, null_key_then_nonsense, 2), {.compacted = true});
  CHECK(v.code == ErrorCode::invalid_record);
  CHECK(v.errors.empty());
}

TEST_CASE("a batch that inflates too far is too large") {
  BatchBuilder builder;
  const Bytes zeros(size_t{4} * 1024 * 1024, 0);
  builder.append(1, as_bytes("k"), ByteView(zeros));
  const Bytes plain = builder.build();
  for (const Codec codec : kRealCodecs) {
    const Bytes bomb = batch_of(codec, parsed(plain).records(), 1);
    const ValidationRules capped{.strict = true, .inflated_max = size_t{1} * 1024 * 1024};
    CHECK(judged(bomb, capped).code == ErrorCode::message_too_large);
    CHECK(judged(bomb, {.strict = true}).code == ErrorCode::none);
    CHECK(judged(bomb).code == ErrorCode::none);
    // Converted, it would no longer fit.
    CHECK(judged(bomb, {.compression = Codec::none}).code == ErrorCode::message_too_large);
  }
}

TEST_CASE("LogAppendTime is stamped in place") {
  for (const Codec codec : kAllCodecs) {
    Bytes batch = client_batch(codec);
    const Bytes before = batch;
    Codecs codecs;
    const Result<ValidatedBatch> valid =
        validate(batch, {.timestamp_type = TimestampType::log_append_time}, kNow, codecs);
    REQUIRE(valid.ok());
    CHECK(valid->rebuilt.empty());
    CHECK(valid->opened == (codec == Codec::none));
    CHECK(valid->log_append_time_ms == kNow.wall_ms);
    const BatchView view = parsed(batch);
    CHECK(view.timestamp_type() == TimestampType::log_append_time);
    CHECK(view.max_timestamp() == kNow.wall_ms);
    CHECK(view.codec() == codec);
    CHECK(view.crc_matches());
    CHECK(to_bytes(view.records()) == to_bytes(parsed(before).records()));
  }
}

TEST_CASE("a max timestamp that is not that of the records is put right") {
  Bytes batch = client_batch(Codec::none, 3, 1000);
  poke<int64_t>(batch, 35, 999'999);
  reseal(batch);
  Codecs codecs;
  const Result<ValidatedBatch> valid = validate(batch, {}, kNow, codecs);
  REQUIRE(valid.ok());
  CHECK(valid->rebuilt.empty());
  CHECK(parsed(batch).max_timestamp() == 1002);
  CHECK(parsed(batch).crc_matches());
}

TEST_CASE("a topic's codec is applied to every other") {
  Codecs codecs;
  for (const Codec from : kAllCodecs) {
    for (const Codec to : kAllCodecs) {
      CAPTURE(codec_name(from), codec_name(to));
      Bytes batch = client_batch(from, 50);
      poke<int64_t>(batch, 43, 4711);
      poke<int16_t>(batch, 51, 2);
      poke<int32_t>(batch, 53, 99);
      poke<int16_t>(batch, 21, static_cast<int16_t>(static_cast<int16_t>(from) | 0x10));
      reseal(batch);
      const Bytes before = batch;
      const Result<ValidatedBatch> valid = validate(batch, {.compression = to}, kNow, codecs);
      REQUIRE(valid.ok());
      CHECK(batch == before);
      CHECK(valid->rebuilt.empty() == (from == to));
      const BatchView view = parsed(valid->bytes);
      CHECK(view.size() == valid->bytes.size());
      CHECK(view.codec() == to);
      CHECK(view.crc_matches());
      CHECK(view.is_transactional());
      CHECK(view.producer_id() == ProducerId(4711));
      CHECK(view.producer_epoch() == ProducerEpoch(2));
      CHECK(view.base_sequence() == 99);
      CHECK(view.record_count() == 50);
      CHECK(view.last_offset_delta() == 49);
      CHECK(view.base_timestamp() == 1000);
      CHECK(view.max_timestamp() == 1049);
      const Result<OpenedBatch> opened = OpenedBatch::open(view, codecs, kPlenty);
      REQUIRE(opened.ok());
      CHECK(text(all_records(opened->records(), 50)[49].key) == "key49");
    }
  }
}

TEST_CASE("conversion, LogAppendTime and moving the result go together") {
  Codecs codecs;
  Bytes batch = client_batch(Codec::gzip, 20);
  Result<ValidatedBatch> valid = validate(
      batch, {.timestamp_type = TimestampType::log_append_time, .compression = Codec::zstd}, kNow, codecs);
  REQUIRE(valid.ok());
  const ValidatedBatch moved = std::move(valid).value();
  const BatchView view = parsed(moved.bytes);
  CHECK(moved.bytes.data() == moved.rebuilt.data());
  CHECK(view.codec() == Codec::zstd);
  CHECK(view.timestamp_type() == TimestampType::log_append_time);
  CHECK(view.max_timestamp() == kNow.wall_ms);
  CHECK(view.crc_matches());
}

TEST_CASE("a bad compression level is an error of ours, not of the client") {
  Codecs codecs;
  Bytes batch = client_batch(Codec::none);
  CHECK(validate(batch, {.compression = Codec::gzip, .compression_level = 99}, kNow, codecs).code() ==
        ErrorCode::invalid_argument);
}

TEST_CASE("deltas that are not 0, 1, 2, ... are numbered anew where records are read") {
  // Two records, both with delta 0; the second has a header and a timestamp delta of 3.
  const Bytes records = {14, 0, 0, 0, 2, 'a', 1, 0, 20, 0, 6, 0, 2, 'b', 1, 2, 2, 'h', 1};
  Codecs codecs;
  for (const Codec codec : kAllCodecs) {
    CAPTURE(codec_name(codec));
    Bytes batch = batch_of(codec, records, 2);
    const Bytes before = batch;
    const Result<ValidatedBatch> valid = validate(batch, {.strict = true}, kNow, codecs);
    REQUIRE(valid.ok());
    REQUIRE_FALSE(valid->rebuilt.empty());
    CHECK(batch == before);
    const BatchView view = parsed(valid->bytes);
    CHECK(view.codec() == codec);
    CHECK(view.max_timestamp() == 1003);
    CHECK(view.base_timestamp() == 1000);
    CHECK(view.crc_matches());
    const Result<OpenedBatch> opened = OpenedBatch::open(view, codecs, kPlenty);
    REQUIRE(opened.ok());
    const std::vector<Record> renumbered = all_records(opened->records(), 2);
    CHECK(renumbered[0].offset_delta == 0);
    CHECK(renumbered[1].offset_delta == 1);
    CHECK(renumbered[1].timestamp_delta == 3);
    CHECK(text(renumbered[1].key) == "b");
    CHECK(renumbered[1].headers.size() == 1);
    if (codec != Codec::none) {
      Bytes unopened = before;
      const Result<ValidatedBatch> as_it_came = validate(unopened, {}, kNow, codecs);
      REQUIRE(as_it_came.ok());
      CHECK(as_it_came->rebuilt.empty());
    }
  }
}

}  // namespace
}  // namespace millrace::record
