#include "log/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "log/epoch_cache.h"
#include "log/file_names.h"
#include "log/log.h"
#include "log/lost_ranges.h"
#include "log/partition_metadata.h"
#include "record/opened_batch.h"

namespace millrace::log {

namespace {

constexpr size_t kVerifyFileBytesMax = 1u << 30;
constexpr size_t kVerifyInflatedMax = 256u << 20;
constexpr uint32_t kVerifyProducersMax = 1'000'000;

}  // namespace

std::string text_of(const Finding& f) {
  std::string at;
  if (f.position) at = fmt::format("position {}", *f.position);
  if (f.offset != kNoOffset) at += fmt::format("{}offset {}", at.empty() ? "" : ", ", f.offset.v);
  return fmt::format("{}: {}{}{}", f.path, at, at.empty() ? "" : ": ", f.what);
}

void Findings::add(Finding finding) {
  ++(finding.severity == Severity::damage ? damages : notes);
  if (list.size() < kFindingsMax) list.push_back(std::move(finding));
}

void Findings::append(const Findings& other) {
  damages += other.damages;
  notes += other.notes;
  list.insert(list.end(), other.list.begin(), other.list.end());
}

// One pass over the batches of a partition, in which everything else in the directory is held against them.
class PartitionVerifier {
 public:
  PartitionVerifier(io::Disk& disk, std::string directory, const PartitionCheck& check)
      : disk_(disk), directory_(std::move(directory)), check_(check), producers_(kVerifyProducersMax) {}

  Result<PartitionVerdict> run();

 private:
  /// The index files of the segment that is being walked, and how far the walk has come in them.
  struct Indexes {
    std::string offset_path;
    std::string time_path;
    std::string txn_path;
    OffsetIndex offsets;
    TimeIndex times;
    std::vector<AbortedTxn> txns;
    size_t next_offset = 0;
    size_t next_time = 0;
    std::optional<Offset> pending;  // an entry that names the end of a later batch of the same append
    int64_t max_timestamp = -1;
    std::vector<AbortedTxn> aborted;  // by the batches
    std::set<int64_t> markers;        // last offsets of control batches
    struct Misfit {
      std::string path;
      uint64_t position = 0;
      std::string what;
    };
    std::vector<Misfit> misfits;  // entries that no batch bears out
  };

  void add(Severity severity, std::string path, std::string what, std::optional<uint64_t> position = {},
           Offset offset = kNoOffset) {
    verdict_.findings.add({severity, std::move(path), position, offset, std::move(what)});
  }
  void damage(std::string path, std::string what, std::optional<uint64_t> position = {},
              Offset offset = kNoOffset) {
    add(Severity::damage, std::move(path), std::move(what), position, offset);
  }
  void note(std::string path, std::string what) { add(Severity::note, std::move(path), std::move(what)); }
  std::string path_of(std::string_view name) const { return io::join_path(directory_, name); }
  std::string path_of(Offset offset, FileKind kind) const { return path_of(file_name(offset, kind)); }
  Offset known_durable() const { return std::max(check_.recovery_point, check_.durable_end); }

  Status list_names();
  void check_identity();
  Status load_epochs();
  Status walk_one(size_t at);
  void load_indexes(Offset base, uint64_t segment_bytes, Indexes& indexes);
  void see_batch(const WalkedBatch& batch, Indexes& indexes);
  void see_epoch(const WalkedBatch& batch);
  void see_indexes(const WalkedBatch& batch, Indexes& indexes);
  void see_records(const WalkedBatch& batch);
  void finish_indexes(const SegmentWalk& walk, bool closed, Indexes& indexes, size_t findings_before);
  void report_damage(const std::string& path, const SegmentWalk& walk, bool last);
  void note_hole(const std::string& path, Offset from, Offset to);
  void compare_snapshots(Offset up_to);
  void compare_snapshot(Offset at);
  void check_ends();

