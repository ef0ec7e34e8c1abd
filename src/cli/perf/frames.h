// Request frames of a load, encoded once and patched for every sending. By hand and not by the generated
// codec, because the places that change (correlation id, partition, batch) have to be known.
//
// Frame: size i32 | api key i16 | version i16 | correlation id i32 | client id string | tags | body.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "record/batch.h"

namespace millrace::cli::perf {

inline constexpr std::string_view kClientId = "millrace-perf";
inline constexpr size_t kCorrelationAt = 8;

// The versions that are spoken: flexible ones with topic names.
inline constexpr int16_t kProduceVersionMin = 9;
inline constexpr int16_t kProduceVersionMax = 12;
inline constexpr int16_t kFetchVersion = 12;
inline constexpr int16_t kCommitVersion = 8;

/// What the records of a batch look like.
struct RecordShape {
  int32_t records = 1;
  size_t key_bytes = 0;
  size_t value_bytes = 1024;
  int32_t random_percent = 50;  // of a value's bytes; the rest is text that compresses
  record::Codec codec = record::Codec::none;
};

/// The first bytes of every batch's first value, in which a load that measures the way from producer to
/// consumer writes the time: magic u64 | nanoseconds i64.
inline constexpr uint64_t kStampMagic = 0x6d696c6c72616365;
inline constexpr size_t kStampBytes = 16;

struct ProduceFrame {
  struct Spot {
    size_t partition_at = 0;  // i32
    size_t batch_at = 0;
    size_t batch_bytes = 0;
  };
  Bytes bytes;
  std::vector<Spot> spots;  // one a partition of the request
  /// Of the first value in a batch; 0 if there is no room for a stamp, or the batch is compressed.
  size_t stamp_offset = 0;

  size_t batch_bytes() const;
};

/// A batch without producer id. `seed` makes the bytes differ. `stamp_offset` as in ProduceFrame, from the
/// batch's first byte. Errors: those of compression.
Result<Bytes> make_batch(const RecordShape& shape, uint64_t seed, size_t& stamp_offset);
/// One topic with the batch in each of `partitions` partitions. acks -1, 0 or 1.
ProduceFrame make_produce_frame(int16_t version, std::string_view topic, int16_t acks, int32_t timeout_ms,
                                ByteView batch, size_t stamp_offset, size_t partitions);
/// OffsetCommit of one partition for a group without members.
Bytes make_commit_frame(std::string_view group, std::string_view topic, int32_t partition, int64_t offset);

/// ApiVersions v0.
Bytes make_versions_frame();

struct FetchLimits {
  int32_t max_wait_ms = 500;
  int32_t min_bytes = 1;
  int32_t max_bytes = 50 << 20;
  int32_t partition_max_bytes = 1 << 20;
};
struct FetchPosition {
  int32_t partition = 0;
  int64_t offset = 0;
};
/// Writes a Fetch into `out`, whose capacity is kept. Without session: id 0, epoch -1.
void encode_fetch(Bytes& out, int32_t correlation_id, std::string_view topic, const FetchLimits& limits,
                  bool read_committed, int32_t session_id, int32_t session_epoch,
                  std::span<const FetchPosition> positions);

/// What an answer said, and not whether it could be read.
struct Verdict {
  ErrorCode code = ErrorCode::none;
};
/// The first error that a Produce answer of our versions tells; none if all went well. Errors: corrupt.
Result<Verdict> judge_produce(int16_t version, ByteView answer);
Result<Verdict> judge_commit(ByteView answer);
Result<Verdict> judge_versions(ByteView answer);

}  // namespace millrace::cli::perf
