// Fetch (1), versions 4-16.
//   4 isolation level | 5 log start offset | 7 sessions (answered with session id 0: none is kept) | 9 leader
//   epoch 10 zstd | 11 rack | 12 flexible, diverging epoch | 13 topic ids | 15 replica state | 16 node
//   endpoints
//
// A fetch that finds too little waits as data: it watches its partitions, an append or commit marks (fetch,
// partition) dirty, only that partition is looked at again. Replicas are not served on a client listener.
//
// What the page cache holds is answered from it. What is cold is read on the disk's pool into memory, within
// the broker's budget, and its checksums are verified; the loop never waits for the medium.
#include <algorithm>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "broker/leader_hints.h"

namespace millrace::broker {
namespace {

using FetchReply = wire::FetchResponse;

constexpr size_t kCopyMax = 64 * 1024;  // smaller slices are copied, larger ones go from the page cache
constexpr int64_t kBudgetStepMs = 20;   // a cold read that found no budget asks again
constexpr int64_t kWaitStepMs = 5'000;  // a parked fetch looks this often whether its client is still there

struct FetchEntry {
  size_t topic = 0;  // index into the response's topics
  PartitionRef partition;
  int32_t index = 0;
  Offset from;
  size_t bytes_max = 0;
  partition::EpochCheck check;
  LeaderEpoch last_fetched_epoch = kNoLeaderEpoch;
  partition::DataWatches::Id watch = 0;
  // The last look.
  ErrorCode error = ErrorCode::none;
  partition::Offsets offsets{};
  bool known_offsets = false;
  std::optional<partition::Partition::EpochEnd> diverging;
  partition::Fetched found;
  size_t cold_limit = 0;  // bytes of it that are wanted from the medium; 0: nothing
  Slice verified;         // what came from there
  bool settled = false;   // read from there: not looked at again
};

/// One partition's read from the medium, on the pool.
struct ColdRead {
  size_t entry = 0;
  PartitionRef partition;
  Offset from;
  size_t limit = 0;
  bool may_exceed = false;
  partition::Isolation isolation{};
  partition::EpochCheck check;
  ColdReadBudget::Share share;
  partition::Offsets offsets{};
  Result<partition::Fetched> result = ErrorCode::unknown_server_error;

  void run() { result = partition->fetch_cold(from, limit, may_exceed, isolation, check, offsets); }
};

class FetchRun final : public partition::DataWaiter, public std::enable_shared_from_this<FetchRun> {
 public:
  FetchRun(Call call, wire::FetchRequest& request)
      : call_(std::move(call)),
        isolation_(request.isolation_level == 1 ? partition::Isolation::read_committed
                                                : partition::Isolation::read_uncommitted),
        bytes_max_(std::min<size_t>(static_cast<size_t>(std::max(request.max_bytes, 0)),
                                    call_.broker().config().fetch_bytes_max)),
        bytes_min_(static_cast<size_t>(std::max(request.min_bytes, 0))),
        deadline_ms_(call_.now().mono_ms + std::max(request.max_wait_ms, 0)) {
    resolve(request);
  }

  io::Loop& loop() override { return call_.loop(); }

  void start() {
    look_at_all();
    go_on();
  }

  void on_data(uint64_t tag) override {
    if (answered_) return;
    FetchEntry& e = entries_[tag];
    e.partition->rearm(e.watch);
    if (reading_) return;  // everything is looked at again after it
    total_ -= e.found.bytes;
    look_at(e, bytes_max_, true);
    total_ += e.found.bytes;
    if (satisfied()) look_at_all();
    if (satisfied() || e.cold_limit > 0) go_on();
  }

 private:
  /// After every look: answers, reads what is cold, or waits.
  void go_on() {
    if (answered_ || reading_ || read_cold()) return;
    if (satisfied() || call_.now().mono_ms >= deadline_ms_) {
      answer();
      return;
    }
    if (!watching_) {
      watching_ = true;
      for (size_t i = 0; i < entries_.size(); ++i) {
        FetchEntry& e = entries_[i];
        if (e.partition) e.watch = e.partition->watch(shared_from_this(), i);
      }
      look_at_all();  // what came between the look and the watch
      go_on();
      return;
    }
    if (timer_ == 0) arm_timer();
  }

