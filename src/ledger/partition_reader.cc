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
  std::vector<std::shared_ptr<const io::FileRegion>> regions;
  std::vector<Batch> batches;
  Offset next{-1};
  Status status;

  Status read();
};

Status PartitionReader::Step::read() {
  record::Codecs codecs;
  for (const auto& region : regions) {
    Bytes bytes(region->length);
    TRY_ASSIGN(const size_t got, region->file->read_at(region->position, bytes));
    if (got != bytes.size()) return Error(ErrorCode::corrupt, region->file->path() + " ends early");
    record::BatchIterator batches_of(bytes);
    while (true) {
      TRY_ASSIGN(const std::optional<record::BatchView> batch, batches_of.next());
      if (!batch) break;
      if (!batch->crc_matches()) {
        return Error(ErrorCode::corrupt,
                     "checksum mismatch at offset " + std::to_string(batch->base_offset().v));
      }
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
  return {};
}

void PartitionReader::run(OnRecord on_record, OnEnd on_end) {
  on_record_ = std::move(on_record);
  on_end_ = std::move(on_end);
  const Result<partition::Offsets> offsets = partition_->offsets();
  if (!offsets.ok()) {
    on_end_(offsets.error(), 0);
    return;
  }
  at_ = offsets->log_start;
  next();
}

void PartitionReader::next() {
  partition::Offsets offsets;
  Result<partition::Fetched> fetched =
      partition_->fetch(at_, kStepBytes, true, partition::Isolation::read_uncommitted, {}, offsets);
  if (!fetched.ok()) {
    on_end_(fetched.error(), records_);
    return;
  }
  if (fetched->bytes == 0) {
    on_end_({}, records_);
    return;
  }
  auto step = std::make_shared<Step>();
  step->regions = std::move(fetched->regions);
  disk_.run(
      loop_, [step] { step->status = step->read(); },
      [self = shared_from_this(), step] { self->deliver(*step); });
}

void PartitionReader::deliver(Step& step) {
  if (!step.status.ok()) {
    on_end_(step.status, records_);
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