  io::Disk& disk_;
  std::string directory_;
  const PartitionCheck& check_;
  PartitionVerdict verdict_;
  std::vector<Offset> bases_;
  std::vector<Offset> snapshots_;
  size_t next_snapshot_ = 0;
  std::vector<LostRange> lost_;
  std::optional<EpochCache> epochs_;
  std::set<int32_t> epochs_told_;
  LeaderEpoch last_epoch_ = kNoLeaderEpoch;
  std::string walking_;            // path of the segment
  bool rebuilt_at_start_ = false;  // the segment that is walked: what lies beside it is made anew
  std::optional<Offset> end_;
  ProducerState producers_;
  std::set<ProducerId> has_data_;  // in a transaction that is open where the walk is
  record::Codecs codecs_;
};

Result<PartitionVerdict> PartitionVerifier::run() {
  TRY(list_names());
  check_identity();
  TRY(load_epochs());
  for (size_t i = 0; i < bases_.size(); ++i) TRY(walk_one(i));
  compare_snapshots(Offset(INT64_MAX));
  check_ends();
  return std::move(verdict_);
}

Status PartitionVerifier::list_names() {
  TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, disk_.list(directory_));
  std::set<Offset> logs;
  std::vector<std::pair<std::string, Offset>> beside;
  for (const io::DirectoryEntry& entry : entries) {
    const std::string path = path_of(entry.name);
    const std::optional<FileName> name = parse_file_name(entry.name);
    if (!name) {
      if (const std::optional<LostRange> lost = parse_lost_name(entry.name)) {
        lost_.push_back(*lost);
      } else if (entry.name.ends_with(".tmp")) {
        note(path, "left by an interrupted replacement; removed at the next start");
      }
      continue;
    }
    if (name->stage != FileStage::live) {
      note(path, name->stage == FileStage::swap ? "a compaction that the next start completes"
                                                : "a leftover that the next start removes");
      continue;
    }
    if (name->kind == FileKind::log) {
      logs.insert(name->offset);
    } else if (name->kind == FileKind::snapshot) {
      snapshots_.push_back(name->offset);
    } else {
      beside.emplace_back(path, name->offset);
    }
  }
  bases_.assign(logs.begin(), logs.end());
  for (const auto& [path, base] : beside) {
    if (!logs.contains(base)) note(path, "belongs to no segment; removed at the next start");
  }
  if (!bases_.empty()) verdict_.start = bases_.front();
  return {};
}

void PartitionVerifier::check_identity() {
  const std::string path = path_of(kPartitionMetadataName);
  const Result<std::optional<PartitionMetadata>> metadata = read_partition_metadata(disk_, directory_);
  if (!metadata) {
    damage(path, metadata.error().message);
  } else if (!*metadata) {
    note(path, "is absent; written when the partition is opened");
  } else if (check_.topic_id && (*metadata)->topic_id != *check_.topic_id) {
    damage(path,
           fmt::format("topic id {}, but the cluster's topic of this name has {} (`millrace disk adopt`)",
                       (*metadata)->topic_id.to_string(), check_.topic_id->to_string()));
  }
}

Status PartitionVerifier::load_epochs() {
  const std::string path = path_of(kEpochCheckpointName);
  const Result<Bytes> content = disk_.read_file(path, kVerifyFileBytesMax);
  if (!content) {
    if (content.code() != ErrorCode::not_found) return content.error();
    if (!bases_.empty()) note(path, "is absent; made anew at the next start");
    return {};
  }
  Result<EpochCache> parsed = EpochCache::parse(as_text(*content));
  if (!parsed) {
    damage(path, parsed.error().message);
    return {};
  }
  epochs_ = std::move(*parsed);
  return {};
}

