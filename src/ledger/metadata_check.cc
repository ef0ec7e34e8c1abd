#include "ledger/metadata_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "ledger/raft_store.h"
#include "log/file_names.h"
#include "meta/records.h"
#include "record/record.h"

namespace millrace::ledger {
namespace {

constexpr size_t kSmallFileMax = 64 * 1024;

class MetadataCheck {
 public:
  MetadataCheck(io::Disk& disk, const std::string& directory) : disk_(disk), directory_(directory) {}

  Result<MetadataVerdict> run() {
    TRY_ASSIGN(const std::vector<io::DirectoryEntry> entries, disk_.list(directory_));
    std::vector<Offset> bases;
    for (const io::DirectoryEntry& e : entries) {
      const auto name = log::parse_file_name(e.name);
      if (name && name->kind == log::FileKind::log && name->stage == log::FileStage::live)
        bases.push_back(name->offset);
    }
    for (size_t i = 0; i < bases.size(); ++i) {
      path_ = io::join_path(directory_, log::file_name(bases[i], log::FileKind::log));
      const Offset limit = i + 1 < bases.size() ? bases[i + 1] : Offset(INT64_MAX);
      TRY_ASSIGN(const log::SegmentWalk walk,
                 log::walk_segment(disk_, path_, bases[i], limit,
                                   [this](const log::WalkedBatch& batch) { entry(batch); }));
      if (!walk.damaged.empty()) applying_ = false;  // said by the check of the log's bytes
    }
    check_quorum_state();
    return std::move(verdict_);
  }

 private:
  void wrong(const log::WalkedBatch& batch, std::string what) {
    verdict_.findings.add(
        {log::Severity::damage, path_, batch.position, batch.header.base_offset, std::move(what)});
  }

  void entry(const log::WalkedBatch& batch) {
    const log::BatchHeader& h = batch.header;
    ++verdict_.entries;
    if (h.base_offset != next_ && verdict_.entries > 1) {
      wrong(batch, fmt::format("entries {} to {} are missing", next_.v + 1, h.base_offset.v));
    }
    next_ = h.next_offset();
    if (h.leader_epoch.v < verdict_.term.v) {
      wrong(batch, fmt::format("term {} after {}", h.leader_epoch.v, verdict_.term.v));
    }
    verdict_.term = std::max(verdict_.term, Term(h.leader_epoch.v));
    const Result<record::BatchView> view = record::BatchView::parse(batch.bytes);
    if (!view.ok()) return wrong(batch, view.error().message);
    record::RecordReader reader(view->records(), view->record_count());
    record::Record r;
    const Result<bool> some = reader.next(r);
    if (!some.ok()) return wrong(batch, some.error().message);
    if (!*some || h.record_count != 1 || !r.key || r.key->size() != 1 || !r.value ||
        r.key->front() > static_cast<uint8_t>(raft::EntryKind::membership)) {
      return wrong(batch, "is no entry of the metadata log");
    }
    const auto kind = static_cast<raft::EntryKind>(r.key->front());
    if (kind == raft::EntryKind::membership) {
      if (const auto membership = raft::decode_membership(*r.value); !membership.ok())
        wrong(batch, membership.error().message);
    }
    if (kind != raft::EntryKind::payload || !applying_) return;
    const Result<std::vector<meta::Record>> records = meta::decode_entry(*r.value);
    Status applied = records.ok() ? verdict_.image.apply(*records) : Status(records.error());
    if (applied.ok()) return;
    wrong(batch, applied.error().message);
    applying_ = false;  // what follows may rest on it
  }

  void check_quorum_state() {
    const std::string path = io::join_path(directory_, kHardStateFile);
    const auto add = [&](log::Severity severity, std::string what) {
      verdict_.findings.add({severity, path, {}, kNoOffset, std::move(what)});
    };
    const Result<Bytes> text = disk_.read_file(path, kSmallFileMax);
    if (!text.ok()) {
      if (text.code() == ErrorCode::not_found && verdict_.entries == 0) return;
      return add(log::Severity::damage, text.error().message);
    }
    const Result<raft::HardState> state = parse_hard_state(as_text(*text));
    if (!state.ok()) return add(log::Severity::damage, state.error().message);
    if (state->term < verdict_.term) {
      add(log::Severity::damage,
          fmt::format("term {}, but the log has entries of term {}", state->term.v, verdict_.term.v));
    }
  }

  io::Disk& disk_;
  const std::string& directory_;
  std::string path_;
  Offset next_{0};
  bool applying_ = true;
  MetadataVerdict verdict_;
};

}  // namespace

Result<MetadataVerdict> verify_metadata_log(io::Disk& disk, const std::string& directory) {
  return MetadataCheck(disk, directory).run();
}

}  // namespace millrace::ledger
