// zstd frames: streamed in (producers seldom know the content size), one shot out.
#include <zstd.h>
#include <zstd_errors.h>

#include "record/codec_contexts.h"

namespace millrace::record {

namespace {

// A context keeps the window of the largest frame it met. One that grew past this is not kept: a single
// client with level 22 would otherwise hold 128 MiB on every loop.
constexpr size_t kZstdContextKeptMax = size_t{16} * 1024 * 1024;

struct ZstdFree {
  void operator()(ZSTD_DCtx* c) const { (void)ZSTD_freeDCtx(c); }
  void operator()(ZSTD_CCtx* c) const { (void)ZSTD_freeCCtx(c); }
};

class ZstdCompressor final : public Compressor {
 public:
  Result<Bytes> decompress(ByteView in, size_t inflated_max) override {
    if (in.empty()) return Error(ErrorCode::corrupt, "zstd data truncated");
    if (!decompression_) {
      decompression_.reset(ZSTD_createDCtx());
      if (!decompression_ || ZSTD_isError(ZSTD_DCtx_setParameter(decompression_.get(), ZSTD_d_windowLogMax,
                                                                 kZstdWindowLogMax)) != 0) {
        return Error(ErrorCode::internal, "zstd: no context");
      }
    }
    Result<Bytes> inflated = stream(in, inflated_max);
    if (ZSTD_sizeof_DCtx(decompression_.get()) > kZstdContextKeptMax) decompression_.reset();
    return inflated;
  }

  Result<Bytes> compress(ByteView in, int level) override {
    if (!compression_) compression_.reset(ZSTD_createCCtx());
    if (!compression_) return Error(ErrorCode::internal, "zstd: no context");
    Bytes out(ZSTD_compressBound(in.size()));
    const size_t r =
        ZSTD_compressCCtx(compression_.get(), out.data(), out.size(), in.data(), in.size(), level);
    if (ZSTD_sizeof_CCtx(compression_.get()) > kZstdContextKeptMax) compression_.reset();
    if (ZSTD_isError(r) != 0) return Error(ErrorCode::internal, "zstd: compression failed");
    out.resize(r);
    return out;
  }

 private:
  Result<Bytes> stream(ByteView in, size_t inflated_max) {
    ZSTD_DCtx* context = decompression_.get();
    (void)ZSTD_DCtx_reset(context, ZSTD_reset_session_only);  // cannot fail between frames
    InflatedOutput out(in.size(), inflated_max);
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    while (true) {
      TRY(out.make_room());
      ZSTD_outBuffer to{out.tail(), out.room(), 0};
      const size_t r = ZSTD_decompressStream(context, &to, &from);
      if (ZSTD_isError(r) != 0) {
        if (ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge) {
          return Error(ErrorCode::limit_exceeded, "zstd window past the limit");
        }
        return Error(ErrorCode::corrupt, "malformed zstd data");
      }
      out.advance(to.pos);
      const bool all_read = from.pos == from.size;
      if (r == 0 && all_read) return std::move(out).finish();  // otherwise the next frame follows
      if (all_read && out.room() > 0) return Error(ErrorCode::corrupt, "zstd data truncated");
    }
  }

  std::unique_ptr<ZSTD_DCtx, ZstdFree> decompression_;
  std::unique_ptr<ZSTD_CCtx, ZstdFree> compression_;
};

}  // namespace

std::unique_ptr<Compressor> make_zstd() {
  return std::make_unique<ZstdCompressor>();
}

}  // namespace millrace::record
