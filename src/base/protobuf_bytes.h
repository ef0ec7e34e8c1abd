// Protobuf messages and uuids as bytes. Templates over what protoc generates, so that this room needs none of
// it.
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/uuid.h"

namespace millrace {

/// Our own messages stay far below protobuf's 2 GiB: asserted.
template <class Message>
Bytes protobuf_bytes(const Message& message) {
  Bytes out(message.ByteSizeLong());
  ASSERT(out.size() <= static_cast<size_t>(std::numeric_limits<int>::max()));
  ASSERT(message.SerializeToArray(out.data(), static_cast<int>(out.size())));
  return out;
}

/// False if `bytes` is not such a message.
template <class Message>
bool parse_protobuf(ByteView bytes, Message& out) {
  return bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max()) &&
         out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

/// A uuid's place in a message is a `bytes` field of 16.
inline std::string protobuf_uuid(const Uuid& in) {
  return std::string(in.bytes.begin(), in.bytes.end());
}

/// False if `in` is not 16 bytes long.
inline bool parse_protobuf_uuid(const std::string& in, Uuid& out) {
  if (in.size() != out.bytes.size()) return false;
  std::copy(in.begin(), in.end(), out.bytes.begin());
  return true;
}

}  // namespace millrace
