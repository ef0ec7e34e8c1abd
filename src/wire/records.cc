#include "wire/records.h"

#include <algorithm>
#include <memory>
#include <variant>

namespace millrace::wire {

namespace {

bool has_foreign(const Records& r) {
  return std::any_of(r.payload.pieces().begin(), r.payload.pieces().end(),
                     [](const Payload::Piece& p) { return !std::holds_alternative<Slice>(p); });
}

bool same_piece(const Payload::Piece& a, const Payload::Piece& b) {
  if (a.index() != b.index()) return false;
  if (const Slice* s = std::get_if<Slice>(&a))
    return std::ranges::equal(s->view(), std::get_if<Slice>(&b)->view());
  return *std::get_if<1>(&a) == *std::get_if<1>(&b);
}

}  // namespace

Bytes Records::flatten() const {
  Bytes out = to_bytes(ByteView(view));
  const Bytes rest = payload.flatten();
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

bool Records::operator==(const Records& other) const {
  if (null != other.null || size() != other.size()) return false;
  if (!has_foreign(*this) && !has_foreign(other)) return flatten() == other.flatten();
  return std::ranges::equal(view, other.view) &&
         std::ranges::equal(payload.pieces(), other.payload.pieces(), same_piece);
}

}  // namespace millrace::wire
