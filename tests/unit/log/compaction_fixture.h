// Compaction of a log on a memory disk, for the tests of this room: keyed batches, a whole run in one call,
// and what a reader finds.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "log/compaction.h"
#include "log_fixture.h"
#include "record/control_batch.h"

namespace millrace::log::fixture {

struct Keyed {
  std::optional<std::string> key;
  std::optional<std::string> value;  // nothing: a tombstone
};

struct KeyedSpec {
  int64_t timestamp = kT0;
  ProducerId producer = kNoProducerId;
  ProducerEpoch epoch = kNoProducerEpoch;
  int32_t sequence = -1;
  bool transactional = false;
  record::Codec codec = record::Codec::none;
};

inline Bytes keyed_batch(const std::vector<Keyed>& records, const KeyedSpec& spec = {}) {
  record::BatchOptions options;
  options.codec = spec.codec;
  options.producer_id = spec.producer;
  options.producer_epoch = spec.epoch;
  options.base_sequence = spec.sequence;
  options.transactional = spec.transactional;
  record::BatchBuilder builder(options);
  int64_t at = spec.timestamp;
  for (const Keyed& r : records) {
    const auto bytes = [](const std::optional<std::string>& s) {
      return s ? record::OptionalBytes(as_bytes(*s)) : record::OptionalBytes();
    };
    const record::Header header{as_bytes("h"), as_bytes("1")};
    builder.append(at++, bytes(r.key), bytes(r.value), std::span(&header, 1));
  }
  record::Codecs codecs;
  Result<Bytes> built = builder.build(codecs);
  REQUIRE(built.ok());
  return std::move(*built);
}

inline Bytes end_marker(ProducerId producer, bool commit, ProducerEpoch epoch = ProducerEpoch(0)) {
  return record::build_marker(
      {.producer_id = producer, .producer_epoch = epoch, .commit = commit, .coordinator_epoch = 1}, kT0);
}

struct Found {
  Offset offset;
  std::optional<std::string> key;
  std::optional<std::string> value;
  int64_t timestamp = -1;
  bool operator==(const Found&) const = default;
};

struct BatchFound {
  Offset base;
  Offset next;
  bool control = false;
  bool horizon = false;
  int64_t base_timestamp = 0;
  ProducerId producer;
  int32_t records = 0;
  record::Codec codec;
  LeaderEpoch epoch;
  int32_t base_sequence = -1;
};

struct CompactionFixture : Fixture {
  CompactionFixture() {
    config.segment_bytes = 2000;
    config.compact_policy = true;
    config.delete_policy = false;
    config.index_interval_bytes = 100;
    config.delete_retention_ms = 1000;
    config.file_delete_delay_ms = 0;
  }

  void append_keyed(const std::vector<Keyed>& records, const KeyedSpec& spec = {}, int64_t ms = 0,
                    LeaderEpoch leader_epoch = LeaderEpoch(0)) {
    append(keyed_batch(records, spec), ms, leader_epoch);
  }
  /// Closes the active segment and makes everything durable: all of it may be compacted.
  void settle(int64_t ms = 0) {
    REQUIRE(log->roll(at_ms(ms)).ok());
    REQUIRE(log->flush().ok());
  }
  CompactionLimits limits() const {
    CompactionLimits l;
    l.map_bytes = map_bytes;
    l.secret = {1, 2};
    return l;
  }
  Result<CompactionStats> try_compact(int64_t ms, std::optional<Offset> high_watermark = std::nullopt) {
    const Offset hw = high_watermark.value_or(log->log_end_offset());
    log->on_high_watermark(hw);
    TRY_ASSIGN(CompactionPlan plan, log->plan_compaction(at_ms(ms), hw));
    Compaction run(disk, std::move(plan), limits());
    while (true) {
      const Result<Compaction::State> state = run.step(step_bytes);
      if (!state) {
        run.abandon();
        return state.error();
      }
      if (*state == Compaction::State::done) break;
      if (*state != Compaction::State::group_ready) continue;
      TRY(log->begin_swap(run.ready()));
      const Status synced = disk.sync_directory(kDirectory);
      TRY(log->finish_swap(run.ready(), synced, at_ms(ms)));
      run.group_swapped();
    }
    log->set_cleaned_end(run.cleaned_end());
    return run.stats();
  }
  CompactionStats compact(int64_t ms = 0, std::optional<Offset> high_watermark = std::nullopt) {
    const Result<CompactionStats> ran = try_compact(ms, high_watermark);
    INFO((ran.ok() ? std::string() : ran.error().message));
    REQUIRE(ran.ok());
    return *ran;
  }

