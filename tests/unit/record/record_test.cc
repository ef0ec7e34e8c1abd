#include "record/record.h"

#include <string>

#include "fixtures.h"
#include "golden.h"
#include "record/opened_batch.h"

namespace millrace::record {
namespace {

using namespace fixtures;

/// Reads a blob to its end or to its error.
ErrorCode walk_code(ByteView records, int32_t count) {
  RecordReader reader(records, count);
  Record r;
  while (true) {
    const Result<bool> more = reader.next(r);
    if (!more.ok()) return more.code();
    if (!*more) return ErrorCode::none;
  }
}

TEST_CASE("records that another implementation wrote") {
  const Bytes bytes = from_hex(golden::kPlainBatch);
  const BatchView batch = parsed(bytes);
  const std::vector<Record> records = all_records(batch.records(), 3);
  REQUIRE(records.size() == 3);
  CHECK(text(records[0].key) == "k1");
  CHECK(text(records[0].value) == "v1");
  std::string headers;
  for (const Header& h : records[0].headers)
    headers += std::string(as_text(h.key)) + "=" + text(h.value) + ";";
  CHECK(headers == "h=x;n=(null);");
  CHECK(records[1].timestamp_delta == 5);
  CHECK(records[1].offset_delta == 1);
  CHECK(text(records[1].key) == "(null)");
  CHECK(records[1].value->size() == 270);
  CHECK(records[1].headers.empty());
  CHECK(records[2].timestamp_delta == -3);
  CHECK(records[2].key.has_value());
  CHECK(records[2].key->empty());
  CHECK(text(records[2].value) == "(null)");
  size_t encoded = 0;
  for (const Record& r : records) encoded += r.encoded.size();
  CHECK(encoded == batch.records().size());
}

TEST_CASE("a record blob cut anywhere is corrupt") {
  const Bytes bytes = from_hex(golden::kPlainBatch);
  const ByteView blob = parsed(bytes).records();
  REQUIRE(walk_code(blob, 3) == ErrorCode::none);
  for (size_t n = 0; n < blob.size(); ++n) CHECK(walk_code(blob.first(n), 3) == ErrorCode::corrupt);
}

TEST_CASE("the count must be that of the records") {
  const Bytes bytes = from_hex(golden::kPlainBatch);
  const ByteView blob = parsed(bytes).records();
  for (const int32_t count : {-1, INT32_MIN, 0, 2, 4, INT32_MAX}) {
    CHECK(walk_code(blob, count) == ErrorCode::corrupt);
  }
  CHECK(walk_code({}, 0) == ErrorCode::none);
}

TEST_CASE("malformed records") {
  // length, attributes, timestamp delta, offset delta, key length, value length, header count
  CHECK(walk_code(Bytes{12, 0, 0, 0, 1, 1, 0}, 1) == ErrorCode::none);
  CHECK(walk_code(Bytes{14, 0, 0, 0, 1, 1, 0, 0}, 1) == ErrorCode::corrupt);     // longer than its fields
  CHECK(walk_code(Bytes{10, 0, 0, 0, 1, 1, 0}, 1) == ErrorCode::corrupt);        // shorter
  CHECK(walk_code(Bytes{11, 0, 0, 0, 1, 1, 0}, 1) == ErrorCode::corrupt);        // negative length
  CHECK(walk_code(Bytes{12, 0, 0, 0, 3, 1, 0}, 1) == ErrorCode::corrupt);        // key length -2
  CHECK(walk_code(Bytes{12, 0, 0, 0, 1, 3, 0}, 1) == ErrorCode::corrupt);        // value length -2
  CHECK(walk_code(Bytes{12, 0, 0, 0, 80, 1, 0}, 1) == ErrorCode::corrupt);       // key past the end
  CHECK(walk_code(Bytes{12, 0, 0, 0, 1, 1, 1}, 1) == ErrorCode::corrupt);        // header count -1
  CHECK(walk_code(Bytes{12, 0, 0, 0, 1, 1, 2}, 1) == ErrorCode::corrupt);        // a header that is not there
  CHECK(walk_code(Bytes{16, 0, 0, 0, 1, 1, 2, 1, 1}, 1) == ErrorCode::corrupt);  // null header key
  CHECK(walk_code(Bytes{16, 0, 0, 0, 1, 1, 2, 0, 1}, 1) == ErrorCode::none);     // empty header key
  CHECK(walk_code(Bytes{16, 0, 0, 0, 1, 1, 0xfe, 0xff, 0x7f}, 1) == ErrorCode::corrupt);  // a million headers
  // A varint of six bytes where 32 bits are expected.
  CHECK(walk_code(Bytes{22, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 1, 0}, 1) == ErrorCode::corrupt);
  // Ten bytes are fine for the timestamp.
  CHECK(walk_code(Bytes{30, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 1, 1, 0}, 1) ==
        ErrorCode::none);
}

TEST_CASE("gaps in the deltas are reported and are no error") {
  const Bytes gap = {12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 4, 1, 1, 0};
  RecordReader reader(gap, 2);
  Record r;
  REQUIRE(reader.next(r).ok());
  CHECK(reader.consecutive());
  REQUIRE(reader.next(r).ok());
  CHECK_FALSE(reader.consecutive());
  const Result<bool> end = reader.next(r);
  REQUIRE(end.ok());
  CHECK_FALSE(*end);
  CHECK(reader.records_read() == 2);
}

struct MadeRecord {
  int64_t timestamp = 0;
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  std::vector<std::pair<Bytes, std::optional<Bytes>>> headers;

