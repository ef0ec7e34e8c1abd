#include "client/producer.h"

#include <algorithm>

#include "wire/messages/init_producer_id.h"
#include "wire/messages/produce.h"

namespace millrace::client {
namespace {

constexpr int16_t kLastProduceByName = 12;  // later versions name topics by id alone
constexpr int32_t kBatchRecordsMax = 1'000'000;

Result<int64_t> read_answer(const wire::ProduceResponse& response, int32_t partition) {
  if (response.responses.size() != 1 || response.responses[0].partition_responses.size() != 1 ||
      response.responses[0].partition_responses[0].index != partition) {
    return Error(ErrorCode::corrupt, "the answer to Produce is about other partitions");
  }
  const auto& p = response.responses[0].partition_responses[0];
  const ErrorCode code = error_from_wire(p.error_code);
  if (code == ErrorCode::none || code == ErrorCode::duplicate_sequence_number) return p.base_offset;
  std::string why;
  if (p.error_message) why = *p.error_message;
  for (const auto& e : p.record_errors) {
    if (!e.batch_index_error_message) continue;
    if (!why.empty()) why += "; ";
    why += "record " + std::to_string(e.batch_index) + ": " + *e.batch_index_error_message;
    break;
  }
  return Error(code, why.empty() ? std::string(error_name(code)) : why);
}

}  // namespace

Producer::Producer(Client& client, ProducerOptions options)
    : client_(client), options_(options), sticky_(options.seed) {
  ASSERT(!options_.idempotent || options_.acks == -1);
}

void Producer::send(ProducerRecord record, Done<Delivery> done) {
  ++outstanding_;
  held_bytes_ += (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  if (record.timestamp_ms < 0) record.timestamp_ms = client_.wall_ms();
  const std::string topic = record.topic;
  const auto pending = unresolved_.find(topic);
  const TopicInfo* known = pending == unresolved_.end() ? client_.view().topic(topic) : nullptr;
  if (known != nullptr) return place(*known, std::move(record), std::move(done));
  // Behind what waits already: records of one key keep their order.
  const bool first = pending == unresolved_.end();
  unresolved_[topic].push_back({std::move(record), std::move(done)});
  if (!first) return;
  client_.with_topic(topic, options_.create_topics, options_.delivery_timeout_ms,
                     [this, life = std::weak_ptr<void>(life_), topic](Result<TopicInfo> info) {
                       if (!life.expired()) resolved(topic, info);
                     });
}

void Producer::resolved(const std::string& topic, const Result<TopicInfo>& info) {
  std::vector<Waiting> waiting = std::move(unresolved_[topic]);
  unresolved_.erase(topic);
  for (Waiting& w : waiting) {
    if (info.ok()) {
      place(*info, std::move(w.record), std::move(w.done));
      continue;
    }
    Item item{std::move(w.done),
              (w.record.key ? w.record.key->size() : 0) + (w.record.value ? w.record.value->size() : 0)};
    finish_item(item, Error(info.error().code, info.error().message));
  }
  if (!flushes_.empty()) send_all();
  tell_waiters();
}

void Producer::place(const TopicInfo& topic, ProducerRecord record, Done<Delivery> done) {
  Item item{std::move(done),
            (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0)};
  const bool sticky = !record.partition && !record.key;
  int32_t number = 0;
  if (topic.partitions.empty()) {
    finish_item(item,
                Error(ErrorCode::unknown_topic_or_partition, "topic " + topic.name + " has no partitions"));
    return;
  }
  if (record.partition) {
    number = *record.partition;
    if (topic.partition(number) == nullptr) {
      finish_item(item, Error(ErrorCode::unknown_topic_or_partition,
                              "topic " + topic.name + " has no partition " + std::to_string(number)));
      return;
    }
  } else if (record.key) {
    number = partition_of_key(*record.key, static_cast<int32_t>(topic.partitions.size()));
  } else {
    number = sticky_.current(topic);
  }

  std::vector<record::Header> headers;
  headers.reserve(record.headers.size());
  for (const auto& [key, value] : record.headers) {
    headers.push_back({as_bytes(key), value ? record::OptionalBytes(*value) : std::nullopt});
  }
  const record::OptionalBytes key = record.key ? record::OptionalBytes(*record.key) : std::nullopt;
  const record::OptionalBytes value = record.value ? record::OptionalBytes(*record.value) : std::nullopt;
  const size_t size = record::BatchBuilder::record_size_max(key, value, headers);

  const TopicPartition where{topic.name, number};
  Partition& p = partitions_[where];
  if (p.gathering && (p.gathering->builder.size() + size > options_.batch_bytes_max ||
                      p.gathering->builder.count() >= kBatchRecordsMax)) {
    close_batch(where, p);
    if (sticky) {
      place(topic, std::move(record), std::move(item.done));
      return pump(where);  // last: it may run callbacks that make `topic` stale
    }
  }
  if (!p.gathering) {
    record::BatchOptions b;
    b.codec = options_.codec;
    b.level = options_.level;
    p.gathering = std::make_unique<Batch>(Batch{record::BatchBuilder(b), {}, 0});
    p.gathering->deadline_ms = client_.deadline_after(options_.delivery_timeout_ms);
  }
  p.gathering->builder.append(record.timestamp_ms, key, value, headers);
  p.gathering->items.push_back(std::move(item));
  if (p.gathering->builder.size() >= options_.batch_bytes_max) close_batch(where, p);
  if (!p.full.empty()) return pump(where);
  if (p.lingering) return;
  p.lingering = true;
  client_.loop().call_after(options_.linger_ms, [this, life = std::weak_ptr<void>(life_), where] {
    if (life.expired()) return;
    Partition& late = partitions_[where];
    late.lingering = false;
    // While a batch is under way the next one goes on gathering.
    if (!late.sending) close_batch(where, late);
    pump(where);
  });
}

void Producer::close_batch(const TopicPartition& where, Partition& p) {
  if (!p.gathering) return;
  p.full.push_back(std::move(p.gathering));
  sticky_.advance(where.topic);
}

void Producer::pump(const TopicPartition& where) {
  Partition& p = partitions_[where];
  if (p.sending || p.full.empty()) return;
  if (options_.idempotent && !have_producer_id()) return;
  transmit(where, p);
}

void Producer::transmit(const TopicPartition& where, Partition& p) {
  std::shared_ptr<Batch> batch = std::move(p.full.front());
  p.full.pop_front();
  p.sending = true;
  ++sending_;
  Result<Bytes> built = batch->builder.build(codecs_);
  if (!built.ok()) return settle(where, batch, std::move(built).error());
  if (options_.idempotent) {
    const Result<record::BatchView> view = record::BatchView::parse(*built);
    ASSERT(view.ok());
    record::BatchHeader header = record::BatchHeader::of(*view);
    header.producer_id = ProducerId(producer_id_);
    header.producer_epoch = ProducerEpoch(producer_epoch_);
    header.base_sequence = p.next_sequence;
    p.next_sequence = record::advance_sequence(p.next_sequence, static_cast<int32_t>(batch->items.size()));
    record::seal_batch(*built, header);
  }

  const TopicInfo* topic = client_.view().topic(where.topic);
  wire::ProduceRequest request;
  request.acks = options_.acks;
  request.timeout_ms = static_cast<int32_t>(std::min<int64_t>(options_.request_timeout_ms, INT32_MAX));
  auto& t = request.topic_data.emplace_back();
  t.name = where.topic;
  if (topic != nullptr) t.topic_id = topic->id;
  auto& d = t.partition_data.emplace_back();
  d.index = where.partition;
  d.records.payload.append(Slice(std::move(built).value()));
  if (options_.acks == 0) return transmit_without_answer(where, std::move(request), std::move(batch));

  CallOptions options;
  options.timeout_ms = std::max<int64_t>(1, batch->deadline_ms - client_.now_ms());
  options.request_timeout_ms = options_.request_timeout_ms;
  if (t.topic_id.is_zero()) options.version_max = kLastProduceByName;
  client_.call<wire::ProduceRequest>(
      Target::leader(where.topic, where.partition), std::move(request), options,
      [partition = where.partition](const wire::ProduceResponse& r) {
        return read_answer(r, partition).code();
      },
      [this, life = std::weak_ptr<void>(life_), where, batch](Result<wire::ProduceResponse> response) {
        if (life.expired()) return;
        if (!response.ok()) return settle(where, batch, std::move(response).error());
        settle(where, batch, read_answer(*response, where.partition));
      });
}

void Producer::transmit_without_answer(const TopicPartition& where, wire::ProduceRequest request,
                                       std::shared_ptr<Batch> batch) {
  CallOptions options;
  options.timeout_ms = std::max<int64_t>(1, batch->deadline_ms - client_.now_ms());
  if (request.topic_data[0].topic_id.is_zero()) options.version_max = kLastProduceByName;
  client_.send_only<wire::ProduceRequest>(Target::leader(where.topic, where.partition), std::move(request),
                                          options,
                                          [this, life = std::weak_ptr<void>(life_), where, batch](Status s) {
                                            if (life.expired()) return;
                                            if (!s.ok()) return settle(where, batch, std::move(s).error());
                                            settle(where, batch, int64_t{-1});
                                          });
}

bool Producer::have_producer_id() {
  if (producer_id_ >= 0 && !renew_id_) return true;
  if (asking_id_ || (renew_id_ && sending_ > 0)) return false;
  asking_id_ = true;
  wire::InitProducerIdRequest request;
  request.transactional_id.reset();
  request.transaction_timeout_ms = INT32_MAX;
  CallOptions options;
  options.timeout_ms = options_.delivery_timeout_ms;
  client_.call<wire::InitProducerIdRequest>(
      Target::any(), std::move(request), options,
      [](const wire::InitProducerIdResponse& r) { return error_from_wire(r.error_code); },
      [this, life = std::weak_ptr<void>(life_)](Result<wire::InitProducerIdResponse> response) {
        if (!life.expired()) id_arrived(response);
      });
  return false;
}

void Producer::id_arrived(const Result<wire::InitProducerIdResponse>& response) {
  asking_id_ = false;
  Error failed(ErrorCode::none);
  if (!response.ok()) {
    failed = Error(response.error().code, response.error().message);
  } else if (response->error_code != 0) {
    failed.code = error_from_wire(response->error_code);
    failed.message = "InitProducerId: " + std::string(error_name(failed.code));
  } else {
    producer_id_ = response->producer_id;
    producer_epoch_ = response->producer_epoch;
    renew_id_ = false;
    for (auto& [where, p] : partitions_) p.next_sequence = 0;
  }
  std::vector<TopicPartition> ready;
  for (const auto& [where, p] : partitions_) {
    if (!p.full.empty() && !p.sending) ready.push_back(where);
  }
  for (const TopicPartition& where : ready) {
    if (failed.code == ErrorCode::none) {
      pump(where);
      continue;
    }
    for (auto& batch : std::exchange(partitions_[where].full, {})) {
      for (Item& item : batch->items) finish_item(item, Error(failed.code, failed.message));
    }
  }
  tell_waiters();
}

void Producer::settle(const TopicPartition& where, const std::shared_ptr<Batch>& batch,
                      Result<int64_t> base_offset) {
  Partition& p = partitions_[where];
  p.sending = false;
  --sending_;
  if (!base_offset.ok()) renew_id_ = true;  // whether its sequence numbers were used is not known for sure
  int64_t offset = base_offset.ok() ? *base_offset : -1;
  for (Item& item : batch->items) {
    if (base_offset.ok()) {
      finish_item(item, Delivery{where.partition, offset});
      if (offset >= 0) ++offset;
    } else {
      finish_item(item, Error(base_offset.error().code, base_offset.error().message));
    }
  }
  if (p.full.empty() && !p.lingering) close_batch(where, p);
  if (renew_id_ && options_.idempotent) {
    if (sending_ == 0) (void)have_producer_id();  // all partitions wait for it; id_arrived() goes on
  } else {
    pump(where);
  }
  tell_waiters();
}

void Producer::finish_item(Item& item, Result<Delivery> outcome) {
  --outstanding_;
  held_bytes_ -= item.bytes;
  item.done(std::move(outcome));
}

void Producer::flush(std::function<void()> done) {
  flushes_.push_back(std::move(done));
  send_all();
  tell_waiters();
}

void Producer::send_all() {
  std::vector<TopicPartition> all;
  for (auto& [where, p] : partitions_) {
    close_batch(where, p);
    all.push_back(where);
  }
  for (const TopicPartition& where : all) pump(where);
}

void Producer::when_below(size_t bytes, std::function<void()> done) {
  below_.emplace_back(bytes, std::move(done));
  tell_waiters();
}

void Producer::tell_waiters() {
  const std::weak_ptr<void> life = life_;
  for (size_t i = 0; i < below_.size();) {
    if (held_bytes_ > below_[i].first) {
      ++i;
      continue;
    }
    const auto done = std::move(below_[i].second);
    below_.erase(below_.begin() + static_cast<std::ptrdiff_t>(i));
    done();
    if (life.expired()) return;
  }
  if (outstanding_ > 0) return;
  for (auto& done : std::exchange(flushes_, {})) {
    done();
    if (life.expired()) return;
  }
}

}  // namespace millrace::client
