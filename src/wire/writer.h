// Writer: builds a frame out of chunks. Small fields go into one growing buffer; appended payloads (record
// slices, file ranges) become pieces of their own and are not copied. Four bytes are kept free in front for
// the frame's size.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/endian.h"
#include "base/uuid.h"
#include "base/varint.h"
#include "wire/records.h"

namespace millrace::wire {

class Writer {
 public:
  static constexpr size_t kFrameSize = 4;
  /// Appended slices below this are copied: a piece of its own costs more.
  static constexpr size_t kCopyBelow = 1024;

  /// `expected` bytes are allocated at once.
  explicit Writer(size_t expected = 256) : buffer_(expected + kFrameSize), used_(kFrameSize) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// Bytes written so far, without the frame size.
  size_t size() const { return head_.size() + chunks_.size() + used_ - kFrameSize; }

  void write_bool(bool v) { fixed<int8_t>(v ? 1 : 0); }
  void write_i8(int8_t v) { fixed(v); }
  void write_i16(int16_t v) { fixed(v); }
  void write_u16(uint16_t v) { fixed(v); }
  void write_i32(int32_t v) { fixed(v); }
  void write_u32(uint32_t v) { fixed(v); }
  void write_i64(int64_t v) { fixed(v); }
  void write_f64(double v);
  void write_uuid(const Uuid& v) { write_raw(v.bytes); }
  void write_uvarint(uint32_t v) { used_ += encode_varint(v, room(kMaxVarint32)); }
  void write_raw(ByteView v) {
    if (v.empty()) return;
    std::memcpy(room(v.size()), v.data(), v.size());
    used_ += v.size();
  }

  // Lengths as in Reader. A string that does not fit the 16 bits of the old encoding is cut: it can only be
  // one that a newer version brought in.
  void write_string(std::string_view v, bool flexible);
  void write_nullable_string(const std::optional<std::string>& v, bool flexible);
  void write_bytes(ByteView v, bool flexible);
  void write_nullable_bytes(const std::optional<Bytes>& v, bool flexible);
  void write_records(const Records& v, bool flexible, bool nullable);
  void write_count(size_t n, bool flexible) { write_length(n, flexible); }
  void write_null_count(bool flexible) { write_null_length(flexible); }

  /// The payload's pieces, in place here; only small slices are copied.
  void append(Payload payload);

  /// A tagged field: the value is written between the two calls and may not append payloads.
  size_t begin_tag(uint32_t tag);
  void end_tag(size_t mark);

  // Taking leaves the writer empty and done with.
  /// What was written, without a frame size.
  Payload take();
  /// What was written behind its size as i32, as frames go over a connection.
  Payload take_framed();
  /// take(), contiguous. Only without foreign pieces (asserted).
  Bytes take_bytes();

 private:
  /// Where the next `n` bytes go; the caller adds to used_.
  uint8_t* room(size_t n) {
    if (buffer_.size() - used_ < n) grow(n);
    return buffer_.data() + used_;
  }
  void grow(size_t n);
  template <class T>
  void fixed(T v) {
    store_be(room(sizeof(T)), v);
    used_ += sizeof(T);
  }
  void write_length(size_t n, bool flexible);
  void write_null_length(bool flexible);
  void flush();
  Payload finish(bool framed);

  Bytes buffer_;  // its first used_ bytes are written
  size_t used_;
  Bytes head_;  // the first full buffer, kept writable for the frame size
  Payload chunks_;
  bool flushed_ = false;
};

}  // namespace millrace::wire
