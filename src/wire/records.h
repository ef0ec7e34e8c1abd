// A field of type `records`. Decoded, it is a view into the frame it came in, writable because a broker
// patches base offset and leader epoch in place; to be encoded, it is a payload of slices and file ranges
// that nobody copies.
#pragma once

#include <utility>

#include "base/bytes.h"

namespace millrace::wire {

struct Records {
  bool null = false;
  MutableByteView view;  // decoded: valid as long as the frame
  Payload payload;       // to be encoded (after `view`, if both are set)

  Records() = default;
  explicit Records(Payload p) : payload(std::move(p)) {}
  explicit Records(MutableByteView v) : view(v) {}
  static Records none() {
    Records r;
    r.null = true;
    return r;
  }

  size_t size() const { return view.size() + payload.size(); }
  bool empty() const { return size() == 0; }
  /// One contiguous copy. Only without foreign pieces (asserted).
  Bytes flatten() const;
  /// Same nullness and same bytes; a foreign piece equals itself alone.
  bool operator==(const Records& other) const;
};

}  // namespace millrace::wire
