#include "partition/commit_journal.h"
#include "base/plants.h"

#include <utility>
#include <vector>

namespace millrace::partition {
namespace {

// At most 50 ms behind: this, and then the write and its sync.
constexpr int64_t kWriteDelayMs = 25;
// A full disk is asked again after this.
constexpr int64_t kFullRetryMs = 1'000;

}  // namespace

Result<std::shared_ptr<CommitJournal>> CommitJournal::open(Environment environment,
                                                           std::string data_directory) {
  ASSERT(environment.disk != nullptr);
  std::shared_ptr<CommitJournal> out(new CommitJournal(std::move(environment), std::move(data_directory)));
  TRY_ASSIGN(out->file_, log::CommitFile::open(*out->env_.disk, out->directory_, nullptr));
  if (out->file_->was_damaged()) {
    out->env_.trace.warn("{}: damaged, some durable ends may be unknown; what could be read was written anew",
                         io::join_path(out->directory_, log::kCommitFileName));
  }
  out->known_ends_ = out->file_->ends();
  out->known_caps_ = out->file_->caps();
  out->known_starts_ = out->file_->starts();
  for (const auto& [key, cap] : out->known_caps_) out->capped_[key] = 0;
  out->size_bytes_ = out->file_->size_bytes();
  return out;
}

std::optional<CommitJournal::Known> CommitJournal::known(const log::CommitKey& key) const {
  const std::lock_guard lock(mutex_);
  const auto end = known_ends_.find(key);
  const auto cap = known_caps_.find(key);
  const auto start = known_starts_.find(key);
  if (end == known_ends_.end() && cap == known_caps_.end() && start == known_starts_.end())
    return std::nullopt;
  Known out;
  if (end != known_ends_.end()) out.durable_end = end->second;
  if (cap != known_caps_.end()) out.recovery_cap = cap->second;
  if (start != known_starts_.end()) out.log_start = start->second;
  return out;
}

void CommitJournal::note(const log::CommitKey& key, Offset end, Offset log_start) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  noted_[key] = end;
  noted_starts_[key] = log_start;
  arm_locked(kWriteDelayMs);
}

// Timers are set from their own loop only.
void CommitJournal::arm_locked(int64_t delay_ms) {
  if (armed_ || env_.loop == nullptr) return;
  armed_ = true;
  env_.loop->post([self = shared_from_this(), delay_ms] {
    self->env_.loop->call_after(delay_ms, [self] {
      {
        const std::lock_guard lock(self->mutex_);
        if (self->closed_) return;  // the disk may have been stopped, too
      }
      self->env_.disk->run_in(io::Lane::sync, *self->env_.loop, [self] { self->write_noted(); }, [] {});
    });
  });
}

void CommitJournal::write_noted() {
  {
    const std::lock_guard lock(mutex_);
    armed_ = false;
    if (closed_) return;
  }
  // Its error was told where it arose.
  (void)flush();
}

Status CommitJournal::flush() {
  const std::lock_guard file_lock(file_mutex_);
  Changes changes;
  {
    const std::lock_guard lock(mutex_);
    changes = std::exchange(noted_, {});
  }
  return write(std::move(changes));
}

Status CommitJournal::write(Changes changes) {
  if (failed_) return Error(ErrorCode::kafka_storage_error, directory_ + ": the commit file failed earlier");
  {
    const std::lock_guard lock(mutex_);
    for (const log::CommitKey& key : std::exchange(forgotten_, {})) {
      file_->forget(key);
      changes.erase(key);
      noted_starts_.erase(key);
    }
  }
  // First: an end without its start would make a log that was restarted look like one that lost segments.
  Status written = write_starts();
  if (changes.empty()) return written;
  const std::vector<std::pair<log::CommitKey, Offset>> list(changes.begin(), changes.end());
  if (written.ok()) written = judge(file_->record(list, true));
  if (!written && written.code() == ErrorCode::no_space) {
    const std::lock_guard lock(mutex_);
    noted_.merge(changes);  // what was noted meanwhile is newer and stays
    if (!closed_) arm_locked(kFullRetryMs);
  }
  return written;
}

Status CommitJournal::write_starts() {
  Changes starts;
  {
    const std::lock_guard lock(mutex_);
    starts = std::exchange(noted_starts_, {});
  }
  std::vector<std::pair<log::CommitKey, Offset>> list;
  for (const auto& [key, start] : starts) {
    const auto known = file_->starts().find(key);
    if (known == file_->starts().end() || known->second < start) list.emplace_back(key, start);
  }
  if (list.empty()) return {};
  Status written = judge(file_->record_starts(list, true));
  if (!written && written.code() == ErrorCode::no_space) {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, start] : list) {
      Offset& noted = noted_starts_.try_emplace(key, start).first->second;
      noted = std::max(noted, start);
    }
    if (!closed_) arm_locked(kFullRetryMs);
  }
  return written;
}

