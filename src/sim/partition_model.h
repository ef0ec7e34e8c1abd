// What one partition ought to hold: the oracle of the storage simulation. It knows every batch that was
// appended, what was promised (acknowledged, consumed, synced), and judges what the partition shows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "record/batch.h"

namespace millrace::sim {

struct ModelBatch {
  int64_t base = 0;
  int64_t last = 0;
  int32_t epoch = 0;
  Bytes bytes;                      // as it came; the base offset and the epoch in it are not looked at
  std::vector<int64_t> timestamps;  // of its records
  int64_t producer = -1;
  int16_t producer_epoch = -1;
  int32_t sequence = -1;
  bool transactional = false;
  bool control = false;

  int32_t next_sequence() const {
    return record::advance_sequence(sequence, static_cast<int32_t>(timestamps.size()));
  }
};

enum class Expect : uint8_t { anything, append, duplicate, duplicate_or_refusal, refusal };

class PartitionModel {
 public:
  void reset(int64_t start) {
    batches_.clear();
    maybe_.clear();
    log_start = end_ = start;
    promised = 0;
    damaged = false;
  }

  // --- what happens ---
  void append(ModelBatch batch);
  /// Written when power failed: it may turn up at the end.
  void may_appear(ModelBatch batch) { maybe_.push_back(std::move(batch)); }
  void promise(int64_t end) { promised = std::max(promised, end); }
  /// After a recovery that ended here.
  void cut_to(int64_t start, int64_t end);

  // --- judgements: empty if it is as it ought to be ---
  /// A batch as the partition gave it. `adopt`: one that may have been written when power failed is accepted
  /// at the end.
  std::string judge(const record::BatchView& batch, bool adopt);
  /// What an append of this batch of an idempotent producer ought to do; the batch that it repeats.
  Expect expect(const ModelBatch& batch, const ModelBatch** original) const;
  /// Below the log start: that of a transaction whose beginning was deleted, and which may be forgotten.
  int64_t last_stable(int64_t high_watermark) const;
  /// First record at or after the log start with a timestamp >= `timestamp`, below `bound`; -1: none.
  int64_t offset_for_timestamp(int64_t timestamp, int64_t bound) const;

  int64_t end() const { return end_; }
  const std::vector<ModelBatch>& batches() const { return batches_; }
  const ModelBatch* batch_at(int64_t base) const;

  int64_t log_start = 0;
  int64_t promised = 0;  // below it nothing may be lost by a power cut
  bool damaged = false;  // its files were tampered with: errors are right, wrong data never

 private:
  std::vector<ModelBatch> batches_;  // ascending; never pruned at the front, only at the end
  std::vector<ModelBatch> maybe_;
  int64_t end_ = 0;
};

}  // namespace millrace::sim
