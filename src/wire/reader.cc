#include "wire/reader.h"

#include <bit>
#include <cstring>

#include "base/varint.h"

namespace millrace::wire {

Status Reader::status() const {
  if (ok()) return {};
  return Error(ErrorCode::corrupt, std::string(failure_) + " at byte " + std::to_string(failure_position_));
}

void Reader::fail(const char* why) {
  if (failure_ == nullptr) {
    failure_ = why;
    failure_position_ = position();
  }
  p_ = end_;
}

double Reader::read_f64() {
  return std::bit_cast<double>(fixed<uint64_t>());
}

Uuid Reader::read_uuid() {
  Uuid u;
  const ByteView v = read_view(u.bytes.size());
  if (!v.empty()) std::memcpy(u.bytes.data(), v.data(), v.size());
  return u;
}

uint32_t Reader::read_uvarint() {
  uint64_t u = 0;
  const size_t used = decode_varint(ByteView(p_, end_), kMaxVarint32, u);
  if (used == 0) {
    fail("truncated or overlong varint");
    return 0;
  }
  p_ += used;
  return static_cast<uint32_t>(u);
}

ByteView Reader::read_view(size_t n) {
  if (n > remaining()) {
    fail("length beyond the end");
    return {};
  }
  const ByteView v(p_, n);
  p_ += n;
  return v;
}

int64_t Reader::length(bool flexible, bool wide) {
  const int64_t n = flexible ? static_cast<int64_t>(read_uvarint()) - 1 : wide ? read_i32() : read_i16();
  if (!ok()) return 0;
  if (n < -1) {
    fail("negative length");
    return 0;
  }
  if (n > 0 && static_cast<uint64_t>(n) > remaining()) {
    fail("length beyond the end");
    return 0;
  }
  return n;
}

std::string Reader::read_string(bool flexible) {
  const int64_t n = length(flexible, false);
  if (n < 0) {
    fail("null string where none is allowed");
    return {};
  }
  return std::string(as_text(read_view(static_cast<size_t>(n))));
}

std::optional<std::string> Reader::read_nullable_string(bool flexible) {
  const int64_t n = length(flexible, false);
  if (n < 0) return std::nullopt;
  return std::string(as_text(read_view(static_cast<size_t>(n))));
}

Bytes Reader::read_bytes(bool flexible) {
  const int64_t n = length(flexible, true);
  if (n < 0) {
    fail("null bytes where none are allowed");
    return {};
  }
  return to_bytes(read_view(static_cast<size_t>(n)));
}

std::optional<Bytes> Reader::read_nullable_bytes(bool flexible) {
  const int64_t n = length(flexible, true);
  if (n < 0) return std::nullopt;
  return to_bytes(read_view(static_cast<size_t>(n)));
}

Records Reader::read_records(bool flexible, bool nullable) {
  const int64_t n = length(flexible, true);
  if (n < 0) {
    if (!nullable) fail("null records where none are allowed");
    return Records::none();
  }
  const ByteView v = read_view(static_cast<size_t>(n));
  if (!writable_) return Records(Payload(Slice::copy_of(v)));
  // The constructor was given writable bytes.
  return Records(MutableByteView(const_cast<uint8_t*>(v.data()), v.size()));
}

size_t Reader::read_count(bool flexible, size_t element_min) {
  const std::optional<size_t> n = read_nullable_count(flexible, element_min);
  if (!n) {
    fail("null array where none is allowed");
    return 0;
  }
  return *n;
}

std::optional<size_t> Reader::read_nullable_count(bool flexible, size_t element_min) {
  const int64_t n = flexible ? static_cast<int64_t>(read_uvarint()) - 1 : read_i32();
  if (!ok()) return 0;
  if (n < 0) {
    if (n == -1) return std::nullopt;
    fail("negative array count");
    return 0;
  }
  if (static_cast<uint64_t>(n) > remaining() / element_min) {
    fail("array count beyond the end");
    return 0;
  }
  return static_cast<size_t>(n);
}

uint32_t Reader::read_tag_count() {
  const uint32_t n = read_uvarint();
  if (n > remaining() / 2) {  // a tag and a size, a byte each
    fail("tag count beyond the end");
    return 0;
  }
  return n;
}

Reader::Tag Reader::begin_tag(int64_t& last_tag) {
  Tag t;
  t.tag = read_uvarint();
  const uint32_t size = read_uvarint();
  if (ok() && static_cast<int64_t>(t.tag) <= last_tag) fail("tags not ascending");
  if (ok() && size > remaining()) fail("tagged field beyond the end");
  last_tag = t.tag;
  t.outer_end = end_;
  if (ok()) end_ = p_ + size;
  return t;
}

void Reader::end_tag(const Tag& tag) {
  if (ok() && p_ != end_) fail("tagged field longer than its value");
  end_ = tag.outer_end;
  if (!ok()) p_ = end_;
}

void Reader::skip_tags() {
  int64_t last_tag = -1;
  for (uint32_t n = read_tag_count(); n > 0 && ok(); --n) {
    const Tag t = begin_tag(last_tag);
    skip_tag();
    end_tag(t);
  }
}

}  // namespace millrace::wire
