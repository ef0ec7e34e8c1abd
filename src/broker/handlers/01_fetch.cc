// Fetch (1), versions 4-17.
//   4 isolation level | 5 log start offset | 7 sessions (KIP-227) | 9 leader epoch | 10 zstd | 11 rack,
//   preferred replica (KIP-392) | 12 flexible, diverging epoch | 13 topic ids | 15 replica state | 16 node
//   endpoints | 17 directory id; ours: durable end
//
// A fetch that finds too little waits as data: it watches its partitions, an append or commit marks (fetch,
// partition) dirty, only that partition is looked at again.
//
// A replica's session watches its partitions itself, from one answer to the next: only those that it names as
// due are looked at.
//
// Replicas are served on the internal listener alone. They read to the log end; what a request says of a
// replica's ends is told to the leader's machine once, when it arrives. Their parked fetches are completed by
// appends and by a moved high watermark. An empty one outside a session completes whatever of this replica is
// parked: it has more to ask.
//
// What the page cache holds is answered from it. What is cold is read on the disk's pool into memory, within
// the broker's budget, and its checksums are verified; the loop never waits for the medium.
#include <algorithm>

#include "broker/broker.h"
#include "broker/fetch_sessions.h"
#include "broker/handlers/handlers.h"
#include "broker/leader_hints.h"
#include "replica/read_replica.h"

namespace millrace::broker {
namespace {

using FetchReply = wire::FetchResponse;

constexpr size_t kCopyMax = 64 * 1024;  // smaller slices are copied, larger ones go from the page cache
constexpr int64_t kBudgetStepMs = 20;   // a cold read that found no budget asks again
constexpr int64_t kWaitStepMs = 5'000;  // a parked fetch looks this often whether its client is still there

struct FetchEntry {
  size_t topic = 0;                            // index into the run's topics
  FetchSession::Key key;                       // of its session
  std::optional<int64_t> told_high_watermark;  // by the session's last answer
  std::optional<int64_t> told_log_start;
  bool told_error = false;
  bool refused = false;            // as a replica's: `error` or `diverging` is the answer
  BrokerId preferred = kNoBroker;  // where the consumer should read instead
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
  // ... or one batch that is larger, as the look would have taken it: a read that took less would find
  // nothing, and the next look would ask for it again.
  bool cold_exceeds = false;
  Slice verified;          // what came from there
  bool settled = false;    // read from there: not looked at again
  bool throttled = false;  // a replica that is not in sync, held to leader.replication.throttled.rate
};

/// A replica's fetch in a session.
class SessionFetch {
 public:
  virtual ~SessionFetch() = default;
  virtual void on_due(const FetchSession::Key& key) = 0;
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

/// Told by the partitions of a replica's session, for as long as it lasts; hands on what has changed to the
/// fetch that waits, if one does.
class SessionWaiter final : public partition::DataWaiter {
 public:
  SessionWaiter(io::Loop& loop, std::weak_ptr<FetchSession> session)
      : loop_(loop), session_(std::move(session)) {}

  io::Loop& loop() override { return loop_; }
  void on_data(uint64_t tag) override;
  void wakes(std::weak_ptr<SessionFetch> fetch) { fetch_ = std::move(fetch); }

