// Byte views and owners.
//
// ByteView   borrowed bytes; never kept without the owner beside it
// Bytes      owned, growable
// Slice      immutable, shared, cheap to copy; keeps its storage alive
// Payload    a reply or record set: slices and foreign pieces (file ranges) in order, gathered into one send
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/assert.h"

namespace millrace {

using ByteView = std::span<const uint8_t>;
using MutableByteView = std::span<uint8_t>;
using Bytes = std::vector<uint8_t>;

inline ByteView as_bytes(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
inline std::string_view as_text(ByteView b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
inline Bytes to_bytes(ByteView b) {
  return Bytes(b.begin(), b.end());
}
inline Bytes to_bytes(std::string_view s) {
  return to_bytes(as_bytes(s));
}

class Slice {
 public:
  Slice() = default;
  /// Takes the bytes over.
  explicit Slice(Bytes bytes) {
    auto owner = std::make_shared<const Bytes>(std::move(bytes));
    view_ = *owner;
    owner_ = std::move(owner);
  }
  /// `view` stays valid as long as `owner` lives.
  Slice(std::shared_ptr<const void> owner, ByteView view) : owner_(std::move(owner)), view_(view) {}

  static Slice copy_of(ByteView b) { return Slice(to_bytes(b)); }

  ByteView view() const { return view_; }
  const uint8_t* data() const { return view_.data(); }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  Slice sub(size_t from, size_t count) const {
    ASSERT(from <= size() && count <= size() - from);
    return Slice(owner_, view_.subspan(from, count));
  }

 private:
  std::shared_ptr<const void> owner_;
  ByteView view_;
};

/// Bytes that live elsewhere (io::FileRegion is the one kind): only `net` and the simulated network look
/// inside.
struct ForeignBytes {
  virtual ~ForeignBytes() = default;
  virtual size_t size() const = 0;
};

class Payload {
 public:
  using Piece = std::variant<Slice, std::shared_ptr<const ForeignBytes>>;

  Payload() = default;
  explicit Payload(Slice s) { append(std::move(s)); }
  explicit Payload(Bytes b) { append(Slice(std::move(b))); }

  void append(Slice s) {
    if (s.empty()) return;
    size_ += s.size();
    pieces_.emplace_back(std::move(s));
  }
  void append(std::shared_ptr<const ForeignBytes> f) {
    ASSERT(f != nullptr);
    if (f->size() == 0) return;
    size_ += f->size();
    pieces_.emplace_back(std::move(f));
  }
  void append(Payload other) {
    size_ += other.size_;
    for (Piece& p : other.pieces_) pieces_.push_back(std::move(p));
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const std::vector<Piece>& pieces() const { return pieces_; }

  /// One contiguous copy. Only for payloads without foreign pieces (asserted).
  Bytes flatten() const {
    Bytes out;
    out.reserve(size_);
    for (const Piece& p : pieces_) {
      const Slice* s = std::get_if<Slice>(&p);
      ASSERT(s != nullptr);
      out.insert(out.end(), s->view().begin(), s->view().end());
    }
    return out;
  }

 private:
  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

}  // namespace millrace
