// A log on a memory disk, and makers of batches, for the tests of this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/log.h"
#include "record/batch_iterator.h"
#include "record/builder.h"
#include "record/opened_batch.h"
#include "support/catch.h"
#include "support/memory_disk.h"

namespace millrace::log::fixture {

inline const std::string kDirectory = "/data/orders-0";
inline constexpr int64_t kT0 = 1'700'000'000'000;

inline Now at_ms(int64_t ms) {
  return {.mono_ms = ms, .wall_ms = kT0 + ms};
}

struct BatchSpec {
  int count = 1;
  size_t value_bytes = 20;
  int64_t timestamp = kT0;  // of the first record; the others follow by 1 ms
  ProducerId producer = kNoProducerId;
  ProducerEpoch epoch = kNoProducerEpoch;
  int32_t sequence = -1;
  bool transactional = false;
  record::Codec codec = record::Codec::none;
  char fill = 'v';
};

inline Bytes batch(const BatchSpec& spec) {
  record::BatchOptions options;
  options.codec = spec.codec;
  options.producer_id = spec.producer;
  options.producer_epoch = spec.epoch;
  options.base_sequence = spec.sequence;
  options.transactional = spec.transactional;
  record::BatchBuilder builder(options);
  const std::string value(spec.value_bytes, spec.fill);
  for (int i = 0; i < spec.count; ++i) builder.append(spec.timestamp + i, std::nullopt, as_bytes(value));
  record::Codecs codecs;
  Result<Bytes> built = builder.build(codecs);
  REQUIRE(built.ok());
  return std::move(*built);
}

inline Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

struct Fixture {
  test::MemoryDisk disk;
  LogConfig config;
  std::unique_ptr<Log> log;
  RecoveryStats stats;

  Fixture() { config.segment_bytes = 1 << 20; }

  OpenParams params() const {
    OpenParams p;
    p.directory = kDirectory;
    p.config = config;
    p.now = at_ms(0);
    p.create = true;
    return p;
  }
  Status try_open(OpenParams p) {
    log.reset();
    stats = {};
    Result<std::unique_ptr<Log>> opened = Log::open(disk, std::move(p), Trace(), &stats);
    if (!opened) return std::move(opened).error();
    log = std::move(*opened);
    return {};
  }
  void open(OpenParams p) {
    const Status status = try_open(std::move(p));
    INFO((status.ok() ? std::string() : status.error().message));
    REQUIRE(status.ok());
  }
  void open() { open(params()); }
  /// Closes cleanly and opens again.
  void reopen_clean() {
    const Offset start = log->log_start_offset();
    const Status closed = log->close(true);
    REQUIRE(closed.ok());
    OpenParams p = params();
    p.create = false;
    p.clean_shutdown = true;
    p.recovery_point = log->recovery_point();
    p.log_start_offset = start;
    open(p);
  }
  /// As after a kill: nothing was closed, the checkpoint says what it last said.
  void reopen_unclean(Offset recovery_point, Offset durable_end = Offset(0)) {
    OpenParams p = params();
    p.create = false;
    p.log_start_offset = log ? log->log_start_offset() : Offset(0);
    p.recovery_point = recovery_point;
    p.durable_end = durable_end;
    open(p);
  }
  AppendResult append(Bytes bytes, int64_t ms = 0, LeaderEpoch epoch = LeaderEpoch(0)) {
    Result<AppendResult> result = log->append_as_leader(bytes, epoch, at_ms(ms));
    INFO((result.ok() ? std::string() : result.error().message));
    REQUIRE(result.ok());
    return *result;
  }
  AppendResult append(const BatchSpec& spec, int64_t ms = 0, LeaderEpoch epoch = LeaderEpoch(0)) {
    return append(batch(spec), ms, epoch);
  }
  ErrorCode append_error(const BatchSpec& spec, int64_t ms = 0) {
    Bytes bytes = batch(spec);
    return log->append_as_leader(bytes, LeaderEpoch(0), at_ms(ms)).code();
  }
  ReadResult read(Offset from, size_t max_bytes = 1 << 20, Offset bound = Offset(INT64_MAX),
                  bool one = true) {
    Result<ReadResult> result = log->read(from, max_bytes, bound, one);
    INFO((result.ok() ? std::string() : result.error().message));
    REQUIRE(result.ok());
    return *result;
  }
  /// Every batch of the log from its start, as bytes.
  Bytes everything() {
    Bytes out;
    for (Offset at = log->log_start_offset(); at < log->log_end_offset();) {
      const ReadResult r = read(at, 100'000);
      REQUIRE_FALSE(r.empty());
      const Result<Bytes> bytes = Log::read_bytes(r);
      REQUIRE(bytes.ok());
      out.insert(out.end(), bytes->begin(), bytes->end());
      REQUIRE(r.next_offset > at);
      at = r.next_offset;
    }
    return out;
  }
  std::string path(Offset offset, FileKind kind) const { return kDirectory + "/" + file_name(offset, kind); }
};

inline std::vector<Offset> base_offsets(ByteView bytes) {
  std::vector<Offset> out;
  record::BatchIterator batches(bytes);
  while (true) {
    Result<std::optional<record::BatchView>> next = batches.next();
    REQUIRE(next.ok());
    if (!*next) break;
    out.push_back((*next)->base_offset());
  }
  REQUIRE(batches.torn_bytes() == 0);
  return out;
}

}  // namespace millrace::log::fixture
