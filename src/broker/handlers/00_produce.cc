// Produce (0). Advertised from 0 because librdkafka before 2.11.1 switches compression on by it
// (KAFKA-18659); 0-2 are refused when sent.
//   3 record batch v2, transactional id | 5 log start offset | 7 zstd | 8 per-record errors | 9 flexible
//   10 leader hints (KIP-951) | 11 TRANSACTION_ABORTABLE
//
// Run to completion: validated, appended and, unless acks=all, answered on the loop that read it. Small
// batches are appended at the end of the tick, all of one partition with one write; before that nobody was
// told anything of them. With acks=all the reply is data that waits for commits, with one deadline, unless
// all is committed at once; so is any reply whose append reached flush.messages.
#include <algorithm>

#include "base/plants.h"
#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "broker/leader_hints.h"
#include "broker/tick_appends.h"
#include "record/validate.h"

namespace millrace::broker {
namespace {

constexpr int16_t kAcksAll = -1;

using ProduceReply = wire::ProduceResponse;
using ProducePartition = ProduceReply::PartitionProduceResponse;

ProducePartition produce_refused(int32_t index, ErrorCode code, std::string message = {}) {
  ProducePartition r;
  r.index = index;
  r.error_code = static_cast<int16_t>(wire_code(code));
  r.base_offset = -1;
  r.log_append_time_ms = -1;
  r.log_start_offset = -1;
  if (!message.empty()) r.error_message = std::move(message);
  return r;
}

void hint_leaders(const Call& call, ProduceReply& response) {
  const meta::Image& image = *call.view().image;
  for (ProduceReply::TopicProduceResponse& t : response.responses) {
    for (ProducePartition& p : t.partition_responses) {
      if (p.error_code == 0) continue;
      hint_leader(image, call.broker().config().node_id, call.connection().listener, image.topic(t.name),
                  p.index, p, response);
    }
  }
}

struct AwaitedCommit {
  PartitionRef partition;
  Offset committed_at;
  uint64_t tag;
  partition::Awaited what;
};

/// Records for a partition whose log is at rest: kept until it is open.
struct SleepingProduce {
  PartitionRef partition;
  uint64_t tag;
  std::string topic;
  int32_t index;
  Bytes records;
};

struct ProducedBatch {
  uint64_t tag = 0;  // topic index << 32 | partition index in the response
  size_t bytes = 0;
  uint32_t records = 0;
};

/// One request on its way to an answer.
struct Produce {
  Call call;
  int16_t acks;
  int32_t timeout_ms;
  ProduceReply response{};
  std::vector<AwaitedCommit> awaited{};
  std::vector<SleepingProduce> sleeping{};
  size_t gathered = 0;  // batches that are appended at the end of the tick
  bool failed = false;

  ProducePartition& at(uint64_t tag) {
    return response.responses[tag >> 32].partition_responses[tag & 0xffffffff];
  }
  /// What became of a batch.
  void on_append(const ProducedBatch& batch, const PartitionRef& partition,
                 const Result<partition::Appended>& appended) {
    const uint64_t tag = batch.tag;
    ProducePartition& r = at(tag);
    if (!appended.ok()) {
      refuse(tag, produce_refused(r.index, appended.code(), appended.error().message));
      return;
    }
    ShardMetrics& metrics = call.shard().metrics;
    metrics.bytes_in->add(batch.bytes);
    metrics.batches_in->add();
    metrics.records_in->add(batch.records);
    r.base_offset = appended->base_offset.v;
    // Only a topic with LogAppendTime tells it.
    if (r.log_append_time_ms >= 0) r.log_append_time_ms = appended->log_append_time_ms;
    r.log_start_offset = appended->log_start_offset.v;
    if (appended->duplicate && planted(Plant::duplicate_acknowledged_early)) return;
    const bool all = acks == kAcksAll && !appended->committed;
    if (all || (appended->flush && acks != 0)) {
      awaited.push_back(
          {partition, appended->last_offset + 1, tag, {acks == kAcksAll, appended->flush, appended->tenure}});
    }
  }
  void refuse(uint64_t tag, ProducePartition why) {
    at(tag) = std::move(why);
    failed = true;
    call.shard().metrics.produce_rejected->add();
  }
};

void answer_now(Produce& p) {
  if (p.acks != 0) {
    if (p.failed) hint_leaders(p.call, p.response);
    p.call.reply(p.response);
  } else if (p.failed) {
    p.call.close_connection();  // the only way to tell a producer with acks=0 of an error
  } else {
    p.call.no_reply();
  }
}

void finish(Produce produce);

/// The produce requests of a tick that have batches among TickAppends.
class TickProduces final : public GatheredProduces, public std::enable_shared_from_this<TickProduces> {
 public:
  explicit TickProduces(io::Loop& loop) : loop_(loop) {}

