// Producers and transactions.
#include "record/builder.h"
#include "record/control_batch.h"
#include "sim/storage_run.h"

namespace millrace::sim {

// --- writing ---

ModelBatch StorageSim::make_batch(Slot& slot, Producer* producer) {
  ModelBatch m;
  record::BatchOptions options;
  if (producer != nullptr) {
    m.producer = producer->id;
    m.producer_epoch = producer->epoch;
    m.sequence = producer->next_sequence;
    m.transactional = producer->transactional;
    options.producer_id = ProducerId(m.producer);
    options.producer_epoch = ProducerEpoch(m.producer_epoch);
    options.base_sequence = m.sequence;
    options.transactional = m.transactional;
  }
  record::BatchBuilder builder(options);
  const size_t count = 1 + dice_.index(dice_.percent(20) ? 20 : 3);
  std::string value;
  m.written_wall_ms = clock_.now().wall_ms;
  for (size_t i = 0; i < count; ++i) {
    value.assign(static_cast<size_t>(dice_.skewed(0, 1500)), 'v');
    value += fmt::format("{}/{}", slot.name(), ++last_value_);
    ModelRecord record;
    record.key = static_cast<int32_t>(dice_.below(20));
    record.timestamp = m.written_wall_ms - dice_.between(0, 50);
    record.tombstone = slot.model.compacted && dice_.percent(15);
    const std::string key = fmt::format("k{}", record.key);
    record::OptionalBytes content;
    if (!record.tombstone) content = as_bytes(value);
    builder.append(record.timestamp, as_bytes(key), content);
    m.records.push_back(record);
  }
  m.bytes = builder.build();
  return m;
}

void StorageSim::append(Slot& slot) {
  if (slot.producers.empty() || dice_.percent(25)) {
    send(slot, nullptr, Sent{make_batch(slot, nullptr), dice_.percent(60)}, false);
    return;
  }
  Producer& producer = slot.producers[dice_.index(slot.producers.size())];
  if (!producer.window.empty() && dice_.percent(25)) {
    Sent again =
        producer.window[dice_.percent(60) ? producer.window.size() - 1 : dice_.index(producer.window.size())];
    send(slot, &producer, std::move(again), true);
    return;
  }
  if (dice_.percent(3)) {
    ++producer.epoch;
    producer.next_sequence = 0;
    producer.window.clear();
  }
  Sent sent{make_batch(slot, &producer), dice_.percent(70)};
  producer.next_sequence = sent.batch.next_sequence();
  producer.window.push_back(sent);
  if (producer.window.size() > kRetryWindow) producer.window.pop_front();
  send(slot, &producer, std::move(sent), false);
}

// As the broker does before it appends: files are opened on the pool, the loop goes on meanwhile.
void StorageSim::wake(Slot& slot) {
  if (!slot.ref->needs_opening() || dice_.percent(30)) return;
  saw("log woken");
  auto told = std::make_shared<bool>(false);
  bool awake = false;
  loop_.in_tick([&] { awake = slot.ref->wake(loop_, [told](const Status&) { *told = true; }); });
  const int64_t deadline = scheduler_.now_us() + 60'000'000;
  while (!awake && !*told && ok() && !disk_.power_is_out() && scheduler_.run_one(deadline)) {
  }
  if (!awake && !*told && ok() && !disk_.power_is_out()) fail("{}: was never woken", slot.name());
}

void StorageSim::send(Slot& slot, Producer* producer, Sent sent, bool retry) {
  if (!slot.ref) return;
  wake(slot);
  if (!slot.ref || disk_.power_is_out()) return;
  ModelBatch& m = sent.batch;
  const ModelBatch* original = nullptr;
  const Expect expected = slot.model.expect(m, &original);
  Bytes bytes = m.bytes;
  if (retry && options_.bugs.forget_retry && bytes.size() > record::kBatchHeaderSize) {
    record::BatchBuilder builder;
    builder.append(m.records.front().timestamp, as_bytes("k"), as_bytes("again"));
    bytes = builder.build();
  }
  Result<partition::Appended> result = ErrorCode::unknown_server_error;
  const bool failed_before = slot.failed;
  bool at_once = false;
  uint64_t tag = 0;
  loop_.in_tick([&] {
    result = slot.ref->append(bytes, sent.all, loop_, clock_.now());
    if (!result.ok() || !sent.all) return;
    tag = ++last_tag_;
    waits_[tag] = Wait{index_of(slot), slot.incarnation, result->last_offset.v + 1};
    at_once = slot.ref->await_commit(result->last_offset + 1, acks_, tag);
    if (at_once) waits_.erase(tag);
  });
  say("{}: {} of {} records, {} bytes, producer {}/{} sequence {}, acks={}: {}", slot.name(),
      retry ? "retry" : "append", m.records.size(), m.bytes.size(), m.producer, m.producer_epoch, m.sequence,
      sent.all ? "all" : "1",
      result.ok() ? fmt::format("offset {}{}{}", result->base_offset.v,
                                result->duplicate ? ", duplicate" : "", at_once ? ", committed" : "")
                  : fmt::format("error {} {}", static_cast<int>(result.code()), result.error().message));
  if (!result.ok()) {
    const ErrorCode code = result.code();
    if (disk_.power_is_out()) {
      slot.model.may_appear(m);
      return;
    }
    if (code == ErrorCode::record_list_too_large) {
      if (m.bytes.size() <= static_cast<size_t>(slot.config->log.segment_bytes)) {
        fail("{}: {} bytes are too large for a segment of {}", slot.name(), m.bytes.size(),
             slot.config->log.segment_bytes);
      }
      saw("batch above segment.bytes refused");
      return;
    }
    if (code == ErrorCode::out_of_order_sequence_number || code == ErrorCode::invalid_producer_epoch ||
        code == ErrorCode::duplicate_sequence_number) {
      if ((expected == Expect::append || expected == Expect::duplicate) && !slot.model.damaged) {
        fail("{}: sequence {} of producer {} refused with {}", slot.name(), m.sequence, m.producer,
             static_cast<int>(code));
      }
      saw("sequence refused");
      // What a client does: a new epoch, or what was lost sent again.
      if (producer != nullptr && !retry) {
        ++producer->epoch;
        producer->next_sequence = 0;
        producer->window.clear();
      }
      return;
    }
    if (code == ErrorCode::request_timed_out) saw("append in doubt: a write failed");
    (void)judge_error(slot, result.error(), "append");
    return;
  }
  if (failed_before && !disk_.power_is_out()) {
    fail("{}: an append to a failed directory was accepted", slot.name());
    return;
  }
  if (result->duplicate) {
    if (slot.model.damaged) {
      // What rebuilt the producers' state may have been what was tampered with.
    } else if (expected == Expect::append || expected == Expect::refusal) {
      fail("{}: sequence {} of producer {} taken for a duplicate", slot.name(), m.sequence, m.producer);
    } else if (original != nullptr &&
               (original->base != result->base_offset.v || original->last != result->last_offset.v)) {
      fail("{}: duplicate answered with {}, the original lies at {}", slot.name(), result->base_offset.v,
           original->base);
    }
    saw("duplicate answered");
  } else {
    if ((expected == Expect::duplicate || expected == Expect::duplicate_or_refusal) && !slot.model.damaged) {
      fail("{}: sequence {} of producer {} was appended twice", slot.name(), m.sequence, m.producer);
      return;
    }
    if (expected == Expect::refusal && !slot.model.damaged) {
      fail("{}: sequence {} of producer {} follows nothing and was appended", slot.name(), m.sequence,
           m.producer);
      return;
    }
    if (result->base_offset.v != slot.model.end()) {
      fail("{}: appended at {}, the log ended at {}", slot.name(), result->base_offset.v, slot.model.end());
      return;
    }
    m.base = result->base_offset.v;
    m.last = result->last_offset.v;
    m.epoch = slot.leader_epoch;
    if (m.last - m.base + 1 != static_cast<int64_t>(m.records.size())) {
      fail("{}: offsets {}..{} for {} records", slot.name(), m.base, m.last, m.records.size());
      return;
    }
    if (producer != nullptr && m.transactional) producer->in_transaction = !m.control;
    slot.model.append(m);
  }
  if (at_once || (options_.bugs.ack_early && sent.all)) {
    saw("acks=all acknowledged");
    if (slot.config->fsync) slot.model.promise(result->last_offset.v + 1);
  }
}

ModelBatch StorageSim::make_marker(const Slot& slot, const Producer& producer) {
  record::EndTransactionMarker marker;
  marker.producer_id = ProducerId(producer.id);
  marker.producer_epoch = ProducerEpoch(producer.epoch);
  // A coordinator decides once; if the marker is lost, it comes again.
  const bool commit = dice_.percent(60);
  marker.commit = slot.model.decided_before(producer.id).value_or(commit);
  marker.coordinator_epoch = 1;
  ModelBatch m;
  m.written_wall_ms = clock_.now().wall_ms;
  m.records.push_back({m.written_wall_ms, -1});
  m.bytes = record::build_marker(marker, m.written_wall_ms);
  m.producer = producer.id;
  m.producer_epoch = producer.epoch;
  m.transactional = m.control = true;
  m.commit = marker.commit;
  saw(m.commit ? "transaction committed" : "transaction aborted");
  return m;
}

void StorageSim::end_transaction(Slot& slot, Producer& producer) {
  if (!slot.ref) return;
  Sent sent{make_marker(slot, producer), dice_.percent(80)};
  send(slot, &producer, std::move(sent), false);
}

}  // namespace millrace::sim
