// The four compressors behind Codecs, each owning its library's contexts. Private to the room.
#pragma once

#include <memory>

#include "record/codec.h"

namespace millrace::record {

/// Output of a decompressor: grows by doubling up to one byte more than the limit, so that a full buffer at
/// the end means the limit was passed.
class InflatedOutput {
 public:
  InflatedOutput(size_t compressed_size, size_t inflated_max);

  /// Room for at least one more byte, or limit_exceeded.
  Status make_room();
  uint8_t* tail() { return bytes_.data() + used_; }
  size_t room() const { return bytes_.size() - used_; }
  void advance(size_t count) {
    ASSERT(count <= room());
    used_ += count;
  }
  /// The bytes, or limit_exceeded.
  Result<Bytes> finish() &&;

 private:
  Bytes bytes_;
  size_t used_ = 0;
  size_t limit_;
};

/// One compressor. `level` is inside level_range().
class Compressor {
 public:
  virtual ~Compressor() = default;
  virtual Result<Bytes> decompress(ByteView in, size_t inflated_max) = 0;
  virtual Result<Bytes> compress(ByteView in, int level) = 0;
};

std::unique_ptr<Compressor> make_gzip();
std::unique_ptr<Compressor> make_snappy();
std::unique_ptr<Compressor> make_lz4();
std::unique_ptr<Compressor> make_zstd();

}  // namespace millrace::record
