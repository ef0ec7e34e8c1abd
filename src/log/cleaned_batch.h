// What compaction makes of one batch: the rules, without files. Which records stay, which markers of
// transactions stay, and the batch that holds what stays. Kafka's rules (KIP-58, KIP-98, KIP-280, KIP-534):
//
//   a record stays        if no later record below the map's end has its key; a record without key never
//   a tombstone stays     until its batch's delete horizon: `delete.retention.ms` after compaction first met
//   it
//                         as the last of its key (attribute bit 6; the base timestamp is the horizon then)
//   aborted data goes     at once
//   a marker stays        while data of its transaction is in the log, and after that until its own horizon
//   an empty batch stays  if it carries the last sequence of a producer
//
// What stays keeps its offset, and its batch keeps base offset, last offset, leader epoch, producer fields,
// timestamp type and codec. A batch that keeps every record is not touched.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "log/offset_map.h"
#include "log/txn_index.h"
#include "record/batch.h"
#include "record/codec.h"

namespace millrace::log {

/// Follows the transactions while the batches of a range pass in order.
class PassingTransactions {
 public:
  PassingTransactions() = default;
  /// `aborted`: every transaction that aborted data in the range; those that ended before `from` are ignored.
  PassingTransactions(std::vector<AbortedTxn> aborted, Offset from);

  /// Whether nobody needs the batch: data of an aborted transaction, or a marker whose transaction has no
  /// data left. Errors: corrupt (a control batch that cannot be read).
  Result<bool> needless(const record::BatchView& batch);
  /// Aborted transactions that still have data or empty batches, whose markers passed since the last call:
  /// what the transaction index of the range must hold.
  std::vector<AbortedTxn> take_index_entries();

 private:
  struct Open {
    AbortedTxn txn;
    bool data_seen = false;
  };
  std::vector<AbortedTxn> aborted_;  // by first offset
  size_t next_ = 0;
  std::map<ProducerId, Open> open_aborted_;
  std::map<ProducerId, bool> open_committed_;
  std::vector<AbortedTxn> entries_;
};

/// The last that the log knows of a producer.
struct LastOfProducer {
  Offset data_offset = kNoOffset;  // last offset of its last data batch
  ProducerEpoch epoch = kNoProducerEpoch;
};

struct CleaningRules {
  Offset log_start{0};
  int64_t now_wall_ms = 0;
  int64_t delete_retention_ms = 0;
  const OffsetMap* map = nullptr;
  Offset map_end{0};  // the map knows everything below
  const std::unordered_map<ProducerId, LastOfProducer>* producers = nullptr;
};

enum class BatchFate : uint8_t {
  keep,     // byte for byte
  rebuild,  // some records go, or a delete horizon comes
  drop,
};

struct CleanedBatch {
  BatchFate fate = BatchFate::keep;
  Bytes rebuilt;
  uint32_t records_kept = 0;
  uint32_t records_dropped = 0;
};

/// Judges one verified batch. `needless` is what PassingTransactions said. Errors: corrupt, limit_exceeded
/// (inflated beyond kBatchInflatedMax), unsupported_compression_type.
Result<CleanedBatch> clean_batch(const CleaningRules& rules, const record::BatchView& batch, bool needless,
                                 record::Codecs& codecs);

/// A batch without records over [base, next): it joins what is left of a segment to the next one.
Bytes filler_batch(Offset base, Offset next, LeaderEpoch epoch, int64_t max_timestamp);

inline constexpr size_t kBatchInflatedMax = 256u << 20;

}  // namespace millrace::log
