// Reader: the suspicious end of the codec. Walks over bytes that came from outside; every length and count is
// checked against what remains before anything is allocated.
//
// Errors are sticky: after the first one every read gives zero or empty, remaining() is 0, and status()
// tells. So decoders are straight lines and look at the status once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/endian.h"
#include "base/result.h"
#include "base/uuid.h"
#include "wire/records.h"

namespace millrace::wire {

class Reader {
 public:
  /// Over a frame: `records` fields become views into it.
  explicit Reader(MutableByteView bytes) : Reader(bytes.data(), bytes.size(), true) {}
  /// Over bytes that may not be written: `records` fields are copied.
  explicit Reader(ByteView bytes) : Reader(bytes.data(), bytes.size(), false) {}
  explicit Reader(Bytes& bytes) : Reader(bytes.data(), bytes.size(), true) {}
  explicit Reader(Bytes&&) = delete;

  bool ok() const { return failure_ == nullptr; }
  /// corrupt, with the reason and the position.
  Status status() const;
  size_t remaining() const { return static_cast<size_t>(end_ - p_); }
  size_t position() const { return static_cast<size_t>(p_ - begin_); }
  bool at_end() const { return p_ == end_; }
  /// Marks the input as broken. `why` must be a literal.
  void fail(const char* why);

  bool read_bool() { return read_i8() != 0; }
  int8_t read_i8() { return fixed<int8_t>(); }
  int16_t read_i16() { return fixed<int16_t>(); }
  uint16_t read_u16() { return fixed<uint16_t>(); }
  int32_t read_i32() { return fixed<int32_t>(); }
  uint32_t read_u32() { return fixed<uint32_t>(); }
  int64_t read_i64() { return fixed<int64_t>(); }
  double read_f64();
  Uuid read_uuid();
  /// Unsigned varint of at most five bytes.
  uint32_t read_uvarint();
  /// The next `n` bytes where they lie; empty if there are fewer.
  ByteView read_view(size_t n);

  // Lengths: i16 (string), i32 (bytes, records, arrays), -1 for null; flexible: unsigned varint of length +
  // 1, 0 for null. Where null is not allowed it is an error.
  std::string read_string(bool flexible);
  std::optional<std::string> read_nullable_string(bool flexible);
  Bytes read_bytes(bool flexible);
  std::optional<Bytes> read_nullable_bytes(bool flexible);
  Records read_records(bool flexible, bool nullable);

  /// Elements of an array of which each takes at least `element_min` bytes: a count that cannot fit is an
  /// error.
  size_t read_count(bool flexible, size_t element_min);
  /// The same; empty if the array is null.
  std::optional<size_t> read_nullable_count(bool flexible, size_t element_min);
  /// How many elements to reserve before the first has been seen: a lying count costs no more than this.
  static size_t first_reserve(size_t count) { return std::min<size_t>(count, 1024); }

  // Tagged fields: a count, then tag, size and value of each, tags ascending. end_tag() wants the value used
  // up.
  struct Tag {
    uint32_t tag = 0;
    const uint8_t* outer_end = nullptr;
  };
  uint32_t read_tag_count();
  Tag begin_tag(int64_t& last_tag);
  void end_tag(const Tag& tag);
  /// Skips the value of a tag that this version does not know.
  void skip_tag() { p_ = end_; }
  /// Skips a whole tagged block.
  void skip_tags();

 private:
  Reader(const uint8_t* p, size_t size, bool writable)
      : p_(p), end_(p + size), begin_(p), writable_(writable) {}

  template <class T>
  T fixed() {
    if (remaining() < sizeof(T)) {
      fail("truncated");
      return 0;
    }
    const T v = load_be<T>(p_);
    p_ += sizeof(T);
    return v;
  }
  /// -1 for null; checked against remaining().
  int64_t length(bool flexible, bool wide);

  const uint8_t* p_;
  const uint8_t* end_;
  const uint8_t* begin_;
  const char* failure_ = nullptr;
  size_t failure_position_ = 0;
  bool writable_;
};

}  // namespace millrace::wire
