#include "sim/sim_producer.h"

#include <fmt/format.h>

#include "base/endian.h"
#include "check/refusal.h"
#include "record/builder.h"
#include "wire/messages/init_producer_id.h"

namespace millrace::sim {

namespace {

constexpr int16_t kLastProduceByName = 12;
constexpr int64_t kDeliveryMs = 15'000;
constexpr uint64_t kGapsPerMillion = 2'000;

}  // namespace

void SimProducer::drop() {
  batch_.reset();
  id_ = -1;
  sequences_.clear();
}

void SimProducer::next() {
  batch_.reset();
  if (!world_.producing) return later(500, [this] { next(); });
  later(dice_.skewed(1, world_.knobs.think_ms_max), [this] {
    if (!world_.producing || world_.topics.empty()) return next();
    if (idempotent_ && id_ < 0) return ask_id();
    make_batch();
    attempt();
  });
}

void SimProducer::ask_id() {
  wire::InitProducerIdRequest request;
  request.transactional_id.reset();
  request.transaction_timeout_ms = INT32_MAX;
  client().call<wire::InitProducerIdRequest>(
      client::Target::any(), std::move(request), {},
      [](const wire::InitProducerIdResponse& r) { return error_from_wire(r.error_code); },
      [this](const Result<wire::InitProducerIdResponse>& r) {
        if (r.ok() && r->error_code == 0) {
          id_ = r->producer_id;
          epoch_ = r->producer_epoch;
          sequences_.clear();
          world_.count("producer id given");
        }
        next();
      });
}

void SimProducer::make_batch() {
  batch_ = std::make_unique<Batch>();
  Batch& b = *batch_;
  (void)pick_partition(world_, dice_, b.topic, b.partition);
  record::BatchOptions options;
  if (idempotent_) {
    options.producer_id = ProducerId(id_);
    options.producer_epoch = ProducerEpoch(epoch_);
    const int32_t expected = sequences_[{b.topic, b.partition}];
    // Something of this producer is there: a gap after it must be refused.
    b.gap = expected > 0 && dice_.per_million(kGapsPerMillion);
    options.base_sequence = b.gap ? record::advance_sequence(expected, 1'000) : expected;
  }
  record::BatchBuilder builder(options);
  const uint32_t place = world_.recorder.partition(b.topic, b.partition);
  std::vector<check::Item> items;
  const int64_t count = dice_.skewed(1, world_.knobs.records_max);
  for (int64_t i = 0; i < count; ++i) {
    check::Item item;
    item.partition = place;
    item.value = world_.recorder.next_value();
    items.push_back(item);
    Bytes value(8 + static_cast<size_t>(dice_.skewed(0, world_.knobs.value_bytes_max)));
    store_be(value.data(), item.value);
    builder.append(clock_.now().wall_ms, std::nullopt, ByteView(value));
  }
  b.records = builder.count();
  b.bytes = builder.build();
  b.deadline_ms = clock_.now().mono_ms + kDeliveryMs;
  check::Operation o;
  o.kind = check::Kind::send;
  o.idempotent = idempotent_;
  o.client = world_.recorder.client(name_);
  b.operation = world_.recorder.invoke(o, std::move(items));
}

void SimProducer::attempt() {
  Batch& b = *batch_;
  ++b.attempts;
  const client::TopicInfo* topic = client().view().topic(b.topic);
  if (b.first_broker < 0) b.first_broker = known_leader();
  const auto known_end = world_.ends.find({b.topic, b.partition});
  b.end_at_attempt = known_end == world_.ends.end() ? 0 : known_end->second;
  wire::ProduceRequest request;
  request.acks = acks_;
  request.timeout_ms = static_cast<int32_t>(dice_.between(500, 3'000));
  auto& t = request.topic_data.emplace_back();
  t.name = b.topic;
  client::CallOptions options;
  if (topic != nullptr && world_.knobs.by_topic_id) {
    t.topic_id = topic->id;
  } else {
    options.version_max = kLastProduceByName;
  }
  auto& p = t.partition_data.emplace_back();
  p.index = b.partition;
  p.records.payload.append(Slice(b.bytes));
  options.timeout_ms = 6'000;
  options.request_timeout_ms = 4'000;
  options.repeat_after_loss = false;
  const client::Target target = client::Target::leader(b.topic, b.partition);
  if (acks_ == 0) {
    client().send_only<wire::ProduceRequest>(target, std::move(request), options, [this](const Status&) {
      // Dying, it is told, too.
      if (batch_) end(check::Outcome::info);
    });
    return;
  }
  client().call<wire::ProduceRequest>(
      target, std::move(request), options, nullptr,
      [this](Result<wire::ProduceResponse> response) { answered(std::move(response)); });
}

void SimProducer::answered(Result<wire::ProduceResponse> response) {
  Batch& b = *batch_;
  const client::Target target = client::Target::leader(b.topic, b.partition);
  ErrorCode code = ErrorCode::none;
  int64_t base = -1;
  if (!response.ok()) {
    code = response.code();
    b.doubtful = true;
  } else if (response->responses.size() != 1 || response->responses[0].partition_responses.size() != 1) {
    return world_.fail(name_ + " got an answer to Produce about other partitions");
  } else {
    const auto& p = response->responses[0].partition_responses[0];
    code = error_from_wire(p.error_code);
    base = p.base_offset;
    if (code != ErrorCode::none && !check::says_nothing_stored(code)) b.doubtful = true;
  }
  if (code != ErrorCode::none) world_.count("produce: " + std::string(error_name(code)));
  note_rare(code, base);
  if (b.gap && (code == ErrorCode::none || code == ErrorCode::duplicate_sequence_number)) {
    return world_.fail(fmt::format("sequence: a batch of {} to {}-{} was accepted at {} after a gap", name_,
                                   b.topic, b.partition, base));
  }
  if (code == ErrorCode::none || (idempotent_ && code == ErrorCode::duplicate_sequence_number)) {
    if (b.attempts > 1) world_.count("batch acknowledged after repetition");
    return end(acks_ == -1 ? check::Outcome::ok : check::Outcome::info, base);
  }
  client().distrust(target, code);
  const bool hopeless = code == ErrorCode::out_of_order_sequence_number ||
                        code == ErrorCode::unknown_producer_id || code == ErrorCode::invalid_producer_epoch ||
                        code == ErrorCode::message_too_large || code == ErrorCode::record_list_too_large ||
                        code == ErrorCode::invalid_record || code == ErrorCode::corrupt_message;
  if (!idempotent_ || hopeless || clock_.now().mono_ms >= b.deadline_ms) {
    return end(b.doubtful ? check::Outcome::info : check::Outcome::fail);
  }
  later(dice_.between(20, 300), [this] { attempt(); });
}

int32_t SimProducer::known_leader() {
  const client::TopicInfo* topic = client().view().topic(batch_->topic);
  const client::PartitionInfo* p = topic == nullptr ? nullptr : topic->partition(batch_->partition);
  return p == nullptr ? -1 : p->leader;
}

void SimProducer::note_rare(ErrorCode code, int64_t base_offset) {
  const Batch& b = *batch_;
  switch (code) {
    case ErrorCode::none:
      if (b.attempts == 1) return;
      // It got its place before this attempt began.
      if (idempotent_ && base_offset >= 0 && base_offset < b.end_at_attempt)
        world_.meet(rare("duplicate-answered"));
      if (b.first_broker >= 0 && known_leader() != b.first_broker) world_.meet(rare("acked-by-successor"));
      return;
    case ErrorCode::out_of_order_sequence_number:
      return world_.meet(rare("sequence-refused"));
    case ErrorCode::not_enough_replicas:
      return world_.meet(rare("min-isr-refused"));
    case ErrorCode::request_timed_out:
      return world_.meet(rare("timed-out"));
    case ErrorCode::kafka_storage_error:
      return world_.meet(rare("storage-refused"));
    default:
      return;
  }
}

void SimProducer::end(check::Outcome outcome, int64_t base_offset) {
  Batch& b = *batch_;
  std::vector<check::Item>& items = world_.recorder.items(b.operation);
  if (base_offset >= 0) {
    for (size_t i = 0; i < items.size(); ++i) items[i].offset = base_offset + static_cast<int64_t>(i);
  }
  world_.recorder.finish(b.operation, outcome);
  world_.count("sends: " + std::string(check::word(outcome)));
  if (idempotent_) {
    int32_t& sequence = sequences_[{b.topic, b.partition}];
    if (outcome == check::Outcome::ok) sequence = record::advance_sequence(sequence, b.records);
    // Whether its numbers were used is not known: it goes on under its next epoch, or as another (KIP-360).
    if (outcome == check::Outcome::info) {
      if (epoch_ < INT16_MAX && dice_.percent(50)) {
        ++epoch_;
        sequences_.clear();
        world_.count("producer epoch raised");
      } else {
        id_ = -1;
      }
    }
  }
  next();
}

}  // namespace millrace::sim
