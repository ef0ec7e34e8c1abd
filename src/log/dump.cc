#include "log/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "log/file_names.h"

namespace millrace::log {

namespace {

constexpr size_t kDumpFileBytesMax = 1u << 30;
constexpr size_t kDumpWindow = 256 * 1024;

void add_problem(std::vector<std::string>& problems, std::string text) {
  if (problems.size() < kMaxProblems) problems.push_back(std::move(text));
}

/// Position of every batch of a segment by its last offset.
struct BatchPlace {
  uint64_t position = 0;
  int64_t max_timestamp = -1;
};
using BatchPlaces = std::map<int64_t, BatchPlace>;

std::optional<FileName> name_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return parse_file_name(slash == std::string::npos ? std::string_view(path)
                                                    : std::string_view(path).substr(slash + 1));
}

std::string sibling(const std::string& log_path, FileKind kind) {
  return log_path.substr(0, log_path.size() - kLogSuffix.size()) + std::string(suffix_of(kind));
}

Result<Bytes> read_or_empty(io::Disk& disk, const std::string& path) {
  Result<Bytes> content = disk.read_file(path, kDumpFileBytesMax);
  if (!content && content.code() == ErrorCode::not_found) return Bytes();
  return content;
}

Result<BatchPlaces> places_in(io::Disk& disk, const std::string& log_path) {
  BatchPlaces places;
  TRY(dump_segment(disk, log_path, [&](const DumpedBatch& b) {
    places[b.header.last_offset().v] = {b.position, b.header.max_timestamp};
  }));
  return places;
}

}  // namespace

Result<SegmentDump> dump_segment(io::Disk& disk, const std::string& path,
                                 const std::function<void(const DumpedBatch&)>& each) {
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(path, io::OpenMode::read));
  SegmentDump dump;
  TRY_ASSIGN(dump.file_bytes, file->size());
  const std::optional<FileName> name = name_of(path);
  Offset expected = name ? name->offset : Offset(0);
  Bytes scratch;
  BatchScanner scanner(*file, 0, dump.file_bytes, scratch, kDumpWindow);
  bool sound = true;
  while (true) {
    const Result<bool> more = scanner.next();
    if (!more) {
      if (more.code() == ErrorCode::io_error) return more.error();
      add_problem(dump.problems, more.error().message);
      break;
    }
    if (!*more) break;
    DumpedBatch batch;
    batch.header = scanner.header();
    batch.position = scanner.position();
    TRY_ASSIGN(batch.crc_matches, scanner.crc_matches());
    if (each && batch.header.size <= kBatchBytesMax) {
      TRY_ASSIGN(batch.bytes, scanner.bytes());
    }
    if (!batch.crc_matches) {
      sound = false;
      add_problem(dump.problems, fmt::format("{}: checksum does not match at position {} (offset {})", path,
                                             batch.position, batch.header.base_offset.v));
    }
    if (batch.header.base_offset < expected) {
      sound = false;
      add_problem(dump.problems, fmt::format("{}: offset {} at position {} is not beyond {}", path,
                                             batch.header.base_offset.v, batch.position, expected.v - 1));
    }
    if (dump.batches == 0) dump.first_offset = batch.header.base_offset;
    ++dump.batches;
    dump.records += static_cast<uint64_t>(batch.header.record_count);
    dump.max_timestamp = std::max(dump.max_timestamp, batch.header.indexed_timestamp());
    dump.next_offset = expected = batch.header.next_offset();
    if (sound) dump.valid_bytes = scanner.next_position();
    if (each) each(batch);
  }
  return dump;
}

Result<IndexDump> dump_indexes(io::Disk& disk, const std::string& log_path) {
  const std::optional<FileName> name = name_of(log_path);
  if (!name || name->kind != FileKind::log) {
    return Error(ErrorCode::invalid_argument, fmt::format("{} is no segment file", log_path));
  }
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk.open(log_path, io::OpenMode::read));
  TRY_ASSIGN(const uint64_t size, file->size());
  TRY_ASSIGN(const BatchPlaces places, places_in(disk, log_path));
  IndexDump dump;

  const std::string offset_path = sibling(log_path, FileKind::offset_index);
  TRY_ASSIGN(const Bytes offsets, read_or_empty(disk, offset_path));
  Result<OffsetIndex> offset_index = OffsetIndex::parse(offsets, size);
  if (offset_index) {
    dump.offsets = std::move(*offset_index);
    for (const OffsetIndex::Entry& e : dump.offsets.entries()) {
      const auto at = places.find(name->offset.v + e.relative_offset);
      if (at == places.end() || at->second.position != static_cast<uint64_t>(e.position)) {
        add_problem(dump.problems, fmt::format("{}: no batch ends with offset {} at position {}", offset_path,
                                               name->offset.v + e.relative_offset, e.position));
      }
    }
  } else {
    add_problem(dump.problems, fmt::format("{}: {}", offset_path, offset_index.error().message));
  }

  const std::string time_path = sibling(log_path, FileKind::time_index);
  TRY_ASSIGN(const Bytes times, read_or_empty(disk, time_path));
  Result<TimeIndex> time_index = TimeIndex::parse(times);
  if (time_index) {
    dump.times = std::move(*time_index);
    for (size_t i = 0; i < dump.times.size(); ++i) {
      const TimeIndex::Entry e = dump.times.entry(i);
      const auto at = places.find(name->offset.v + e.relative_offset);
      if (at == places.end() || at->second.max_timestamp != e.timestamp) {
        add_problem(dump.problems, fmt::format("{}: no batch ends with offset {} and timestamp {}", time_path,
                                               name->offset.v + e.relative_offset, e.timestamp));
      }
    }
  } else {
    add_problem(dump.problems, fmt::format("{}: {}", time_path, time_index.error().message));
  }

  const std::string txn_path = sibling(log_path, FileKind::txn_index);
  TRY_ASSIGN(const Bytes txns, read_or_empty(disk, txn_path));
  Result<TxnIndex> txn_index = TxnIndex::parse(txns, name->offset);
  if (txn_index) {
    dump.txns = std::move(*txn_index);
    for (const AbortedTxn& txn : dump.txns.entries()) {
      if (!places.contains(txn.last_offset.v)) {
        add_problem(dump.problems, fmt::format("{}: no marker at offset {}", txn_path, txn.last_offset.v));
      }
    }
  } else {
    add_problem(dump.problems, fmt::format("{}: {}", txn_path, txn_index.error().message));
  }
  return dump;
}

Result<std::vector<ProducerEntry>> dump_snapshot(io::Disk& disk, const std::string& path) {
  TRY_ASSIGN(const Bytes content, disk.read_file(path, kDumpFileBytesMax));
  Result<std::vector<ProducerEntry>> entries = ProducerState::decode_snapshot(content);
  if (!entries) return Error(entries.code(), fmt::format("{}: {}", path, entries.error().message));
  return entries;
}

}  // namespace millrace::log
