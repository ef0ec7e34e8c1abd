// Random life of a compacted log against a plain list of its records: append, transactions, roll, compact,
// also interrupted at any operation on the disk, truncate, power cut, restart. Seeds: COMPACTION_SEEDS of
// them from COMPACTION_FIRST_SEED on; the seed is in the message of every failure.
#include <cstdlib>
#include <random>
#include <set>

#include "compaction_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

struct Told {
  Found record;
  Offset base;   // of its batch
  int txn = -1;  // number of the transaction that it belongs to
};

struct Txn {
  ProducerId producer;
  int state = 0;  // 0 open, 1 committed, 2 aborted
};

uint32_t number_of(const char* name, uint32_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}

class CompactedLife {
 public:
  explicit CompactedLife(uint32_t seed) : random_(seed) {
    f_.config.segment_bytes = 900 + static_cast<int32_t>(random_() % 2500);
    f_.config.index_interval_bytes = static_cast<int32_t>(random_() % 400);
    f_.config.delete_retention_ms = static_cast<int64_t>(random_() % 60);
    f_.config.file_delete_delay_ms = static_cast<int64_t>(random_() % 8);
    f_.config.min_compaction_lag_ms = random_() % 4 == 0 ? 20 : 0;
    f_.map_bytes = random_() % 2 == 0 ? 1 << 20 : 24 * (4 + random_() % 20);
    f_.step_bytes = 1 + random_() % 900;
    f_.open();
    REQUIRE(f_.disk.sync_directory("/").ok());
    REQUIRE(f_.disk.sync_directory("/data").ok());
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      now_ += static_cast<int64_t>(below(4));
      step();
      REQUIRE_FALSE(f_.log->failed());
      if (below(5) == 0) check();
    }
    check();
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }

  void step() {
    const uint64_t dice = below(100);
    if (dice < 45) return append_plain();
    if (dice < 58) return transaction();
    if (dice < 66) return roll();
    if (dice < 72) return sync();
    if (dice < 84) return compact();
    if (dice < 87) return truncate();
    if (dice < 89) return delete_records();
    if (dice < 92) return interrupted_compaction();
    if (dice < 94) return retry();
    if (dice < 96) return clean_restart();
    if (dice < 98) return kill();
    power_cut();
  }

  std::vector<Keyed> some_records() {
    std::vector<Keyed> out;
    const uint64_t count = 1 + below(4);
    for (uint64_t i = 0; i < count; ++i) {
      Keyed r{"k" + std::to_string(below(14)), std::to_string(++serial_)};
      if (below(6) == 0) {
        r.value = std::nullopt;
      } else if (below(5) == 0) {
        r.value->append(below(200), 'x');
      }
      out.push_back(std::move(r));
    }
    return out;
  }

  void append(const std::vector<Keyed>& records, KeyedSpec spec, int txn = -1) {
    spec.timestamp = kT0 + now_;
    spec.codec = below(4) == 0 ? record::Codec::lz4 : record::Codec::none;
    const Offset end = f_.log->log_end_offset();
    Bytes bytes = keyed_batch(records, spec);
    const Result<AppendResult> r = f_.log->append_as_leader(bytes, LeaderEpoch(epoch_), at_ms(now_));
    INFO((r.ok() ? std::string() : r.error().message));
    REQUIRE(r.ok());
    REQUIRE_FALSE(r->duplicate);
    REQUIRE(r->base_offset == end);
    for (size_t i = 0; i < records.size(); ++i) {
      told_.push_back({{end + static_cast<int64_t>(i), records[i].key, records[i].value,
                        spec.timestamp + static_cast<int64_t>(i)},
                       end,
                       txn});
    }
    if (spec.producer != kNoProducerId) {
      sequences_[spec.producer] = spec.sequence + static_cast<int32_t>(records.size());
      last_batch_[spec.producer] = {std::move(bytes), end};
    }
  }

  void append_plain() {
    KeyedSpec spec;
    if (below(3) == 0) {
      spec.producer = ProducerId(static_cast<int64_t>(below(3)));
      spec.epoch = ProducerEpoch(0);
      spec.sequence = sequences_[spec.producer];
    }
    append(some_records(), spec);
  }

  /// Data of a transaction, or its end.
  void transaction() {
    const ProducerId p(static_cast<int64_t>(10 + below(2)));
    int& open = open_txn_[p];
    if (open != 0 && below(2) == 0) {
      const bool commit = below(2) == 0;
      Bytes bytes = end_marker(p, commit);
      REQUIRE(f_.log->append_as_leader(bytes, LeaderEpoch(epoch_), at_ms(now_)).ok());
      txns_[static_cast<size_t>(open) - 1].state = commit ? 1 : 2;
      open = 0;
      return;
    }
    if (open == 0) {
      txns_.push_back({p});
      open = static_cast<int>(txns_.size());
    }
    KeyedSpec spec;
    spec.producer = p;
    spec.epoch = ProducerEpoch(0);
    spec.transactional = true;
    spec.sequence = sequences_[p];
    append(some_records(), spec, open - 1);
  }

  void roll() { REQUIRE(f_.log->roll(at_ms(now_)).ok()); }

  void sync() {
    REQUIRE(f_.log->flush().ok());
    remember();
  }

  void remember() {
    recovery_point_ = f_.log->recovery_point();
    durable_end_ = f_.log->durable_end();
    log_start_ = f_.log->log_start_offset();
    if (below(2) == 0) cleaned_end_ = f_.log->cleaned_end();
  }

  Offset high_watermark() const { return f_.log->durable_end(); }

  void compact() {
    const Offset end = f_.log->log_end_offset();
    const Offset from = f_.log->cleaned_end();
    const Result<CompactionStats> r = f_.try_compact(now_, high_watermark());
    INFO((r.ok() ? std::string() : r.error().message));
    REQUIRE(r.ok());
    REQUIRE(f_.log->log_end_offset() == end);
    REQUIRE(f_.log->cleaned_end() >= from);
    note_compacted(f_.log->cleaned_end());
    (void)f_.log->remove_pending(at_ms(now_));
  }

  /// Below it superseded records may be missing from now on.
  void note_compacted(Offset end) { settled_ = std::max(settled_, end); }

  /// The disk fails at some operation of the run; then the power.
  void interrupted_compaction() {
    sync();
    const uint64_t stop = below(120);
    uint64_t operations = 0;
    bool stopped = false;
    f_.disk.fault = [&](test::DiskOp, const std::string&) {
      stopped = stopped || operations++ == stop;
      return stopped ? ErrorCode::io_error : ErrorCode::none;
    };
    const Result<CompactionStats> r = f_.try_compact(now_, high_watermark());
    f_.disk.fault = nullptr;
    // Whatever came of it: what is settled may be compacted by now.
    note_compacted(f_.log->log_end_offset());
    (void)r;
    power_cut();
  }

  void truncate() {
    // Above what is replicated only, as in a cluster.
    const Offset limit = std::max(high_watermark(), f_.log->log_start_offset());
    Offset to = f_.log->log_end_offset() - static_cast<int64_t>(below(8));
    to = std::max(to, limit);
    REQUIRE(f_.log->truncate_to(to, at_ms(now_)).ok());
    forget_from(f_.log->log_end_offset());
  }

  /// Batches from `end` on are gone: what the producers had reached is read from the log.
  void forget_from(Offset end) {
    std::erase_if(told_, [&](const Told& t) { return t.record.offset >= end; });
    recovery_point_ = std::min(recovery_point_, f_.log->recovery_point());
    durable_end_ = std::min(durable_end_, f_.log->durable_end());
    adopt_producers();
    ++epoch_;
  }

  void adopt_producers() {
    sequences_.clear();
    last_batch_.clear();
    open_txn_.clear();
    for (const ProducerEntry* e : f_.log->producers().sorted()) {
      if (e->last_sequence() >= 0) sequences_[e->id] = e->last_sequence() + 1;
    }
    // Transactions whose end, or whose whole, was cut.
    std::set<int> seen;
    for (const Told& t : told_) seen.insert(t.txn);
    for (const ProducerEntry* e : f_.log->producers().sorted()) {
      if (!e->in_transaction()) continue;
      int last = -1;
      for (const int t : seen) {
        if (t >= 0 && txns_[static_cast<size_t>(t)].producer == e->id) last = std::max(last, t);
      }
      REQUIRE(last >= 0);
      txns_[static_cast<size_t>(last)].state = 0;
      open_txn_[e->id] = last + 1;
    }
  }

  void delete_records() {
    const Offset start = f_.log->log_start_offset();
    const Offset limit = std::min(f_.log->last_stable_offset(high_watermark()), high_watermark());
    if (limit <= start || below(3) != 0) return;
    const Offset to = start + static_cast<int64_t>(below(static_cast<uint64_t>(limit - start) + 1));
    REQUIRE(f_.log->advance_log_start(to).ok());
    log_start_ = to;
  }

  /// A producer's last batch again: answered with its offset, nothing appended.
  void retry() {
    if (last_batch_.empty()) return;
    auto it = last_batch_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(below(last_batch_.size())));
    Bytes bytes = it->second.first;
    const Offset end = f_.log->log_end_offset();
    const Result<AppendResult> r = f_.log->append_as_leader(bytes, LeaderEpoch(epoch_), at_ms(now_));
    REQUIRE(r.ok());
    REQUIRE(r->duplicate);
    REQUIRE(r->base_offset == it->second.second);
    REQUIRE(f_.log->log_end_offset() == end);
  }

  OpenParams params() {
    OpenParams p = f_.params();
    p.create = false;
    p.recovery_point = recovery_point_;
    p.durable_end = durable_end_;
    p.log_start_offset = log_start_;
    p.cleaned_end = cleaned_end_;
    p.now = at_ms(now_);
    return p;
  }

  void clean_restart() {
    REQUIRE(f_.log->close(true).ok());
    remember();
    OpenParams p = params();
    p.clean_shutdown = true;
    f_.open(p);
  }

  void kill() {
    f_.open(params());
    REQUIRE(f_.stats.bytes_cut == 0);
    f_.disk.settle();
  }

  void power_cut() {
    f_.log.reset();
    if (below(2) == 0) {
      f_.disk.crash();
    } else {
      f_.disk.crash([this](uint64_t n) { return below(n); });
    }
    f_.open(params());
    REQUIRE(f_.log->log_end_offset() >= durable_end_);
    REQUIRE(f_.files_named(".swap") == 0);
    REQUIRE(f_.files_named(".cleaned") == 0);
    // A record that was cut by a truncation may stand again where nothing was synced since: read what is
    // there.
    const Offset end = f_.log->log_end_offset();
    std::vector<Told> kept;
    for (Told& t : told_) {
      if (t.record.offset < durable_end_) kept.push_back(std::move(t));
    }
    told_ = std::move(kept);
    if (end > durable_end_)
      REQUIRE(f_.log->truncate_to(std::max(durable_end_, f_.log->log_start_offset()), at_ms(now_)).ok());
    forget_from(f_.log->log_end_offset());
  }

  bool aborted(const Told& t) const { return t.txn >= 0 && txns_[static_cast<size_t>(t.txn)].state == 2; }

  void check() {
    const Offset start = f_.log->log_start_offset();
    const std::vector<Found> there = f_.records();
    // Everything there was once told, just so.
    size_t at = 0;
    std::set<Offset> offsets;
    for (const Found& found : there) {
      while (at < told_.size() && told_[at].record.offset < found.offset) ++at;
      INFO("offset " << found.offset.v);
      REQUIRE(at < told_.size());
      REQUIRE(told_[at].record == found);
      offsets.insert(found.offset);
    }
    // What may be missing: records with a later one of their key below what was compacted, aborted ones,
    // tombstones after their time.
    std::map<std::string, Offset> last;
    for (const Told& t : told_) {
      if (!aborted(t) && t.record.offset < settled_) last[*t.record.key] = t.record.offset;
    }
    for (const Told& t : told_) {
      if (t.record.offset < start || offsets.contains(t.record.offset)) continue;
      INFO("missing offset " << t.record.offset.v << ", compacted up to " << settled_.v);
      if (aborted(t)) continue;
      REQUIRE(t.record.offset < settled_);
      const bool superseded = last.at(*t.record.key) > t.record.offset;
      REQUIRE((superseded || !t.record.value));
    }
    // Segments join.
    const auto segments = f_.log->segments();
    size_t bytes = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
      if (i + 1 < segments.size()) REQUIRE(segments[i].next_offset == segments[i + 1].base_offset);
      bytes += segments[i].bytes;
    }
    REQUIRE(f_.log->size_bytes() == bytes);
    for (const auto& [producer, next] : sequences_) {
      const ProducerEntry* e = f_.log->producers().find(producer);
      REQUIRE(e != nullptr);
      REQUIRE(e->last_sequence() + 1 == next);
    }
    // A timestamp leads to the first record that is at least so late.
    if (!there.empty()) {
      const int64_t t = there[below(there.size())].timestamp;
      const auto found = f_.log->offset_for_timestamp(t, f_.log->log_end_offset());
      REQUIRE(found.ok());
      REQUIRE(found->has_value());
      REQUIRE((*found)->timestamp >= t);
    }
    // Any offset can be read from, holes included.
    if (f_.log->log_end_offset() > start) {
      const Offset from =
          start + static_cast<int64_t>(below(static_cast<uint64_t>(f_.log->log_end_offset() - start)));
      const ReadResult r = f_.read(from, below(400));
      REQUIRE_FALSE(r.empty());
      REQUIRE(r.next_offset > from);
    }
  }

  CompactionFixture f_;
  std::mt19937 random_;
  std::vector<Told> told_;
  std::vector<Txn> txns_;
  std::map<ProducerId, int> open_txn_;  // number + 1
  std::map<ProducerId, int32_t> sequences_;
  std::map<ProducerId, std::pair<Bytes, Offset>> last_batch_;
  Offset settled_{0};
  Offset recovery_point_{0};
  Offset durable_end_{0};
  Offset log_start_{0};
  Offset cleaned_end_{0};
  int32_t epoch_ = 0;
  int64_t now_ = 0;
  uint64_t serial_ = 0;
};

TEST_CASE("a random life with compaction agrees with a plain list") {
  const uint32_t first = number_of("COMPACTION_FIRST_SEED", 1);
  const uint32_t count = number_of("COMPACTION_SEEDS", 60);
  for (uint32_t seed = first; seed < first + count; ++seed) {
    INFO("seed " << seed);
    CompactedLife(seed).run(220);
  }
}

}  // namespace
}  // namespace millrace::log
