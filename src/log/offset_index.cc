#include "log/offset_index.h"

#include <algorithm>

#include "base/endian.h"

namespace millrace::log {

OffsetIndex OffsetIndex::sound_prefix(ByteView file, uint64_t segment_bytes) {
  OffsetIndex index;
  index.entries_.reserve(file.size() / kEntrySize);
  Entry last{-1, -1};
  for (size_t at = 0; at + kEntrySize <= file.size(); at += kEntrySize) {
    const Entry e{load_be<int32_t>(&file[at]), load_be<int32_t>(&file[at + 4])};
    if (e.relative_offset <= last.relative_offset || e.position <= last.position ||
        static_cast<uint64_t>(e.position) >= segment_bytes) {
      break;
    }
    index.entries_.push_back(e);
    last = e;
  }
  return index;
}

Result<OffsetIndex> OffsetIndex::parse(ByteView file, uint64_t segment_bytes) {
  OffsetIndex index = sound_prefix(file, segment_bytes);
  if (index.size() * kEntrySize != file.size()) {
    return Error(ErrorCode::corrupt, "offset index: entries do not ascend, or not within the segment");
  }
  return index;
}

Bytes OffsetIndex::encode(size_t first) const {
  Bytes out;
  if (first >= entries_.size()) return out;
  out.resize((entries_.size() - first) * kEntrySize);
  uint8_t* p = out.data();
  for (size_t i = first; i < entries_.size(); ++i, p += kEntrySize) {
    store_be(p, entries_[i].relative_offset);
    store_be(p + 4, entries_[i].position);
  }
  return out;
}

std::optional<OffsetIndex::Entry> OffsetIndex::floor_offset(int64_t relative_offset) const {
  const auto after = std::upper_bound(entries_.begin(), entries_.end(), relative_offset,
                                      [](int64_t o, const Entry& e) { return o < e.relative_offset; });
  if (after == entries_.begin()) return std::nullopt;
  return *(after - 1);
}

std::optional<OffsetIndex::Entry> OffsetIndex::floor_position(uint64_t position) const {
  const auto after =
      std::upper_bound(entries_.begin(), entries_.end(), position,
                       [](uint64_t p, const Entry& e) { return p < static_cast<uint64_t>(e.position); });
  if (after == entries_.begin()) return std::nullopt;
  return *(after - 1);
}

void OffsetIndex::truncate_to_position(uint64_t position) {
  while (!entries_.empty() && static_cast<uint64_t>(entries_.back().position) >= position)
    entries_.pop_back();
}

void OffsetIndex::truncate_to_offset(int64_t relative_offset) {
  while (!entries_.empty() && entries_.back().relative_offset >= relative_offset) entries_.pop_back();
}

}  // namespace millrace::log
