#include "record/batch.h"

#include <algorithm>

#include "fixtures.h"
#include "golden.h"
#include "record/batch_iterator.h"
#include "record/control_batch.h"
#include "record/opened_batch.h"

namespace millrace::record {
namespace {

using namespace fixtures;

Bytes golden_batch() {
  return from_hex(golden::kPlainBatch);
}

TEST_CASE("header fields are read where another implementation wrote them") {
  const Bytes bytes = golden_batch();
  const BatchView batch = parsed(bytes);
  CHECK(batch.size() == bytes.size());
  CHECK(batch.base_offset() == Offset(0));
  CHECK(batch.last_offset() == Offset(2));
  CHECK(batch.next_offset() == Offset(3));
  CHECK(batch.leader_epoch() == LeaderEpoch(-1));
  CHECK(batch.magic() == 2);
  CHECK(batch.codec() == Codec::none);
  CHECK(batch.timestamp_type() == TimestampType::create_time);
  CHECK_FALSE(batch.is_transactional());
  CHECK_FALSE(batch.is_control());
  CHECK_FALSE(batch.has_delete_horizon());
  CHECK(batch.base_timestamp() == 1700000000000);
  CHECK(batch.max_timestamp() == 1700000000005);
  CHECK(batch.producer_id() == ProducerId(4711));
  CHECK(batch.producer_epoch() == ProducerEpoch(3));
  CHECK(batch.base_sequence() == 17);
  CHECK(batch.last_sequence() == 19);
  CHECK(batch.record_count() == 3);
  CHECK(batch.crc_matches());
}

TEST_CASE("the builder writes the bytes another implementation wrote") {
  const Bytes long_value = repeated("millrace ", 30);
  const std::array<Header, 2> headers = {Header{as_bytes("h"), as_bytes("x")},
                                         Header{as_bytes("n"), std::nullopt}};
  BatchBuilder builder(
      {.producer_id = ProducerId(4711), .producer_epoch = ProducerEpoch(3), .base_sequence = 17});
  const size_t expected_max = builder.size() +
                              BatchBuilder::record_size_max(as_bytes("k1"), as_bytes("v1"), headers) +
                              BatchBuilder::record_size_max(std::nullopt, ByteView(long_value)) +
                              BatchBuilder::record_size_max(as_bytes(""), std::nullopt);
  builder.append(1700000000000, as_bytes("k1"), as_bytes("v1"), headers);
  builder.append(1700000000005, std::nullopt, ByteView(long_value));
  builder.append(1700000000000 - 3, as_bytes(""), std::nullopt);
  const size_t announced = builder.size();
  CHECK(announced <= expected_max);
  const Bytes built = builder.build();
  CHECK(built == golden_batch());
  CHECK(built.size() == announced);
  CHECK(builder.empty());
  CHECK(builder.size() == kBatchHeaderSize);
}

TEST_CASE("parse refuses what is no batch") {
  const Bytes good = golden_batch();
  for (size_t n = 0; n < good.size(); ++n) {
    CHECK(BatchView::parse(ByteView(good).first(n)).code() == ErrorCode::corrupt);
  }
  const auto code_after = [&good](size_t position, auto value) {
    Bytes b = good;
    poke(b, position, value);
    return BatchView::parse(b).code();
  };
  CHECK(code_after(8, int32_t{48}) == ErrorCode::corrupt);
  CHECK(code_after(8, int32_t{-1}) == ErrorCode::corrupt);
  CHECK(code_after(8, int32_t{0x7fffffff}) == ErrorCode::corrupt);
  CHECK(code_after(16, int8_t{1}) == ErrorCode::unsupported_for_message_format);
  CHECK(code_after(16, int8_t{3}) == ErrorCode::unsupported_for_message_format);
  CHECK(code_after(0, int64_t{-1}) == ErrorCode::corrupt);
  CHECK(code_after(0, INT64_MAX - 2) == ErrorCode::corrupt);
  CHECK(code_after(0, INT64_MAX - 3) == ErrorCode::none);
  CHECK(code_after(23, int32_t{-1}) == ErrorCode::corrupt);
  CHECK(code_after(57, int32_t{-1}) == ErrorCode::corrupt);
  CHECK(BatchView::parse(Bytes(200, 0)).code() == ErrorCode::corrupt);  // a hole in a file
}

TEST_CASE("frame leaves the fields alone") {
  Bytes b = golden_batch();
  poke<int64_t>(b, 0, -5);
  poke<int32_t>(b, 57, -1);
  const Result<BatchView> framed = BatchView::frame(b);
  REQUIRE(framed.ok());
  CHECK(framed->base_offset() == Offset(-5));
}

TEST_CASE("every flipped bit from attributes on breaks the CRC") {
  Bytes b = golden_batch();
  for (size_t i = 17; i < b.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      b[i] = static_cast<uint8_t>(b[i] ^ (1u << bit));
      const Result<BatchView> view = BatchView::frame(b);
      REQUIRE(view.ok());
      REQUIRE_FALSE(view->crc_matches());
      b[i] = static_cast<uint8_t>(b[i] ^ (1u << bit));
    }
  }
}

TEST_CASE("the in-place patches") {
  Bytes b = golden_batch();
  set_base_offset(b, Offset(123456789012));
  set_leader_epoch(b, LeaderEpoch(9));
  BatchView view = parsed(b);
  CHECK(view.base_offset() == Offset(123456789012));
  CHECK(view.last_offset() == Offset(123456789014));
  CHECK(view.leader_epoch() == LeaderEpoch(9));
  CHECK(view.crc_matches());

  set_max_timestamp(b, 77);
  CHECK(view.max_timestamp() == 77);
  CHECK(view.timestamp_type() == TimestampType::create_time);
  CHECK(view.crc_matches());

  set_log_append_time(b, 88);
  CHECK(view.max_timestamp() == 88);
  CHECK(view.timestamp_type() == TimestampType::log_append_time);
  CHECK(view.crc_matches());
  CHECK(view.codec() == Codec::none);
}

TEST_CASE("sequences wrap after 2^31 - 1") {
  CHECK(advance_sequence(INT32_MAX, 0) == INT32_MAX);
  CHECK(advance_sequence(INT32_MAX, 1) == 0);
  CHECK(advance_sequence(INT32_MAX - 1, 5) == 3);
  CHECK(advance_sequence(INT32_MAX, INT32_MAX) == INT32_MAX - 1);
  Bytes b = golden_batch();
  poke<int32_t>(b, 53, INT32_MAX - 1);
  CHECK(parsed(b).last_sequence() == 0);
  poke<int32_t>(b, 53, kNoSequence);
  CHECK(parsed(b).last_sequence() == kNoSequence);
}

TEST_CASE("a batch opens with every codec, offsets and timestamps absolute") {
  for (const Codec codec : kAllCodecs) {
    CAPTURE(codec_name(codec));
    Bytes bytes = client_batch(codec, 4, 5000);
    set_base_offset(bytes, Offset(100));
    Codecs codecs;
    const BatchView batch = parsed(bytes);
    CHECK(batch.codec() == codec);
    CHECK(batch.max_timestamp() == 5003);
    const Result<OpenedBatch> opened = OpenedBatch::open(batch, codecs, kPlenty);
    REQUIRE(opened.ok());
    const std::vector<Record> records = all_records(opened->records(), batch.record_count());
    REQUIRE(records.size() == 4);
    CHECK(opened->offset_of(records[3]) == Offset(103));
    CHECK(opened->timestamp_of(records[3]) == 5003);
    CHECK(text(records[3].key) == "key3");
    set_log_append_time(bytes, 9000);
    CHECK(opened->timestamp_of(records[3]) == 9000);
  }
}

TEST_CASE("a batch that compaction emptied") {
  for (const Codec codec : kAllCodecs) {
    BatchBuilder builder({.base_offset = Offset(40),
                          .producer_id = ProducerId(1),
                          .producer_epoch = ProducerEpoch(0),
                          .base_sequence = 7,
                          .max_timestamp = 55,
                          .last_offset_delta = 9});
    Bytes bytes = builder.build();
    REQUIRE(bytes.size() == kBatchHeaderSize);
    bytes[22] = static_cast<uint8_t>(codec);  // Kafka keeps the codec bits of the batch that was
    reseal(bytes);
    const BatchView batch = parsed(bytes);
    CHECK(batch.last_offset() == Offset(49));
    CHECK(batch.last_sequence() == 16);
    CHECK(batch.max_timestamp() == 55);
    Codecs codecs;
    const Result<OpenedBatch> opened = OpenedBatch::open(batch, codecs, kPlenty);
    REQUIRE(opened.ok());
    CHECK(all_records(opened->records(), batch.record_count()).empty());
  }
}

TEST_CASE("records copied with gaps keep deltas, headers and horizon") {
  const Bytes bytes = golden_batch();
  const BatchView batch = parsed(bytes);
  const std::vector<Record> before = all_records(batch.records(), 3);
  BatchBuilder builder({.delete_horizon_ms = 1800000000000, .last_offset_delta = 2});
  for (const size_t i : {size_t{0}, size_t{2}}) {
    builder.append_copy(before[i], before[i].offset_delta, OpenedBatch::record_timestamp(batch, before[i]));
  }
  const Bytes compacted = builder.build();
  const BatchView after = parsed(compacted);
  CHECK(after.has_delete_horizon());
  CHECK(after.base_timestamp() == 1800000000000);
  CHECK(after.last_offset_delta() == 2);
  CHECK(after.record_count() == 2);
  RecordReader reader(after.records(), 2);
  Record r;
  REQUIRE(reader.next(r).ok());
  CHECK(r.headers.size() == 2);
  CHECK(r.headers.encoded().size() == before[0].headers.encoded().size());
  CHECK(OpenedBatch::record_timestamp(after, r) == 1700000000000);
  REQUIRE(reader.next(r).ok());
  CHECK(r.offset_delta == 2);
  CHECK_FALSE(reader.consecutive());
}

TEST_CASE("batches of a range, and its torn tail") {
  Bytes range;
  std::vector<size_t> ends;
  for (const Codec codec : kAllCodecs) {
    const Bytes b = client_batch(codec);
    range.insert(range.end(), b.begin(), b.end());
    ends.push_back(range.size());
  }
  for (size_t cut = 0; cut <= range.size(); ++cut) {
    BatchIterator batches(ByteView(range).first(cut));
    size_t whole = 0;
    while (true) {
      const Result<std::optional<BatchView>> next = batches.next();
      REQUIRE(next.ok());
      if (!next->has_value()) break;
      ++whole;
    }
    const auto expected =
        static_cast<size_t>(std::count_if(ends.begin(), ends.end(), [cut](size_t e) { return e <= cut; }));
    REQUIRE(whole == expected);
    REQUIRE(batches.position() == (whole == 0 ? 0 : ends[whole - 1]));
    REQUIRE(batches.torn_bytes() == cut - batches.position());
    if (batches.torn_bytes() >= kBatchLengthEnd) {
      REQUIRE(batches.position() + batches.torn_batch_size() == ends[whole]);
    }
  }
}

TEST_CASE("a damaged batch stops the iterator where it lies") {
  Bytes range = golden_batch();
  const size_t first = range.size();
  range.insert(range.end(), 100, 0);
  BatchIterator batches(range);
  REQUIRE(batches.next().ok());
  CHECK(batches.next().code() == ErrorCode::corrupt);
  CHECK(batches.position() == first);
}

TEST_CASE("a produce record set holds exactly one batch") {
  const Bytes good = golden_batch();
  CHECK(single_batch(good).ok());
  CHECK(single_batch({}).code() == ErrorCode::invalid_record);
  Bytes two = good;
  two.insert(two.end(), good.begin(), good.end());
  CHECK(single_batch(two).code() == ErrorCode::invalid_record);
  two.pop_back();
  CHECK(single_batch(two).code() == ErrorCode::corrupt_message);
  for (size_t n = 1; n < good.size(); ++n) {
    CHECK(single_batch(ByteView(good).first(n)).code() == ErrorCode::corrupt_message);
  }
  Bytes old = good;
  poke<int8_t>(old, 16, 1);
  CHECK(single_batch(old).code() == ErrorCode::invalid_record);
}

TEST_CASE("transaction markers") {
  for (const bool commit : {false, true}) {
    const Bytes bytes = build_marker({.producer_id = ProducerId(8),
                                      .producer_epoch = ProducerEpoch(2),
                                      .commit = commit,
                                      .coordinator_epoch = 31},
                                     12345);
    const BatchView batch = parsed(bytes);
    CHECK(batch.crc_matches());
    CHECK(batch.is_control());
    CHECK(batch.is_transactional());
    CHECK(batch.base_sequence() == kNoSequence);
    CHECK(batch.record_count() == 1);
    CHECK(batch.max_timestamp() == 12345);
    const std::vector<Record> records = all_records(batch.records(), 1);
    CHECK(to_bytes(*records[0].key) == Bytes{0, 0, 0, static_cast<uint8_t>(commit ? 1 : 0)});
    CHECK(to_bytes(*records[0].value) == Bytes{0, 0, 0, 0, 0, 31});
    CHECK(*control_type(batch) == (commit ? ControlType::commit : ControlType::abort));
    const Result<EndTransactionMarker> marker = read_marker(batch);
    REQUIRE(marker.ok());
    CHECK(marker->producer_id == ProducerId(8));
    CHECK(marker->producer_epoch == ProducerEpoch(2));
    CHECK(marker->commit == commit);
    CHECK(marker->coordinator_epoch == 31);
  }
}

TEST_CASE("other control batches, and what is none") {
  const Bytes leader_change = build_control_batch(ControlType::leader_change, as_bytes("v"), 1);
  CHECK(*control_type(parsed(leader_change)) == ControlType::leader_change);
  CHECK(read_marker(parsed(leader_change)).code() == ErrorCode::corrupt);
  CHECK(control_type(parsed(golden_batch())).code() == ErrorCode::corrupt);

  const auto with_key = [](Bytes key, Bytes value) {
    BatchBuilder builder({.transactional = true, .control = true});
    builder.append(1, ByteView(key), ByteView(value));
    return builder.build();
  };
  CHECK(*control_type(parsed(with_key({0, 0, 0, 99}, {}))) == ControlType::unknown);
  CHECK(*control_type(parsed(with_key({0, 1, 0, 1, 7}, {}))) == ControlType::commit);
  CHECK(control_type(parsed(with_key({0, 0, 0}, {}))).code() == ErrorCode::corrupt);
  CHECK(control_type(parsed(with_key({0xff, 0xff, 0, 1}, {}))).code() == ErrorCode::corrupt);
  CHECK(read_marker(parsed(with_key({0, 0, 0, 1}, {0, 0, 0, 0, 0}))).code() == ErrorCode::corrupt);

  Bytes trailing = with_key({0, 0, 0, 1}, {0, 0, 0, 0, 0, 0});
  trailing.push_back(0);
  seal_batch(trailing, BatchHeader::of(parsed(ByteView(trailing).first(trailing.size() - 1))));
  CHECK(control_type(parsed(trailing)).code() == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::record
