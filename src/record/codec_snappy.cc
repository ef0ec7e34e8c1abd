// snappy: raw blocks through the library, the xerial stream around them by hand.
#include <snappy.h>

#include <algorithm>
#include <array>

#include "base/endian.h"
#include "record/codec_contexts.h"

namespace millrace::record {

namespace {

constexpr std::array<uint8_t, 8> kXerialMagic = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
constexpr size_t kXerialHeaderSize = 16;
constexpr int32_t kXerialVersion = 1;
constexpr size_t kXerialBlockSize = size_t{32} * 1024;
constexpr size_t kXerialLengthSize = 4;
// The densest element, a copy of 64 bytes, takes three: a block that claims more than this lies.
constexpr size_t kSnappyRatioMax = 22;

Error snappy_corrupt() {
  return Error(ErrorCode::corrupt, "malformed snappy data");
}

const char* chars(ByteView b) {
  return reinterpret_cast<const char*>(b.data());
}

bool begins_with_xerial_header(ByteView in) {
  return in.size() >= kXerialHeaderSize && std::equal(kXerialMagic.begin(), kXerialMagic.end(), in.begin());
}

/// Appends one raw block to `out`, which may not grow past `inflated_max`.
Status append_raw_block(ByteView block, size_t inflated_max, Bytes& out) {
  size_t length = 0;
  if (!snappy::GetUncompressedLength(chars(block), block.size(), &length)) return snappy_corrupt();
  if (length > block.size() * kSnappyRatioMax) return snappy_corrupt();
  if (length > inflated_max - out.size()) {
    return Error(ErrorCode::limit_exceeded, "batch inflates past the limit");
  }
  const size_t before = out.size();
  out.resize(before + length);
  uint8_t nothing = 0;  // an empty vector has no address to write to
  uint8_t* to = length == 0 ? &nothing : out.data() + before;
  if (!snappy::RawUncompress(chars(block), block.size(), reinterpret_cast<char*>(to)))
    return snappy_corrupt();
  return {};
}

class SnappyCompressor final : public Compressor {
 public:
  Result<Bytes> decompress(ByteView in, size_t inflated_max) override {
    Bytes out;
    if (!begins_with_xerial_header(in)) {
      TRY(append_raw_block(in, inflated_max, out));
      return out;
    }
    while (!in.empty()) {
      // Streams may follow one another, so a header may stand wherever a block may.
      if (begins_with_xerial_header(in)) {
        const int32_t compatible = load_be<int32_t>(in.data() + kXerialMagic.size() + sizeof(int32_t));
        if (compatible > kXerialVersion) return Error(ErrorCode::corrupt, "xerial stream of a later version");
        in = in.subspan(kXerialHeaderSize);
        continue;
      }
      if (in.size() < kXerialLengthSize) return snappy_corrupt();
      const int32_t length = load_be<int32_t>(in.data());
      in = in.subspan(kXerialLengthSize);
      if (length < 0 || static_cast<size_t>(length) > in.size()) return snappy_corrupt();
      TRY(append_raw_block(in.first(static_cast<size_t>(length)), inflated_max, out));
      in = in.subspan(static_cast<size_t>(length));
    }
    return out;
  }

  Result<Bytes> compress(ByteView in, int /*level*/) override {
    const size_t blocks = (in.size() + kXerialBlockSize - 1) / kXerialBlockSize;
    Bytes out(kXerialHeaderSize +
              blocks * (kXerialLengthSize + snappy::MaxCompressedLength(kXerialBlockSize)));
    std::copy(kXerialMagic.begin(), kXerialMagic.end(), out.begin());
    store_be<int32_t>(out.data() + 8, kXerialVersion);
    store_be<int32_t>(out.data() + 12, kXerialVersion);
    size_t end = kXerialHeaderSize;
    while (!in.empty()) {
      const ByteView block = in.first(std::min(in.size(), kXerialBlockSize));
      uint8_t* to = out.data() + end;
      size_t length = 0;
      snappy::RawCompress(chars(block), block.size(), reinterpret_cast<char*>(to + kXerialLengthSize),
                          &length);
      store_be<int32_t>(to, static_cast<int32_t>(length));
      end += kXerialLengthSize + length;
      in = in.subspan(block.size());
    }
    out.resize(end);
    return out;
  }
};

}  // namespace

std::unique_ptr<Compressor> make_snappy() {
  return std::make_unique<SnappyCompressor>();
}

}  // namespace millrace::record