  /// Stays where it is until the next begin() or append_now().
  Produce& begin(Call call, int16_t acks, int32_t timeout_ms) {
    return requests_.emplace_back(Produce{std::move(call), acks, timeout_ms});
  }
  /// The request that began last is read to its end.
  void end() {
    if (!requests_.back().sleeping.empty()) {
      // What follows for a log at rest has to find this one waiting for it.
      append_now();
      return;
    }
    if (requests_.back().gathered > 0) return;
    Produce done = std::move(requests_.back());
    requests_.pop_back();
    finish(std::move(done));
  }

  /// For the request that began last: the batch is appended at the end of the tick.
  void gather(const PartitionRef& partition, const Uuid& topic, const ProducedBatch& what,
              TickAppends::Batch batch) {
    if (!appends_.has_room(batch.bytes.size())) append();
    Produce& request = requests_.back();
    ++request.gathered;
    batch.ticket = tickets_.size();
    tickets_.push_back({requests_.size() - 1, what});
    appends_.add(partition, topic, batch);
    if (scheduled_) return;
    scheduled_ = true;
    loop_.at_end_of_tick([self = shared_from_this()] {
      self->scheduled_ = false;
      self->append_now();
    });
  }
  /// Before something is appended to this partition by another way.
  void settle(const Uuid& topic, int32_t partition) {
    if (appends_.holds(topic, partition)) append();
  }

  bool any_of(const link::ConnectionContext& connection) const override {
    return std::any_of(requests_.begin(), requests_.end(),
                       [&](const Produce& p) { return &p.call.connection() == &connection; });
  }
  void append_now() override {
    append();
    std::vector<Produce> done = std::exchange(requests_, std::exchange(spare_, {}));
    for (Produce& p : done) finish(std::move(p));
    done.clear();
    spare_ = std::move(done);
  }

 private:
  struct Ticket {
    size_t request = 0;
    ProducedBatch batch;
  };

  void append() {
    if (appends_.empty()) return;
    const Now now = requests_.back().call.now();
    appends_.run(
        loop_, now,
        [this](uint64_t ticket, const PartitionRef& partition, const Result<partition::Appended>& r) {
          const Ticket& t = tickets_[ticket];
          requests_[t.request].on_append(t.batch, partition, r);
        });
    tickets_.clear();
  }

  io::Loop& loop_;
  TickAppends appends_;
  std::vector<Ticket> tickets_;
  std::vector<Produce> requests_;
  std::vector<Produce> spare_;  // empty, with its memory
  bool scheduled_ = false;
};

/// Reads one request: what is wrong is answered, what is small is gathered, the rest is appended.
class ProduceRun {
 public:
  /// `tick`: null if nothing may wait for the end of the tick.
  ProduceRun(Produce& produce, TickProduces* tick)
      : produce_(produce), call_(produce.call), acks_(produce.acks), now_(call_.now()), tick_(tick) {}

  void run(wire::ProduceRequest& request) {
    ProduceReply& response = produce_.response;
    response.responses.reserve(request.topic_data.size());
    for (wire::ProduceRequest::TopicProduceData& topic : request.topic_data) {
      ProduceReply::TopicProduceResponse& t = response.responses.emplace_back();
      t.partition_responses.reserve(topic.partition_data.size());
      const meta::Topic* known = call_.view().image->topic(topic.name);
      for (wire::ProduceRequest::PartitionProduceData& p : topic.partition_data) {
        const uint64_t tag =
            (static_cast<uint64_t>(response.responses.size() - 1) << 32) | t.partition_responses.size();
        t.partition_responses.emplace_back().index = p.index;
        const PartitionRef* asleep = sleeping_partition(known, p.index);
        if (asleep != nullptr && !p.records.null) {
          produce_.sleeping.push_back({*asleep, tag, topic.name, p.index, to_bytes(p.records.view)});
          produce_.at(tag) = produce_refused(p.index, ErrorCode::request_timed_out);
          continue;
        }
        one(topic.name, known, p, tag);
      }
      t.name = std::move(topic.name);
    }
  }