 private:
  io::Loop& loop_;
  const std::weak_ptr<FetchSession> session_;
  std::weak_ptr<SessionFetch> fetch_;
};

class FetchRun final : public partition::DataWaiter,
                       public SessionFetch,
                       public ParkedFetch,
                       public std::enable_shared_from_this<FetchRun> {
 public:
  FetchRun(Call call, wire::FetchRequest& request, int32_t replica, FetchSessions::Opened opened)
      : call_(std::move(call)),
        replica_(replica),
        session_(std::move(opened.session)),
        incremental_(opened.incremental),
        isolation_(replica >= 0                   ? partition::Isolation::replica
                   : request.isolation_level == 1 ? partition::Isolation::read_committed
                                                  : partition::Isolation::read_uncommitted),
        bytes_max_(std::min<size_t>(static_cast<size_t>(std::max(request.max_bytes, 0)),
                                    call_.broker().config().fetch_bytes_max)),
        bytes_min_(static_cast<size_t>(std::max(request.min_bytes, 0))),
        deadline_ms_(call_.now().mono_ms + std::max(request.max_wait_ms, 0)),
        replica_epoch_(request.replica_state.replica_epoch) {
    if (replica_ < 0 && !request.rack_id.empty() && follows_racks()) rack_ = request.rack_id;
    by_session_ = session_ && session_->of_replica;
    if (by_session_ && !session_->waiter)
      session_->waiter = std::make_shared<SessionWaiter>(call_.loop(), session_);
    resolve(request);
  }

  io::Loop& loop() override { return call_.loop(); }

  void start() {
    if (by_session_) static_cast<SessionWaiter&>(*session_->waiter).wakes(weak_from_this());
    look_at_all();
    go_on();
  }

  void answer_now() override {
    if (answered_ || reading_) return;
    look_at_all();
    answer();
  }

  void on_data(uint64_t tag) override {
    if (answered_) return;
    FetchEntry& e = entries_[tag];
    e.partition->rearm(e.watch);
    look_again(e);
  }

  void on_due(const FetchSession::Key& key) override {
    if (answered_) return;
    const auto known =
        std::find_if(entries_.begin(), entries_.end(), [&](const FetchEntry& e) { return e.key == key; });
    if (known == entries_.end()) {
      if (const auto kept = session_->partitions.find(key); kept != session_->partitions.end())
        look_again(resolve_kept(*kept));
    } else {
      if (known->partition) session_->watch(key, known->partition, session_->waiter);
      look_again(*known);
    }
  }

 private:
  void look_again(FetchEntry& e) {
    if (reading_) return;  // everything is looked at again after it
    total_ -= e.found.bytes;
    look_at(e, bytes_max_, true);
    total_ += e.found.bytes;
    if (satisfied()) look_at_all();
    if (satisfied() || e.cold_limit > 0) go_on();
  }

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
        if (!e.partition || e.refused || by_session_) continue;
        e.watch = replica_ >= 0 ? e.partition->watch_as_replica(shared_from_this(), i)
                                : e.partition->watch(shared_from_this(), i);
      }
      if (replica_ >= 0) call_.shard().parked_replicas[replica_] = weak_from_this();
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
      const bool first = e.cold_exceeds && reads->empty();
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
    if (!incremental_) {
      for (wire::FetchRequest::FetchTopic& t : request.topics) {
        for (wire::FetchRequest::FetchPartition& p : t.partitions) resolve(t.topic, t.topic_id, p, true);
      }
      return;
    }
    if (by_session_) {
      const auto due = [this](const FetchSession::Key& key) {
        if (const auto kept = session_->partitions.find(key); kept != session_->partitions.end())
          (void)resolve_kept(*kept);
      };
      const auto first = session_->due.lower_bound(session_->first);
      for (auto it = first; it != session_->due.end(); ++it) due(*it);
      for (auto it = session_->due.begin(); it != first; ++it) due(*it);
      return;
    }
    const auto first = session_->partitions.lower_bound(session_->first);
    for (auto it = first; it != session_->partitions.end(); ++it) (void)resolve_kept(*it);
    for (auto it = session_->partitions.begin(); it != first; ++it) (void)resolve_kept(*it);
  }

  FetchEntry& resolve_kept(std::pair<const FetchSession::Key, FetchSession::Partition>& kept) {
    FetchSession::Partition& p = kept.second;
    FetchEntry& e = resolve(p.topic, p.topic_id, p.asked, std::exchange(p.fresh, false));
    e.told_high_watermark = p.high_watermark;
    e.told_log_start = p.log_start;
    e.told_error = p.had_error;
    return e;
  }