  /// Starts the reads of what is cold, as far as the request and the budget allow. False if there are none.
  bool read_cold() {
    auto reads = std::make_shared<std::vector<ColdRead>>();
    size_t room = bytes_max_ > total_ ? bytes_max_ - total_ : 0;
    bool refused = false;
    for (size_t i = 0; i < entries_.size(); ++i) {
      FetchEntry& e = entries_[i];
      const bool first = total_ == 0 && reads->empty();
      if (e.cold_limit == 0 || (room == 0 && !first)) continue;
      const size_t limit = std::max<size_t>(std::min(e.cold_limit, room), first ? 1 : 0);
      ColdReadBudget::Share share = ColdReadBudget::take(call_.broker().cold_reads(), limit);
      if (!share) {
        refused = true;
        continue;
      }
      room -= std::min(room, limit);
      ColdRead& r = reads->emplace_back();
      r.entry = i;
      r.partition = e.partition;
      r.from = e.from;
      r.limit = limit;
      r.may_exceed = first;
      r.isolation = isolation_;
      r.check = e.check;
      r.share = std::move(share);
    }
    if (reads->empty()) {
      if (!refused || satisfied() || call_.now().mono_ms >= deadline_ms_) return false;
      if (timer_ != 0) loop().cancel(timer_);
      timer_ = loop().call_after(kBudgetStepMs, [self = shared_from_this()] {
        self->timer_ = 0;
        self->go_on();
      });
      return true;
    }
    reading_ = true;
    call_.broker().environment().disk->run_in(
        io::Lane::read, loop(),
        [reads] {
          for (ColdRead& r : *reads) r.run();
        },
        [self = shared_from_this(), reads] { self->on_cold_read(*reads); });
    return true;
  }

  void on_cold_read(std::vector<ColdRead>& reads) {
    reading_ = false;
    for (ColdRead& r : reads) {
      FetchEntry& e = entries_[r.entry];
      e.cold_limit = 0;
      e.settled = true;
      e.offsets = r.offsets;
      e.known_offsets = e.offsets.log_end > Offset(0) || r.result.ok();
      e.error = r.result.code();
      e.found = {};
      if (!r.result.ok()) continue;
      e.found.bytes = r.result->bytes;
      e.found.aborted = std::move(r.result->aborted);
      r.share.resize(r.result->bytes);
      e.verified = r.share.keep(std::move(r.result->verified));
      // Nothing there after all: it is watched like any other.
      e.settled = e.found.bytes > 0;
    }
    look_at_all();
    go_on();
  }

  void resolve(wire::FetchRequest& request) {
    const bool by_id = call_.version() >= 13;
    const meta::Image& image = *call_.view().image;
    for (wire::FetchRequest::FetchTopic& t : request.topics) {
      FetchReply::FetchableTopicResponse& out = response_.responses.emplace_back();
      out.topic = t.topic;
      out.topic_id = t.topic_id;
      const meta::Topic* topic = by_id ? image.topic(t.topic_id) : image.topic(t.topic);
      for (wire::FetchRequest::FetchPartition& p : t.partitions) {
        FetchEntry& e = entries_.emplace_back();
        e.topic = response_.responses.size() - 1;
        e.index = p.partition;
        e.from = Offset(p.fetch_offset);
        e.bytes_max = static_cast<size_t>(std::max(p.partition_max_bytes, 0));
        e.check.current = LeaderEpoch(p.current_leader_epoch);
        e.last_fetched_epoch = LeaderEpoch(p.last_fetched_epoch);
        if (topic == nullptr) {
          e.error = by_id ? ErrorCode::unknown_topic_id : ErrorCode::unknown_topic_or_partition;
          continue;
        }
        if (const PartitionRef* found = call_.view().partition(topic->id, p.partition)) {
          e.partition = *found;
        } else {
          e.error = absence(topic, p.partition, call_.broker().config().node_id);
        }
      }
    }
  }

  void look_at_all() {
    total_ = 0;
    for (FetchEntry& e : entries_) {
      look_at(e, bytes_max_ > total_ ? bytes_max_ - total_ : 0, total_ == 0);
      total_ += e.found.bytes;
    }
  }

  void look_at(FetchEntry& e, size_t budget, bool may_exceed) {
    if (!e.partition || e.settled) return;
    e.found = {};
    e.cold_limit = 0;
    e.diverging.reset();
    if (e.last_fetched_epoch != kNoLeaderEpoch && diverges(e)) return;
    const size_t limit = std::min(budget, e.bytes_max);
    Result<partition::Fetched> fetched = e.partition->fetch(
        e.from, std::max<size_t>(limit, may_exceed ? 1 : 0), may_exceed, isolation_, e.check, e.offsets);
    e.known_offsets = e.offsets.log_end > Offset(0) || fetched.ok();
    e.error = fetched.code();
    if (!fetched.ok()) return;
    if (fetched->cold) e.cold_limit = std::max<size_t>(limit, 1);
    e.found = std::move(*fetched);
  }

  // KIP-320: the client's log may have another history than ours.
  bool diverges(FetchEntry& e) {
    const auto end = e.partition->end_offset_for_epoch(e.last_fetched_epoch, e.check);
    if (!end.ok()) {
      e.error = end.code();
      return true;
    }
    if (end->epoch == kNoLeaderEpoch) {
      e.error = ErrorCode::offset_out_of_range;
      return true;
    }
    if (end->epoch < e.last_fetched_epoch || end->end_offset < e.from) {
      e.error = ErrorCode::none;
      e.diverging = *end;
      (void)e.partition->fetch(e.from, 0, false, isolation_, e.check, e.offsets);  // for the offsets alone
      e.known_offsets = true;
      return true;
    }
    return false;
  }

  bool satisfied() const {
    if (entries_.empty() || total_ >= bytes_min_) return true;
    return std::any_of(entries_.begin(), entries_.end(),
                       [](const FetchEntry& e) { return e.error != ErrorCode::none || e.diverging; });
  }

