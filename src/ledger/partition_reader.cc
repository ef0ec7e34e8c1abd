#include "ledger/partition_reader.h"

#include "record/batch_iterator.h"
#include "record/codec.h"
#include "record/record.h"

namespace millrace::ledger {
namespace {

constexpr size_t kStepBytes = 1 << 20;
constexpr size_t kInflatedMax = 64 << 20;  // of one batch; our own coordinators never come near

}  // namespace

// What the pool brings back: uncompressed record blobs, copied once, and where each batch begins.
struct PartitionReader::Step {
  struct Batch {
    Offset base;
    int64_t base_timestamp = 0;
    int32_t count = 0;
    Bytes records;
  };
  std::vector<Batch> batches;
  Offset next{-1};  // none: there is nothing more
  Status status;

  Status read(partition::Partition& partition, Offset from);
};

Status PartitionReader::Step::read(partition::Partition& partition, Offset from) {
  partition::Offsets offsets;
  TRY_ASSIGN(
      const partition::Fetched fetched,
      partition.fetch_cold(from, kStepBytes, true, partition::Isolation::read_uncommitted, {}, offsets));
  record::Codecs codecs;
  record::BatchIterator batches_of(fetched.verified);
  while (true) {
    TRY_ASSIGN(const std::optional<record::BatchView> batch, batches_of.next());
    if (!batch) return {};
    next = batch->next_offset();
    if (batch->is_control()) continue;
    Batch b{batch->base_offset(), batch->base_timestamp(), batch->record_count(), {}};
    if (batch->codec() == record::Codec::none) {
      b.records = to_bytes(batch->records());
    } else {
      TRY_ASSIGN(b.records, codecs.decompress(batch->codec(), batch->records(), kInflatedMax));
    }
    batches.push_back(std::move(b));
  }
}

void PartitionReader::run(OnRecord on_record, OnEnd on_end) {
  on_record_ = std::move(on_record);
  on_end_ = std::move(on_end);
  const Result<partition::Offsets> offsets = partition_->offsets();
  if (!offsets.ok()) {
    on_end_(offsets.error(), 0);
    return;
  }
  // What earlier leaders committed may not be all visible yet.
  if (!offsets->end_known) {
    on_end_(Error(ErrorCode::offset_not_available, "the end of the log is not committed yet"), 0);
    return;
  }
  at_ = offsets->log_start;
  next();
}

void PartitionReader::next() {
  auto step = std::make_shared<Step>();
  disk_.run_in(
      io::Lane::read, loop_,
      [step, partition = partition_, from = at_] { step->status = step->read(*partition, from); },
      [self = shared_from_this(), step] { self->deliver(*step); });
}

void PartitionReader::deliver(Step& step) {
  if (!step.status.ok()) {
    on_end_(step.status, records_);
    return;
  }
  if (step.next == Offset(-1)) {
    on_end_({}, records_);
    return;
  }
  for (const Step::Batch& b : step.batches) {
    record::RecordReader reader(b.records, b.count);
    record::Record r;
    while (true) {
      const Result<bool> more = reader.next(r);
      if (!more.ok()) {
        on_end_(more.error(), records_);
        return;
      }
      if (!*more) break;
      const Offset offset = b.base + r.offset_delta;
      if (offset < at_ || !r.key) continue;
      on_record_({offset, b.base_timestamp + r.timestamp_delta, *r.key, r.value});
      ++records_;
    }
  }
  ASSERT(step.next > at_);
  at_ = step.next;
  next();
}

}  // namespace millrace::ledger