  FetchEntry& resolve(const std::string& name, const Uuid& id, const wire::FetchRequest::FetchPartition& p,
                      bool said) {
    const bool by_id = call_.version() >= 13;
    // What becomes due later is looked for in the view of then.
    const bool same_image = call_.view().image == image_;
    if (!same_image) image_ = call_.view().image;
    if (!same_image || topics_.empty() || topics_.back().name != name || topics_.back().id != id) {
      topics_.push_back({name, id, by_id ? image_->topic(id) : image_->topic(name)});
    }
    const meta::Topic* topic = topics_.back().known;
    FetchEntry& e = entries_.emplace_back();
    e.topic = topics_.size() - 1;
    if (session_) e.key = {by_id ? id.to_string() : name, p.partition};
    e.index = p.partition;
    e.from = Offset(p.fetch_offset);
    e.bytes_max = static_cast<size_t>(std::max(p.partition_max_bytes, 0));
    e.check.current = LeaderEpoch(p.current_leader_epoch);
    // Followers serve consumers that know of them, nobody else.
    e.check.from_follower = replica_ < 0 && call_.version() >= 11;
    if (replica_ < 0) e.last_fetched_epoch = LeaderEpoch(p.last_fetched_epoch);
    if (topic == nullptr) {
      e.error = by_id ? ErrorCode::unknown_topic_id : ErrorCode::unknown_topic_or_partition;
      return e;
    }
    const PartitionRef* found = call_.view().partition(topic->id, p.partition);
    if (found == nullptr) {
      e.error = absence(topic, p.partition, call_.broker().config().node_id);
      return e;
    }
    e.partition = *found;
    if (by_session_) {
      ++session_->looks;
      session_->watch(e.key, e.partition, session_->waiter);
    }
    if (replica_ >= 0 && said) hear(e, p);
    if (replica_ >= 0) throttle(e, *topic);
    if (!rack_.empty()) prefer(e, *topic);
    return e;
  }

  void throttle(FetchEntry& e, const meta::Topic& topic) {
    partition::ReplicationThrottle& limit = call_.broker().leader_throttle();
    if (!limit.is_limited() || !e.partition->config()->throttled_as_leader.contains(e.index)) return;
    const meta::Partition* state = topic.partitions.find(PartitionId(e.index));
    e.throttled = state != nullptr && !contains(state->isr, BrokerId(replica_));
    if (e.throttled) e.bytes_max = std::min(e.bytes_max, static_cast<size_t>(limit.bytes_at_once()));
  }

  // What the replica says of its ends.
  void hear(FetchEntry& e, const wire::FetchRequest::FetchPartition& p) {
    replica::FollowerFetch fetch;
    fetch.follower = BrokerId(replica_);
    fetch.broker_epoch = replica_epoch_;
    fetch.leader_epoch = e.check.current;
    fetch.fetch_offset = e.from;
    // A replica that says nothing of it has what it has.
    fetch.durable_end = p.durable_end_offset < 0 ? e.from : Offset(p.durable_end_offset);
    fetch.last_fetched_epoch = LeaderEpoch(p.last_fetched_epoch);
    bool proposes = false;
    const replica::FetchOutcome outcome = e.partition->on_replica_fetch(fetch, call_.now(), proposes);
    if (proposes) call_.broker().on_isr_proposal(e.partition);
    if (outcome.accepted()) return;
    e.refused = true;
    e.error = outcome.error;
    e.diverging = outcome.diverging;
    // It needs to know where this log begins.
    if (const auto offsets = e.partition->offsets(); offsets.ok()) {
      e.offsets = *offsets;
      e.known_offsets = true;
    }
  }

  bool follows_racks() const {
    const std::optional<std::string> selector =
        call_.broker().setting(*call_.view().image, "replica.selector.class");
    return selector && selector->ends_with("RackAwareReplicaSelector");
  }