  /// Every data record, checked on the way: offsets ascend, checksums match, what read() says is true.
  std::vector<Found> records() {
    std::vector<Found> out;
    record::Codecs codecs;
    for_each_batch([&](const record::BatchView& view) {
      if (view.is_control()) return;
      const Result<record::OpenedBatch> opened = record::OpenedBatch::open(view, codecs, 1 << 20);
      REQUIRE(opened.ok());
      record::RecordReader reader = opened->reader();
      record::Record r;
      while (true) {
        const Result<bool> more = reader.next(r);
        REQUIRE(more.ok());
        if (!*more) break;
        const auto text = [](const record::OptionalBytes& b) {
          return b ? std::optional<std::string>(as_text(*b)) : std::nullopt;
        };
        REQUIRE(r.headers.size() == 1);
        const Offset offset = opened->offset_of(r);
        REQUIRE((out.empty() || out.back().offset < offset));
        out.push_back({offset, text(r.key), text(r.value), opened->timestamp_of(r)});
      }
    });
    std::erase_if(out, [&](const Found& f) { return f.offset < log->log_start_offset(); });
    return out;
  }
  std::vector<BatchFound> batches() {
    std::vector<BatchFound> out;
    for_each_batch([&](const record::BatchView& v) {
      out.push_back({v.base_offset(), v.next_offset(), v.is_control(), v.has_delete_horizon(),
                     v.base_timestamp(), v.producer_id(), v.record_count(), v.codec(), v.leader_epoch(),
                     v.base_sequence()});
    });
    return out;
  }
  template <class Visit>
  void for_each_batch(Visit visit) {
    Offset last = log->log_start_offset() - 1;
    for (Offset at = log->log_start_offset(); at < log->log_end_offset();) {
      const ReadResult r = read(at, 700);
      REQUIRE_FALSE(r.empty());
      REQUIRE(r.next_offset > at);
      const Result<Bytes> bytes = Log::read_bytes(r);
      REQUIRE(bytes.ok());
      record::BatchIterator it(*bytes);
      while (true) {
        const auto next = it.next();
        REQUIRE(next.ok());
        if (!*next) break;
        REQUIRE((*next)->crc_matches());
        REQUIRE(((*next)->base_offset() > last || (*next)->base_offset() < log->log_start_offset()));
        last = (*next)->last_offset();
        visit(**next);
      }
      REQUIRE(last + 1 <= r.next_offset);  // or in the hole behind it
      at = r.next_offset;
    }
  }
  std::map<std::string, Found> last_of_key() {
    std::map<std::string, Found> out;
    for (const Found& f : records()) {
      if (f.key) out[*f.key] = f;
    }
    return out;
  }
  std::vector<int64_t> offsets() {
    std::vector<int64_t> out;
    for (const Found& f : records()) out.push_back(f.offset.v);
    return out;
  }
  /// Files in the partition's directory whose names end so.
  size_t files_named(std::string_view end) const {
    size_t n = 0;
    for (const std::string& p : disk.paths()) n += p.ends_with(end) ? 1u : 0u;
    return n;
  }

  size_t map_bytes = 1 << 20;
  uint64_t step_bytes = 300;
};

}  // namespace millrace::log::fixture
