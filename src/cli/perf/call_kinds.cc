#include "cli/perf/call_kinds.h"

#include "base/crc32c.h"
#include "base/endian.h"

namespace millrace::cli::perf {
namespace {

// Of the batch header (record/batch.h).
constexpr size_t kCrcAt = 17;
constexpr size_t kProducerIdAt = 43;
constexpr size_t kProducerEpochAt = 51;
constexpr size_t kSequenceAt = 53;

}  // namespace

ProduceCalls::ProduceCalls(Options options)
    : options_(std::move(options)),
      records_(static_cast<uint64_t>(options_.records) * options_.frame.spots.size()),
      bytes_(options_.frame.batch_bytes()),
      next_(options_.first_partition % options_.partitions.size()),
      sequences_(options_.producer_id >= 0 ? options_.partitions.size() : 0) {}

void ProduceCalls::prepare(Bytes& frame, int64_t due_ns) {
  for (const ProduceFrame::Spot& spot : options_.frame.spots) {
    store_be(frame.data() + spot.partition_at, options_.partitions[next_]);
    uint8_t* batch = frame.data() + spot.batch_at;
    const bool stamped = options_.stamped && options_.frame.stamp_offset > 0;
    if (stamped) {
      store_be(batch + options_.frame.stamp_offset, kStampMagic);
      store_be(batch + options_.frame.stamp_offset + sizeof(kStampMagic), due_ns);
    }
    if (!sequences_.empty()) {
      int32_t& sequence = sequences_[next_];
      store_be(batch + kProducerIdAt, options_.producer_id);
      store_be(batch + kProducerEpochAt, options_.producer_epoch);
      store_be(batch + kSequenceAt, sequence);
      sequence = record::advance_sequence(sequence, options_.records);
    }
    if (stamped || !sequences_.empty()) {
      const ByteView covered(batch + record::kCrcStart, spot.batch_bytes - record::kCrcStart);
      store_be(batch + kCrcAt, crc32c(covered));
    }
    next_ = next_ + 1 == options_.partitions.size() ? 0 : next_ + 1;
  }
}

CommitCalls::CommitCalls(const std::string& group, const std::string& topic, int32_t partition)
    : frame_(make_commit_frame(group, topic, partition, 42)) {}

}  // namespace millrace::cli::perf
