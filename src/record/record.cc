#include "record/record.h"

#include "base/varint.h"

namespace millrace::record {

namespace {

// Length, attributes, two deltas, key length, value length, header count: one byte each at the least.
constexpr size_t kRecordSizeMin = 7;
constexpr int32_t kHeaderSizeMin = 2;

/// Reads front to back; false means truncated or malformed, and then the reading stops.
class RecordCursor {
 public:
  explicit RecordCursor(ByteView bytes) : rest_(bytes) {}

  ByteView rest() const { return rest_; }

  bool byte(int8_t& out) {
    if (rest_.empty()) return false;
    out = static_cast<int8_t>(rest_[0]);
    rest_ = rest_.subspan(1);
    return true;
  }
  bool varlong(int64_t& out) { return varint_of(kMaxVarint64, out); }
  bool varint(int32_t& out) {
    int64_t wide = 0;
    if (!varint_of(kMaxVarint32, wide)) return false;
    out = static_cast<int32_t>(wide);
    return true;
  }
  bool take(int32_t count, ByteView& out) {
    if (count < 0 || static_cast<size_t>(count) > rest_.size()) return false;
    out = rest_.first(static_cast<size_t>(count));
    rest_ = rest_.subspan(static_cast<size_t>(count));
    return true;
  }
  /// A length, -1 for null, and so many bytes.
  bool nullable(OptionalBytes& out) {
    int32_t length = 0;
    if (!varint(length)) return false;
    if (length == -1) {
      out.reset();
      return true;
    }
    ByteView bytes;
    if (!take(length, bytes)) return false;
    out = bytes;
    return true;
  }
  bool header(Header& out) {
    int32_t length = 0;
    return varint(length) && take(length, out.key) && nullable(out.value);
  }

 private:
  bool varint_of(size_t max_bytes, int64_t& out) {
    if (!rest_.empty() && rest_[0] < 0x80) {  // nearly all of them are one byte
      out = unzigzag(rest_[0]);
      rest_ = rest_.subspan(1);
      return true;
    }
    uint64_t raw = 0;
    const size_t used = decode_varint(rest_, max_bytes, raw);
    if (used == 0) return false;
    out = unzigzag(raw);
    rest_ = rest_.subspan(used);
    return true;
  }

  ByteView rest_;
};

bool read_record_body(ByteView body, Record& out) {
  RecordCursor in(body);
  int32_t header_count = 0;
  if (!in.byte(out.attributes) || !in.varlong(out.timestamp_delta) || !in.varint(out.offset_delta) ||
      !in.nullable(out.key) || !in.nullable(out.value) || !in.varint(header_count)) {
    return false;
  }
  const ByteView headers = in.rest();
  if (header_count < 0 || static_cast<size_t>(header_count) > headers.size() / kHeaderSizeMin) return false;
  Header header;
  for (int32_t i = 0; i < header_count; ++i) {
    if (!in.header(header)) return false;
  }
  out.headers = HeaderRange(headers, header_count);
  return in.rest().empty();
}

}  // namespace

void HeaderRange::Iterator::decode() {
  if (left_ == 0) return;
  RecordCursor in(bytes_);
  const bool ok = in.header(now_);
  ASSERT(ok);
  bytes_ = in.rest();
}

Result<bool> RecordReader::next(Record& out) {
  if (read_ == count_) {
    if (!rest_.empty()) return Error(ErrorCode::corrupt, "bytes after the last record");
    return false;
  }
  // Also catches a negative count.
  if (read_ == 0 && static_cast<uint32_t>(count_) > rest_.size() / kRecordSizeMin) {
    return Error(ErrorCode::corrupt, "more records announced than the bytes can hold");
  }
  RecordCursor in(rest_);
  int32_t length = 0;
  ByteView body;
  if (!in.varint(length) || !in.take(length, body) || !read_record_body(body, out)) {
    return Error(ErrorCode::corrupt, "malformed record");
  }
  out.encoded = rest_.first(rest_.size() - in.rest().size());
  rest_ = in.rest();
  consecutive_ = consecutive_ && out.offset_delta == read_;
  ++read_;
  return true;
}

}  // namespace millrace::record
