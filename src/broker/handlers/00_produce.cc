// Produce (0). Advertised from 0 because librdkafka before 2.11.1 switches compression on by it
// (KAFKA-18659); 0-2 are refused when sent.
//   3 record batch v2, transactional id | 5 log start offset | 7 zstd | 8 per-record errors | 9 flexible
//   10 leader hints (KIP-951) | 11 TRANSACTION_ABORTABLE
//
// Run to completion: validated, appended and, unless acks=all, answered on the loop that read it. With
// acks=all the reply is data that waits for commits, with one deadline; so is any reply whose append reached
// flush.messages.
#include <algorithm>

#include "base/plants.h"
#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "broker/leader_hints.h"
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

class ProduceRun {
 public:
  ProduceRun(Call& call, int16_t acks) : call_(call), acks_(acks), now_(call.now()) {}

  ProduceReply run(wire::ProduceRequest& request, std::vector<AwaitedCommit>& awaited,
                   std::vector<SleepingProduce>& sleeping) {
    ProduceReply response;
    response.responses.reserve(request.topic_data.size());
    for (wire::ProduceRequest::TopicProduceData& topic : request.topic_data) {
      ProduceReply::TopicProduceResponse& t = response.responses.emplace_back();
      t.name = topic.name;
      t.partition_responses.reserve(topic.partition_data.size());
      const meta::Topic* known = call_.view().image->topic(topic.name);
      for (wire::ProduceRequest::PartitionProduceData& p : topic.partition_data) {
        const uint64_t tag =
            (static_cast<uint64_t>(response.responses.size() - 1) << 32) | t.partition_responses.size();
        const PartitionRef* asleep = sleeping_partition(known, p.index);
        if (asleep != nullptr && !p.records.null) {
          sleeping.push_back({*asleep, tag, topic.name, p.index, to_bytes(p.records.view)});
          t.partition_responses.push_back(produce_refused(p.index, ErrorCode::request_timed_out));
          continue;
        }
        t.partition_responses.push_back(one(topic.name, known, p, tag, awaited));
      }
    }
    return response;
  }
  bool failed() const { return failed_; }

  /// Appends what one partition is sent; with acks=all what is then waited for is added to `awaited`.
  ProducePartition one(const std::string& topic, const meta::Topic* known,
                       wire::ProduceRequest::PartitionProduceData& p, uint64_t tag,
                       std::vector<AwaitedCommit>& awaited) {
    ProducePartition r = append(topic, known, p);
    if (r.error_code != 0) {
      failed_ = true;
      call_.shard().metrics.produce_rejected->add();
    } else if (repeated_ && planted(Plant::duplicate_acknowledged_early)) {
      return r;
    } else if (acks_ == kAcksAll || (flush_ && acks_ != 0)) {
      awaited.push_back(
          {std::move(appended_to_), last_offset_ + 1, tag, {acks_ == kAcksAll, flush_, tenure_}});
    }
    return r;
  }

 private:
  const PartitionRef* sleeping_partition(const meta::Topic* known, int32_t index) const {
    const PartitionRef* p = known == nullptr ? nullptr : call_.view().partition(known->id, index);
    return p == nullptr || (*p)->awake_for(call_.loop()) ? nullptr : p;
  }

  ProducePartition append(const std::string& topic, const meta::Topic* known,
                          wire::ProduceRequest::PartitionProduceData& p) {
    if (acks_ < -1 || acks_ > 1) return produce_refused(p.index, ErrorCode::invalid_required_acks);
    if (known == nullptr) return produce_refused(p.index, ErrorCode::unknown_topic_or_partition);
    if (is_internal_topic(topic) && call_.client_id() != "__admin_client") {
      return produce_refused(p.index, ErrorCode::invalid_topic_exception,
                             "internal topics are not for producers");
    }
    const PartitionRef* partition = call_.view().partition(known->id, p.index);
    if (partition == nullptr) {
      return produce_refused(p.index, absence(known, p.index, call_.broker().config().node_id));
    }
    if (p.records.null) return produce_refused(p.index, ErrorCode::invalid_record, "no record batch");

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
      return r;
    }
    const MutableByteView batch = valid->bytes;
    const Result<record::BatchView> view = record::BatchView::parse(batch);
    ASSERT(view.ok());
    const int32_t record_count = view->record_count();
    if (batch.size() > static_cast<size_t>(config->log.segment_bytes)) {
      return produce_refused(p.index, ErrorCode::record_list_too_large,
                             "the batch is larger than segment.bytes");
    }
    const Result<partition::Appended> appended =
        (*partition)->append(batch, acks_ == kAcksAll, call_.loop(), now_);
    if (!appended.ok()) return produce_refused(p.index, appended.code(), appended.error().message);

