#include "cli/dump_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/internal_records.h"
#include "cli/json.h"
#include "cli/metadata_records.h"
#include "cli/record_format.h"
#include "cli/table.h"
#include "io/posix_disk.h"
#include "ledger/raft_store.h"
#include "log/checkpoints.h"
#include "log/commit_file.h"
#include "log/dump.h"
#include "log/epoch_cache.h"
#include "log/file_names.h"
#include "log/offset_index.h"
#include "log/partition_metadata.h"
#include "log/producer_state.h"
#include "log/time_index.h"
#include "log/txn_index.h"
#include "record/opened_batch.h"

namespace millrace::cli {
namespace {

constexpr size_t kSmallFileMax = 256 << 20;  // everything but segments is read whole
constexpr size_t kInflatedMax = 256 << 20;

enum class Decode : uint8_t { none, offsets, transactions, metadata };

struct DumpJob {
  io::Disk& disk;
  std::string path;
  Output output = Output::text;
  bool records = false;
  Decode decode = Decode::none;
  std::string& out;
  std::vector<std::string>& problems;

  void problem(const std::string& what) const { problems.push_back(path + ": " + what); }
};

std::string base_name(const std::string& path) {
  const size_t slash = path.find_last_not_of('/');
  const std::string trimmed = path.substr(0, slash == std::string::npos ? 0 : slash + 1);
  return trimmed.substr(trimmed.rfind('/') + 1);
}

std::string absolute_parent_name(const std::string& path) {
  return base_name(io::parent_path(path));
}

/// The topic and partition that the path's directory is named after, if it is.
log::PartitionName partition_of(const std::string& path) {
  const auto name = log::parse_partition_directory(absolute_parent_name(path));
  return name ? *name : log::PartitionName{"", PartitionId(0), false};
}

void put_file(const DumpJob& job, const char* kind, Json content, const std::string& text) {
  if (job.output == Output::text) {
    job.out += fmt::format("{} ({})\n{}", job.path, kind, text);
    return;
  }
  Json j = Json::object();
  j["path"] = job.path;
  j["kind"] = kind;
  for (auto& [field, value] : content.items()) j[field] = value;
  job.out += render_json_line(j);
}

void put_table(const DumpJob& job, const char* kind, const Table& table) {
  Json content = Json::object();
  content["entries"] = json_of(table);
  put_file(job, kind, std::move(content), table.text());
}

std::string flags_of(const log::BatchHeader& h) {
  std::string out;
  const auto add = [&](bool set, const char* name) {
    if (set) out += (out.empty() ? "" : ",") + std::string(name);
  };
  add(h.is_transactional(), "transactional");
  add(h.is_control(), "control");
  add((h.attributes & 0x08) != 0, "log_append_time");
  add((h.attributes & 0x40) != 0, "delete_horizon");
  return out;
}

std::string codec_of(const log::BatchHeader& h) {
  const int bits = h.attributes & 7;
  return bits > 4 ? std::to_string(bits) : std::string(record::codec_name(static_cast<record::Codec>(bits)));
}

Json record_object(const DumpJob& job, const record::OpenedBatch& opened, const record::Record& r) {
  const bool decoded = job.decode != Decode::none && !opened.batch().is_control();
  Json j = Json::object();
  if (decoded) {
    j["offset"] = opened.offset_of(r).v;
    j["timestamp_ms"] = opened.timestamp_of(r);
    const Json what = job.decode == Decode::offsets    ? decode_offsets_record(r.key, r.value)
                      : job.decode == Decode::metadata ? decode_metadata_entry(r.key, r.value)
                                                       : decode_transaction_record(r.key, r.value);
    for (const auto& [field, value] : what.items()) j[field] = value;
    return j;
  }
  const log::PartitionName partition = partition_of(job.path);
  client::ConsumedRecord copy;
  copy.topic = partition.topic;
  copy.partition = partition.partition.v;
  copy.offset = opened.offset_of(r).v;
  copy.timestamp_ms = opened.timestamp_of(r);
  copy.timestamp_type = opened.batch().timestamp_type();
  if (r.key) copy.key = to_bytes(*r.key);
  if (r.value) copy.value = to_bytes(*r.value);
  for (const record::Header& h : r.headers) {
    copy.headers.emplace_back(std::string(as_text(h.key)),
                              h.value ? std::optional<Bytes>(to_bytes(*h.value)) : std::nullopt);
  }
  return Json::parse(record_json(copy));
}

void put_records(const DumpJob& job, const log::DumpedBatch& batch, record::Codecs& codecs, Json& list) {
  const auto at = [&](const Error& e) {
    job.problem(fmt::format("batch at offset {}: {}", batch.header.base_offset.v, e.message));
  };
  const auto view = record::BatchView::parse(batch.bytes);
  if (!view.ok()) return at(view.error());
  const auto opened = record::OpenedBatch::open(*view, codecs, kInflatedMax);
  if (!opened.ok()) return at(opened.error());
  record::RecordReader reader = opened->reader();
  record::Record r;
  while (true) {
    const Result<bool> more = reader.next(r);
    if (!more.ok()) return at(more.error());
    if (!*more) return;
    list.push_back(record_object(job, *opened, r));
  }
}

Status dump_log(const DumpJob& job) {
  Table table({{"base_offset", "BASE"},
               {"last_offset", "LAST"},
               {"records", "RECORDS"},
               {"position", "POSITION"},
               {"size", "SIZE"},
               {"leader_epoch", "EPOCH"},
               {"codec", "CODEC"},
               {"producer_id", "PRODUCER"},
               {"producer_epoch", "P.EPOCH"},
               {"base_sequence", "SEQUENCE"},
               {"max_timestamp_ms", "MAX TIMESTAMP"},
               {"flags", "FLAGS"},
               {"crc_ok", "CRC OK"}});
  record::Codecs codecs;
  Json records = Json::array();
  const auto dumped = log::dump_segment(job.disk, job.path, [&](const log::DumpedBatch& b) {
    const log::BatchHeader& h = b.header;
    const std::string flags = flags_of(h);
    table.add({h.base_offset.v, h.last_offset().v, int64_t{h.record_count}, static_cast<int64_t>(b.position),
               int64_t{h.size}, int64_t{h.leader_epoch.v}, codec_of(h),
               h.has_producer() ? Cell(h.producer_id.v) : Cell(),
               h.has_producer() ? Cell(int64_t{h.producer_epoch.v}) : Cell(),
               h.base_sequence >= 0 ? Cell(int64_t{h.base_sequence}) : Cell(), h.max_timestamp,
               flags.empty() ? Cell() : Cell(flags), b.crc_matches});
    if (job.records && b.crc_matches) put_records(job, b, codecs, records);
  });
  if (!dumped.ok()) return dumped.error();
  for (const std::string& p : dumped->problems) job.problems.push_back(p);
  Json content = Json::object();
  content["batch_count"] = dumped->batches;
  content["record_count"] = dumped->records;
  content["valid_bytes"] = dumped->valid_bytes;
  content["file_bytes"] = dumped->file_bytes;
  content["next_offset"] = dumped->next_offset.v;
  std::string text =
      fmt::format("{} batches, {} records, {} of {} bytes are sound, next offset {}\n", dumped->batches,
                  dumped->records, dumped->valid_bytes, dumped->file_bytes, dumped->next_offset.v) +
      table.text();
  content["batches"] = json_of(table);
  if (job.records) {
    for (const Json& r : records) text += render_json_line(r);
    content["records"] = std::move(records);
  }
  put_file(job, "segment", std::move(content), text);
  return {};
}

/// Index files in use may be longer than what is in them: zeros at the end are room, not entries.
void cut_room(Bytes& bytes, size_t entry_size) {
  size_t used = bytes.size();
  while (used > 0 && bytes[used - 1] == 0) --used;
  bytes.resize(std::min(bytes.size(), (used + entry_size - 1) / entry_size * entry_size));
}

Status dump_index(const DumpJob& job, log::FileKind kind, Offset base) {
  TRY_ASSIGN(Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
  if (kind == log::FileKind::offset_index) cut_room(bytes, log::OffsetIndex::kEntrySize);
  if (kind == log::FileKind::time_index) cut_room(bytes, log::TimeIndex::kEntrySize);
  switch (kind) {
    case log::FileKind::offset_index: {
      const log::OffsetIndex index = log::OffsetIndex::sound_prefix(bytes, UINT64_MAX);
      Table table({{"offset", "OFFSET"}, {"position", "POSITION"}});
      for (const auto& e : index.entries()) table.add({base.v + e.relative_offset, int64_t{e.position}});
      if (index.size() * log::OffsetIndex::kEntrySize != bytes.size()) {
        job.problem(fmt::format("{} of {} bytes are sound", index.size() * log::OffsetIndex::kEntrySize,
                                bytes.size()));
      }
      put_table(job, "offset_index", table);
      return {};
    }
    case log::FileKind::time_index: {
      bool whole = true;
      const log::TimeIndex index = log::TimeIndex::sound_prefix(bytes, whole);
      Table table({{"timestamp_ms", "TIMESTAMP"}, {"offset", "OFFSET"}});
      for (size_t i = 0; i < index.size(); ++i) {
        table.add({index.entry(i).timestamp, base.v + index.entry(i).relative_offset});
      }
      if (!whole) {
        job.problem(
            fmt::format("{} of {} bytes are sound", index.size() * log::TimeIndex::kEntrySize, bytes.size()));
      }
      put_table(job, "time_index", table);
      return {};
    }
    case log::FileKind::txn_index: {
      TRY_ASSIGN(const log::TxnIndex index, log::TxnIndex::parse(bytes, base));
      Table table({{"producer_id", "PRODUCER"},
                   {"first_offset", "FIRST"},
                   {"last_offset", "LAST"},
                   {"last_stable_offset", "LAST STABLE"}});
      for (const auto& e : index.entries()) {
        table.add({e.producer_id.v, e.first_offset.v, e.last_offset.v, e.last_stable_offset.v});
      }
      put_table(job, "transaction_index", table);
      return {};
    }
    case log::FileKind::snapshot: {
      TRY_ASSIGN(const auto producers, log::ProducerState::decode_snapshot(bytes));
      Table table({{"producer_id", "PRODUCER"},
                   {"producer_epoch", "EPOCH"},
                   {"last_sequence", "LAST SEQUENCE"},
                   {"last_offset", "LAST OFFSET"},
                   {"last_timestamp_ms", "TIMESTAMP"},
                   {"coordinator_epoch", "COORDINATOR"},
                   {"transaction_first_offset", "OPEN SINCE"}});
      for (const log::ProducerEntry& p : producers) {
        table.add({p.id.v, int64_t{p.epoch.v}, int64_t{p.last_sequence()}, p.last_offset().v,
                   p.last_timestamp, int64_t{p.coordinator_epoch},
                   p.in_transaction() ? Cell(p.txn_first_offset.v) : Cell()});
      }
      put_table(job, "producer_snapshot", table);
      return {};
    }
    case log::FileKind::log:
      break;
  }
  return dump_log(job);
}

Status dump_small(const DumpJob& job, const std::string& name, bool& known) {
  known = true;
  if (name == log::kRecoveryPointCheckpoint || name == log::kHighWatermarkCheckpoint ||
      name == log::kLogStartCheckpoint) {
    TRY_ASSIGN(const Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
    TRY_ASSIGN(const log::OffsetCheckpoint checkpoint, log::parse_checkpoint(as_text(bytes)));
    Table table({{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"offset", "OFFSET"}});
    for (const auto& [where, offset] : checkpoint)
      table.add({where.topic, int64_t{where.partition.v}, offset.v});
    put_table(job, "offset_checkpoint", table);
  } else if (name == log::kEpochCheckpointName) {
    TRY_ASSIGN(const Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
    TRY_ASSIGN(const log::EpochCache epochs, log::EpochCache::parse(as_text(bytes)));
    Table table({{"leader_epoch", "EPOCH"}, {"start_offset", "START"}});
    for (const auto& e : epochs.entries()) table.add({int64_t{e.epoch.v}, e.start_offset.v});
    put_table(job, "leader_epochs", table);
  } else if (name == log::kPartitionMetadataName) {
    TRY_ASSIGN(const Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
    TRY_ASSIGN(const log::PartitionMetadata metadata, log::parse_partition_metadata(as_text(bytes)));
    Table table({{"version", "VERSION"}, {"topic_id", "TOPIC ID"}});
    table.add({int64_t{metadata.version}, metadata.topic_id.to_string()});
    put_table(job, "partition_metadata", table);
  } else if (name == ledger::kHardStateFile) {
    TRY_ASSIGN(const Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
    TRY_ASSIGN(const raft::HardState state, ledger::parse_hard_state(as_text(bytes)));
    Table table({{"term", "TERM"}, {"vote", "VOTE"}});
    table.add({state.term.v, state.vote == kNoBroker ? Cell() : Cell(int64_t{state.vote.v})});
    put_table(job, "quorum_state", table);
  } else if (name == log::kCommitFileName) {
    TRY_ASSIGN(const Bytes bytes, job.disk.read_file(job.path, kSmallFileMax));
    const log::CommitFile::Replayed recorded = log::CommitFile::replay(bytes);
    if (recorded.damaged) job.problem("damaged before its end");
    if (recorded.bytes != bytes.size())
      job.problem(fmt::format("{} of {} bytes are sound", recorded.bytes, bytes.size()));
    Table table({{"topic_id", "TOPIC ID"},
                 {"partition", "PARTITION"},
                 {"log_start", "LOG START"},
                 {"durable_end", "DURABLE END"}});
    for (const auto& [key, end] : recorded.ends) {
      const auto start = recorded.starts.find(key);
      table.add({key.topic_id.to_string(), int64_t{key.partition.v},
                 start == recorded.starts.end() ? Cell() : Cell(start->second.v), end.v});
    }
    put_table(job, "commit_file", table);
  } else {
    known = false;
  }
  return {};
}

Result<Decode> decode_of(const Dump& options, const std::string& path) {
  if (options.decode == "none") return Decode::none;
  if (options.decode == "offsets") return Decode::offsets;
  if (options.decode == "transactions") return Decode::transactions;
  if (options.decode == "metadata") return Decode::metadata;
  if (options.decode != "auto") {
    return Error(ErrorCode::invalid_argument, "--decode is auto, none, offsets, transactions or metadata");
  }
  const std::string topic = partition_of(path).topic;
  if (topic == "__consumer_offsets") return Decode::offsets;
  if (topic == "__transaction_state") return Decode::transactions;
  if (topic == "__cluster_metadata") return Decode::metadata;
  return Decode::none;
}

}  // namespace

Status dump_path(io::Disk& disk, const std::string& path, const Dump& options, Output output,
                 std::string& out, std::vector<std::string>& problems) {
  const auto entries = disk.list(path);
  if (entries.ok()) {
    size_t dumped = 0;
    for (const io::DirectoryEntry& e : *entries) {
      if (e.is_directory) continue;
      const Status s = dump_path(disk, io::join_path(path, e.name), options, output, out, problems);
      if (s.ok()) {
        ++dumped;
      } else if (s.code() != ErrorCode::invalid_argument) {
        problems.push_back(io::join_path(path, e.name) + ": " + s.error().message);
      }
    }
    if (dumped == 0) return Error(ErrorCode::not_found, path + " holds no file of a partition");
    return {};
  }
  if (!disk.exists(path)) return Error(ErrorCode::not_found, "there is no " + path);
  TRY_ASSIGN(const Decode decode, decode_of(options, path));
  const DumpJob job{disk, path, output, options.records, decode, out, problems};
  const std::string name = base_name(path);
  bool known = false;
  TRY(dump_small(job, name, known));
  if (known) return {};
  const auto file = log::parse_file_name(name);
  if (!file) {
    return Error(ErrorCode::invalid_argument,
                 path + " has no name that a data directory uses (20 digits and .log, .index, ...)");
  }
  return dump_index(job, file->kind, file->offset);
}

ExitCode run(const Dump& options, Output output) {
  io::PosixDisk disk({.descriptors_max = 16, .threads = 1});
  ExitCode code = ExitCode::ok;
  for (const std::string& path : options.paths) {
    std::string out;
    std::vector<std::string> problems;
    const Status s = dump_path(disk, path, options, output, out, problems);
    if (const Status printed = print(out); !printed.ok()) return fail(printed.error());
    for (const std::string& p : problems) complain(p);
    if (!problems.empty() && code == ExitCode::ok) code = ExitCode::failed;
    if (s.ok()) continue;
    const ExitCode one = fail(s.error());
    if (code == ExitCode::ok) code = one;
  }
  return code;
}

}  // namespace millrace::cli
