// What one partition remembers of its idempotent and transactional producers: the last five batches of each
// (to answer retries with the original offset), its epoch, its open transaction. The fold of the log's
// batches; the snapshot file only shortens the replay. Owned by the partition log, no threads.
//
// Snapshot file `<offset>.snapshot` (big-endian), state before the record at `offset`:
//   0 version i16 = 1 | 2 CRC-32C of everything after it u32 | 6 entries i32 | per entry, 46 bytes:
//   0 producer id i64 | 8 epoch i16 | 10 last sequence i32 | 14 last offset i64 | 22 offset delta i32
//   26 timestamp i64 | 34 coordinator epoch i32 | 38 first offset of the open transaction i64 or -1
// Only the last batch of a producer is kept there: after a restart the window is one until it fills again.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "log/batch_header.h"
#include "log/txn_index.h"

namespace millrace::log {

inline constexpr size_t kProducerBatchesKept = 5;
inline constexpr int32_t kNoCoordinatorEpoch = -1;

struct ProducerBatch {
  int32_t last_sequence = -1;
  int32_t offset_delta = 0;  // last offset - first offset
  Offset last_offset = kNoOffset;
  int64_t timestamp = -1;  // greatest of the batch

  int32_t first_sequence() const;
  Offset first_offset() const { return last_offset - offset_delta; }
};

struct ProducerEntry {
  ProducerId id = kNoProducerId;
  ProducerEpoch epoch = kNoProducerEpoch;
  int32_t coordinator_epoch = kNoCoordinatorEpoch;
  Offset txn_first_offset = kNoOffset;  // of the open transaction
  int64_t last_timestamp = -1;          // of the last batch or marker
  int64_t touched_mono_ms = 0;          // when this broker last saw it: what expiry counts from
  std::array<ProducerBatch, kProducerBatchesKept> batches;  // the first `batch_count`, oldest first
  uint8_t batch_count = 0;

  int32_t last_sequence() const { return batch_count == 0 ? -1 : batches[batch_count - 1u].last_sequence; }
  Offset last_offset() const { return batch_count == 0 ? kNoOffset : batches[batch_count - 1u].last_offset; }
  bool in_transaction() const { return txn_first_offset != kNoOffset; }
  void add(const ProducerBatch& batch);
};

/// Verdict about a batch that a client wants appended.
struct ProducerVerdict {
  ErrorCode error = ErrorCode::none;          // 45, 47 or 48
  std::optional<ProducerBatch> duplicate_of;  // error none: appended before, here
  std::string message;
};

/// A transaction that ended with a marker at `last_offset`.
struct CompletedTxn {
  ProducerId producer_id;
  Offset first_offset;
  Offset last_offset;
  bool aborted = false;
};

class ProducerState {
 public:
  /// `entries_max`: more are dropped, those not seen for the longest first, never one in a transaction.
  explicit ProducerState(uint32_t entries_max = 100'000) : entries_max_(entries_max) {}

  /// Whether the client's batch may be appended now (epoch, then sequence; KIP-98, KIP-360). Changes nothing.
  ProducerVerdict check(const BatchHeader& batch) const;
  /// The rule of check() for a producer known as `known` (may be null), and what an appended batch makes of
  /// it: for several batches of one producer in one append.
  static ProducerVerdict judge(const BatchHeader& batch, const ProducerEntry* known);
  static void fold(ProducerEntry& entry, const BatchHeader& batch, int64_t mono_ms);
  /// Folds an appended data batch in: no check.
  void apply_data(const BatchHeader& batch, int64_t mono_ms);
  /// Folds a commit or abort marker in; the transaction it ended, if one was open.
  std::optional<CompletedTxn> apply_marker(const BatchHeader& batch, bool aborted, int32_t coordinator_epoch,
                                           int64_t mono_ms);

  /// First offset that is not decided and replicated: the oldest open transaction, or the oldest completed
  /// one whose marker is at or above `high_watermark`. nullopt: none.
  std::optional<Offset> first_unstable_offset(Offset high_watermark) const;
  /// As above, but as if `txn` were replicated (the last stable offset written with an abort).
  Offset last_stable_offset_after(const CompletedTxn& txn) const;
  /// Forgets completed transactions whose marker is below the high watermark.
  void on_high_watermark(Offset high_watermark);

  /// Completed transactions that are not known to be replicated and whose marker is below `end`: a snapshot
  /// does not tell of them.
  std::vector<CompletedTxn> completed_below(Offset end) const;
  void restore_completed(const std::vector<CompletedTxn>& txns);

  /// Forgets producers not seen for `expiration_ms`, those in a transaction excepted; returns how many.
  size_t expire(int64_t mono_ms, int64_t expiration_ms);
  void set_entries_max(uint32_t entries_max) { entries_max_ = entries_max; }
  void clear();

  Bytes encode_snapshot() const;
  /// Replaces the state; entries count as seen at `mono_ms`. Errors: corrupt (the state is then unchanged).
  Status load_snapshot(ByteView file, int64_t mono_ms);

  const ProducerEntry* find(ProducerId id) const;
  size_t size() const { return entries_.size(); }
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [id, entry] : entries_) visit(entry);
  }
  /// All entries ordered by id (DescribeProducers, dump).
  std::vector<const ProducerEntry*> sorted() const;

  static Result<std::vector<ProducerEntry>> decode_snapshot(ByteView file);

 private:
  void put(ProducerEntry entry);
  void make_room();

  uint32_t entries_max_;
  std::unordered_map<ProducerId, ProducerEntry> entries_;
  std::map<Offset, ProducerId> open_txns_;         // by first offset
  std::map<Offset, CompletedTxn> completed_txns_;  // by first offset; until replicated
};

}  // namespace millrace::log
