#include "log/commit_file.h"

#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"

namespace millrace::log {

namespace {

constexpr size_t kFrameHead = 9;
constexpr uint8_t kKindDurableEnds = 1;
constexpr size_t kDurableEndSize = 28;

bool fold_durable_ends(ByteView payload, DurableEnds& ends) {
  if (payload.size() < 4) return false;
  const auto count = load_be<int32_t>(payload.data());
  if (count < 0 || payload.size() - 4 != static_cast<size_t>(count) * kDurableEndSize) return false;
  for (size_t at = 4; at < payload.size(); at += kDurableEndSize) {
    CommitKey key;
    std::copy_n(payload.begin() + static_cast<std::ptrdiff_t>(at), key.topic_id.bytes.size(),
                key.topic_id.bytes.begin());
    key.partition = PartitionId(load_be<int32_t>(&payload[at + 16]));
    ends[key] = Offset(load_be<int64_t>(&payload[at + 20]));
  }
  return true;
}

}  // namespace

Bytes CommitFile::encode(std::span<const std::pair<CommitKey, Offset>> changes) {
  const size_t payload = 4 + changes.size() * kDurableEndSize;
  Bytes out(kFrameHead + payload);
  store_be(&out[0], static_cast<uint32_t>(payload));
  out[8] = kKindDurableEnds;
  store_be(&out[kFrameHead], static_cast<int32_t>(changes.size()));
  uint8_t* p = out.data() + kFrameHead + 4;
  for (const auto& [key, end] : changes) {
    std::copy(key.topic_id.bytes.begin(), key.topic_id.bytes.end(), p);
    store_be(p + 16, key.partition.v);
    store_be(p + 20, end.v);
    p += kDurableEndSize;
  }
  store_be(&out[4], crc32c(ByteView(out).subspan(8)));
  return out;
}

size_t CommitFile::replay(ByteView file, DurableEnds& ends) {
  size_t at = 0;
  while (file.size() - at >= kFrameHead) {
    const auto payload = load_be<uint32_t>(&file[at]);
    if (payload > file.size() - at - kFrameHead) break;
    if (load_be<uint32_t>(&file[at + 4]) != crc32c(file.subspan(at + 8, 1 + size_t{payload}))) break;
    // An unknown kind that verifies was written by a later version: skipped.
    if (file[at + 8] == kKindDurableEnds && !fold_durable_ends(file.subspan(at + kFrameHead, payload), ends))
      break;
    at += kFrameHead + payload;
  }
  return at;
}

Result<std::unique_ptr<CommitFile>> CommitFile::open(io::Disk& disk, const std::string& data_directory,
                                                     DurableEnds* ends) {
  std::unique_ptr<CommitFile> out(new CommitFile(disk, io::join_path(data_directory, kCommitFileName)));
  const bool existed = disk.exists(out->path_);
  TRY_ASSIGN(out->file_, disk.open(out->path_, io::OpenMode::create));
  if (!existed) TRY(disk.sync_directory(data_directory));
  TRY_ASSIGN(const Bytes content, disk.read_file(out->path_, kCommitFileMaxBytes));
  out->size_ = replay(content, out->ends_);
  if (out->size_ < content.size()) TRY(out->file_->truncate(out->size_));
  if (ends != nullptr) *ends = out->ends_;
  return out;
}

Status CommitFile::record(std::span<const std::pair<CommitKey, Offset>> changes, bool sync) {
  for (const auto& [key, end] : changes) ends_[key] = end;
  if (size_ >= rewrite_bytes_) return rewrite();
  const Bytes frame = encode(changes);
  Status written = file_->write_at(size_, frame);
  if (!written) {
    // A torn frame would hide later ones from replay().
    TRY(file_->truncate(size_));
    return written;
  }
  size_ += frame.size();
  return sync ? file_->sync() : Status();
}

Status CommitFile::rewrite() {
  const std::vector<std::pair<CommitKey, Offset>> all(ends_.begin(), ends_.end());
  const Bytes frame = encode(all);
  TRY(disk_.replace_file(path_, frame));
  TRY_ASSIGN(file_, disk_.open(path_, io::OpenMode::write));
  size_ = frame.size();
  return {};
}

}  // namespace millrace::log
