// Produce (0). Advertised from 0 because librdkafka before 2.11.1 switches compression on by it
// (KAFKA-18659); 0-2 are refused when sent.
//   3 record batch v2, transactional id | 5 log start offset | 7 zstd | 8 per-record errors | 9 flexible
//   10 leader hints (KIP-951) | 11 TRANSACTION_ABORTABLE
//
// Run to completion: validated, appended and, unless acks=all, answered on the loop that read it. With
// acks=all the reply is data that waits for commits, with one deadline; so is any reply whose append reached
// flush.messages.
#include <unordered_set>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"
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

/// A produce that waits until its last record is committed on every partition, or for its deadline.
class PendingProduce final : public partition::CommitWaiter,
                             public std::enable_shared_from_this<PendingProduce> {
 public:
  PendingProduce(Call call, ProduceReply response) : call_(std::move(call)), response_(std::move(response)) {}

  io::Loop& loop() override { return call_.loop(); }

  void expect(size_t count) { waiting_ += count; }

  /// `tag`: topic index << 32 | partition index in the response.
  void on_commit(uint64_t tag, ErrorCode outcome) override {
    if (answered_) return;
    ProducePartition& p = at(tag);
    p.error_code = static_cast<int16_t>(wire_code(outcome));
    done_.insert(tag);
    if (outcome != ErrorCode::none) p.base_offset = -1;
    if (--waiting_ == 0) answer();
  }

  void start_deadline(int64_t timeout_ms, std::vector<uint64_t> tags) {
    if (answered_) return;
    tags_ = std::move(tags);
    timer_ = loop().call_after(std::max<int64_t>(timeout_ms, 0),
                               [self = shared_from_this()] { self->on_deadline(); });
  }

  /// Nothing is left to wait for.
  void answer() {
    if (answered_) return;
    answered_ = true;
    if (timer_ != 0) loop().cancel(timer_);
    call_.reply(response_);
  }

 private:
  ProducePartition& at(uint64_t tag) {
    return response_.responses[tag >> 32].partition_responses[tag & 0xffffffff];
  }
  void on_deadline() {
    timer_ = 0;
    for (const uint64_t tag : tags_) {
      if (done_.contains(tag)) continue;
      ProducePartition& p = at(tag);
      p.error_code = static_cast<int16_t>(ErrorCode::request_timed_out);  // the data stays
      p.base_offset = -1;
    }
    answer();
  }

  Call call_;
  ProduceReply response_;
  size_t waiting_ = 0;
  std::vector<uint64_t> tags_;
  std::unordered_set<uint64_t> done_;
  io::TimerId timer_ = 0;
  bool answered_ = false;
};

struct AwaitedCommit {
  PartitionRef partition;
  Offset committed_at;
  uint64_t tag;
  partition::Awaited what;
};

class ProduceRun {
 public:
  ProduceRun(Call& call, wire::ProduceRequest& request) : call_(call), request_(request), now_(call.now()) {}

  ProduceReply run(std::vector<AwaitedCommit>& awaited) {
    ProduceReply response;
    response.responses.reserve(request_.topic_data.size());
    for (wire::ProduceRequest::TopicProduceData& topic : request_.topic_data) {
      ProduceReply::TopicProduceResponse& t = response.responses.emplace_back();
      t.name = topic.name;
      t.partition_responses.reserve(topic.partition_data.size());
      const meta::Topic* known = call_.view().image->topic(topic.name);
      for (wire::ProduceRequest::PartitionProduceData& p : topic.partition_data) {
        ProducePartition r = one(topic.name, known, p);
        if (r.error_code != 0) {
          failed_ = true;
          call_.shard().metrics.produce_rejected->add();
        } else if (request_.acks == kAcksAll || flush_) {
          const uint64_t tag =
              (static_cast<uint64_t>(response.responses.size() - 1) << 32) | t.partition_responses.size();
          awaited.push_back({appended_to_, last_offset_ + 1, tag, {request_.acks == kAcksAll, flush_}});
        }
        t.partition_responses.push_back(std::move(r));
      }
    }
    return response;
  }
  bool failed() const { return failed_; }

 private:
  ProducePartition one(const std::string& topic, const meta::Topic* known,
                       wire::ProduceRequest::PartitionProduceData& p) {
    if (request_.acks < -1 || request_.acks > 1)
      return produce_refused(p.index, ErrorCode::invalid_required_acks);
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
        (*partition)->append(batch, request_.acks == kAcksAll, call_.loop(), now_);
    if (!appended.ok()) return produce_refused(p.index, appended.code(), appended.error().message);

    ShardMetrics& metrics = call_.shard().metrics;
    metrics.bytes_in->add(batch.size());
    metrics.batches_in->add();
    metrics.records_in->add(static_cast<uint64_t>(record_count));
    appended_to_ = *partition;
    last_offset_ = appended->last_offset;
    flush_ = appended->flush;
    ProducePartition r;
    r.index = p.index;
    r.base_offset = appended->base_offset.v;
    r.log_append_time_ms =
        rules.timestamp_type == record::TimestampType::log_append_time ? appended->log_append_time_ms : -1;
    r.log_start_offset = appended->log_start_offset.v;
    return r;
  }

  Call& call_;
  wire::ProduceRequest& request_;
  const Now now_;
  bool failed_ = false;
  PartitionRef appended_to_;
  Offset last_offset_;
  bool flush_ = false;
};

}  // namespace

void handle(Call call, wire::ProduceRequest& request) {
  std::vector<AwaitedCommit> awaited;
  ProduceRun run(call, request);
  ProduceReply response = run.run(awaited);
  if (request.acks == 0) {
    // The only way to tell such a producer of an error is to hang up.
    if (run.failed()) {
      call.close_connection();
    } else {
      call.no_reply();
    }
    return;
  }
  if (awaited.empty()) {
    call.reply(response);
    return;
  }
  auto pending = std::make_shared<PendingProduce>(std::move(call), std::move(response));
  pending->expect(awaited.size());
  std::vector<uint64_t> tags;
  tags.reserve(awaited.size());
  for (const AwaitedCommit& a : awaited) {
    tags.push_back(a.tag);
    if (a.partition->await_commit(a.committed_at, pending, a.tag, a.what))
      pending->on_commit(a.tag, ErrorCode::none);
  }
  pending->start_deadline(request.timeout_ms, std::move(tags));
}

}  // namespace millrace::broker
