// lz4 frames through lz4frame.
#include <lz4frame.h>

#include <algorithm>

#include "base/endian.h"
#include "record/codec_contexts.h"

namespace millrace::record {

namespace {

constexpr uint32_t kLz4FrameMagic = 0x04224d18;  // as the bytes lie; the format stores it little-endian
// Kafka names levels up to 17 (lz4-java's), liblz4 ends at 12. The standard level means the fast compressor,
// as it does for the producers.
constexpr int kLz4LevelMax = 12;
constexpr int kLz4Fast = 0;

class Lz4Compressor final : public Compressor {
 public:
  Lz4Compressor() = default;
  ~Lz4Compressor() override {
    (void)LZ4F_freeDecompressionContext(decompression_);  // null is fine, errors cannot be acted on
    (void)LZ4F_freeCompressionContext(compression_);
  }
  Lz4Compressor(const Lz4Compressor&) = delete;
  Lz4Compressor& operator=(const Lz4Compressor&) = delete;

  Result<Bytes> decompress(ByteView in, size_t inflated_max) override {
    // Skippable and legacy frames are lz4 too, but no consumer reads them here.
    if (in.size() < sizeof(uint32_t) || load_be<uint32_t>(in.data()) != kLz4FrameMagic) {
      return Error(ErrorCode::corrupt, "not an lz4 frame");
    }
    if (decompression_ == nullptr) {
      if (LZ4F_isError(LZ4F_createDecompressionContext(&decompression_, LZ4F_VERSION)) != 0) {
        return Error(ErrorCode::internal, "lz4: no context");
      }
    }
    LZ4F_resetDecompressionContext(decompression_);
    InflatedOutput out(in.size(), inflated_max);
    while (true) {
      TRY(out.make_room());
      size_t written = out.room();
      size_t read = in.size();
      const size_t r = LZ4F_decompress(decompression_, out.tail(), &written, in.data(), &read, nullptr);
      if (LZ4F_isError(r) != 0) return Error(ErrorCode::corrupt, "malformed lz4 frame");
      out.advance(written);
      in = in.subspan(read);
      if (r == 0) break;
      if (in.empty() && out.room() > 0) return Error(ErrorCode::corrupt, "lz4 frame truncated");
    }
    // Consumers stop at the end of the first frame: what they would not see must not be stored.
    if (!in.empty()) return Error(ErrorCode::corrupt, "bytes after the lz4 frame");
    return std::move(out).finish();
  }

  Result<Bytes> compress(ByteView in, int level) override {
    if (compression_ == nullptr) {
      if (LZ4F_isError(LZ4F_createCompressionContext(&compression_, LZ4F_VERSION)) != 0) {
        return Error(ErrorCode::internal, "lz4: no context");
      }
    }
    LZ4F_preferences_t preferences{};
    preferences.frameInfo.blockSizeID = LZ4F_max64KB;
    preferences.frameInfo.blockMode = LZ4F_blockIndependent;
    preferences.compressionLevel =
        level == level_range(Codec::lz4).standard ? kLz4Fast : std::min(level, kLz4LevelMax);
    preferences.autoFlush = 1;
    Bytes out(LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(in.size(), &preferences));
    size_t end = 0;
    const auto add = [&end](size_t r) {
      if (LZ4F_isError(r) != 0) return false;
      end += r;
      return true;
    };
    const auto tail = [&out, &end] { return out.data() + end; };
    const auto room = [&out, &end] { return out.size() - end; };
    const bool done = add(LZ4F_compressBegin(compression_, tail(), room(), &preferences)) &&
                      (in.empty() || add(LZ4F_compressUpdate(compression_, tail(), room(), in.data(),
                                                             in.size(), nullptr))) &&
                      add(LZ4F_compressEnd(compression_, tail(), room(), nullptr));
    if (!done) return Error(ErrorCode::internal, "lz4: compression failed");
    out.resize(end);
    return out;
  }

 private:
  LZ4F_dctx* decompression_ = nullptr;
  LZ4F_cctx* compression_ = nullptr;
};

}  // namespace

std::unique_ptr<Compressor> make_lz4() {
  return std::make_unique<Lz4Compressor>();
}

}  // namespace millrace::record
