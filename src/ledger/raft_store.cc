#include "ledger/raft_store.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>
#include <utility>

#include "record/batch_iterator.h"
#include "record/builder.h"
#include "record/record.h"

namespace millrace::ledger {
namespace {

constexpr size_t kHardStateFileMax = 4096;
constexpr size_t kReadStep = 1 << 20;
constexpr int32_t kSegmentBytes = 64 << 20;

log::LogConfig metadata_log_config() {
  log::LogConfig c;
  c.segment_bytes = kSegmentBytes;
  c.retention_ms = -1;  // entries go when a snapshot covers them, never by age
  c.retention_bytes = -1;
  c.preallocate = true;  // some room ahead, so that a full disk still takes the entry that deletes a topic
  return c;
}

}  // namespace

// "key: number" lines; anything else is damage, a missing key too: a forgotten vote may be given twice.
Result<raft::HardState> parse_hard_state(std::string_view text) {
  std::optional<int64_t> version;
  std::optional<int64_t> term;
  std::optional<int64_t> vote;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.empty()) continue;
    const size_t colon = line.find(": ");
    int64_t number = 0;
    if (colon == std::string_view::npos) return Error(ErrorCode::corrupt, "a line without a value");
    const std::string_view value = line.substr(colon + 2);
    const auto [stop, failed] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (failed != std::errc() || stop != value.data() + value.size()) {
      return Error(ErrorCode::corrupt, "not a number");
    }
    const std::string_view key = line.substr(0, colon);
    if (key == "version") version = number;
    if (key == "term") term = number;
    if (key == "vote") vote = number;
  }
  if (version != 0) return Error(ErrorCode::corrupt, "not version 0");
  if (!term || *term < 0) return Error(ErrorCode::corrupt, "no term");
  if (!vote || *vote < kNoBroker.v || *vote > INT32_MAX) return Error(ErrorCode::corrupt, "no vote");
  return raft::HardState{Term(*term), BrokerId(static_cast<int32_t>(*vote))};
}

Status RaftStore::open(const std::string& directory) {
  directory_ = directory;
  log::OpenParams params;
  params.directory = directory;
  params.config = metadata_log_config();
  params.now = clock_.now();
  params.create = true;
  log::RecoveryStats stats;
  TRY_ASSIGN(log_, log::Log::open(disk_, std::move(params), trace_, &stats));
  if (stats.bytes_cut > 0) trace_.warn("{}: {} bytes of an unfinished entry cut", directory, stats.bytes_cut);
  TRY(log_->flush());
  TRY(read_hard_state());
  return read_entries();
}

Status RaftStore::read_hard_state() {
  const std::string path = io::join_path(directory_, kHardStateFile);
  if (!disk_.exists(path)) return {};
  TRY_ASSIGN(const Bytes text, disk_.read_file(path, kHardStateFileMax));
  const Result<raft::HardState> state = parse_hard_state(as_text(text));
  if (!state.ok()) return Error(ErrorCode::corrupt, path + ": " + state.error().message);
  hard_state_ = *state;
  return {};
}

Status RaftStore::read_entries() {
  Offset at = log_->log_start_offset();
  while (at < log_->log_end_offset()) {
    TRY_ASSIGN(const log::ReadResult step, log_->read(at, kReadStep, log_->log_end_offset(), true));
    TRY_ASSIGN(const Bytes bytes, log::Log::read_bytes(step));
    record::BatchIterator batches(bytes);
    while (true) {
      TRY_ASSIGN(const std::optional<record::BatchView> batch, batches.next());
      if (!batch) break;
      record::RecordReader reader(batch->records(), batch->record_count());
      record::Record r;
      TRY_ASSIGN(const bool some, reader.next(r));
      if (!some || batch->record_count() != 1 || !batch->crc_matches() || !r.key || r.key->size() != 1 ||
          !r.value || r.key->front() > static_cast<uint8_t>(raft::EntryKind::membership)) {
        return Error(ErrorCode::corrupt,
                     fmt::format("{}: no metadata entry at offset {}", directory_, batch->base_offset().v));
      }
      entries_.push_back({LogIndex(batch->base_offset().v + 1), Term(batch->leader_epoch().v),
                          static_cast<raft::EntryKind>(r.key->front()), Slice::copy_of(*r.value)});
      at = batch->next_offset();
    }
  }
  return {};
}

Status RaftStore::write_hard_state(const raft::HardState& state) {
  const std::string text = fmt::format("version: 0\nterm: {}\nvote: {}\n", state.term.v, state.vote.v);
  TRY(disk_.replace_file(io::join_path(directory_, kHardStateFile), as_bytes(text)));
  hard_state_ = state;
  return {};
}

Status RaftStore::append(const std::vector<raft::Entry>& entries) {
  if (entries.empty()) return {};
  const Now now = clock_.now();
  const Offset first(entries.front().index.v - 1);
  if (first < log_->log_end_offset()) TRY(log_->truncate_to(first, now));
  ASSERT(first == log_->log_end_offset());
  Bytes bytes;
  for (const raft::Entry& e : entries) {
    record::BatchOptions options;
    options.base_offset = Offset(e.index.v - 1);
    options.leader_epoch = LeaderEpoch(static_cast<int32_t>(e.term.v));
    record::BatchBuilder builder(options);
    const auto kind = static_cast<uint8_t>(e.kind);
    builder.append(now.wall_ms, ByteView(&kind, 1), e.payload.view());
    const Bytes batch = builder.build();
    bytes.insert(bytes.end(), batch.begin(), batch.end());
  }
  TRY_ASSIGN(const log::AppendResult appended, log_->append_as_follower(bytes, now));
  (void)appended;
  TRY_ASSIGN(const log::SyncPlan plan, log_->plan_sync(log::SyncScope::records));
  const Status synced = plan.run(disk_);
  log_->synced(plan, synced);
  return synced;
}

Status RaftStore::close(bool clean) {
  if (!log_ || log_->closed()) return {};
  return log_->close(clean && !log_->failed());
}

}  // namespace millrace::ledger
