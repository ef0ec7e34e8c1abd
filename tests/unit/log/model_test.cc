// Random life of a log against a plain list of batches: append, read, roll, truncate, delete, sync, kill,
// power cut, clean restart. The seed is in the message of every failure.
#include <random>
#include <set>

#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

struct ModelBatch {
  Offset base;
  Offset next;
  Bytes bytes;
  int64_t timestamp = 0;
};

/// What the checksum and its neighbours tell apart. A torn sector may join the offset and epoch of one batch
/// with the rest of another that stood at the same place and was cut.
Bytes signed_part(const Bytes& batch) {
  return Bytes(batch.begin() + 16, batch.end());
}

class LogModel {
 public:
  explicit LogModel(uint32_t seed) : random_(seed) {
    f_.config.segment_bytes = 1800 + static_cast<int32_t>(random_() % 3000);
    f_.config.index_interval_bytes = static_cast<int32_t>(random_() % 500);
    f_.config.retention_ms = -1;
    f_.config.retention_bytes = -1;
    f_.config.file_delete_delay_ms = 5;
    f_.open();
    REQUIRE(f_.disk.sync_directory("/").ok());
    REQUIRE(f_.disk.sync_directory("/data").ok());
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      now_ += static_cast<int64_t>(random_() % 3);
      step();
      check();
    }
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }

  void step() {
    const uint64_t dice = below(100);
    if (dice < 45) return append();
    if (dice < 60) return read_somewhere();
    if (dice < 65) return look_up_time();
    if (dice < 70) return roll();
    if (dice < 76) return sync();
    if (dice < 80) return truncate();
    if (dice < 84) return delete_records();
    if (dice < 88) return retention();
    if (dice < 91) return clean_restart();
    if (dice < 94) return kill();
    if (dice < 98) return power_cut();
    full_disk();
  }

  BatchSpec spec() {
    BatchSpec s;
    s.count = 1 + static_cast<int>(below(4));
    s.value_bytes = below(8) == 0 ? below(350) : below(60);
    s.timestamp = kT0 + static_cast<int64_t>(below(1000));
    s.codec = below(4) == 0 ? record::Codec::lz4 : record::Codec::none;
    s.fill = static_cast<char>('a' + below(26));
    return s;
  }

  void append() {
    const BatchSpec s = spec();
    Bytes bytes = batch(s);
    const Offset end = f_.log->log_end_offset();
    const Result<AppendResult> r = f_.log->append_as_leader(bytes, LeaderEpoch(epoch_), at_ms(now_));
    REQUIRE(r.ok());
    REQUIRE(r->base_offset == end);
    history_.insert(signed_part(bytes));
    batches_.push_back({end, r->last_offset + 1, bytes, s.timestamp + s.count - 1});
  }

  void read_somewhere() {
    const Offset start = f_.log->log_start_offset();
    const Offset end = f_.log->log_end_offset();
    const Offset from = start + static_cast<int64_t>(below(static_cast<uint64_t>(end - start) + 1));
    const Offset bound = start + static_cast<int64_t>(below(static_cast<uint64_t>(end - start) + 2));
    const size_t max = below(1200);
    const bool one = below(2) == 0;
    const ReadResult r = f_.read(from, max, bound, one);
    // The same from the list: batches from the one that holds `from`.
    auto it =
        std::find_if(batches_.begin(), batches_.end(), [&](const ModelBatch& b) { return b.next > from; });
    const bool first_fits = it != batches_.end() && it->next <= bound && (one || it->bytes.size() <= max);
    if (!first_fits || from >= bound || (max == 0 && !one)) {
      REQUIRE(r.empty());
      return;
    }
    const Bytes bytes = *Log::read_bytes(r);
    REQUIRE(r.base_offset == it->base);
    size_t at = 0;
    for (; it != batches_.end() && at < bytes.size(); ++it) {
      REQUIRE(bytes.size() - at >= it->bytes.size());
      REQUIRE(
          std::equal(it->bytes.begin(), it->bytes.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at)));
      REQUIRE(it->next <= bound);
      at += it->bytes.size();
      REQUIRE((at <= max || at == it->bytes.size()));
      if (at == bytes.size()) REQUIRE(r.next_offset == it->next);
    }
    REQUIRE(at == bytes.size());
    // As much as was allowed, unless the segment ended there.
    if (it != batches_.end() && it->next <= bound && at + it->bytes.size() <= max) {
      const auto segments = f_.log->segments();
      REQUIRE(std::any_of(segments.begin(), segments.end(),
                          [&](const auto& s) { return s.base_offset == it->base; }));
    }
  }

  void look_up_time() {
    const int64_t t = kT0 + static_cast<int64_t>(below(1100));
    const auto found = f_.log->offset_for_timestamp(t, f_.log->log_end_offset());
    REQUIRE(found.ok());
    const auto it = std::find_if(batches_.begin(), batches_.end(), [&](const ModelBatch& b) {
      return b.timestamp >= t && b.next > f_.log->log_start_offset();
    });
    REQUIRE(found->has_value() == (it != batches_.end()));
    if (it != batches_.end()) {
      // Records of a batch follow by one millisecond; the log start may lie inside it.
      const int64_t back = std::min(it->timestamp - t, it->next - it->base - 1);
      REQUIRE((*found)->offset == std::max(it->next - 1 - back, f_.log->log_start_offset()));
    }
  }

  void roll() { REQUIRE(f_.log->roll(at_ms(now_)).ok()); }

  void sync() {
    const SyncScope scope = below(3) == 0 ? SyncScope::everything : SyncScope::records;
    const Result<SyncPlan> plan = f_.log->plan_sync(scope);
    REQUIRE(plan.ok());
    if (below(2) == 0) append();  // between plan and run
    const Status ran = plan->run(f_.disk);
    REQUIRE(ran.ok());
    f_.log->synced(*plan, ran);
    REQUIRE(f_.log->durable_end() >= plan->end);
    remember();
  }

  /// What the checkpoint and the commit file would say.
  void remember() {
    recovery_point_ = f_.log->recovery_point();
    durable_end_ = f_.log->durable_end();
    log_start_ = f_.log->log_start_offset();
  }

  void truncate() {
    const Offset end = f_.log->log_end_offset();
    const Offset first = batches_.empty() ? end : batches_.front().base;
    Offset to = end - static_cast<int64_t>(below(12));
    to = std::max({to, first, f_.log->log_start_offset()});
    recovery_point_ = std::min(recovery_point_, to);
    durable_end_ = std::min(durable_end_, to);
    REQUIRE(f_.log->truncate_to(to, at_ms(now_)).ok());
    while (!batches_.empty() && batches_.back().next > to) {
      recovery_point_ = std::min(recovery_point_, batches_.back().base);
      durable_end_ = std::min(durable_end_, batches_.back().base);
      batches_.pop_back();
    }
    if (log_start_ > f_.log->log_end_offset()) log_start_ = f_.log->log_end_offset();
    ++epoch_;
  }

  void delete_records() {
    // As in a cluster: only what is durable (below the high watermark) may be deleted.
    const Offset start = f_.log->log_start_offset();
    const Offset limit = std::min(f_.log->durable_end(), f_.log->log_end_offset());
    if (limit <= start || below(3) != 0) return;
    const Offset to = start + static_cast<int64_t>(below(static_cast<uint64_t>(limit - start) + 1));
    REQUIRE(f_.log->advance_log_start(to).ok());
    log_start_ = to;
  }

  void retention() {
    const auto deleted = f_.log->delete_old_segments(at_ms(now_), f_.log->durable_end());
    REQUIRE(deleted.ok());
    const Offset first = f_.log->segments().front().base_offset;
    while (!batches_.empty() && batches_.front().base < first) batches_.erase(batches_.begin());
    f_.log->remove_pending(at_ms(now_));
    log_start_ = f_.log->log_start_offset();
  }

  OpenParams params() {
    OpenParams p = f_.params();
    p.create = false;
    p.recovery_point = recovery_point_;
    p.durable_end = durable_end_;
    p.log_start_offset = log_start_;
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
    if (log_start_ > f_.log->log_start_offset()) FAIL("log start went back");
  }

  void power_cut() {
    f_.log.reset();
    if (below(2) == 0) {
      f_.disk.crash();
    } else {
      f_.disk.crash([this](uint64_t n) { return below(n); });
    }
    f_.open(params());
    const Offset end = f_.log->log_end_offset();
    REQUIRE(end >= durable_end_);
    adopt_survivors(end);
    // Twice gives the same.
    f_.open(params());
    REQUIRE(f_.log->log_end_offset() == end);
    REQUIRE(f_.stats.bytes_cut == 0);
    retention();  // deleted segments may be back: below the log start
    ++epoch_;
  }

  /// What is durable is there as it was. Beyond it anything that once stood there may stand there again, also
  /// what was truncated since (its epoch tells), but whole and in order.
  void adopt_survivors(Offset end) {
    const std::vector<ModelBatch> before = std::exchange(batches_, {});
    for (const ModelBatch& b : before) {
      if (b.next <= durable_end_ && b.next <= end) batches_.push_back(b);
    }
    // Deleted segments may be back, too: below the log start.
    const Offset known = batches_.empty() ? f_.log->log_start_offset() : batches_.back().next;
    if (!batches_.empty()) REQUIRE(known >= std::min(durable_end_, end));
    if (known == end) return;
    LeaderEpoch last = kNoLeaderEpoch;
    for (Offset at = known; at < end;) {
      const ReadResult r = f_.read(at);
      const Bytes bytes = *Log::read_bytes(r);
      record::BatchIterator it(bytes);
      while (const std::optional<record::BatchView> view = *it.next()) {
        REQUIRE((view->base_offset() == at || batches_.empty()));
        REQUIRE(view->leader_epoch() >= last);
        REQUIRE(history_.contains(signed_part(to_bytes(view->bytes()))));
        last = view->leader_epoch();
        at = view->next_offset();
        batches_.push_back({view->base_offset(), at, to_bytes(view->bytes()), view->max_timestamp()});
      }
    }
  }

  void full_disk() {
    f_.disk.capacity = f_.disk.used() + below(100);
    for (int i = 0; i < 3; ++i) {
      Bytes bytes = batch(spec());
      const Offset end = f_.log->log_end_offset();
      const Result<AppendResult> r = f_.log->append_as_leader(bytes, LeaderEpoch(epoch_), at_ms(now_));
      history_.insert(
          signed_part(bytes));  // also a refused one may be found after a power cut: in doubt, not lost
      if (r.ok()) {
        batches_.push_back(
            {end, r->last_offset + 1, bytes, record::BatchView::parse(bytes)->max_timestamp()});
      } else {
        REQUIRE(r.code() == ErrorCode::no_space);
      }
    }
    f_.disk.capacity = UINT64_MAX;
  }

  void check() {
    REQUIRE_FALSE(f_.log->failed());
    const Offset end = batches_.empty() ? f_.log->log_end_offset() : batches_.back().next;
    REQUIRE(f_.log->log_end_offset() == end);
    REQUIRE(f_.log->recovery_point() <= f_.log->durable_end());
    REQUIRE(f_.log->durable_end() <= end);
    size_t bytes = 0;
    for (const SegmentInfo& segment : f_.log->segments()) bytes += segment.bytes;
    REQUIRE(f_.log->size_bytes() == bytes);
    if (below(6) != 0) return;
    Bytes expected;
    for (const ModelBatch& b : batches_) {
      if (b.next > f_.log->log_start_offset())
        expected.insert(expected.end(), b.bytes.begin(), b.bytes.end());
    }
    REQUIRE(f_.everything() == expected);
  }

  Fixture f_;
  std::mt19937 random_;
  std::vector<ModelBatch> batches_;
  std::set<Bytes> history_;
  Offset recovery_point_{0};
  Offset durable_end_{0};
  Offset log_start_{0};
  int32_t epoch_ = 0;
  int64_t now_ = 0;
};

TEST_CASE("a random life agrees with a plain list") {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    LogModel(seed).run(150);
  }
}

}  // namespace
}  // namespace millrace::log