Status PartitionVerifier::walk_one(size_t at) {
  const Offset base = bases_[at];
  const bool closed = at + 1 < bases_.size();
  const std::string path = path_of(base, FileKind::log);
  walking_ = path;
  if (end_ && base < *end_) {
    damage(path, fmt::format("the segment before it reaches offset {}", end_->v), {}, base);
  } else if (end_ && base > *end_) {
    note_hole(path, *end_, base);
  }
  TRY_ASSIGN(const std::shared_ptr<io::File> file, disk_.open(path, io::OpenMode::read));
  TRY_ASSIGN(const uint64_t file_bytes, file->size());
  rebuilt_at_start_ = !check_.clean && (!closed || bases_[at + 1] >= check_.recovery_point);
  Indexes indexes;
  load_indexes(base, file_bytes, indexes);
  end_ = base;
  const size_t damages_before = verdict_.findings.damages;
  TRY_ASSIGN(const SegmentWalk walk,
             walk_segment(disk_, path, base, closed ? bases_[at + 1] : Offset(INT64_MAX),
                          [&](const WalkedBatch& batch) { see_batch(batch, indexes); }));
  end_ = walk.end;
  ++verdict_.segments;
  verdict_.batches += walk.batches;
  verdict_.records += walk.records;
  verdict_.bytes += walk.file_bytes;
  verdict_.end = walk.end;
  report_damage(path, walk, !closed);
  finish_indexes(walk, closed, indexes, damages_before);
  if (check_.on_bytes) check_.on_bytes(walk.file_bytes);
  return {};
}

// --- batches ---

void PartitionVerifier::see_batch(const WalkedBatch& batch, Indexes& indexes) {
  const BatchHeader& h = batch.header;
  compare_snapshots(h.base_offset);
  if (h.base_offset > *end_) note_hole(walking_, *end_, h.base_offset);
  end_ = h.next_offset();
  see_epoch(batch);
  if (h.is_transactional() && h.record_count > 0 && !h.is_control()) has_data_.insert(h.producer_id);
  if (const std::optional<AbortedTxn> aborted = Log::fold(producers_, h, batch.bytes, 0)) {
    // Of a transaction that has nothing but batches that compaction emptied, nobody need know how it ended.
    if (check_.holes_are_damage || has_data_.contains(h.producer_id)) indexes.aborted.push_back(*aborted);
  }
  if (h.is_control()) has_data_.erase(h.producer_id);
  if (h.is_control()) indexes.markers.insert(h.last_offset().v);
  see_indexes(batch, indexes);
  if (check_.records) see_records(batch);
}

void PartitionVerifier::see_epoch(const WalkedBatch& batch) {
  const BatchHeader& h = batch.header;
  if (h.leader_epoch < last_epoch_) {
    damage(walking_, fmt::format("leader epoch {} after {}", h.leader_epoch.v, last_epoch_.v), batch.position,
           h.base_offset);
  }
  last_epoch_ = std::max(last_epoch_, h.leader_epoch);
  if (!epochs_ || h.leader_epoch == kNoLeaderEpoch || h.base_offset < check_.log_start.value_or(Offset(0)))
    return;
  const LeaderEpoch claimed = epochs_->epoch_of(h.base_offset);
  if (claimed == h.leader_epoch || !epochs_told_.insert(h.leader_epoch.v).second) return;
  const bool behind = !check_.clean && h.base_offset >= check_.recovery_point;
  add(behind ? Severity::note : Severity::damage, path_of(kEpochCheckpointName),
      fmt::format("says epoch {}, the batch at position {} of {} has {}{}", claimed.v, batch.position,
                  walking_.substr(walking_.rfind('/') + 1), h.leader_epoch.v,
                  behind ? "; beyond the recovery point it is made anew at the next start" : ""),
      {}, h.base_offset);
}

void PartitionVerifier::see_records(const WalkedBatch& batch) {
  const auto wrong = [&](const std::string& what) {
    damage(walking_, "records: " + what, batch.position, batch.header.base_offset);
  };
  const Result<record::BatchView> view = record::BatchView::parse(batch.bytes);
  if (!view) return wrong(view.error().message);
  const Result<record::OpenedBatch> opened = record::OpenedBatch::open(*view, codecs_, kVerifyInflatedMax);
  if (!opened) return wrong(opened.error().message);
  record::RecordReader reader = opened->reader();
  record::Record r;
  int64_t last_delta = -1;
  while (true) {
    const Result<bool> more = reader.next(r);
    if (!more) return wrong(more.error().message);
    if (!*more) return;
    if (r.offset_delta <= last_delta || r.offset_delta > batch.header.last_offset_delta) {
      return wrong(fmt::format("offset delta {} after {} in a batch of {}", r.offset_delta, last_delta,
                               batch.header.last_offset_delta));
    }
    last_delta = r.offset_delta;
  }
}

