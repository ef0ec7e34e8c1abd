#include "log/time_index.h"

#include <algorithm>

#include "base/endian.h"

namespace millrace::log {

TimeIndex TimeIndex::sound_prefix(ByteView file, bool& whole) {
  TimeIndex index;
  index.timestamps_.reserve(file.size() / kEntrySize);
  index.offsets_.reserve(file.size() / kEntrySize);
  Entry last{-1, -1};
  for (size_t at = 0; at + kEntrySize <= file.size(); at += kEntrySize) {
    const Entry e{load_be<int64_t>(&file[at]), load_be<int32_t>(&file[at + 8])};
    // All zeros is what a file is whose size outlived its bytes.
    if (e.timestamp == 0 && e.relative_offset == 0) break;
    if (e.timestamp <= last.timestamp || e.relative_offset <= last.relative_offset) break;
    index.timestamps_.push_back(e.timestamp);
    index.offsets_.push_back(e.relative_offset);
    last = e;
  }
  whole = index.size() * kEntrySize == file.size();
  return index;
}

Result<TimeIndex> TimeIndex::parse(ByteView file) {
  bool whole = false;
  TimeIndex index = sound_prefix(file, whole);
  if (!whole) return Error(ErrorCode::corrupt, "time index: entries do not ascend");
  return index;
}

Bytes TimeIndex::encode(size_t first) const {
  Bytes out;
  if (first >= timestamps_.size()) return out;
  out.resize((timestamps_.size() - first) * kEntrySize);
  uint8_t* p = out.data();
  for (size_t i = first; i < timestamps_.size(); ++i, p += kEntrySize) {
    store_be(p, timestamps_[i]);
    store_be(p + 8, offsets_[i]);
  }
  return out;
}

bool TimeIndex::append_if_later(int64_t timestamp, int32_t relative_offset) {
  if (timestamp < 0) return false;  // a batch without timestamps
  if (!timestamps_.empty() && (timestamp <= timestamps_.back() || relative_offset <= offsets_.back()))
    return false;
  timestamps_.push_back(timestamp);
  offsets_.push_back(relative_offset);
  return true;
}

std::optional<TimeIndex::Entry> TimeIndex::floor(int64_t timestamp) const {
  const auto after = std::upper_bound(timestamps_.begin(), timestamps_.end(), timestamp);
  if (after == timestamps_.begin()) return std::nullopt;
  return entry(static_cast<size_t>(after - timestamps_.begin()) - 1);
}

void TimeIndex::truncate_to_offset(int64_t relative_offset) {
  while (!offsets_.empty() && offsets_.back() >= relative_offset) {
    offsets_.pop_back();
    timestamps_.pop_back();
  }
}

std::optional<TimeIndex::Entry> TimeIndex::last() const {
  if (empty()) return std::nullopt;
  return entry(size() - 1);
}

void TimeIndex::shrink() {
  timestamps_.shrink_to_fit();
  offsets_.shrink_to_fit();
}

}  // namespace millrace::log
