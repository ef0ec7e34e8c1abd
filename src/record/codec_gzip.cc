// gzip through zlib; its two streams are kept and reset between batches.
#define ZLIB_CONST
#include <zlib.h>

#include "record/codec_contexts.h"

namespace millrace::record {

namespace {

constexpr int kGzipWindowBits = 15 + 16;  // largest window, gzip header and trailer only
constexpr int kGzipMemoryLevel = 8;

Error gzip_corrupt() {
  return Error(ErrorCode::corrupt, "malformed gzip data");
}

class GzipCompressor final : public Compressor {
 public:
  GzipCompressor() = default;
  ~GzipCompressor() override {
    if (inflating_) (void)inflateEnd(&inflate_);  // only reports misuse
    if (deflating_) (void)deflateEnd(&deflate_);
  }
  GzipCompressor(const GzipCompressor&) = delete;
  GzipCompressor& operator=(const GzipCompressor&) = delete;

  Result<Bytes> decompress(ByteView in, size_t inflated_max) override {
    if (!reset_inflate()) return Error(ErrorCode::internal, "zlib: no inflate stream");
    InflatedOutput out(in.size(), inflated_max);
    inflate_.next_in = in.data();
    inflate_.avail_in = static_cast<uInt>(in.size());
    while (true) {
      TRY(out.make_room());
      inflate_.next_out = out.tail();
      inflate_.avail_out = static_cast<uInt>(out.room());
      const uInt room = inflate_.avail_out;
      const int r = inflate(&inflate_, Z_NO_FLUSH);
      out.advance(room - inflate_.avail_out);
      if (r == Z_STREAM_END) {
        if (inflate_.avail_in == 0) return std::move(out).finish();
        // Another member follows. The reset keeps the input pointers.
        if (inflateReset(&inflate_) != Z_OK) return gzip_corrupt();
        continue;
      }
      if (r != Z_OK && r != Z_BUF_ERROR) return gzip_corrupt();
      if (inflate_.avail_in == 0 && out.room() > 0) return Error(ErrorCode::corrupt, "gzip data truncated");
    }
  }

  Result<Bytes> compress(ByteView in, int level) override {
    if (!reset_deflate(level)) return Error(ErrorCode::internal, "zlib: no deflate stream");
    Bytes out(deflateBound(&deflate_, static_cast<uLong>(in.size())));
    deflate_.next_in = in.data();
    deflate_.avail_in = static_cast<uInt>(in.size());
    deflate_.next_out = out.data();
    deflate_.avail_out = static_cast<uInt>(out.size());
    if (deflate(&deflate_, Z_FINISH) != Z_STREAM_END)
      return Error(ErrorCode::internal, "zlib: deflate failed");
    out.resize(out.size() - deflate_.avail_out);
    return out;
  }

 private:
  bool reset_inflate() {
    if (inflating_) return inflateReset(&inflate_) == Z_OK;
    inflating_ = inflateInit2(&inflate_, kGzipWindowBits) == Z_OK;
    return inflating_;
  }
  bool reset_deflate(int level) {
    if (deflating_ && level == level_) return deflateReset(&deflate_) == Z_OK;
    if (deflating_) (void)deflateEnd(&deflate_);
    deflate_ = z_stream();
    level_ = level;
    deflating_ = deflateInit2(&deflate_, level, Z_DEFLATED, kGzipWindowBits, kGzipMemoryLevel,
                              Z_DEFAULT_STRATEGY) == Z_OK;
    return deflating_;
  }

  z_stream inflate_{};
  z_stream deflate_{};
  bool inflating_ = false;
  bool deflating_ = false;
  int level_ = 0;
};

}  // namespace

std::unique_ptr<Compressor> make_gzip() {
  return std::make_unique<GzipCompressor>();
}

}  // namespace millrace::record
