#include "ledger/raft_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/plants.h"
#include "ledger/raft_codec.h"
#include "record/batch_iterator.h"
#include "record/builder.h"
#include "record/record.h"

namespace millrace::ledger {
namespace {

constexpr size_t kHardStateFileMax = 4096;
constexpr size_t kReadStep = 1 << 20;
constexpr int32_t kSegmentBytes = 64 << 20;
constexpr std::string_view kSnapshotFileSuffix = ".checkpoint";
constexpr size_t kSnapshotFileMax = size_t{2} << 30;
constexpr size_t kSnapshotHead = 8;
constexpr int64_t kCommitSyncMs = 1000;
constexpr uint64_t kCommitRewriteBytes = 64 * 1024;
// The metadata log has no topic id; the file holds nothing else.
const log::CommitKey kMetadataKey{Uuid{}, PartitionId(0)};

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
  TRY(disk_.make_directories(directory));
  TRY(disk_.sync_directory(io::parent_path(directory)));
  log::DurableEnds ends;
  TRY_ASSIGN(commits_, log::CommitFile::open(disk_, directory, &ends));
  commits_->set_rewrite_bytes(kCommitRewriteBytes);
  log::OpenParams params;
  params.directory = directory;
  params.config = metadata_log_config();
  params.now = clock_.now();
  params.create = true;
  if (const auto end = ends.find(kMetadataKey); end != ends.end()) params.durable_end = end->second;
  log::RecoveryStats stats;
  TRY_ASSIGN(log_, log::Log::open(disk_, std::move(params), trace_, &stats));
  if (stats.bytes_cut > 0) trace_.warn("{}: {} bytes of an unfinished entry cut", directory, stats.bytes_cut);
  TRY(log_->flush());
  TRY(read_hard_state());
  TRY(read_snapshot());
  TRY(read_entries());
  return join_snapshot();
}

// The newest snapshot; older ones are left-overs. One that does not verify is damage: what it covers is not
// in the log any more.
Status RaftStore::read_snapshot() {
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> files, disk_.list(directory_));
  std::string newest;
  for (const io::DirectoryEntry& f : files) {
    // Sorted by name, which is by index.
    if (!f.is_directory && f.name.ends_with(kSnapshotFileSuffix)) newest = f.name;
  }
  if (newest.empty()) return {};
  const std::string path = io::join_path(directory_, newest);
  TRY_ASSIGN(Bytes bytes, disk_.read_file(path, kSnapshotFileMax));
  if (bytes.size() < kSnapshotHead || load_be<uint32_t>(bytes.data()) != crc32c(ByteView(bytes).subspan(4))) {
    return Error(ErrorCode::corrupt, path + ": the checksum does not match");
  }
  const size_t label = load_be<uint32_t>(&bytes[4]);
  if (label > bytes.size() - kSnapshotHead) return Error(ErrorCode::corrupt, path + ": no label");
  TRY_ASSIGN(raft::SnapshotMeta meta, decode_snapshot_meta(ByteView(bytes).subspan(kSnapshotHead, label)));
  const Slice whole(std::move(bytes));
  snapshot_ =
      raft::Snapshot{std::move(meta), whole.sub(kSnapshotHead + label, whole.size() - kSnapshotHead - label)};
  return {};
}

Status RaftStore::join_snapshot() {
  if (!snapshot_) {
    if (!entries_.empty() && entries_.front().index != LogIndex(1)) {
      return Error(ErrorCode::corrupt, fmt::format("{}: the log begins at entry {} and there is no snapshot",
                                                   directory_, entries_.front().index.v));
    }
    return {};
  }
  const raft::SnapshotMeta& meta = snapshot_->meta;
  const bool behind =
      entries_.empty() ? log_->log_end_offset().v != meta.index.v : entries_.back().index < meta.index;
  bool foreign = false;
  for (const raft::Entry& e : entries_) {
    if (e.index == meta.index && e.term != meta.term) foreign = true;
  }
  if (!entries_.empty() && entries_.front().index > meta.index + 1) {
    return Error(ErrorCode::corrupt,
                 fmt::format("{}: entries after {} are missing", directory_, meta.index.v));
  }
  if (!behind && !foreign) return {};
  entries_.clear();
  return restart_log(Offset(meta.index.v));
}

