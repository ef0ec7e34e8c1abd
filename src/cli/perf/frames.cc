#include "cli/perf/frames.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/endian.h"
#include "base/varint.h"
#include "record/builder.h"
#include "wire/api_key.h"
#include "wire/reader.h"

namespace millrace::cli::perf {
namespace {

/// Appends to bytes that keep their capacity.
class FrameWriter {
 public:
  explicit FrameWriter(Bytes& out) : out_(out) { out_.clear(); }

  template <class T>
  void fixed(T v) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_be(out_.data() + at, v);
  }
  void uvarint(uint32_t v) {
    std::array<uint8_t, kMaxVarint32> buffer;
    const size_t n = encode_varint(v, buffer.data());
    out_.insert(out_.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(n));
  }
  void raw(ByteView v) { out_.insert(out_.end(), v.begin(), v.end()); }
  void compact_string(std::string_view s) {
    uvarint(static_cast<uint32_t>(s.size() + 1));
    raw(as_bytes(s));
  }
  void no_tags() { out_.push_back(0); }
  void null() { out_.push_back(0); }
  void header(wire::ApiKey key, int16_t version, int32_t correlation_id) {
    fixed<int32_t>(0);
    fixed(static_cast<int16_t>(key));
    fixed(version);
    fixed(correlation_id);
    fixed(static_cast<int16_t>(kClientId.size()));
    raw(as_bytes(kClientId));
    no_tags();
  }
  void finish() { store_be(out_.data(), static_cast<int32_t>(out_.size() - sizeof(int32_t))); }
  size_t size() const { return out_.size(); }

 private:
  Bytes& out_;
};

class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 2 + 1) {}
  uint8_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint8_t>(state_ >> 56);
  }

 private:
  uint64_t state_;
};

// JSON without meaning: what compresses about as well as what people send.
Bytes make_value(size_t size, int32_t random_percent, Noise& noise) {
  static constexpr std::string_view kText =
      "{\"id\":\"4711\",\"user\":\"somebody\",\"action\":\"view\",\"page\":\"/articles/17\",\"ms\":42},";
  Bytes value(size);
  const size_t plain = size * static_cast<size_t>(100 - random_percent) / 100;
  for (size_t i = 0; i < size; ++i) {
    value[i] = i < plain ? static_cast<uint8_t>(kText[i % kText.size()]) : noise.next();
  }
  return value;
}

}  // namespace

size_t ProduceFrame::batch_bytes() const {
  size_t sum = 0;
  for (const Spot& s : spots) sum += s.batch_bytes;
  return sum;
}

Result<Bytes> make_batch(const RecordShape& shape, uint64_t seed, size_t& stamp_offset) {
  constexpr int64_t kSomeTime = 1'700'000'000'000;
  Noise noise(seed);
  record::BatchBuilder builder({.codec = shape.codec, .level = record::kDefaultLevel});
  Bytes first;
  for (int32_t i = 0; i < shape.records; ++i) {
    record::OptionalBytes key;
    Bytes key_bytes(shape.key_bytes);
    for (uint8_t& b : key_bytes) b = static_cast<uint8_t>('a' + noise.next() % 26);
    if (shape.key_bytes > 0) key = key_bytes;
    const Bytes value = make_value(shape.value_bytes, shape.random_percent, noise);
    if (i == 0) first = value;
    builder.append(kSomeTime, key, ByteView(value));
  }
  stamp_offset = 0;
  if (shape.codec != record::Codec::none) {
    record::Codecs codecs;
    return builder.build(codecs);
  }
  Bytes batch = builder.build();
  if (first.size() >= kStampBytes) {
    const auto at = std::search(batch.begin(), batch.end(), first.begin(), first.end());
    ASSERT(at != batch.end());
    stamp_offset = static_cast<size_t>(at - batch.begin());
  }
  return batch;
}

ProduceFrame make_produce_frame(int16_t version, std::string_view topic, int16_t acks, int32_t timeout_ms,
                                ByteView batch, size_t stamp_offset, size_t partitions) {
  ASSERT(version >= kProduceVersionMin && version <= kProduceVersionMax);
  ProduceFrame frame;
  frame.stamp_offset = stamp_offset;
  FrameWriter w(frame.bytes);
  w.header(wire::ApiKey::produce, version, 0);
  w.null();  // transactional id
  w.fixed(acks);
  w.fixed(timeout_ms);
  w.uvarint(2);  // one topic
  w.compact_string(topic);
  w.uvarint(static_cast<uint32_t>(partitions + 1));
  for (size_t i = 0; i < partitions; ++i) {
    ProduceFrame::Spot spot;
    spot.partition_at = w.size();
    w.fixed<int32_t>(0);
    w.uvarint(static_cast<uint32_t>(batch.size() + 1));
    spot.batch_at = w.size();
    spot.batch_bytes = batch.size();
    w.raw(batch);
    w.no_tags();
    frame.spots.push_back(spot);
  }
  w.no_tags();
  w.no_tags();
  w.finish();
  return frame;
}