void PartitionVerifier::note_hole(const std::string& path, Offset from, Offset to) {
  if (given_up(lost_, from, to)) return;
  if (check_.log_start && to <= *check_.log_start) return;
  add(check_.holes_are_damage ? Severity::damage : Severity::note, path,
      fmt::format("offsets {} to {} are missing{}", from.v, to.v - 1,
                  check_.holes_are_damage ? "" : " (as a compacted log may have it)"),
      {}, from);
}

void PartitionVerifier::report_damage(const std::string& path, const SegmentWalk& walk, bool last) {
  for (const DamagedSpan& span : walk.damaged) {
    const bool tail = last && span.next == kNoOffset;
    if (tail && !check_.clean && span.expected >= known_durable()) {
      add(Severity::note, path,
          fmt::format("{}: a torn tail of {} bytes above the durable end, cut at the next start", span.what,
                      span.bytes),
          span.position, span.expected);
      continue;
    }
    damage(path,
           fmt::format("{}; {} bytes are no batch, {}", span.what, span.bytes,
                       span.next == kNoOffset ? "to the end of the file"
                                              : fmt::format("the next one begins at offset {}", span.next.v)),
           span.position, span.expected);
  }
}

// --- indexes ---

void PartitionVerifier::load_indexes(Offset base, uint64_t segment_bytes, Indexes& x) {
  x.offset_path = path_of(base, FileKind::offset_index);
  x.time_path = path_of(base, FileKind::time_index);
  x.txn_path = path_of(base, FileKind::txn_index);
  const Severity severity = rebuilt_at_start_ ? Severity::note : Severity::damage;
  const auto content = [&](const std::string& path, size_t entry) {
    Result<Bytes> bytes = disk_.read_file(path, kVerifyFileBytesMax);
    if (!bytes) {
      if (bytes.code() != ErrorCode::not_found) {
        damage(path, bytes.error().message);
      } else if (entry > 0 && segment_bytes > 0) {
        note(path, "is absent; made anew when it is needed");
      }
      return Bytes();
    }
    // Room that a writer reserved: zeros that are no entries.
    size_t used = bytes->size();
    while (used > 0 && (*bytes)[used - 1] == 0) --used;
    if (entry > 0) used = std::min(bytes->size(), (used + entry - 1) / entry * entry);
    if (entry > 0 && used < bytes->size() && used + entry < bytes->size()) {
      note(path, fmt::format("{} bytes of room at the end", bytes->size() - used));
      bytes->resize(used);
    }
    return std::move(*bytes);
  };
  const Bytes offsets = content(x.offset_path, OffsetIndex::kEntrySize);
  if (Result<OffsetIndex> parsed = OffsetIndex::parse(offsets, segment_bytes)) {
    x.offsets = std::move(*parsed);
  } else {
    add(severity, x.offset_path, parsed.error().message);
  }
  const Bytes times = content(x.time_path, TimeIndex::kEntrySize);
  if (Result<TimeIndex> parsed = TimeIndex::parse(times)) {
    x.times = std::move(*parsed);
  } else {
    add(severity, x.time_path, parsed.error().message);
  }
  const Bytes txns = content(x.txn_path, 0);
  if (const Result<TxnIndex> parsed = TxnIndex::parse(txns, base)) {
    x.txns = parsed->entries();
  } else {
    add(severity, x.txn_path, parsed.error().message);
  }
}

