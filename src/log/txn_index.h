// The aborted transactions whose abort marker lies in one segment. File: entries back to back, big-endian:
//
//   0 version i16 = 0 | 2 producer id i64 | 10 first offset i64 | 18 last offset (the marker) i64
//   26 last stable offset when it was written i64
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace millrace::log {

struct AbortedTxn {
  ProducerId producer_id = kNoProducerId;
  Offset first_offset = kNoOffset;
  Offset last_offset = kNoOffset;
  Offset last_stable_offset = kNoOffset;
  bool operator==(const AbortedTxn&) const = default;
};

class TxnIndex {
 public:
  static constexpr size_t kEntrySize = 34;
  static constexpr int16_t kVersion = 0;

  /// Errors: corrupt (size, version, first >= last, last offsets not ascending, or below `segment_base`).
  static Result<TxnIndex> parse(ByteView file, Offset segment_base);
  Bytes encode(size_t first = 0) const;

  void append(const AbortedTxn& txn) { entries_.push_back(txn); }
  /// Drops entries whose marker is at or beyond `offset`.
  void truncate_to_offset(Offset offset);

  const std::vector<AbortedTxn>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }

 private:
  std::vector<AbortedTxn> entries_;
};

}  // namespace millrace::log
