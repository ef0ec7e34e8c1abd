// What one partition ought to hold: the oracle of the storage simulation. It knows every batch that was
// appended, what was promised (acknowledged, consumed, synced), and judges what the partition shows. Of a
// compacted log it knows which records may be gone: it is a plain map from key to last value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "log/txn_index.h"
#include "record/batch.h"

namespace millrace::sim {

struct ModelRecord {
  int64_t timestamp = 0;
  int32_t key = -1;  // -1: none (markers)
  bool tombstone = false;
  bool gone = false;      // compacted away, as the last survey saw it ...
  bool was_gone = false;  // ... and the one before
};

struct ModelBatch {
  int64_t base = 0;
  int64_t last = 0;
  int32_t epoch = 0;
  Bytes bytes;  // as it came; the base offset and the epoch in it are not looked at
  std::vector<ModelRecord> records;
  int64_t written_wall_ms = 0;
  int64_t producer = -1;
  int16_t producer_epoch = -1;
  int32_t sequence = -1;
  bool transactional = false;
  bool control = false;
  bool commit = false;       // of a marker
  std::optional<bool> once;  // committed or not, by a marker that was lost again

  int32_t next_sequence() const {
    return record::advance_sequence(sequence, static_cast<int32_t>(records.size()));
  }
};

enum class Expect : uint8_t { anything, append, duplicate, duplicate_or_refusal, refusal };
enum class Fate : uint8_t { open, committed, aborted };

class PartitionModel {
 public:
  void reset(int64_t start) {
    batches_.clear();
    maybe_.clear();
    log_start = end_ = start;
    deleted_below = promised = promised_start = 0;
    damaged = cut_short = suspect = compacted = lost_marker = stale = false;
    tombstones_kept_ms = INT64_MAX;
  }

  // --- what happens ---
  void append(ModelBatch batch);
  /// Written when power failed: it may turn up at the end.
  void may_appear(ModelBatch batch) { maybe_.push_back(std::move(batch)); }
  void promise(int64_t end) { promised = std::max(promised, end); }
  /// Everything is synced: what was cut is gone for good.
  void settled() { maybe_.clear(); }
  /// After a recovery that ended here.
  void cut_to(int64_t start, int64_t end);
  /// A follower was told to: what lies there was never promised by its leader.
  void truncate(int64_t end);
  /// A follower begins anew, empty.
  void restart_at(int64_t offset);

  // --- judgements: empty if it is as it ought to be ---
  /// A batch as the partition gave it. `adopt`: one that may have been written when power failed is accepted
  /// at the end. Of a compacted log, what it lacks is noted while a survey is on.
  std::string judge(const record::BatchView& batch, bool adopt);
  /// Everything from the log start to `end` is about to be judged ...
  void begin_survey();
  /// ... and was: whether what is not there may be gone, and no key has got back a value that it had lost.
  std::string end_survey(int64_t end, bool complete, int64_t wall_ms);
  /// Below `end` the log is compacted: no key has two values there.
  std::string judge_cleaned(int64_t end) const;
  /// Whether no record in [from, to) is in the log.
  bool nothing_between(int64_t from, int64_t to) const;
  /// What a consumer of committed records makes of batches, with the partition's list of aborted
  /// transactions.
  std::string judge_committed(const std::vector<record::BatchView>& batches,
                              const std::vector<log::AbortedTxn>& aborted) const;

  /// What an append of this batch of an idempotent producer ought to do; the batch that it repeats.
  Expect expect(const ModelBatch& batch, const ModelBatch** original) const;
  /// How the open transaction of the producer was ended by a marker that is lost again.
  std::optional<bool> decided_before(int64_t producer) const;
  /// Below the log start: that of a transaction whose beginning was deleted, and which may be forgotten.
  /// `decided`: as after a restart, when transactions whose marker lies in the log hold nothing back.
  /// `cleaned`: an open transaction begins with the first record of it that compaction has left.
  int64_t last_stable(int64_t high_watermark, bool decided = false, bool cleaned = false) const;
  /// First record at or after the log start with a timestamp >= `timestamp`, below `bound`; -1: none.
  int64_t offset_for_timestamp(int64_t timestamp, int64_t bound) const;

  int64_t end() const { return end_; }
  const std::vector<ModelBatch>& batches() const { return batches_; }
  const ModelBatch* batch_at(int64_t base) const;

  int64_t log_start = 0;
  int64_t promised = 0;        // below it nothing may be lost by a power cut
  int64_t promised_start = 0;  // below it nothing may come back
  int64_t deleted_below = 0;   // the log began there once
  bool damaged = false;        // its records were tampered with: errors are right, wrong data never
  bool cut_short = false;      // one of its files was, maybe while it was open
  bool suspect = false;        // files beside them were: it may be offline, but is whole
  bool compacted = false;      // it was, or may have been
  bool loose_epochs = false;   // bits flipped on the way: the epoch of a batch has no checksum
  bool stale = false;          // the last survey could not read everything
  bool relaxed = false;        // what is committed need not be synced
  bool lost_marker = false;    // a power cut took the end of a transaction
  int64_t tombstones_kept_ms = INT64_MAX;  // the least delete.retention.ms it ever had

 private:
  ModelBatch* find(int64_t base);
  void drop_last();
  std::string judge_rebuilt(ModelBatch& known, const record::BatchView& batch);
  Fate fate_of(size_t batch) const;

  std::vector<ModelBatch> batches_;  // ascending; never pruned at the front, only at the end
  std::vector<ModelBatch> maybe_;
  int64_t end_ = 0;
  bool surveying_ = false;
};

}  // namespace millrace::sim
