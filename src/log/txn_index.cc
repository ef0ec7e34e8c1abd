#include "log/txn_index.h"

#include "base/endian.h"

namespace millrace::log {

Result<TxnIndex> TxnIndex::parse(ByteView file, Offset segment_base) {
  if (file.size() % kEntrySize != 0) {
    return Error(ErrorCode::corrupt, "transaction index: size is no multiple of 34");
  }
  TxnIndex index;
  index.entries_.reserve(file.size() / kEntrySize);
  Offset last = segment_base - 1;
  for (size_t at = 0; at < file.size(); at += kEntrySize) {
    if (load_be<int16_t>(&file[at]) != kVersion) {
      return Error(ErrorCode::corrupt, "transaction index: unknown version");
    }
    const AbortedTxn txn{ProducerId(load_be<int64_t>(&file[at + 2])),
                         Offset(load_be<int64_t>(&file[at + 10])), Offset(load_be<int64_t>(&file[at + 18])),
                         Offset(load_be<int64_t>(&file[at + 26]))};
    // A transaction has data before its marker. (All zeros is what a file is whose size outlived its bytes.)
    if (txn.first_offset.v < 0 || txn.first_offset >= txn.last_offset || txn.last_offset <= last) {
      return Error(ErrorCode::corrupt, "transaction index: offsets do not ascend");
    }
    index.entries_.push_back(txn);
    last = txn.last_offset;
  }
  return index;
}

Bytes TxnIndex::encode(size_t first) const {
  Bytes out;
  if (first >= entries_.size()) return out;
  out.resize((entries_.size() - first) * kEntrySize);
  uint8_t* p = out.data();
  for (size_t i = first; i < entries_.size(); ++i, p += kEntrySize) {
    store_be(p, kVersion);
    store_be(p + 2, entries_[i].producer_id.v);
    store_be(p + 10, entries_[i].first_offset.v);
    store_be(p + 18, entries_[i].last_offset.v);
    store_be(p + 26, entries_[i].last_stable_offset.v);
  }
  return out;
}

void TxnIndex::truncate_to_offset(Offset offset) {
  while (!entries_.empty() && entries_.back().last_offset >= offset) entries_.pop_back();
}

}  // namespace millrace::log
