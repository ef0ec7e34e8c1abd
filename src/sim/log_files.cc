#include "sim/log_files.h"

#include "sim/replica_files.h"

#include <algorithm>
#include <vector>

#include "log/file_names.h"
#include "record/batch.h"

namespace millrace::sim {

namespace {

struct SegmentFile {
  int64_t base = 0;
  std::string path;
};

std::vector<SegmentFile> segment_files(const SimDisk& disk, const std::string& directory) {
  std::vector<SegmentFile> out;
  for (const std::string& path : disk.files_under(directory)) {
    const std::optional<log::FileName> name = log::parse_file_name(path.substr(directory.size() + 1));
    if (!name || name->kind != log::FileKind::log || name->stage != log::FileStage::live) continue;
    out.push_back({name->offset.v, path});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.base < b.base; });
  return out;
}

}  // namespace

std::optional<FoundLog> find_log(const SimDisk& disk, const std::string& directory, bool holes,
                                 int64_t log_start) {
  for (const std::string& path : disk.files_under(directory)) {
    if (path.ends_with(log::kSwapSuffix)) return std::nullopt;
  }
  FoundLog found;
  std::vector<SegmentFile> files = segment_files(disk, directory);
  while (files.size() > 1 && files[1].base <= log_start) files.erase(files.begin());
  if (files.empty()) return found;
  found.end = files.front().base;
  int32_t epoch = -1;
  for (size_t i = 0; i < files.size(); ++i) {
    const bool is_last = i + 1 == files.size();
    const int64_t limit = is_last ? INT64_MAX : files[i + 1].base;
    const ByteView bytes = *disk.content(files[i].path);
    size_t at = 0;
    while (at < bytes.size()) {
      const Result<record::BatchView> batch = record::BatchView::parse(bytes.subspan(at));
      if (!batch.ok() || !batch->crc_matches() || batch->base_offset().v < found.end ||
          (!holes && batch->base_offset().v != found.end) || batch->next_offset().v > limit ||
          batch->leader_epoch().v < epoch || batch->next_offset().v <= found.end) {
        break;
      }
      found.end = batch->next_offset().v;
      epoch = batch->leader_epoch().v;
      at += batch->size();
    }
    if (at < bytes.size()) found.torn = true;
    if (!is_last && found.end != limit) {
      found.segments_lost = true;
      break;
    }
  }
  return found;
}

std::vector<ClosedSegment> closed_segments(const SimDisk& disk, const std::string& directory) {
  std::vector<ClosedSegment> out;
  const std::vector<SegmentFile> files = segment_files(disk, directory);
  for (size_t i = 0; i + 1 < files.size(); ++i)
    out.push_back({files[i].path, files[i].base, files[i + 1].base});
  return out;
}

std::vector<std::string> rotten_segments(const SimDisk& disk) {
  std::vector<std::string> out;
  for (const std::string& path : disk.files_under("/")) {
    if (path.ends_with(".log") && disk.is_rotten(path) && path.find(".stray/") == std::string::npos &&
        path.find("-delete/") == std::string::npos)
      out.push_back(path);
  }
  return out;
}

Bytes replica_bytes(const SimDisk& disk, const std::string& directory, int64_t end) {
  Bytes all;
  for (const SegmentFile& file : segment_files(disk, directory)) {
    const ByteView bytes = *disk.content(file.path);
    size_t at = 0;
    while (at < bytes.size()) {
      const Result<record::BatchView> batch = record::BatchView::parse(bytes.subspan(at));
      if (!batch.ok() || batch->base_offset().v >= end) break;
      all.insert(all.end(), batch->bytes().begin(), batch->bytes().end());
      at += batch->size();
    }
  }
  return all;
}

std::optional<FoundBatch> find_batch_below(const SimDisk& disk, const std::string& directory, int64_t from,
                                           int64_t below, Dice& dice) {
  std::vector<FoundBatch> found;
  for (const SegmentFile& file : segment_files(disk, directory)) {
    const ByteView bytes = *disk.content(file.path);
    size_t at = 0;
    while (at < bytes.size()) {
      const Result<record::BatchView> batch = record::BatchView::parse(bytes.subspan(at));
      if (!batch.ok() || batch->next_offset().v > below) break;
      if (batch->base_offset().v >= from) found.push_back({file.path, at, batch->size()});
      at += batch->size();
    }
  }
  if (found.empty()) return std::nullopt;
  return found[dice.index(found.size())];
}

}  // namespace millrace::sim
