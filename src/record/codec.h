// Compression of a batch's records: gzip, snappy, lz4 and zstd as Kafka's clients frame them.
//
//   gzip    RFC 1952 members, one or several
//   snappy  read: xerial stream (below) or one raw block; written: xerial stream, blocks of 32 KiB
//           82 'SNAPPY' 00 | version i32 = 1 | compatible i32 = 1 | { length i32, raw snappy block }*
//   lz4     one LZ4 frame; written with independent blocks of 64 KiB, which is all Java's reader can read
//   zstd    frames (RFC 8878), content size usually unknown
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "record/batch.h"

namespace millrace::record {

inline constexpr int kDefaultLevel = INT32_MIN;
/// No record blob can be longer: record and batch lengths are 31 bits.
inline constexpr size_t kInflatedBytesMax = 0x7fffffff;
/// What zstd's own level 22 needs, and the most that consumers accept by default (128 MiB).
inline constexpr int kZstdWindowLogMax = 27;

/// Compression contexts, which are expensive to make. One per loop or caller; not for two threads at once.
/// Contexts are made when first used.
class Codecs {
 public:
  Codecs();
  ~Codecs();
  Codecs(Codecs&&) noexcept;
  Codecs& operator=(Codecs&&) noexcept;

  /// The inflated bytes. Output grows with what was really inflated, never with what a header claims, and
  /// stops at `inflated_max`. Errors: limit_exceeded (more than `inflated_max`, or a zstd window past the
  /// limit), corrupt (malformed, truncated, or bytes after the end), unsupported_compression_type (codec bits
  /// 5-7).
  Result<Bytes> decompress(Codec codec, ByteView in, size_t inflated_max);

  /// Errors: invalid_argument (level outside level_range()), unsupported_compression_type, internal.
  Result<Bytes> compress(Codec codec, ByteView in, int level = kDefaultLevel);

 private:
  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
};

/// Levels of `compression.<codec>.level` (KIP-390); codecs without levels have min == max == 0.
struct LevelRange {
  int min = 0;
  int max = 0;
  int standard = 0;
};
LevelRange level_range(Codec codec);

/// "none", "gzip", "snappy", "lz4", "zstd".
std::string_view codec_name(Codec codec);
/// A producer's `compression.type`. Errors: invalid_argument.
Result<Codec> parse_codec(std::string_view name);

/// A topic's `compression.type`: a codec that the leader converts to, or nothing for "producer" (keep what
/// came). No compression is "uncompressed" here.
using TopicCompression = std::optional<Codec>;
std::string_view topic_compression_name(TopicCompression compression);
/// Errors: invalid_argument.
Result<TopicCompression> parse_topic_compression(std::string_view name);

}  // namespace millrace::record