  /// Appends what one partition is sent, or has it gathered; what is then waited for is added to `awaited`.
  void one(const std::string& topic, const meta::Topic* known, wire::ProduceRequest::PartitionProduceData& p,
           uint64_t tag) {
    if (acks_ < -1 || acks_ > 1) return refuse(tag, p.index, ErrorCode::invalid_required_acks);
    if (known == nullptr) return refuse(tag, p.index, ErrorCode::unknown_topic_or_partition);
    if (is_internal_topic(topic) && call_.client_id() != "__admin_client") {
      return refuse(tag, p.index, ErrorCode::invalid_topic_exception,
                    "internal topics are not for producers");
    }
    const PartitionRef* partition = call_.view().partition(known->id, p.index);
    if (partition == nullptr)
      return refuse(tag, p.index, absence(known, p.index, call_.broker().config().node_id));
    if (p.records.null) return refuse(tag, p.index, ErrorCode::invalid_record, "no record batch");

    const std::shared_ptr<const partition::PartitionConfig> config = (*partition)->config();
    record::ValidationRules rules = config->validation;
    rules.produce_version = call_.version();
    std::vector<record::RecordError> record_errors;
    Result<record::ValidatedBatch> valid =
        record::validate(p.records.view, rules, now_, call_.shard().codecs, &record_errors);
    if (!valid.ok()) {
      ProducePartition r = produce_refused(p.index, valid.code(), valid.error().message);
      for (record::RecordError& e : record_errors)
        r.record_errors.push_back({e.batch_index, std::move(e.message)});
      return produce_.refuse(tag, std::move(r));
    }
    const MutableByteView batch = valid->bytes;
    const Result<record::BatchView> view = record::BatchView::parse(batch);
    ASSERT(view.ok());
    if (batch.size() > static_cast<size_t>(config->log.segment_bytes)) {
      return refuse(tag, p.index, ErrorCode::record_list_too_large, "the batch is larger than segment.bytes");
    }
    // on_append() fills in the time where this says that it is told.
    const bool tells_time = rules.timestamp_type == record::TimestampType::log_append_time;
    ProducePartition& r = produce_.at(tag);
    r.base_offset = -1;
    r.log_start_offset = -1;
    r.log_append_time_ms = tells_time ? valid->log_append_time_ms : -1;
    const bool acks_all = acks_ == kAcksAll;
    const ProducedBatch what{tag, batch.size(), static_cast<uint32_t>(view->record_count())};
    if (tick_ != nullptr && batch.size() <= TickAppends::kBatchBytesMax) {
      tick_->gather(*partition, known->id, what,
                    {.bytes = batch,
                     .partition = p.index,
                     .last_offset_delta = view->last_offset_delta(),
                     .log_append_time_ms = valid->log_append_time_ms,
                     .acks_all = acks_all});
    } else {
      if (tick_ != nullptr) tick_->settle(known->id, p.index);
      produce_.on_append(what, *partition, (*partition)->append(batch, acks_all, call_.loop(), now_));
    }
  }

 private:
  const PartitionRef* sleeping_partition(const meta::Topic* known, int32_t index) const {
    const PartitionRef* p = known == nullptr ? nullptr : call_.view().partition(known->id, index);
    return p == nullptr || (*p)->awake_for(call_.loop()) ? nullptr : p;
  }
  void refuse(uint64_t tag, int32_t index, ErrorCode code, std::string message = {}) {
    produce_.refuse(tag, produce_refused(index, code, std::move(message)));
  }

