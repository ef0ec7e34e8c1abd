// Records inside a batch, and the suspicious reader that walks them. Layout of one record (all varints
// zig-zag):
//
//   varint length of the rest | attributes i8 | varlong timestamp delta | varint offset delta
//   varint key length (-1 null), key | varint value length (-1 null), value
//   varint header count, then per header: varint key length, key | varint value length (-1 null), value
//
// Everything here borrows: a Record lives as long as the bytes it was read from.
#pragma once

#include <iterator>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"

namespace millrace::record {

using OptionalBytes = std::optional<ByteView>;  // nothing is Kafka's null

struct Header {
  ByteView key;
  OptionalBytes value;
};

/// Encoded headers that a RecordReader has already checked; decoded while iterating.
class HeaderRange {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Header;
    using difference_type = std::ptrdiff_t;
    using pointer = const Header*;
    using reference = const Header&;

    Iterator() = default;
    const Header& operator*() const { return now_; }
    const Header* operator->() const { return &now_; }
    Iterator& operator++() {
      ASSERT(left_ > 0);
      --left_;
      decode();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(const Iterator& o) const { return left_ == o.left_; }

   private:
    friend class HeaderRange;
    Iterator(ByteView bytes, int32_t left) : bytes_(bytes), left_(left) { decode(); }
    void decode();

    ByteView bytes_;
    int32_t left_ = 0;
    Header now_;
  };

  HeaderRange() = default;
  /// `bytes` hold exactly `count` well-formed headers.
  HeaderRange(ByteView bytes, int32_t count) : bytes_(bytes), count_(count) {}

  int32_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  ByteView encoded() const { return bytes_; }
  Iterator begin() const { return Iterator(bytes_, count_); }
  Iterator end() const { return Iterator(); }

 private:
  ByteView bytes_;
  int32_t count_ = 0;
};

struct Record {
  int8_t attributes = 0;
  int64_t timestamp_delta = 0;  // to the batch's base timestamp
  int32_t offset_delta = 0;     // to the batch's base offset
  OptionalBytes key;
  OptionalBytes value;
  HeaderRange headers;
  ByteView encoded;  // the whole record, its length included
};

/// Walks `count` records in an uncompressed records blob. Every length and count is checked against the bytes
/// that remain before it is used; nothing is allocated.
class RecordReader {
 public:
  RecordReader(ByteView records, int32_t count) : rest_(records), count_(count) {}

  /// True and the next record, or false after the last. Errors: corrupt (malformed record, fewer records than
  /// `count`, bytes after the last one); no further call after an error.
  Result<bool> next(Record& out);

  int32_t records_read() const { return read_; }
  /// Whether the offset deltas so far were 0, 1, 2, ...: true for what a sound producer sends, not for a
  /// compacted batch.
  bool consecutive() const { return consecutive_; }

 private:
  ByteView rest_;
  int32_t count_;
  int32_t read_ = 0;
  bool consecutive_ = true;
};

}  // namespace millrace::record
