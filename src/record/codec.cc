#include "record/codec.h"

#include <algorithm>
#include <array>

#include "record/codec_contexts.h"

namespace millrace::record {

namespace {

constexpr size_t kFirstOutputMin = 4096;
constexpr size_t kFirstOutputRatio = 4;

constexpr std::array<std::string_view, 5> kCodecNames = {"none", "gzip", "snappy", "lz4", "zstd"};
constexpr std::string_view kUncompressed = "uncompressed";
constexpr std::string_view kProducer = "producer";

Error unknown_codec() {
  return Error(ErrorCode::unsupported_compression_type, "unknown compression codec");
}

}  // namespace

InflatedOutput::InflatedOutput(size_t compressed_size, size_t inflated_max) : limit_(inflated_max + 1) {
  ASSERT(inflated_max <= kInflatedBytesMax);
  const size_t guess = std::min(compressed_size, kInflatedBytesMax) * kFirstOutputRatio;
  bytes_.resize(std::min(limit_, std::max(kFirstOutputMin, guess)));
}

Status InflatedOutput::make_room() {
  if (room() > 0) return {};
  if (bytes_.size() == limit_) {
    return Error(ErrorCode::limit_exceeded, "batch inflates past the limit");
  }
  bytes_.resize(std::min(limit_, bytes_.size() * 2));
  return {};
}

Result<Bytes> InflatedOutput::finish() && {
  if (used_ == limit_) return Error(ErrorCode::limit_exceeded, "batch inflates past the limit");
  bytes_.resize(used_);
  return std::move(bytes_);
}

struct Codecs::Contexts {
  std::array<std::unique_ptr<Compressor>, 5> compressors;

  /// Nullptr for codec bits that are no codec, and for `none`.
  Compressor* get(Codec codec) {
    const auto index = static_cast<size_t>(codec);
    if (index == 0 || index >= compressors.size()) return nullptr;
    std::unique_ptr<Compressor>& slot = compressors[index];
    if (!slot) {
      switch (codec) {
        case Codec::gzip:
          slot = make_gzip();
          break;
        case Codec::snappy:
          slot = make_snappy();
          break;
        case Codec::lz4:
          slot = make_lz4();
          break;
        case Codec::zstd:
          slot = make_zstd();
          break;
        case Codec::none:
          break;
      }
    }
    return slot.get();
  }
};

Codecs::Codecs() : contexts_(std::make_unique<Contexts>()) {}
Codecs::~Codecs() = default;
Codecs::Codecs(Codecs&&) noexcept = default;
Codecs& Codecs::operator=(Codecs&&) noexcept = default;

Result<Bytes> Codecs::decompress(Codec codec, ByteView in, size_t inflated_max) {
  if (in.size() > kInflatedBytesMax) return Error(ErrorCode::limit_exceeded, "compressed records too long");
  inflated_max = std::min(inflated_max, kInflatedBytesMax);
  if (codec == Codec::none) {
    if (in.size() > inflated_max) return Error(ErrorCode::limit_exceeded, "records past the limit");
    return to_bytes(in);
  }
  Compressor* compressor = contexts_->get(codec);
  if (compressor == nullptr) return unknown_codec();
  return compressor->decompress(in, inflated_max);
}

Result<Bytes> Codecs::compress(Codec codec, ByteView in, int level) {
  if (in.size() > kInflatedBytesMax) return Error(ErrorCode::limit_exceeded, "records too long");
  if (codec == Codec::none) return to_bytes(in);
  Compressor* compressor = contexts_->get(codec);
  if (compressor == nullptr) return unknown_codec();
  const LevelRange range = level_range(codec);
  if (level == kDefaultLevel) level = range.standard;
  if (level < range.min || level > range.max) {
    return Error(ErrorCode::invalid_argument, "compression level out of range");
  }
  return compressor->compress(in, level);
}

LevelRange level_range(Codec codec) {
  switch (codec) {
    case Codec::gzip:
      return {.min = -1, .max = 9, .standard = -1};  // -1: zlib's own default, 6
    case Codec::lz4:
      return {.min = 1, .max = 17, .standard = 9};
    case Codec::zstd:
      return {.min = -131072, .max = 22, .standard = 3};
    case Codec::none:
    case Codec::snappy:
      break;
  }
  return {};
}

std::string_view codec_name(Codec codec) {
  const auto index = static_cast<size_t>(codec);
  return index < kCodecNames.size() ? kCodecNames[index] : "unknown";
}

Result<Codec> parse_codec(std::string_view name) {
  for (size_t i = 0; i < kCodecNames.size(); ++i) {
    if (name == kCodecNames[i]) return static_cast<Codec>(i);
  }
  return Error(ErrorCode::invalid_argument, "compression.type is one of none, gzip, snappy, lz4, zstd");
}

std::string_view topic_compression_name(TopicCompression compression) {
  if (!compression) return kProducer;
  return *compression == Codec::none ? kUncompressed : codec_name(*compression);
}

Result<TopicCompression> parse_topic_compression(std::string_view name) {
  if (name == kProducer) return TopicCompression();
  if (name == kUncompressed) return TopicCompression(Codec::none);
  const Result<Codec> codec = parse_codec(name);
  if (codec.ok() && *codec != Codec::none) return TopicCompression(*codec);
  return Error(ErrorCode::invalid_argument,
               "compression.type is one of producer, uncompressed, gzip, snappy, lz4, zstd");
}

}  // namespace millrace::record
