#include "log/cleaned_segment.h"

#include <fmt/format.h>

#include "log/file_names.h"

namespace millrace::log {

namespace {

constexpr size_t kCleanedWriteBytes = 1u << 20;

Status remove_if_there(io::Disk& disk, const std::string& path) {
  Status removed = disk.remove(path);
  if (!removed && removed.code() == ErrorCode::not_found) return {};
  return removed;
}

}  // namespace

std::string cleaned_name(Offset base_offset, FileKind kind) {
  return file_name(base_offset, kind) + std::string(kCleanedSuffix);
}

Result<std::unique_ptr<CleanedSegment>> CleanedSegment::create(io::Disk& disk, const std::string& directory,
                                                               Offset base_offset, const LogConfig& config) {
  for (const FileKind kind :
       {FileKind::offset_index, FileKind::time_index, FileKind::txn_index, FileKind::log}) {
    TRY(remove_if_there(disk, io::join_path(directory, cleaned_name(base_offset, kind))));
  }
  const std::string path = io::join_path(directory, cleaned_name(base_offset, FileKind::log));
  TRY_ASSIGN(std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::create_new));
  return std::unique_ptr<CleanedSegment>(
      new CleanedSegment(disk, directory, base_offset, config, std::move(file)));
}

Status CleanedSegment::append(ByteView batch, const BatchHeader& header) {
  ASSERT(batch.size() == header.size);
  if (size_bytes() + batch.size() > static_cast<uint64_t>(INT32_MAX)) {
    return Error(ErrorCode::limit_exceeded,
                 fmt::format("{}: what remains does not fit a segment", file_->path()));
  }
  buffer_.insert(buffer_.end(), batch.begin(), batch.end());
  segment_.note_appended(header, index_interval_bytes_);
  if (buffer_.size() >= kCleanedWriteBytes) return flush();
  return {};
}

Status CleanedSegment::flush() {
  if (buffer_.empty()) return {};
  TRY(file_->write_at(size_bytes() - buffer_.size(), buffer_));
  buffer_.clear();
  return {};
}

Status CleanedSegment::write_index(FileKind kind, const Bytes& content) {
  TRY_ASSIGN(
      const std::shared_ptr<io::File> file,
      disk_.open(io::join_path(directory_, cleaned_name(base_offset(), kind)), io::OpenMode::create_new));
  if (!content.empty()) TRY(file->write_at(0, content));
  return file->sync();
}

Status CleanedSegment::finish(const std::vector<AbortedTxn>& aborted) {
  TRY(flush());
  TRY(file_->sync());
  segment_.finish_time_index();
  TRY(write_index(FileKind::offset_index, segment_.offset_index().encode()));
  TRY(write_index(FileKind::time_index, segment_.time_index().encode()));
  if (!aborted.empty()) {
    TxnIndex index;
    for (const AbortedTxn& txn : aborted) index.append(txn);
    TRY(write_index(FileKind::txn_index, index.encode()));
  }
  return disk_.sync_directory(directory_);
}

void CleanedSegment::remove() {
  for (const FileKind kind :
       {FileKind::offset_index, FileKind::time_index, FileKind::txn_index, FileKind::log}) {
    // What stays behind goes at the next open.
    (void)disk_.remove(io::join_path(directory_, cleaned_name(base_offset(), kind)));
  }
}

}  // namespace millrace::log