// Nothing may be claimed to be durable while the log goes from one place to the other.
Status RaftStore::restart_log(Offset at) {
  TRY(note_durable(Offset(0), true));
  TRY(log_->truncate_fully_and_start_at(at, clock_.now()));
  TRY(log_->flush());
  return note_durable(at, true);
}

Status RaftStore::read_hard_state() {
  const std::string path = io::join_path(directory_, kHardStateFile);
  blank_ = !disk_.exists(path);
  if (blank_) return {};
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
  const std::string path = io::join_path(directory_, kHardStateFile);
  if (planted(Plant::vote_without_sync)) {
    TRY_ASSIGN(const std::shared_ptr<io::File> file, disk_.open(path, io::OpenMode::create));
    TRY(file->truncate(0));
    TRY(file->write_at(0, as_bytes(text)));
  } else {
    TRY(disk_.replace_file(path, as_bytes(text)));
  }
  hard_state_ = state;
  return {};
}

Status RaftStore::append(const std::vector<raft::Entry>& entries) {
  if (entries.empty()) return {};
  const Now now = clock_.now();
  const Offset first(entries.front().index.v - 1);
  if (first < log_->log_end_offset()) {
    TRY(note_durable(first, true));
    TRY(log_->truncate_to(first, now));
  }
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
  TRY(synced);
  // What the file lacks for want of space comes with a later entry: the entries themselves are safe.
  const Status noted = note_durable(log_->durable_end(), false);
  return noted.code() == ErrorCode::no_space ? Status() : noted;
}

Status RaftStore::note_durable(Offset end, bool must_sync) {
  const int64_t now_ms = clock_.now().mono_ms;
  const bool sync = must_sync || now_ms - commits_synced_ms_ >= kCommitSyncMs;
  const std::pair<log::CommitKey, Offset> change(kMetadataKey, end);
  TRY(commits_->record({&change, 1}, sync));
  if (sync) commits_synced_ms_ = now_ms;
  return {};
}

Status RaftStore::put_snapshot(const raft::Snapshot& snapshot) {
  const Bytes label = encode_snapshot_meta(snapshot.meta);
  Bytes bytes(kSnapshotHead);
  bytes.reserve(kSnapshotHead + label.size() + snapshot.data.size());
  store_be(&bytes[4], static_cast<uint32_t>(label.size()));
  bytes.insert(bytes.end(), label.begin(), label.end());
  bytes.insert(bytes.end(), snapshot.data.view().begin(), snapshot.data.view().end());
  store_be(bytes.data(), crc32c(ByteView(bytes).subspan(4)));
  const std::string name =
      fmt::format("{:020d}-{:010d}{}", snapshot.meta.index.v, snapshot.meta.term.v, kSnapshotFileSuffix);
  TRY(disk_.replace_file(io::join_path(directory_, name), bytes));
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> files, disk_.list(directory_));
  for (const io::DirectoryEntry& f : files) {
    if (f.is_directory || !f.name.ends_with(kSnapshotFileSuffix) || f.name >= name) continue;
    TRY(disk_.remove(io::join_path(directory_, f.name)));
  }
  return {};
}

Status RaftStore::write_snapshot(const raft::Snapshot& snapshot, LogIndex entries_from) {
  TRY(put_snapshot(snapshot));
  const Offset keep(std::max<int64_t>(entries_from.v - 1, 0));
  if (keep <= log_->log_start_offset()) return {};
  const Now now = clock_.now();
  TRY(log_->advance_log_start(std::min(keep, log_->log_end_offset())));
  TRY_ASSIGN(const log::DeletedSegments gone, log_->delete_old_segments(now, log_->log_end_offset()));
  if (!gone.empty()) trace_.debug("{}: {} bytes behind the snapshot dropped", directory_, gone.bytes);
  (void)log_->remove_pending(now, true);
  return {};
}

Status RaftStore::install_snapshot(const raft::Snapshot& snapshot) {
  TRY(put_snapshot(snapshot));
  return restart_log(Offset(snapshot.meta.index.v));
}

Status RaftStore::close(bool clean) {
  if (!log_ || log_->closed()) return {};
  if (clean && !log_->failed()) TRY(note_durable(log_->durable_end(), true));
  return log_->close(clean && !log_->failed());
}

}  // namespace millrace::ledger