Status CommitJournal::advance_start(const log::CommitKey& key, Offset log_start) {
  const std::lock_guard file_lock(file_mutex_);
  Changes changes;
  {
    const std::lock_guard lock(mutex_);
    Offset& noted = noted_starts_.try_emplace(key, log_start).first->second;
    noted = std::max(noted, log_start);
    changes = std::exchange(noted_, {});
  }
  return write(std::move(changes));
}

// With file_mutex_ held.
Status CommitJournal::judge(Status written) {
  size_bytes_.store(file_->size_bytes(), std::memory_order_relaxed);
  if (written.ok()) {
    if (std::exchange(full_told_, false)) env_.trace.info("{}: the commit file is written again", directory_);
    return written;
  }
  if (written.code() == ErrorCode::no_space) {
    if (!std::exchange(full_told_, true)) {
      env_.trace.warn("{}: no space for the commit file: durable ends are kept in memory and tried again: {}",
                      directory_, written.error().message);
    }
    return written;
  }
  // Never retried: after a failed sync nobody knows what is on the disk.
  failed_ = true;
  env_.trace.error("{}: the commit file: {}", directory_, written.error().message);
  if (env_.on_storage_failure) env_.on_storage_failure(directory_, written.error());
  return written;
}

Status CommitJournal::lower(const log::CommitKey& key, Offset end) {
  const std::lock_guard file_lock(file_mutex_);
  if (failed_) return Error(ErrorCode::kafka_storage_error, directory_ + ": the commit file failed earlier");
  {
    const std::lock_guard lock(mutex_);
    capped_[key] = ++serial_;
  }
  // A cap that no checkpoint has answered yet still holds: leader epochs beyond it may not be on disk.
  const auto before = file_->caps().find(key);
  const std::pair<log::CommitKey, Offset> cap{
      key, before == file_->caps().end() ? end : std::min(before->second, end)};
  TRY(judge(file_->record_caps({&cap, 1}, false)));
  const std::pair<log::CommitKey, Offset> start{key, end};
  if (const auto known = file_->starts().find(key); known != file_->starts().end() && known->second > end)
    TRY(judge(file_->record_starts({&start, 1}, false)));
  Changes changes;
  {
    const std::lock_guard lock(mutex_);
    changes = std::exchange(noted_, {});
    noted_starts_.erase(key);
  }
  changes[key] = end;
  return write(std::move(changes));
}

void CommitJournal::forget(const log::CommitKey& key) {
  if (planted(Plant::keep_deleted_durable_end)) return;
  const std::lock_guard lock(mutex_);
  noted_.erase(key);
  noted_starts_.erase(key);
  capped_.erase(key);
  known_ends_.erase(key);
  known_caps_.erase(key);
  known_starts_.erase(key);
  forgotten_.push_back(key);
}

void CommitJournal::keep_only(const std::function<bool(const log::CommitKey&)>& wanted) {
  const std::lock_guard lock(mutex_);
  for (const log::DurableEnds* ends : {&known_ends_, &known_caps_, &known_starts_}) {
    for (const auto& [key, end] : *ends) {
      if (!wanted(key)) forgotten_.push_back(key);
    }
  }
  const auto unwanted = [&](const auto& entry) { return !wanted(entry.first); };
  std::erase_if(known_ends_, unwanted);
  std::erase_if(known_caps_, unwanted);
  std::erase_if(known_starts_, unwanted);
  std::erase_if(capped_, unwanted);
}

uint64_t CommitJournal::serial() const {
  const std::lock_guard lock(mutex_);
  return serial_;
}

Status CommitJournal::checkpointed(uint64_t serial) {
  const std::lock_guard file_lock(file_mutex_);
  std::vector<std::pair<log::CommitKey, Offset>> lifted;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = capped_.begin(); it != capped_.end();) {
      if (it->second > serial) {
        ++it;
        continue;
      }
      lifted.emplace_back(it->first, Offset(-1));
      it = capped_.erase(it);
    }
  }
  if (lifted.empty() || failed_) return {};
  Status written = judge(file_->record_caps(lifted, true));
  // Kept too long a cap costs a longer scan, nothing else.
  return written.code() == ErrorCode::no_space ? Status() : written;
}

Status CommitJournal::close() {
  Status written = flush();
  const std::lock_guard lock(mutex_);
  closed_ = true;
  return written;
}

}  // namespace millrace::partition
