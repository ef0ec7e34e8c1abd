#include "log/commit_file.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"

namespace millrace::log {

namespace {

constexpr size_t kFrameHead = 9;
constexpr uint8_t kKindDurableEnds = 1;
constexpr uint8_t kKindCaps = 2;
constexpr uint8_t kKindStarts = 3;
// Blocks held ahead of the end: on a full disk the record of a log start must fit, or nothing could be
// removed.
constexpr uint64_t kCommitReserveBytes = 64 * 1024;
constexpr size_t kEntrySize = 28;
constexpr Offset kNoCap{-1};

Bytes encode_entries(uint8_t kind, std::span<const std::pair<CommitKey, Offset>> changes) {
  const size_t payload = 4 + changes.size() * kEntrySize;
  Bytes out(kFrameHead + payload);
  store_be(&out[0], static_cast<uint32_t>(payload));
  out[8] = kind;
  store_be(&out[kFrameHead], static_cast<int32_t>(changes.size()));
  uint8_t* p = out.data() + kFrameHead + 4;
  for (const auto& [key, end] : changes) {
    std::copy(key.topic_id.bytes.begin(), key.topic_id.bytes.end(), p);
    store_be(p + 16, key.partition.v);
    store_be(p + 20, end.v);
    p += kEntrySize;
  }
  store_be(&out[4], crc32c(ByteView(out).subspan(8)));
  return out;
}

bool has_entries(ByteView payload) {
  if (payload.size() < 4) return false;
  const auto count = load_be<int32_t>(payload.data());
  return count >= 0 && payload.size() - 4 == static_cast<size_t>(count) * kEntrySize;
}

void fold_entries(ByteView payload, DurableEnds& into) {
  for (size_t at = 4; at < payload.size(); at += kEntrySize) {
    CommitKey key;
    std::copy_n(payload.begin() + static_cast<std::ptrdiff_t>(at), key.topic_id.bytes.size(),
                key.topic_id.bytes.begin());
    key.partition = PartitionId(load_be<int32_t>(&payload[at + 16]));
    into[key] = Offset(load_be<int64_t>(&payload[at + 20]));
  }
}

/// The frame at `at`, or 0 bytes. `known_kinds`: only kinds whose form can be checked before the checksum, so
/// that a search through damage stays cheap and finds nothing by chance.
size_t frame_at(ByteView file, size_t at, bool known_kinds) {
  if (file.size() - at < kFrameHead) return 0;
  const auto payload = load_be<uint32_t>(&file[at]);
  if (payload > file.size() - at - kFrameHead) return 0;
  const uint8_t kind = file[at + 8];
  const bool known = kind == kKindDurableEnds || kind == kKindCaps || kind == kKindStarts;
  if (known && !has_entries(file.subspan(at + kFrameHead, payload))) return 0;
  if (known_kinds && !known) return 0;
  if (load_be<uint32_t>(&file[at + 4]) != crc32c(file.subspan(at + 8, 1 + size_t{payload}))) return 0;
  return kFrameHead + payload;
}

}  // namespace

Bytes CommitFile::encode(std::span<const std::pair<CommitKey, Offset>> changes) {
  return encode_entries(kKindDurableEnds, changes);
}

Bytes CommitFile::encode_caps(std::span<const std::pair<CommitKey, Offset>> changes) {
  return encode_entries(kKindCaps, changes);
}

Bytes CommitFile::encode_starts(std::span<const std::pair<CommitKey, Offset>> changes) {
  return encode_entries(kKindStarts, changes);
}

CommitFile::Replayed CommitFile::replay(ByteView file) {
  Replayed out;
  bool in_step = true;
  for (size_t at = 0; at < file.size();) {
    const size_t frame = frame_at(file, at, !in_step);
    if (frame == 0) {
      in_step = false;
      ++at;
      continue;
    }
    out.damaged = out.damaged || !in_step;
    in_step = true;
    const ByteView payload = file.subspan(at + kFrameHead, frame - kFrameHead);
    // An unknown kind that verifies was written by a later version: skipped.
    if (file[at + 8] == kKindDurableEnds) fold_entries(payload, out.ends);
    if (file[at + 8] == kKindCaps) fold_entries(payload, out.caps);
    if (file[at + 8] == kKindStarts) fold_entries(payload, out.starts);
    at += frame;
    out.bytes = at;
  }
  std::erase_if(out.caps, [](const auto& cap) { return cap.second == kNoCap; });
  return out;
}

Result<std::unique_ptr<CommitFile>> CommitFile::open(io::Disk& disk, const std::string& data_directory,
                                                     DurableEnds* ends) {
  std::unique_ptr<CommitFile> out(new CommitFile(disk, io::join_path(data_directory, kCommitFileName)));
  const bool existed = disk.exists(out->path_);
  TRY_ASSIGN(out->file_, disk.open(out->path_, io::OpenMode::create));
  if (!existed) TRY(disk.sync_directory(data_directory));
  TRY_ASSIGN(const Bytes content, disk.read_file(out->path_, kCommitFileMaxBytes));
  Replayed replayed = replay(content);
  out->ends_ = std::move(replayed.ends);
  out->caps_ = std::move(replayed.caps);
  out->starts_ = std::move(replayed.starts);
  out->size_ = replayed.bytes;
  out->was_damaged_ = replayed.damaged;
  if (replayed.damaged) {
    TRY(out->rewrite());
  } else if (!content.empty()) {
    if (out->size_ < content.size()) TRY(out->file_->truncate(out->size_));
    // After a failed fsync the page cache may show what is not on the disk.
    if (out->size_ > 0) TRY(out->file_->write_at(0, ByteView(content).first(out->size_)));
    TRY(out->file_->sync());
  }
  if (ends != nullptr) *ends = out->ends_;
  return out;
}

uint64_t CommitFile::rewrite_at() const {
  // Several times what it would shrink to, or a directory of many partitions would be rewritten all the time.
  return std::max<uint64_t>(rewrite_bytes_,
                            uint64_t{4} * (ends_.size() + caps_.size() + starts_.size()) * kEntrySize);
}

Status CommitFile::record(std::span<const std::pair<CommitKey, Offset>> changes, bool sync) {
  for (const auto& [key, end] : changes) ends_[key] = end;
  return append(encode(changes), sync);
}

Status CommitFile::record_caps(std::span<const std::pair<CommitKey, Offset>> changes, bool sync) {
  for (const auto& [key, cap] : changes) {
    if (cap == kNoCap) {
      caps_.erase(key);
    } else {
      caps_[key] = cap;
    }
  }
  return append(encode_caps(changes), sync);
}

Status CommitFile::record_starts(std::span<const std::pair<CommitKey, Offset>> changes, bool sync) {
  std::vector<std::pair<CommitKey, std::optional<Offset>>> before;
  for (const auto& [key, start] : changes) {
    const auto it = starts_.find(key);
    before.emplace_back(key, it == starts_.end() ? std::nullopt : std::optional(it->second));
    starts_[key] = start;
  }
  Status written = append(encode_starts(changes), sync);
  if (written) return written;
  // Whoever looks whether a start is recorded must not be told of one that is not.
  for (const auto& [key, start] : before) {
    if (start) {
      starts_[key] = *start;
    } else {
      starts_.erase(key);
    }
  }
  return written;
}

Status CommitFile::append(ByteView frame, bool sync) {
  if (size_ >= rewrite_at()) return rewrite();
  if (size_ + frame.size() + kCommitReserveBytes / 2 > reserved_until_) {
    reserved_until_ = size_ + frame.size() + kCommitReserveBytes;
    file_->reserve(reserved_until_);
  }
  Status written = file_->write_at(size_, frame);
  if (!written) {
    // A torn frame would hide later ones from replay().
    TRY(file_->truncate(size_));
    return written;
  }
  size_ += frame.size();
  return sync ? file_->sync() : Status();
}

Bytes CommitFile::encode_all(const Replayed& known) {
  Bytes out;
  for (const auto& [kind, entries] :
       {std::pair(kKindDurableEnds, &known.ends), std::pair(kKindCaps, &known.caps),
        std::pair(kKindStarts, &known.starts)}) {
    if (entries->empty() && kind != kKindDurableEnds) continue;
    const std::vector<std::pair<CommitKey, Offset>> list(entries->begin(), entries->end());
    const Bytes frame = encode_entries(kind, list);
    out.insert(out.end(), frame.begin(), frame.end());
  }
  return out;
}

Status CommitFile::rewrite() {
  const Bytes content = encode_all({ends_, caps_, starts_});
  TRY(disk_.replace_file(path_, content));
  TRY_ASSIGN(file_, disk_.open(path_, io::OpenMode::write));
  size_ = content.size();
  reserved_until_ = 0;
  return {};
}

}  // namespace millrace::log