  void prefer(FetchEntry& e, const meta::Topic& topic) {
    const std::vector<partition::ReplicaState> states = e.partition->replica_states();
    const auto offsets = e.partition->offsets();
    if (states.empty() || !offsets.ok()) return;
    const meta::Image& image = *call_.view().image;
    const BrokerId self = call_.broker().config().node_id;
    std::vector<replica::ReadCandidate> candidates;
    const auto add = [&](const partition::ReplicaState& state) {
      const meta::Broker* broker = image.broker(state.id);
      if (broker == nullptr || !broker->rack) return;
      candidates.push_back({state.id, *broker->rack, state.in_sync, !broker->fenced, offsets->log_start,
                            state.log_end, state.behind_ms});
    };
    for (const partition::ReplicaState& state : states) add(state);
    partition::ReplicaState own;
    own.id = self;
    own.in_sync = true;
    own.log_end = offsets->log_end;
    add(own);
    (void)topic;
    if (const auto chosen = replica::preferred_read_replica(rack_, self, e.from, candidates)) {
      e.preferred = *chosen;
      e.offsets = *offsets;
      e.known_offsets = true;
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
    if (!e.partition || e.settled || e.refused || e.preferred != kNoBroker) return;
    e.found = {};
    e.cold_limit = 0;
    e.diverging.reset();
    if (e.last_fetched_epoch != kNoLeaderEpoch && diverges(e)) return;
    // A replica that wants no bytes tells its durable end.
    if (replica_ >= 0 && e.bytes_max == 0) may_exceed = false;
    size_t limit = std::min(budget, e.bytes_max);
    const bool held_back = e.throttled && !call_.broker().leader_throttle().is_open(call_.now().mono_ms);
    if (held_back) {
      limit = 0;
      may_exceed = false;
    }
    Result<partition::Fetched> fetched = e.partition->fetch(
        e.from, std::max<size_t>(limit, may_exceed ? 1 : 0), may_exceed, isolation_, e.check, e.offsets);
    e.known_offsets = e.offsets.log_end > Offset(0) || fetched.ok();
    e.error = fetched.code();
    if (!fetched.ok()) return;
    if (fetched->cold && !held_back) {
      e.cold_limit = std::max<size_t>(limit, 1);
      e.cold_exceeds = may_exceed;
    }
    e.found = std::move(*fetched);
  }

  // KIP-320: the client's log may have another history than ours.
  bool diverges(FetchEntry& e) {
    // A follower may be behind: what it lacks is no divergence.
    if (e.partition->role() == partition::Partition::Role::follower) return false;
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
    const bool nothing_asked = by_session_ ? session_->partitions.empty() : entries_.empty();
    if (nothing_asked || total_ >= bytes_min_) return true;
    return std::any_of(entries_.begin(), entries_.end(), [this](const FetchEntry& e) {
      if (e.error != ErrorCode::none || e.diverging || e.preferred != kNoBroker) return true;
      // A replica's watermark moves at once, not with the next record.
      return replica_ >= 0 && session_ && has_news(e);
    });
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

  // Whether an incremental answer names it.
  bool has_news(const FetchEntry& e) const {
    if (e.error != ErrorCode::none || e.diverging || e.found.bytes > 0 || e.preferred != kNoBroker ||
        e.told_error) {
      return true;
    }
    return e.known_offsets &&
           (e.told_high_watermark != e.offsets.high_watermark.v || e.told_log_start != e.offsets.log_start.v);
  }

  void answer() {
    forget();
    size_t last_topic = topics_.size();
    for (FetchEntry& e : entries_) {
      if (by_session_) settle(e);
      if (incremental_ && !has_news(e)) continue;
      if (e.topic != last_topic) {
        last_topic = e.topic;
        FetchReply::FetchableTopicResponse& out = response_.responses.emplace_back();
        out.topic = topics_[e.topic].name;
        out.topic_id = topics_[e.topic].id;
      }
      FetchReply::PartitionData& p = response_.responses.back().partitions.emplace_back();
      p.partition_index = e.index;
      p.error_code = static_cast<int16_t>(wire_code(e.error));
      p.preferred_read_replica = e.preferred.v;
      const bool offsets = e.known_offsets && (e.error == ErrorCode::none || replica_ >= 0);
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
      if (session_) remember(e);
      if (e.throttled) call_.broker().leader_throttle().take(e.found.bytes, call_.now().mono_ms);
      if (e.error == ErrorCode::none) {
        attach(e, p);
      } else {
        call_.shard().metrics.fetch_rejected->add();
        const meta::Image& image = *call_.view().image;
        const Topic& t = topics_[e.topic];
        const meta::Topic* topic = t.id.is_zero() ? image.topic(t.name) : image.topic(t.id);
        hint_leader(image, call_.broker().config().node_id, call_.connection().listener, topic, e.index, p,
                    response_);
      }
    }
    call_.shard().metrics.bytes_out->add(total_);
    response_.session_id = session_ ? session_->id : 0;
    call_.reply(response_);
  }

  // Whatever changes from here on makes it due again, the replica's next word among it.
  void settle(const FetchEntry& e) {
    const bool left = e.from < e.offsets.log_end && e.found.bytes == 0;
    if (!e.partition || e.error != ErrorCode::none || e.diverging || e.refused || e.throttled || left) {
      if (session_->partitions.contains(e.key)) session_->due.insert(e.key);
    } else {
      session_->due.erase(e.key);
    }
  }

  void remember(const FetchEntry& e) {
    const auto kept = session_->partitions.find(e.key);
    if (kept == session_->partitions.end()) return;  // forgotten meanwhile
    kept->second.had_error = e.error != ErrorCode::none;
    if (e.known_offsets) {
      kept->second.high_watermark = e.offsets.high_watermark.v;
      kept->second.log_start = e.offsets.log_start.v;
    }
    if (e.found.bytes > 0) session_->first = {e.key.first, e.key.second + 1};
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

  struct Topic {
    std::string name;
    Uuid id;
    const meta::Topic* known = nullptr;  // in image_; not looked at later
  };

  Call call_;
  const int32_t replica_;
  const std::shared_ptr<FetchSession> session_;
  const bool incremental_;
  bool by_session_ = false;  // a replica's, which knows what is to be looked at
  const partition::Isolation isolation_;
  const size_t bytes_max_;
  const size_t bytes_min_;
  const int64_t deadline_ms_;
  const BrokerEpoch replica_epoch_;
  std::string rack_;  // of the consumer, if it may be sent elsewhere
  FetchReply response_;
  std::shared_ptr<const meta::Image> image_;  // of the last topic
  std::vector<Topic> topics_;
  std::vector<FetchEntry> entries_;
  size_t total_ = 0;
  io::TimerId timer_ = 0;
  bool answered_ = false;
  bool watching_ = false;
  bool reading_ = false;  // from the medium
};

void SessionWaiter::on_data(uint64_t tag) {
  const std::shared_ptr<FetchSession> session = session_.lock();
  const FetchSession::Key* key = session ? session->note_change(tag) : nullptr;
  if (key == nullptr) return;
  if (const std::shared_ptr<SessionFetch> fetch = fetch_.lock()) fetch->on_due(FetchSession::Key(*key));
}

}  // namespace

void handle(Call call, wire::FetchRequest& request) {
  const int32_t replica = call.version() >= 15 ? request.replica_state.replica_id : request.replica_id;
  const std::optional<meta::Endpoint>& internal = call.broker().config().internal;
  FetchReply refusal;
  FetchSessions::Opened opened;
  if (replica >= 0 && (!internal || call.connection().listener != internal->name || call.version() < 17)) {
    refusal.error_code = static_cast<int16_t>(ErrorCode::cluster_authorization_failed);
  } else {
    if (replica >= 0) call.broker().standing().note_fetch(BrokerId(replica), call.now().mono_ms);
    if (replica >= 0 && request.topics.empty() && request.session_epoch < 0) {
      if (const auto parked = call.shard().parked_replicas[replica].lock()) parked->answer_now();
      call.reply(refusal);
      return;
    }
    FetchSessions::Settings settings;
    const int64_t slots = call.broker().fetch_session_slots();
    settings.slots = static_cast<size_t>(slots) / call.broker().environment().loops.size();
    // Any number will do, as long as a session that is over is not taken for one that is not.
    const auto fresh =
        static_cast<uint64_t>(call.broker().environment().clock->mono_ns()) * 0x9E3779B97F4A7C15u;
    opened =
        call.shard().fetch_sessions.open(request, call.version(), fresh >> 16, settings, call.now().mono_ms);
    refusal.error_code = static_cast<int16_t>(wire_code(opened.error));
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
  std::make_shared<FetchRun>(std::move(call), request, replica, std::move(opened))->start();
}

}  // namespace millrace::broker
