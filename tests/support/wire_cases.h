// Random messages of every type and version, for the round-trip tests and the fuzzer. The fillers are
// generated (msgc --cases); what is done with a filled message is the template below.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/uuid.h"
#include "wire/reader.h"
#include "wire/records.h"
#include "wire/writer.h"

namespace millrace::wire::cases {

/// Small seeded values; numbers lean to the edges of their types. Strings are ASCII with even seeds (what
/// other codecs can take), any bytes with odd ones.
class RandomFiller {
 public:
  explicit RandomFiller(uint64_t seed) : state_(seed), ascii_(seed % 2 == 0) {}

  uint64_t next() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  bool boolean() { return (next() & 1) != 0; }
  bool null() { return next() % 4 == 0; }
  size_t count() { return next() % 4; }
  template <class T>
  T integer() {
    switch (next() % 6) {
      case 0:
        return 0;
      case 1:
        return static_cast<T>(-1);
      case 2:
        return std::numeric_limits<T>::min();
      case 3:
        return std::numeric_limits<T>::max();
      default:
        return static_cast<T>(next());
    }
  }
  double real() { return static_cast<double>(static_cast<int64_t>(next())) / 1024.0; }
  std::string string() {
    Bytes b = bytes();
    for (uint8_t& x : b) x = ascii_ ? static_cast<uint8_t>(' ' + x % 95) : x;
    return std::string(as_text(b));
  }
  Bytes bytes() {
    const size_t size = next() % 16 == 0 ? 100 + next() % 300 : next() % 12;
    Bytes b(size);
    for (uint8_t& x : b) x = static_cast<uint8_t>(next());
    return b;
  }
  /// Now and then large enough to become a piece of its own.
  Records records() {
    Payload p(bytes());
    if (next() % 4 == 0)
      p.append(Slice(Bytes(Writer::kCopyBelow + next() % 100, static_cast<uint8_t>(next()))));
    return Records(std::move(p));
  }
  Uuid uuid() {
    Uuid u;
    if (null()) return u;
    for (uint8_t& x : u.bytes) x = static_cast<uint8_t>(next());
    return u;
  }

 private:
  uint64_t state_;
  bool ascii_;
};

struct Recoded {
  Status status;    // of the decoding
  size_t used = 0;  // bytes it took
  Bytes bytes;      // encoded again
};

/// One message type.
struct MessageCase {
  std::string_view name;
  int key = -1;  // of requests
  int16_t min = 0;
  int16_t max = 0;
  /// A random message, encoded.
  Bytes (*random)(uint64_t seed, int16_t version) = nullptr;
  /// Decodes, and if that succeeds encodes again.
  Recoded (*recode)(MutableByteView bytes, int16_t version) = nullptr;
  /// Whether a random message equals itself after encoding and decoding, with every byte used; over writable
  /// and read-only bytes.
  bool (*survives)(uint64_t seed, int16_t version) = nullptr;
  /// What a default-constructed message encodes to.
  Bytes (*defaults)(int16_t version) = nullptr;
};

template <class T, class Fill>
MessageCase make_case(std::string_view name, int key, Fill) {
  static_assert(std::is_empty_v<Fill>);
  MessageCase c;
  c.name = name;
  c.key = key;
  c.min = T::kMinVersion;
  c.max = T::kMaxVersion;
  c.random = [](uint64_t seed, int16_t version) {
    RandomFiller r(seed);
    T x;
    Fill()(r, version, x);
    Writer w(16);  // so that it has to grow
    encode(w, version, x);
    return w.take().flatten();
  };
  c.recode = [](MutableByteView bytes, int16_t version) {
    Recoded out;
    Reader r(bytes);
    T x;
    out.status = decode(r, version, x);
    out.used = r.position();
    if (out.status.ok()) {
      Writer w;
      encode(w, version, x);
      out.bytes = w.take_bytes();
    }
    return out;
  };
  c.survives = [](uint64_t seed, int16_t version) {
    RandomFiller filler(seed);
    T x;
    Fill()(filler, version, x);
    Writer w;
    encode(w, version, x);
    const size_t size = w.size();
    Bytes bytes = w.take_bytes();
    if (bytes.size() != size) return false;
    T in_place;
    Reader writable(bytes);
    if (!decode(writable, version, in_place).ok() || !writable.at_end() || !(in_place == x)) return false;
    T copied;
    Reader read_only{ByteView(bytes)};
    return decode(read_only, version, copied).ok() && read_only.at_end() && copied == x;
  };
  c.defaults = [](int16_t version) {
    Writer w;
    encode(w, version, T{});
    return w.take_bytes();
  };
  return c;
}

std::vector<MessageCase> all_cases();

}  // namespace millrace::wire::cases
