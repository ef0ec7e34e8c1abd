// Small makers shared by the tests of this room.
#pragma once

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "record/builder.h"
#include "support/catch.h"

namespace millrace::record::fixtures {

inline constexpr std::array<Codec, 5> kAllCodecs = {Codec::none, Codec::gzip, Codec::snappy, Codec::lz4,
                                                    Codec::zstd};
inline constexpr std::array<Codec, 4> kRealCodecs = {Codec::gzip, Codec::snappy, Codec::lz4, Codec::zstd};
inline constexpr size_t kPlenty = size_t{16} * 1024 * 1024;

inline Bytes from_hex(std::string_view hex) {
  Bytes out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

inline Bytes repeated(std::string_view text, size_t count) {
  Bytes out;
  out.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) out.insert(out.end(), text.begin(), text.end());
  return out;
}

/// Half noise, half repetition.
inline Bytes mixed_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) {
    const bool noise = (i / 512) % 2 == 0;
    out[i] = static_cast<uint8_t>(noise ? random() : i);
  }
  return out;
}

/// `count` records with keys, timestamps `first_ms`, `first_ms` + 1, ...
inline Bytes client_batch(Codec codec, int32_t count = 3, int64_t first_ms = 1000) {
  Codecs codecs;
  BatchBuilder builder({.codec = codec});
  for (int32_t i = 0; i < count; ++i) {
    const std::string key = "key" + std::to_string(i);
    const std::string value = "value of record number " + std::to_string(i);
    builder.append(first_ms + i, as_bytes(key), as_bytes(value));
  }
  Result<Bytes> batch = builder.build(codecs);
  REQUIRE(batch.ok());
  return std::move(batch).value();
}

/// Overwrites one header field.
template <class T>
void poke(Bytes& batch, size_t position, T value) {
  store_be<T>(batch.data() + position, value);
}
/// Makes the CRC right again after a poke.
inline void reseal(Bytes& batch) {
  poke<uint32_t>(batch, 17, crc32c(ByteView(batch).subspan(kCrcStart)));
}

inline BatchView parsed(ByteView bytes) {
  Result<BatchView> batch = BatchView::parse(bytes);
  REQUIRE(batch.ok());
  return *batch;
}

/// All records of an uncompressed blob; fails the test if it is malformed.
inline std::vector<Record> all_records(ByteView records, int32_t count) {
  RecordReader reader(records, count);
  std::vector<Record> out;
  while (true) {
    Record r;
    Result<bool> more = reader.next(r);
    REQUIRE(more.ok());
    if (!*more) return out;
    out.push_back(r);
  }
}

inline std::string text(const OptionalBytes& b) {
  return b ? std::string(as_text(*b)) : std::string("(null)");
}

}  // namespace millrace::record::fixtures
