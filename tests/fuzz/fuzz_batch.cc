// Bytes as a producer or a disk might give them: framing, validation under every rule, and reading of
// records. The first two bytes choose the rules; the rest is a record set.
#include <cstddef>
#include <cstdint>

#include "base/crc32c.h"
#include "base/endian.h"
#include "record/batch_iterator.h"
#include "record/control_batch.h"
#include "record/opened_batch.h"
#include "record/validate.h"

namespace {

using namespace millrace;
using namespace millrace::record;

constexpr size_t kFuzzInflatedMax = size_t{1} * 1024 * 1024;

size_t walk_records(ByteView records, int32_t count) {
  RecordReader reader(records, count);
  Record r;
  size_t sum = 0;
  while (true) {
    const Result<bool> more = reader.next(r);
    if (!more.ok() || !*more) return sum;
    for (const Header& h : r.headers) sum += h.key.size() + (h.value ? h.value->size() : 0);
  }
}

void walk_batches(ByteView range, Codecs& codecs) {
  BatchIterator batches(range);
  while (true) {
    const Result<std::optional<BatchView>> next = batches.next();
    if (!next.ok() || !next->has_value()) return;
    const BatchView& batch = **next;
    ASSERT(batch.next_offset() > batch.base_offset());
    (void)batch.last_sequence();
    (void)control_type(batch);  // errors are expected
    (void)read_marker(batch);
    const Result<OpenedBatch> opened = OpenedBatch::open(batch, codecs, kFuzzInflatedMax);
    if (opened.ok()) (void)walk_records(opened->records(), batch.record_count());
  }
}

ValidationRules chosen_rules(uint8_t a, uint8_t b) {
  ValidationRules rules{.inflated_max = kFuzzInflatedMax};
  rules.compacted = (a & 1) != 0;
  rules.strict = (a & 2) != 0;
  if ((a & 4) != 0) rules.timestamp_type = TimestampType::log_append_time;
  if ((a & 8) != 0) rules.timestamp_before_max_ms = 1000;
  if ((a & 16) != 0) rules.produce_version = 6;
  if ((b & 7) < 5) rules.compression = static_cast<Codec>(b & 7);
  return rules;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const ValidationRules rules = chosen_rules(data[0], data[1]);
  Codecs codecs;
  Bytes set(data + 2, data + size);
  walk_batches(set, codecs);
  (void)walk_records(set, static_cast<int32_t>(data[1]));
  // Most inputs would end at the length or the CRC: make both agree half of the time.
  if ((data[0] & 0x80) != 0 && set.size() >= kBatchHeaderSize) {
    store_be<int32_t>(set.data() + 8, static_cast<int32_t>(set.size() - kBatchLengthEnd));
    store_be<uint32_t>(set.data() + 17, crc32c(ByteView(set).subspan(kCrcStart)));
  }
  const Result<ValidatedBatch> valid =
      validate(set, rules, Now{.mono_ms = 0, .wall_ms = 1'700'000'000'000}, codecs);
  if (valid.ok()) {
    const Result<BatchView> batch = BatchView::parse(valid->bytes);
    ASSERT(batch.ok() && batch->size() == valid->bytes.size() && batch->crc_matches());
    if (valid->opened) {
      // What was accepted after a look at its records can be opened by whoever reads it.
      const Result<OpenedBatch> opened = OpenedBatch::open(*batch, codecs, 2 * kFuzzInflatedMax);
      ASSERT(opened.ok());
    }
  }
  return 0;
}