  void arm_timer() {
    const int64_t left = std::max<int64_t>(deadline_ms_ - call_.now().mono_ms, 0);
    timer_ = loop().call_after(std::min(left, kWaitStepMs), [self = shared_from_this()] {
      self->timer_ = 0;
      if (self->answered_) return;
      if (!self->call_.connected()) {
        self->forget();
      } else if (self->call_.now().mono_ms >= self->deadline_ms_) {
        if (self->reading_) return;  // answered when that is done
        self->look_at_all();
        self->go_on();
      } else {
        self->arm_timer();
      }
    });
  }

  void forget() {
    answered_ = true;
    if (timer_ != 0) loop().cancel(timer_);
    for (FetchEntry& e : entries_) {
      if (e.watch != 0) e.partition->unwatch(e.watch);
    }
  }

  void answer() {
    forget();
    for (FetchEntry& e : entries_) {
      FetchReply::PartitionData& p = response_.responses[e.topic].partitions.emplace_back();
      p.partition_index = e.index;
      p.error_code = static_cast<int16_t>(wire_code(e.error));
      p.preferred_read_replica = -1;
      const bool offsets = e.known_offsets && e.error == ErrorCode::none;
      p.high_watermark = offsets ? e.offsets.high_watermark.v : -1;
      p.last_stable_offset = offsets ? e.offsets.last_stable.v : -1;
      p.log_start_offset = offsets ? e.offsets.log_start.v : -1;
      if (isolation_ == partition::Isolation::read_committed) {
        p.aborted_transactions.emplace();
        for (const log::AbortedTxn& txn : e.found.aborted) {
          FetchReply::AbortedTransaction& a = p.aborted_transactions->emplace_back();
          a.producer_id = txn.producer_id.v;
          a.first_offset = txn.first_offset.v;
        }
      }
      if (e.diverging) {
        p.diverging_epoch.epoch = e.diverging->epoch.v;
        p.diverging_epoch.end_offset = e.diverging->end_offset.v;
      }
      p.records = {};
      p.records.null = false;
      if (e.error == ErrorCode::none) {
        attach(e, p);
      } else {
        call_.shard().metrics.fetch_rejected->add();
        const meta::Image& image = *call_.view().image;
        const FetchReply::FetchableTopicResponse& t = response_.responses[e.topic];
        const meta::Topic* topic = t.topic_id.is_zero() ? image.topic(t.topic) : image.topic(t.topic_id);
        hint_leader(image, call_.connection().listener, topic, e.index, p, response_);
      }
    }
    call_.shard().metrics.bytes_out->add(total_);
    response_.session_id = 0;
    call_.reply(response_);
  }

  void attach(FetchEntry& e, FetchReply::PartitionData& p) {
    Payload out;
    out.append(std::move(e.verified));
    for (std::shared_ptr<const io::FileRegion>& r : e.found.regions) {
      if (r->length < kCopyMax) {
        Bytes copy(r->length);
        const auto got = r->file->read_at_cached(r->position, copy);
        if (got.ok() && got->has_value() && **got == copy.size()) {
          out.append(Slice(std::move(copy)));
          continue;
        }
      }
      // Large, or not in the page cache: the network reads it, where blocking is allowed if it must.
      out.append(std::shared_ptr<const ForeignBytes>(std::move(r)));
    }
    p.records.payload = std::move(out);
  }

  Call call_;
  const partition::Isolation isolation_;
  const size_t bytes_max_;
  const size_t bytes_min_;
  const int64_t deadline_ms_;
  FetchReply response_;
  std::vector<FetchEntry> entries_;
  size_t total_ = 0;
  io::TimerId timer_ = 0;
  bool answered_ = false;
  bool watching_ = false;
  bool reading_ = false;  // from the medium
};

}  // namespace

void handle(Call call, wire::FetchRequest& request) {
  const int32_t replica = call.version() >= 15 ? request.replica_state.replica_id : request.replica_id;
  FetchReply refusal;
  if (replica >= 0) {
    refusal.error_code = static_cast<int16_t>(ErrorCode::cluster_authorization_failed);
  } else if (request.session_id != 0 && request.session_epoch > 0) {
    refusal.error_code = static_cast<int16_t>(ErrorCode::fetch_session_id_not_found);
  }
  if (refusal.error_code != 0) {
    // Below v7 there is no top-level error: every partition carries it.
    for (const auto& t : request.topics) {
      if (call.version() >= 7) break;
      FetchReply::FetchableTopicResponse& out = refusal.responses.emplace_back();
      out.topic = t.topic;
      for (const auto& p : t.partitions) {
        FetchReply::PartitionData& refused = out.partitions.emplace_back();
        refused.partition_index = p.partition;
        refused.error_code = refusal.error_code;
        refused.high_watermark = -1;
      }
    }
    call.reply(refusal);
    return;
  }
  std::make_shared<FetchRun>(std::move(call), request)->start();
}

}  // namespace millrace::broker
