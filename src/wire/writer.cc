#include "wire/writer.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace millrace::wire {

void Writer::grow(size_t n) {
  buffer_.resize(std::max({used_ + n, 2 * buffer_.size(), size_t{256}}));
}

void Writer::write_f64(double v) {
  fixed(std::bit_cast<uint64_t>(v));
}

void Writer::write_length(size_t n, bool flexible) {
  ASSERT(n < std::numeric_limits<int32_t>::max());
  if (flexible) {
    write_uvarint(static_cast<uint32_t>(n + 1));
  } else {
    write_i32(static_cast<int32_t>(n));
  }
}

void Writer::write_null_length(bool flexible) {
  if (flexible) {
    write_uvarint(0);
  } else {
    write_i32(-1);
  }
}

void Writer::write_string(std::string_view v, bool flexible) {
  if (flexible) {
    write_length(v.size(), true);
  } else {
    v = v.substr(0, std::numeric_limits<int16_t>::max());
    write_i16(static_cast<int16_t>(v.size()));
  }
  write_raw(as_bytes(v));
}

void Writer::write_nullable_string(const std::optional<std::string>& v, bool flexible) {
  if (v) {
    write_string(*v, flexible);
  } else if (flexible) {
    write_uvarint(0);
  } else {
    write_i16(-1);
  }
}

void Writer::write_bytes(ByteView v, bool flexible) {
  write_length(v.size(), flexible);
  write_raw(v);
}

void Writer::write_nullable_bytes(const std::optional<Bytes>& v, bool flexible) {
  if (v) {
    write_bytes(*v, flexible);
  } else {
    write_null_length(flexible);
  }
}

void Writer::write_records(const Records& v, bool flexible, bool nullable) {
  if (v.null && nullable) {
    write_null_length(flexible);
    return;
  }
  write_length(v.size(), flexible);
  write_raw(v.view);
  append(v.payload);
}

void Writer::append(Payload payload) {
  for (const Payload::Piece& piece : payload.pieces()) {
    const Slice* slice = std::get_if<Slice>(&piece);
    if (slice != nullptr && slice->size() < kCopyBelow) {
      write_raw(slice->view());
      continue;
    }
    flush();
    if (slice != nullptr) {
      chunks_.append(*slice);
    } else {
      chunks_.append(*std::get_if<1>(&piece));
    }
  }
}

size_t Writer::begin_tag(uint32_t tag) {
  write_uvarint(tag);
  return used_;
}

void Writer::end_tag(size_t mark) {
  ASSERT(mark <= used_);  // nothing was flushed in between
  const size_t value_size = used_ - mark;
  const size_t size_size = varint_size(value_size);
  room(size_size);
  uint8_t* value = buffer_.data() + mark;
  std::memmove(value + size_size, value, value_size);
  encode_varint(value_size, value);
  used_ += size_size;
}

void Writer::flush() {
  buffer_.resize(used_);
  if (flushed_) {
    chunks_.append(Slice(std::move(buffer_)));
  } else {
    head_ = std::move(buffer_);
    flushed_ = true;
  }
  buffer_.clear();
  used_ = 0;
}

Payload Writer::finish(bool framed) {
  flush();
  const size_t body = head_.size() - kFrameSize + chunks_.size();
  ASSERT(body <= std::numeric_limits<int32_t>::max());
  store_be(head_.data(), static_cast<int32_t>(body));
  Slice head(std::move(head_));
  Payload out(framed ? std::move(head) : head.sub(kFrameSize, head.size() - kFrameSize));
  out.append(std::move(chunks_));
  return out;
}

Payload Writer::take() {
  return finish(false);
}

Payload Writer::take_framed() {
  return finish(true);
}

Bytes Writer::take_bytes() {
  if (flushed_) return finish(false).flatten();
  buffer_.resize(used_);
  buffer_.erase(buffer_.begin(), buffer_.begin() + kFrameSize);
  return std::move(buffer_);
}

}  // namespace millrace::wire