void PartitionVerifier::see_indexes(const WalkedBatch& batch, Indexes& x) {
  const BatchHeader& h = batch.header;
  const Offset base = bases_[verdict_.segments];
  const auto wrong = [&](const std::string& path, size_t entry, size_t size, std::string what) {
    if (x.misfits.size() < kFindingsMax) x.misfits.push_back({path, entry * size, std::move(what)});
  };
  if (x.pending && h.last_offset() >= *x.pending) {
    if (h.last_offset() > *x.pending) {
      wrong(x.offset_path, x.next_offset - 1, OffsetIndex::kEntrySize,
            fmt::format("no batch ends with offset {}", x.pending->v));
    }
    x.pending.reset();
  }
  while (x.next_offset < x.offsets.size()) {
    const OffsetIndex::Entry& e = x.offsets.entries()[x.next_offset];
    const auto position = static_cast<uint64_t>(static_cast<uint32_t>(e.position));
    if (position > batch.position) break;
    ++x.next_offset;
    const Offset named = base + e.relative_offset;
    if (position < batch.position || named < h.base_offset) {
      wrong(x.offset_path, x.next_offset - 1, OffsetIndex::kEntrySize,
            fmt::format("no batch ends with offset {} at position {}", named.v, position));
    } else if (named > h.last_offset()) {
      x.pending = named;  // several batches of one append, as older Kafka indexed them
    } else if (named < h.last_offset()) {
      wrong(x.offset_path, x.next_offset - 1, OffsetIndex::kEntrySize,
            fmt::format("no batch ends with offset {} at position {}", named.v, position));
    }
  }
  x.max_timestamp = std::max(x.max_timestamp, h.indexed_timestamp());
  while (x.next_time < x.times.size()) {
    const TimeIndex::Entry e = x.times.entry(x.next_time);
    const Offset named = base + e.relative_offset;
    if (named > h.last_offset()) break;
    ++x.next_time;
    if (named < h.base_offset || e.timestamp != x.max_timestamp) {
      wrong(x.time_path, x.next_time - 1, TimeIndex::kEntrySize,
            fmt::format("timestamp {} is not the greatest up to offset {}, which is {}", e.timestamp, named.v,
                        x.max_timestamp));
    }
  }
}

void PartitionVerifier::finish_indexes(const SegmentWalk& walk, bool closed, Indexes& x,
                                       size_t damages_before) {
  // Entries that name damaged bytes are not a second damage.
  if (!walk.damaged.empty() && verdict_.findings.damages > damages_before) return;
  const Severity severity = rebuilt_at_start_ ? Severity::note : Severity::damage;
  for (Indexes::Misfit& m : x.misfits) add(severity, std::move(m.path), std::move(m.what), m.position);
  if (x.pending || x.next_offset < x.offsets.size()) {
    const size_t entry = x.pending ? x.next_offset - 1 : x.next_offset;
    add(severity, x.offset_path, "names bytes beyond the last batch", entry * OffsetIndex::kEntrySize);
  }
  if (x.next_time < x.times.size()) {
    add(severity, x.time_path, "names an offset beyond the last batch", x.next_time * TimeIndex::kEntrySize);
  } else if (closed && !x.times.empty() && x.times.last()->timestamp != x.max_timestamp) {
    add(severity, x.time_path,
        fmt::format("ends with timestamp {}, the segment reaches {}", x.times.last()->timestamp,
                    x.max_timestamp));
  }
  for (size_t i = 0; i < x.txns.size(); ++i) {
    const AbortedTxn& txn = x.txns[i];
    if (!x.markers.contains(txn.last_offset.v)) {
      add(severity, x.txn_path, "no marker at this offset", i * TxnIndex::kEntrySize, txn.last_offset);
    }
  }
  for (const AbortedTxn& txn : x.aborted) {
    const bool known = std::any_of(x.txns.begin(), x.txns.end(), [&](const AbortedTxn& t) {
      // Its beginning may be gone by retention or compaction.
      const bool may_begin_earlier = !check_.holes_are_damage || t.first_offset < verdict_.start;
      return t.producer_id == txn.producer_id && t.last_offset == txn.last_offset &&
             (t.first_offset == txn.first_offset || (may_begin_earlier && t.first_offset < txn.first_offset));
    });
    if (!known) {
      add(severity, x.txn_path,
          fmt::format("does not have the transaction of producer {} that was aborted at offset {}",
                      txn.producer_id.v, txn.last_offset.v),
          {}, txn.first_offset);
    }
  }
}