  bool operator==(const MadeRecord&) const = default;
};

std::optional<Bytes> copied(const OptionalBytes& b) {
  return b ? std::optional(to_bytes(*b)) : std::nullopt;
}

OptionalBytes viewed(const std::optional<Bytes>& b) {
  return b ? OptionalBytes(ByteView(*b)) : std::nullopt;
}

TEST_CASE("whatever is built is read back, with every codec") {
  std::mt19937 random(20260611);
  const auto below = [&random](size_t n) { return static_cast<uint32_t>(random() % n); };
  const auto some_bytes = [&](uint32_t max) {
    Bytes b(below(max));
    for (uint8_t& x : b) x = static_cast<uint8_t>('a' + below(5));
    return b;
  };
  const auto maybe_bytes = [&](uint32_t max) -> std::optional<Bytes> {
    if (below(5) == 0) return std::nullopt;
    return some_bytes(max);
  };
  Codecs codecs;
  for (int round = 0; round < 200; ++round) {
    const Codec codec = kAllCodecs[below(kAllCodecs.size())];
    std::vector<MadeRecord> made(1 + below(40));
    BatchBuilder builder({.codec = codec});
    for (MadeRecord& m : made) {
      m.timestamp = below(10) == 0 ? static_cast<int64_t>(random()) << 31 : 1700000000000 + below(1000);
      if (below(50) == 0) m.timestamp = below(2) == 0 ? INT64_MIN : INT64_MAX;
      m.key = maybe_bytes(20);
      m.value = maybe_bytes(round % 10 == 0 ? 9000 : 100);
      for (uint32_t h = below(4); h > 0; --h) m.headers.emplace_back(some_bytes(8), maybe_bytes(8));
      std::vector<Header> headers;
      for (const auto& [k, v] : m.headers) headers.push_back({k, viewed(v)});
      builder.append(m.timestamp, viewed(m.key), viewed(m.value), headers);
    }
    const Result<Bytes> bytes = builder.build(codecs);
    REQUIRE(bytes.ok());
    const BatchView batch = parsed(*bytes);
    REQUIRE(batch.crc_matches());
    const Result<OpenedBatch> opened = OpenedBatch::open(batch, codecs, kPlenty);
    REQUIRE(opened.ok());
    std::vector<MadeRecord> read;
    for (const Record& r : all_records(opened->records(), batch.record_count())) {
      MadeRecord m{opened->timestamp_of(r), copied(r.key), copied(r.value), {}};
      for (const Header& h : r.headers) m.headers.emplace_back(to_bytes(h.key), copied(h.value));
      read.push_back(std::move(m));
    }
    REQUIRE(read == made);
  }
}

}  // namespace
}  // namespace millrace::record
