// Stored records: an i16 in front of the message. For a value it is the version of its layout; for a
// coordinator's key it is the record type (kRecordType), the layout of keys being version 0 always.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/reader.h"
#include "wire/writer.h"

namespace millrace::wire {

template <class T>
Bytes encode_versioned(const T& value, int16_t version) {
  Writer w;
  w.write_i16(version);
  encode(w, version, value);
  return w.take_bytes();
}

/// A version above ours: an error, or read as the newest that is known (for layouts that only grow at their
/// end, as the consumer protocol's do).
enum class NewerVersion : uint8_t { refuse, read_as_newest };

/// Errors: corrupt, unsupported_version.
template <class T>
Result<T> decode_versioned(ByteView bytes, NewerVersion newer = NewerVersion::refuse) {
  Reader r(bytes);
  int16_t version = r.read_i16();
  TRY(r.status());
  if (newer == NewerVersion::read_as_newest) version = std::min(version, T::kMaxVersion);
  T value;
  TRY(decode(r, version, value));
  return value;
}

template <class T>
Bytes encode_key(const T& key) {
  Writer w;
  w.write_i16(T::kRecordType);
  encode(w, T::kMinVersion, key);
  return w.take_bytes();
}

/// The record type that a key begins with. Errors: corrupt.
inline Result<int16_t> key_type(ByteView bytes) {
  Reader r(bytes);
  const int16_t type = r.read_i16();
  TRY(r.status());
  return type;
}

/// Errors: corrupt, unsupported_version (another record type).
template <class T>
Result<T> decode_key(ByteView bytes) {
  Reader r(bytes);
  const int16_t type = r.read_i16();
  TRY(r.status());
  if (type != T::kRecordType) return Error(ErrorCode::unsupported_version, "another record type");
  T key;
  TRY(decode(r, T::kMinVersion, key));
  return key;
}

}  // namespace millrace::wire
