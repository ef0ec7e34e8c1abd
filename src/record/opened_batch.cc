#include "record/opened_batch.h"

namespace millrace::record {

Result<OpenedBatch> OpenedBatch::open(const BatchView& batch, Codecs& codecs, size_t inflated_max) {
  OpenedBatch opened(batch);
  const bool emptied = batch.record_count() == 0 && batch.records().empty();
  if (batch.codec_bits() == 0 || emptied) return opened;
  TRY_ASSIGN(opened.inflated_, codecs.decompress(batch.codec(), batch.records(), inflated_max));
  opened.compressed_ = true;
  return opened;
}

}  // namespace millrace::record