Bytes make_commit_frame(std::string_view group, std::string_view topic, int32_t partition, int64_t offset) {
  Bytes out;
  FrameWriter w(out);
  w.header(wire::ApiKey::offset_commit, kCommitVersion, 0);
  w.compact_string(group);
  w.fixed<int32_t>(-1);  // generation: nobody's
  w.compact_string("");
  w.null();  // group instance id
  w.uvarint(2);
  w.compact_string(topic);
  w.uvarint(2);
  w.fixed(partition);
  w.fixed(offset);
  w.fixed<int32_t>(-1);  // leader epoch
  w.null();              // metadata
  w.no_tags();
  w.no_tags();
  w.no_tags();
  w.finish();
  return out;
}

Bytes make_versions_frame() {
  Bytes out;
  FrameWriter w(out);
  w.fixed<int32_t>(0);
  w.fixed(static_cast<int16_t>(wire::ApiKey::api_versions));
  w.fixed<int16_t>(0);
  w.fixed<int32_t>(0);
  w.fixed(static_cast<int16_t>(kClientId.size()));
  w.raw(as_bytes(kClientId));
  w.finish();
  return out;
}

void encode_fetch(Bytes& out, int32_t correlation_id, std::string_view topic, const FetchLimits& limits,
                  bool read_committed, int32_t session_id, int32_t session_epoch,
                  std::span<const FetchPosition> positions) {
  FrameWriter w(out);
  w.header(wire::ApiKey::fetch, kFetchVersion, correlation_id);
  w.fixed<int32_t>(-1);  // a consumer
  w.fixed(limits.max_wait_ms);
  w.fixed(limits.min_bytes);
  w.fixed(limits.max_bytes);
  w.fixed<int8_t>(read_committed ? 1 : 0);
  w.fixed(session_id);
  w.fixed(session_epoch);
  w.uvarint(positions.empty() ? 1 : 2);
  if (!positions.empty()) {
    w.compact_string(topic);
    w.uvarint(static_cast<uint32_t>(positions.size() + 1));
    for (const FetchPosition& p : positions) {
      w.fixed(p.partition);
      w.fixed<int32_t>(-1);  // leader epoch
      w.fixed(p.offset);
      w.fixed<int32_t>(-1);  // last fetched epoch
      w.fixed<int64_t>(-1);  // log start
      w.fixed(limits.partition_max_bytes);
      w.no_tags();
    }
    w.no_tags();
  }
  w.uvarint(1);          // nothing forgotten
  w.compact_string("");  // rack
  w.no_tags();
  w.finish();
}

namespace {

/// Compact: length + 1, 0 for null.
void skip_compact(wire::Reader& r) {
  const uint32_t n = r.read_uvarint();
  if (n > 1) (void)r.read_view(n - 1);
}

}  // namespace

Result<Verdict> judge_produce(int16_t version, ByteView answer) {
  (void)version;  // what 10 and later add is in tags
  wire::Reader r(answer);
  ErrorCode worst = ErrorCode::none;
  (void)r.read_i32();  // correlation id
  r.skip_tags();
  const size_t topics = r.read_count(true, 2);
  for (size_t t = 0; t < topics && r.ok(); ++t) {
    skip_compact(r);
    const size_t partitions = r.read_count(true, 30);
    for (size_t p = 0; p < partitions && r.ok(); ++p) {
      (void)r.read_i32();
      const int16_t code = r.read_i16();
      (void)r.read_view(3 * sizeof(int64_t));
      if (code != 0 && worst == ErrorCode::none) worst = error_from_wire(code);
      const size_t bad = r.read_count(true, 5);
      for (size_t b = 0; b < bad && r.ok(); ++b) {
        (void)r.read_i32();
        skip_compact(r);
        r.skip_tags();
      }
      skip_compact(r);
      r.skip_tags();
    }
    r.skip_tags();
  }
  (void)r.read_i32();  // throttle
  r.skip_tags();
  if (!r.ok()) return r.status().error();
  return Verdict{worst};
}

Result<Verdict> judge_commit(ByteView answer) {
  wire::Reader r(answer);
  ErrorCode worst = ErrorCode::none;
  (void)r.read_i32();
  r.skip_tags();
  (void)r.read_i32();  // throttle
  const size_t topics = r.read_count(true, 2);
  for (size_t t = 0; t < topics && r.ok(); ++t) {
    skip_compact(r);
    const size_t partitions = r.read_count(true, 7);
    for (size_t p = 0; p < partitions && r.ok(); ++p) {
      (void)r.read_i32();
      const int16_t code = r.read_i16();
      if (code != 0 && worst == ErrorCode::none) worst = error_from_wire(code);
      r.skip_tags();
    }
    r.skip_tags();
  }
  r.skip_tags();
  if (!r.ok()) return r.status().error();
  return Verdict{worst};
}

Result<Verdict> judge_versions(ByteView answer) {
  wire::Reader r(answer);
  (void)r.read_i32();
  const int16_t code = r.read_i16();
  if (!r.ok()) return r.status().error();
  return Verdict{error_from_wire(code)};
}

}  // namespace millrace::cli::perf