// --- producers ---

void PartitionVerifier::compare_snapshots(Offset up_to) {
  while (next_snapshot_ < snapshots_.size() && snapshots_[next_snapshot_] <= up_to) {
    compare_snapshot(snapshots_[next_snapshot_]);
    ++next_snapshot_;
  }
}

// What the batches before `at` say of a producer must not be contradicted. More than they say is possible:
// batches go by retention and compaction, their producers stay.
void PartitionVerifier::compare_snapshot(Offset at) {
  const std::string path = path_of(at, FileKind::snapshot);
  const Severity severity =
      !check_.clean && at > check_.recovery_point ? Severity::note : Severity::damage;  // removed at start
  const Result<Bytes> content = disk_.read_file(path, kVerifyFileBytesMax);
  if (!content) return damage(path, content.error().message);
  const Result<std::vector<ProducerEntry>> entries = ProducerState::decode_snapshot(*content);
  if (!entries) return add(severity, path, entries.error().message);
  for (const ProducerEntry& e : *entries) {
    if (e.last_offset() >= at || e.txn_first_offset >= at) {
      add(severity, path, fmt::format("producer {} is said to have written beyond it", e.id.v), {}, at);
      continue;
    }
    const ProducerEntry* known = producers_.find(e.id);
    if (known == nullptr) continue;
    if (e.epoch < known->epoch || (e.epoch == known->epoch && e.last_offset() < known->last_offset())) {
      add(severity, path,
          fmt::format("producer {} epoch {} last offset {}, the log before it has epoch {} last offset {}",
                      e.id.v, e.epoch.v, e.last_offset().v, known->epoch.v, known->last_offset().v),
          {}, known->last_offset());
    } else if (e.epoch == known->epoch && e.last_offset() == known->last_offset() &&
               e.last_sequence() != known->last_sequence()) {
      add(severity, path,
          fmt::format("producer {} last sequence {}, the log has {}", e.id.v, e.last_sequence(),
                      known->last_sequence()),
          {}, known->last_offset());
    }
    if (known->in_transaction() && !e.in_transaction() && e.epoch <= known->epoch &&
        e.last_offset() <= known->last_offset()) {
      add(severity, path, fmt::format("the open transaction of producer {} is not in it", e.id.v), {},
          known->txn_first_offset);
    }
  }
}

// --- the whole ---

void PartitionVerifier::check_ends() {
  const Offset start = check_.log_start.value_or(Offset(0));
  if (bases_.empty()) {
    if (known_durable() > start) {
      damage(directory_, fmt::format("no segments, but the log reached offset {}", known_durable().v));
    } else {
      note(directory_, "no segments: an empty log");
    }
    return;
  }
  if (*end_ < known_durable()) {
    damage(directory_, fmt::format("ends at offset {}, but {} was durable", end_->v, known_durable().v), {},
           *end_);
  }
  // The first segment begins at or before the log start: what lies between would be missing.
  if (check_.log_start && bases_.front() > *check_.log_start) {
    note_hole(path_of(bases_.front(), FileKind::log), *check_.log_start, bases_.front());
  }
  const std::string epochs = path_of(kEpochCheckpointName);
  if (epochs_ && epochs_->latest() && epochs_->latest()->start_offset > *end_) {
    // After a cut the file is written with the next checkpoint; until then the next start corrects it.
    add(check_.clean ? Severity::damage : Severity::note, epochs,
        fmt::format("epoch {} begins at offset {}, beyond the end of the log, {}", epochs_->latest_epoch().v,
                    epochs_->latest()->start_offset.v, end_->v));
  }
}

Result<PartitionVerdict> verify_partition(io::Disk& disk, const std::string& directory,
                                          const PartitionCheck& check) {
  return PartitionVerifier(disk, directory, check).run();
}

}  // namespace millrace::log
