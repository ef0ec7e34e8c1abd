#include "record/codec.h"

#include "fixtures.h"
#include "golden.h"

namespace millrace::record {
namespace {

using namespace fixtures;

Bytes compressed_by(Codecs& codecs, Codec codec, ByteView in, int level = kDefaultLevel) {
  Result<Bytes> out = codecs.compress(codec, in, level);
  REQUIRE(out.ok());
  return std::move(out).value();
}

Bytes golden_records() {
  const Bytes batch = from_hex(golden::kPlainBatch);
  return to_bytes(parsed(batch).records());
}

/// snappy: a literal, then copies of 64 bytes: the densest that the format allows.
Bytes snappy_bomb_block(size_t copies) {
  const size_t length = 1 + copies * 64;
  Bytes out;
  size_t left = length;
  while (left >= 0x80) {
    out.push_back(static_cast<uint8_t>(left | 0x80));
    left >>= 7;
  }
  out.push_back(static_cast<uint8_t>(left));
  out.insert(out.end(), {0x00, 'x'});
  for (size_t i = 0; i < copies; ++i) out.insert(out.end(), {0xfe, 0x01, 0x00});
  return out;
}

TEST_CASE("what is compressed inflates again") {
  Codecs codecs;
  for (const unsigned size : {0u, 1u, 100u, 32767u, 32768u, 32769u, 65536u, 65537u, 1000000u}) {
    const Bytes in = mixed_bytes(size, 7);
    for (const Codec codec : kAllCodecs) {
      CAPTURE(codec_name(codec), size);
      const Bytes packed = compressed_by(codecs, codec, in);
      const Result<Bytes> out = codecs.decompress(codec, packed, kPlenty);
      REQUIRE(out.ok());
      REQUIRE(*out == in);
      // The limit is exact.
      CHECK(codecs.decompress(codec, packed, size).ok());
      if (size > 0) CHECK(codecs.decompress(codec, packed, size - 1).code() == ErrorCode::limit_exceeded);
      CHECK(codecs.decompress(codec, packed, SIZE_MAX).ok());
    }
  }
}

TEST_CASE("levels") {
  Codecs codecs;
  const Bytes in = mixed_bytes(100000, 3);
  for (const Codec codec : kRealCodecs) {
    const LevelRange range = level_range(codec);
    for (const int level : {range.min, range.standard, range.max}) {
      const Bytes packed = compressed_by(codecs, codec, in, level);
      const Result<Bytes> out = codecs.decompress(codec, packed, kPlenty);
      REQUIRE(out.ok());
      CHECK(*out == in);
    }
    CHECK(codecs.compress(codec, in, range.max + 1).code() == ErrorCode::invalid_argument);
    CHECK(codecs.compress(codec, in, range.min - 1).code() == ErrorCode::invalid_argument);
  }
  const Bytes words = repeated("the quick brown fox jumps over the lazy dog ", 500);
  CHECK(compressed_by(codecs, Codec::gzip, words, 9).size() <
        compressed_by(codecs, Codec::gzip, words, 1).size());
  CHECK(compressed_by(codecs, Codec::gzip, words, 0).size() > words.size());
}

TEST_CASE("streams of other implementations") {
  Codecs codecs;
  const Bytes records = golden_records();
  const auto inflates = [&](Codec codec, const char* hex, const Bytes& expected) {
    const Result<Bytes> out = codecs.decompress(codec, from_hex(hex), kPlenty);
    return out.ok() && *out == expected;
  };
  CHECK(inflates(Codec::gzip, golden::kGzipTwoMembers, records));
  CHECK(inflates(Codec::snappy, golden::kSnappyRaw, records));
  CHECK(inflates(Codec::snappy, golden::kSnappyXerial, records));
  CHECK(inflates(Codec::lz4, golden::kLz4SizedAndSummed, records));
  CHECK(inflates(Codec::lz4, golden::kLz4LinkedBlocks, repeated("millrace ", 10000)));
  CHECK(inflates(Codec::zstd, golden::kZstdUnsized, records));
  CHECK(inflates(Codec::zstd, golden::kZstdTwoFrames, records));
  Bytes xerial_twice = from_hex(golden::kSnappyXerial);
  const Bytes once = xerial_twice;
  xerial_twice.insert(xerial_twice.end(), once.begin(), once.end());
  const Result<Bytes> twice = codecs.decompress(Codec::snappy, xerial_twice, kPlenty);
  REQUIRE(twice.ok());
  CHECK(twice->size() == 2 * records.size());
}

TEST_CASE("what is written is what Java's readers know") {
  Codecs codecs;
  const Bytes in = repeated("millrace ", 10000);
  const Bytes snappy = compressed_by(codecs, Codec::snappy, in);
  CHECK(Bytes(snappy.begin(), snappy.begin() + 16) ==
        Bytes{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1});
  size_t blocks = 0;
  for (size_t at = 16; at < snappy.size(); ++blocks) at += 4 + load_be<uint32_t>(snappy.data() + at);
  CHECK(blocks == 3);  // 90000 bytes in blocks of 32 KiB
  const Bytes lz4 = compressed_by(codecs, Codec::lz4, in);
  CHECK(load_be<uint32_t>(lz4.data()) == 0x04224d18);
  CHECK(lz4[4] == 0x60);  // version 1, independent blocks, no checksums, no content size, no dictionary
  CHECK(lz4[5] == 0x40);  // blocks of 64 KiB
  const Bytes gzip = compressed_by(codecs, Codec::gzip, in);
  CHECK(gzip[0] == 0x1f);
  CHECK(gzip[1] == 0x8b);
}

TEST_CASE("compressed data cut anywhere is refused") {
  Codecs codecs;
  const Bytes in = mixed_bytes(3000, 5);
  for (const Codec codec : kRealCodecs) {
    CAPTURE(codec_name(codec));
    const Bytes packed = compressed_by(codecs, codec, in);
    for (size_t n = 0; n < packed.size(); ++n) {
      const Result<Bytes> out = codecs.decompress(codec, ByteView(packed).first(n), kPlenty);
      // A xerial stream has no end mark: cut after its header it is a whole, empty stream.
      if (codec == Codec::snappy && n == 16) {
        CHECK((out.ok() && out->empty()));
      } else {
        REQUIRE(out.code() == ErrorCode::corrupt);
      }
    }
    // The contexts are as good as new.
    const Result<Bytes> whole = codecs.decompress(codec, packed, kPlenty);
    REQUIRE(whole.ok());
    CHECK(*whole == in);
  }
  for (const char* hex : {golden::kGzipTwoMembers, golden::kZstdTwoFrames}) {
    const Bytes packed = from_hex(hex);
    const Codec codec = hex == golden::kGzipTwoMembers ? Codec::gzip : Codec::zstd;
    size_t accepted = 0;
    for (size_t n = 0; n < packed.size(); ++n) {
      accepted += codecs.decompress(codec, ByteView(packed).first(n), kPlenty).ok() ? 1u : 0u;
    }
    CHECK(accepted == 1);  // only the whole first member or frame
  }
}

TEST_CASE("bytes after the end are refused") {
  Codecs codecs;
  const Bytes in = mixed_bytes(1000, 6);
  for (const Codec codec : kRealCodecs) {
    CAPTURE(codec_name(codec));
    Bytes packed = compressed_by(codecs, codec, in);
    packed.push_back(0);
    CHECK(codecs.decompress(codec, packed, kPlenty).code() == ErrorCode::corrupt);
  }
  Bytes two_frames = compressed_by(codecs, Codec::lz4, in);
  const Bytes frame = two_frames;
  two_frames.insert(two_frames.end(), frame.begin(), frame.end());
  CHECK(codecs.decompress(Codec::lz4, two_frames, kPlenty).code() == ErrorCode::corrupt);
}

TEST_CASE("flipped bits never crash, and checksums find them") {
  Codecs codecs;
  const Bytes in = mixed_bytes(1500, 8);
  for (const Codec codec : kRealCodecs) {
    Bytes packed = compressed_by(codecs, codec, in);
    for (size_t i = 0; i < packed.size(); ++i) {
      packed[i] ^= 0x10;
      const Result<Bytes> out = codecs.decompress(codec, packed, kPlenty);
      // gzip's header (flags apart) and trailer of lengths aside, its CRC covers what was inflated.
      if (codec == Codec::gzip && i >= 10 && out.ok()) CHECK(*out == in);
      packed[i] ^= 0x10;
    }
  }
  Bytes summed = from_hex(golden::kLz4SizedAndSummed);
  summed.back() ^= 1;
  CHECK(codecs.decompress(Codec::lz4, summed, kPlenty).code() == ErrorCode::corrupt);
}

TEST_CASE("bombs stop at the limit") {
  Codecs codecs;
  constexpr size_t kInflated = size_t{64} * 1024 * 1024;
  constexpr size_t kLimit = size_t{1} * 1024 * 1024;
  const Bytes zeros(kInflated, 0);
  for (const Codec codec : {Codec::gzip, Codec::lz4, Codec::zstd}) {
    CAPTURE(codec_name(codec));
    const Bytes bomb = compressed_by(codecs, codec, zeros);
    CHECK(bomb.size() * 200 < kInflated);
    CHECK(codecs.decompress(codec, bomb, kLimit).code() == ErrorCode::limit_exceeded);
    CHECK(codecs.decompress(codec, bomb, 0).code() == ErrorCode::limit_exceeded);
  }
  // snappy cannot do better than 64 bytes in three.
  const Bytes block = snappy_bomb_block(100000);
  const Result<Bytes> fits = codecs.decompress(Codec::snappy, block, kPlenty);
  REQUIRE(fits.ok());
  CHECK(*fits == Bytes(6400001, 'x'));
  CHECK(codecs.decompress(Codec::snappy, block, kLimit).code() == ErrorCode::limit_exceeded);
  Bytes xerial = compressed_by(codecs, Codec::snappy, {});
  for (int i = 0; i < 100; ++i) {
    xerial.resize(xerial.size() + 4);
    store_be<uint32_t>(xerial.data() + xerial.size() - 4, static_cast<uint32_t>(block.size()));
    xerial.insert(xerial.end(), block.begin(), block.end());
  }
  CHECK(codecs.decompress(Codec::snappy, xerial, kLimit).code() == ErrorCode::limit_exceeded);
}

TEST_CASE("lengths that only a header claims are not believed") {
  Codecs codecs;
  // Not merely past the limit, but impossible: a raw snappy block of seven bytes that says it inflates to
  // nearly 4 GiB.
  CHECK(codecs.decompress(Codec::snappy, Bytes{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'}, kPlenty).code() ==
        ErrorCode::corrupt);
  // A xerial block longer than what is there, and one of negative length.
  Bytes xerial = compressed_by(codecs, Codec::snappy, {});
  Bytes longer = xerial;
  longer.insert(longer.end(), {0x7f, 0xff, 0xff, 0xff, 0});
  CHECK(codecs.decompress(Codec::snappy, longer, kPlenty).code() == ErrorCode::corrupt);
  Bytes negative = xerial;
  negative.insert(negative.end(), {0xff, 0xff, 0xff, 0xff, 0});
  CHECK(codecs.decompress(Codec::snappy, negative, kPlenty).code() == ErrorCode::corrupt);
  store_be<uint32_t>(xerial.data() + 12, 2);
  CHECK(codecs.decompress(Codec::snappy, xerial, kPlenty).code() == ErrorCode::corrupt);
  // A zstd frame whose window descriptor asks for 2^41 bytes.
  CHECK(codecs.decompress(Codec::zstd, Bytes{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00}, kPlenty)
            .code() == ErrorCode::limit_exceeded);
  // The largest window that is allowed: 2^27.
  CHECK(codecs.decompress(Codec::zstd, Bytes{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00}, kPlenty)
            .ok());
  CHECK(codecs.decompress(Codec::zstd, Bytes{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90, 0x01, 0x00, 0x00}, kPlenty)
            .code() == ErrorCode::limit_exceeded);
}

TEST_CASE("codec bits that are no codec") {
  Codecs codecs;
  for (const int bits : {5, 6, 7, 255}) {
    const auto codec = static_cast<Codec>(bits);
    CHECK(codecs.decompress(codec, Bytes{1}, 10).code() == ErrorCode::unsupported_compression_type);
    CHECK(codecs.compress(codec, Bytes{1}).code() == ErrorCode::unsupported_compression_type);
    CHECK(codec_name(codec) == "unknown");
  }
}

TEST_CASE("names") {
  for (const Codec codec : kAllCodecs) CHECK(*parse_codec(codec_name(codec)) == codec);
  CHECK(parse_codec("brotli").code() == ErrorCode::invalid_argument);
  CHECK(parse_codec("producer").code() == ErrorCode::invalid_argument);
  for (const char* name : {"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}) {
    const Result<TopicCompression> parsed_name = parse_topic_compression(name);
    REQUIRE(parsed_name.ok());
    CHECK(topic_compression_name(*parsed_name) == name);
  }
  CHECK_FALSE(parse_topic_compression("producer")->has_value());
  CHECK(*parse_topic_compression("uncompressed") == TopicCompression(Codec::none));
  CHECK(parse_topic_compression("none").code() == ErrorCode::invalid_argument);
  CHECK(parse_topic_compression("").code() == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace millrace::record