    ShardMetrics& metrics = call_.shard().metrics;
    metrics.bytes_in->add(batch.size());
    metrics.batches_in->add();
    metrics.records_in->add(static_cast<uint64_t>(record_count));
    appended_to_ = *partition;
    last_offset_ = appended->last_offset;
    flush_ = appended->flush;
    repeated_ = appended->duplicate;
    tenure_ = appended->tenure;
    ProducePartition r;
    r.index = p.index;
    r.base_offset = appended->base_offset.v;
    r.log_append_time_ms =
        rules.timestamp_type == record::TimestampType::log_append_time ? appended->log_append_time_ms : -1;
    r.log_start_offset = appended->log_start_offset.v;
    return r;
  }

  Call& call_;
  const int16_t acks_;
  const Now now_;
  bool failed_ = false;
  PartitionRef appended_to_;
  Offset last_offset_;
  bool flush_ = false;
  bool repeated_ = false;
  uint64_t tenure_ = 0;
};

/// A produce that waits until logs at rest are open and, with acks=all, until its last record is committed on
/// every partition, or for its deadline.
class PendingProduce final : public partition::CommitWaiter,
                             public std::enable_shared_from_this<PendingProduce> {
 public:
  PendingProduce(Call call, int16_t acks, ProduceReply response)
      : call_(std::move(call)), acks_(acks), response_(std::move(response)) {}

  io::Loop& loop() override { return call_.loop(); }

  /// Begins to wait, for everything at once: an outcome that comes at once must not look like the last.
  void wait(const std::vector<AwaitedCommit>& awaited, std::vector<SleepingProduce> sleeping,
            int64_t timeout_ms, bool failed) {
    failed_ = failed;
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
    start_deadline(timeout_ms);
  }

  /// `tag`: topic index << 32 | partition index in the response.
  void on_commit(uint64_t tag, ErrorCode outcome) override {
    if (answered_) return;
    ProducePartition& p = at(tag);
    p.error_code = static_cast<int16_t>(wire_code(outcome));
    if (outcome != ErrorCode::none) p.base_offset = -1;
    settle(tag);
  }

  /// Nothing is left to wait for.
  void answer() {
    if (answered_) return;
    answered_ = true;
    if (timer_ != 0) loop().cancel(timer_);
    if (acks_ != 0) {
      hint_leaders(call_, response_);
      call_.reply(response_);
    } else if (failed_) {
      call_.close_connection();
    } else {
      call_.no_reply();
    }
  }

 private:
  void await(const AwaitedCommit& a) {
    if (a.partition->await_commit(a.committed_at, shared_from_this(), a.tag, a.what))
      on_commit(a.tag, ErrorCode::none);
  }

  // The log that these records are for is open, or could not be.
  void go_on(SleepingProduce& s, const Status& open) {
    if (answered_) return;  // timed out: nothing was appended, nothing will be
    std::vector<AwaitedCommit> awaited;
    if (open.ok()) {
      ProduceRun run(call_, acks_);
      wire::ProduceRequest::PartitionProduceData p;
      p.index = s.index;
      p.records = wire::Records(MutableByteView(s.records));
      at(s.tag) = run.one(s.topic, call_.view().image->topic(s.topic), p, s.tag, awaited);
      failed_ = failed_ || run.failed();
    } else {
      at(s.tag) = produce_refused(s.index, open.code(), open.error().message);
      failed_ = true;
      call_.shard().metrics.produce_rejected->add();
    }
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

  void start_deadline(int64_t timeout_ms) {
    if (answered_) return;
    timer_ = loop().call_after(std::max<int64_t>(timeout_ms, 0),
                               [self = shared_from_this()] { self->on_deadline(); });
  }

  ProducePartition& at(uint64_t tag) {
    return response_.responses[tag >> 32].partition_responses[tag & 0xffffffff];
  }
  void on_deadline() {
    timer_ = 0;
    for (size_t i = settled_; i < waiting_.size(); ++i) {
      ProducePartition& p = at(waiting_[i]);
      p.error_code = static_cast<int16_t>(ErrorCode::request_timed_out);  // the data stays
      p.base_offset = -1;
    }
    answer();
  }

  Call call_;
  const int16_t acks_;
  ProduceReply response_;
  std::vector<uint64_t> waiting_;  // tags; those before settled_ no longer
  size_t settled_ = 0;
  io::TimerId timer_ = 0;
  bool failed_ = false;
  bool answered_ = false;
};

}  // namespace

void handle(Call call, wire::ProduceRequest& request) {
  std::vector<AwaitedCommit> awaited;
  std::vector<SleepingProduce> sleeping;
  ProduceRun run(call, request.acks);
  ProduceReply response = run.run(request, awaited, sleeping);
  if (awaited.empty() && sleeping.empty()) {
    // The only way to tell a producer with acks=0 of an error is to hang up.
    if (request.acks != 0) {
      if (run.failed()) hint_leaders(call, response);
      call.reply(response);
    } else if (run.failed()) {
      call.close_connection();
    } else {
      call.no_reply();
    }
    return;
  }
  const bool failed = run.failed();
  std::make_shared<PendingProduce>(std::move(call), request.acks, std::move(response))
      ->wait(awaited, std::move(sleeping), request.timeout_ms, failed);
}

}  // namespace millrace::broker