  Produce& produce_;
  Call& call_;
  const int16_t acks_;
  const Now now_;
  TickProduces* const tick_;
};

/// A produce that waits until logs at rest are open and, with acks=all, until its last record is committed on
/// every partition, or for its deadline.
class PendingProduce final : public partition::CommitWaiter,
                             public std::enable_shared_from_this<PendingProduce> {
 public:
  explicit PendingProduce(Produce produce) : produce_(std::move(produce)) {}

  io::Loop& loop() override { return produce_.call.loop(); }

  /// Begins to wait, for everything at once: an outcome that comes at once must not look like the last.
  void wait() {
    const std::vector<AwaitedCommit> awaited = std::exchange(produce_.awaited, {});
    std::vector<SleepingProduce> sleeping = std::exchange(produce_.sleeping, {});
    waiting_.reserve(awaited.size() + sleeping.size());
    for (const AwaitedCommit& a : awaited) waiting_.push_back(a.tag);
    for (const SleepingProduce& s : sleeping) waiting_.push_back(s.tag);
    for (const AwaitedCommit& a : awaited) await(a);
    for (SleepingProduce& s : sleeping) {
      const PartitionRef partition = s.partition;
      auto kept = std::make_shared<SleepingProduce>(std::move(s));
      const auto go_on = [self = shared_from_this(), kept](const Status& open) { self->go_on(*kept, open); };
      if (partition->wake(loop(), go_on)) go_on({});
    }
    start_deadline();
  }

  /// `tag`: topic index << 32 | partition index in the response.
  void on_commit(uint64_t tag, ErrorCode outcome) override {
    if (answered_) return;
    ProducePartition& p = produce_.at(tag);
    p.error_code = static_cast<int16_t>(wire_code(outcome));
    if (outcome != ErrorCode::none) {
      p.base_offset = -1;
      produce_.failed = true;  // nobody waits with acks=0
    }
    settle(tag);
  }

  /// Nothing is left to wait for.
  void answer() {
    if (answered_) return;
    answered_ = true;
    if (timer_ != 0) loop().cancel(timer_);
    answer_now(produce_);
  }

 private:
  void await(const AwaitedCommit& a) {
    if (a.partition->await_commit(a.committed_at, shared_from_this(), a.tag, a.what))
      on_commit(a.tag, ErrorCode::none);
  }

  // The log that these records are for is open, or could not be.
  void go_on(SleepingProduce& s, const Status& open) {
    if (answered_) return;  // timed out: nothing was appended, nothing will be
    if (open.ok()) {
      wire::ProduceRequest::PartitionProduceData p;
      p.index = s.index;
      p.records = wire::Records(MutableByteView(s.records));
      ProducePartition& r = produce_.at(s.tag) = {};
      r.index = s.index;
      ProduceRun(produce_, nullptr).one(s.topic, produce_.call.view().image->topic(s.topic), p, s.tag);
    } else {
      produce_.refuse(s.tag, produce_refused(s.index, open.code(), open.error().message));
    }
    const std::vector<AwaitedCommit> awaited = std::exchange(produce_.awaited, {});
    if (!awaited.empty()) {
      await(awaited.front());
      return;
    }
    settle(s.tag);
  }

  // Nothing more is awaited for it; the last one answers. They come about in the order in which they were
  // asked.
  void settle(uint64_t tag) {
    const auto it = std::find(waiting_.begin() + static_cast<ptrdiff_t>(settled_), waiting_.end(), tag);
    ASSERT(it != waiting_.end());
    std::swap(*it, waiting_[settled_++]);
    if (settled_ == waiting_.size()) answer();
  }

  void start_deadline() {
    if (answered_) return;
    timer_ = loop().call_after(std::max<int64_t>(produce_.timeout_ms, 0),
                               [self = shared_from_this()] { self->on_deadline(); });
  }

  void on_deadline() {
    timer_ = 0;
    for (size_t i = settled_; i < waiting_.size(); ++i) {
      ProducePartition& p = produce_.at(waiting_[i]);
      p.error_code = static_cast<int16_t>(ErrorCode::request_timed_out);  // the data stays
      p.base_offset = -1;
    }
    answer();
  }

  Produce produce_;
  std::vector<uint64_t> waiting_;  // tags; those before settled_ no longer
  size_t settled_ = 0;
  io::TimerId timer_ = 0;
  bool answered_ = false;
};

void finish(Produce produce) {
  if (produce.awaited.empty() && produce.sleeping.empty()) {
    answer_now(produce);
  } else {
    std::make_shared<PendingProduce>(std::move(produce))->wait();
  }
}

}  // namespace

void handle(Call call, wire::ProduceRequest& request) {
  Shard& shard = call.shard();
  if (!shard.gathered) shard.gathered = std::make_shared<TickProduces>(*shard.loop);
  auto& tick = static_cast<TickProduces&>(*shard.gathered);  // nobody else makes one
  Produce& produce = tick.begin(std::move(call), request.acks, request.timeout_ms);
  ProduceRun(produce, &tick).run(request);
  tick.end();
}

}  // namespace millrace::broker
