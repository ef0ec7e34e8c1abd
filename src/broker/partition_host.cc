#include "broker/partition_host.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "log/log.h"

namespace millrace::broker {
namespace {

// A replica that does not lead opens its log and waits to be told whom to follow.
Status begin_role(partition::Partition& partition, const PartitionHost::Spec& spec) {
  if (spec.leads) return partition.lead(spec.leadership);
  partition.follow(spec.leadership.epoch, kNoBroker);
  return {};
}

constexpr size_t kMetaPropertiesMax = 64 * 1024;
constexpr std::string_view kMetaPropertiesName = "meta.properties";

// The probe of a directory's fdatasync: so many rounds in so much time, one alone where the disk is slow.
constexpr std::string_view kProbeName = "fsync-probe.tmp";
constexpr size_t kProbeRounds = 15;
constexpr size_t kProbeBytes = 4096;
constexpr int64_t kProbeBudgetNs = 50'000'000;
constexpr int64_t kProbeSlowNs = 10'000'000;

}  // namespace

PartitionHost::PartitionHost(io::Disk& disk, const io::Clock& clock, io::Random& random, Trace trace,
                             std::function<void(const std::string&, const Error&)> on_storage_failure)
    : disk_(disk),
      clock_(clock),
      random_(random),
      trace_(std::move(trace)),
      on_storage_failure_(std::move(on_storage_failure)) {}

// The configured cluster id, else the one an existing directory names.
Status PartitionHost::agree_on_cluster(const Params& params) {
  cluster_id_ = params.cluster_id;
  // Before it is written into a directory that would then be nobody's.
  if (!cluster_id_.empty() && !Uuid::parse(cluster_id_).ok()) {
    return Error(ErrorCode::invalid_config, "cluster.id " + cluster_id_ + " is not a 22-character uuid");
  }
  for (const std::string& path : params.log_dirs) {
    const std::string file = io::join_path(path, kMetaPropertiesName);
    if (!disk_.exists(file)) continue;
    const Result<Bytes> text = disk_.read_file(file, kMetaPropertiesMax);
    if (!text.ok() && text.code() == ErrorCode::io_error) continue;  // open_directory() says more
    if (!text.ok()) return text.error();
    TRY_ASSIGN(const log::MetaProperties meta, log::parse_meta_properties(as_text(*text)));
    if (meta.cluster_id.empty()) continue;
    if (cluster_id_.empty()) cluster_id_ = meta.cluster_id;
    if (meta.cluster_id != cluster_id_) {
      return Error(ErrorCode::inconsistent_cluster_id,
                   path + " belongs to cluster " + meta.cluster_id + ", not to " + cluster_id_ +
                       ": point log.dirs elsewhere, or set cluster.id to the cluster that owns this data");
    }
  }
  return {};
}

Status PartitionHost::claim(const std::string& cluster_id) {
  for (const auto& directory : directories_) {
    if (directory) TRY(directory->claim(cluster_id));
  }
  cluster_id_ = cluster_id;
  return {};
}

int64_t PartitionHost::probe_sync_us(const std::string& directory) const {
  const std::string path = io::join_path(directory, kProbeName);
  const Result<std::shared_ptr<io::File>> file = disk_.open(path, io::OpenMode::create);
  if (!file.ok()) return -1;
  const Bytes block(kProbeBytes, 1);
  std::vector<int64_t> took;
  const int64_t begun_ns = clock_.mono_ns();
  for (size_t i = 0; i < kProbeRounds && clock_.mono_ns() - begun_ns < kProbeBudgetNs; ++i) {
    if (!(*file)->write_at(i * kProbeBytes, block).ok()) break;
    const int64_t at = clock_.mono_ns();
    if (!(*file)->sync().ok()) break;
    took.push_back(clock_.mono_ns() - at);
    if (took.back() > kProbeSlowNs) break;
  }
  (void)disk_.remove(path);  // what stays is written over by the next probe
  if (took.empty()) return -1;
  std::sort(took.begin(), took.end());
  return took[took.size() / 2] / 1'000;
}

Status PartitionHost::open_directories(const Params& params) {
  ASSERT(directories_.empty());
  node_id_ = params.node_id;
  if (params.log_dirs.empty()) return Error(ErrorCode::invalid_config, "log.dirs is empty");
  TRY(agree_on_cluster(params));
  const size_t count = params.log_dirs.size();
  directories_.resize(count);
  checkpoints_.resize(count);
  counts_.resize(count);
  manifests_.resize(count);
  journals_.resize(count);
  probed_us_.resize(count, -1);
  for (const std::string& path : params.log_dirs)
    states_.push_back(std::make_shared<partition::DirectoryState>(path));
  for (size_t i = 0; i < count; ++i) {
    const Status opened = open_directory(params, i);
    if (opened.ok()) continue;
    if (opened.code() != ErrorCode::io_error && opened.code() != ErrorCode::no_space) return opened;
    const std::string& path = states_[i]->path();
    if (i == 0) {
      return Error(opened.code(), path + " holds the metadata log and cannot be used (" +
                                      opened.error().message +
                                      "): nothing can be served without it; mend or restore the directory");
    }
    (void)states_[i]->fail(opened.error());
    std::erase_if(found_, [i](const auto& entry) { return entry.second.directory == i; });
    std::erase_if(rivals_, [i](const auto& entry) { return entry.second.directory == i; });
    manifests_[i].reset();
    directories_[i] = nullptr;
    journals_[i] = nullptr;
    trace_.error("{} is offline: {}; the partitions in it are, too", path, opened.error().message);
  }
  return {};
}

const log::RestingLog* PartitionHost::at_rest(size_t directory, const Spec& spec) const {
  if (directory >= manifests_.size() || !manifests_[directory]) return nullptr;
  const log::Manifest::Topic* topic = manifests_[directory]->find(spec.name.topic);
  if (topic == nullptr || topic->id != spec.topic_id) return nullptr;
  const log::RestingLog* rest = log::Manifest::find(*topic, spec.name.partition);
  // A directory that was repaired or taken in since is not known to the checkpoints any more.
  const log::TopicPartition key{spec.name.topic, spec.name.partition};
  const Checkpoints& c = checkpoints_[directory];
  const auto end = c.recovery_points.find(key);
  const bool known = end != c.recovery_points.end() && c.is_of(key, spec.topic_id);
  return rest != nullptr && known && end->second == rest->log_end ? rest : nullptr;
}

Status PartitionHost::open_directory(const Params& params, size_t index) {
  log::DataDirectory::Params p;
  p.path = params.log_dirs[index];
  p.cluster_id = cluster_id_;
  p.node_id = node_id_;
  p.new_directory_id = random_.uuid();
  TRY_ASSIGN(directories_[index], log::DataDirectory::open(disk_, p, trace_));
  partition::CommitJournal::Environment environment;
  environment.disk = &disk_;
  environment.loop = loop_;
  environment.trace = trace_;
  environment.on_storage_failure = on_storage_failure_;
  TRY_ASSIGN(journals_[index], partition::CommitJournal::open(std::move(environment), p.path));
  probed_us_[index] = probe_sync_us(p.path);
  if (probed_us_[index] >= 0) {
    trace_.info("data directory {}: fdatasync of 4 KiB takes {} us", p.path, probed_us_[index]);
  }
  log::DataDirectory& directory = *directories_[index];
  Checkpoints& checkpoints = checkpoints_[index];
  // Damaged, they are made anew (Kafka does so, too): every log is scanned whole, and what must be there, and
  // where logs begin, the commit file knows.
  const auto read_or_forget = [&](std::string_view name, log::OffsetCheckpoint& out) -> Status {
    Result<log::OffsetCheckpoint> known = directory.read_checkpoint(name);
    if (known.ok()) {
      out = std::move(*known);
    } else if (known.code() == ErrorCode::io_error) {
      return known.error();
    } else {
      trace_.error("{}; it counts for nothing", known.error().message);
    }
    return {};
  };
  TRY(read_or_forget(log::kRecoveryPointCheckpoint, checkpoints.recovery_points));
  TRY(read_or_forget(log::kLogStartCheckpoint, checkpoints.log_starts));
  TRY_ASSIGN(checkpoints.topic_ids, directory.read_topic_ids());
  // Without it a mark begins at the log start and is found again.
  Result<log::OffsetCheckpoint> marks = directory.read_checkpoint(log::kHighWatermarkCheckpoint);
  if (marks.ok()) {
    checkpoints.high_watermarks = std::move(*marks);
  } else {
    trace_.warn("{}", marks.error().message);
  }
  // Nothing is lost with it: what is clean is cleaned once more.
  Result<log::OffsetCheckpoint> cleaned = directory.read_checkpoint(log::kCleanerCheckpoint);
  if (cleaned.ok()) {
    checkpoints.cleaned_ends = std::move(*cleaned);
  } else {
    trace_.warn("{}", cleaned.error().message);
  }
  TRY_ASSIGN(manifests_[index], directory.read_manifest());
  TRY_ASSIGN(log::DirectoryListing listing,
             directory.list(manifests_[index] ? &*manifests_[index] : nullptr));
  if (!checkpoints.topic_ids) {
    // Nobody said so far: those that lie there. From now on it is said.
    log::TopicIdCheckpoint ids;
    for (const log::PartitionDirectory& d : listing.partitions) {
      if (d.topic_id) ids[{d.topic, d.partition}] = *d.topic_id;
    }
    TRY(directory.write_topic_ids(ids));
  }
  for (log::PartitionDirectory& d : listing.partitions) {
    if (d.topic == kMetadataTopic) continue;
    const log::TopicPartition key{d.topic, d.partition};
    Found found{index, d.path, d.topic_id, false, d.metadata_torn, false};
    const auto [it, added] = found_.emplace(key, found);
    if (added) continue;
    trace_.warn("{} and {} hold a partition of one name", it->second.path, d.path);
    it->second.empty = has_no_record(it->second.path);
    found.empty = has_no_record(found.path);
    rivals_.emplace(key, found);
  }
  leftovers_.insert(leftovers_.end(), listing.being_deleted.begin(), listing.being_deleted.end());
  counts_[index] = listing.partitions.size();
  return {};
}

bool PartitionHost::has_no_record(const std::string& path) const {
  const Result<std::vector<io::DirectoryEntry>> entries = disk_.list(path);
  return entries.ok() && std::none_of(entries->begin(), entries->end(), [&](const io::DirectoryEntry& e) {
           if (!e.name.ends_with(".log")) return false;
           const auto file = disk_.open(io::join_path(path, e.name), io::OpenMode::read);
           const Result<uint64_t> size = file.ok() ? (*file)->size() : Result<uint64_t>(file.error());
           return !size.ok() || *size > 0;
         });
}

void PartitionHost::expect(const std::vector<Uuid>& registered) {
  missing_ids_.clear();
  for (const Uuid& id : registered) {
    const bool here = std::any_of(directories_.begin(), directories_.end(),
                                  [&](const auto& d) { return d != nullptr && d->id() == id; });
    if (!here) missing_ids_.push_back(id);
  }
  all_missing_ = !registered.empty() && missing_ids_.size() == registered.size();
  // What was known when something was missed was older: whatever the cluster counts on is here.
  if (missing_ids_.empty()) missed_.clear();
}

std::vector<Uuid> PartitionHost::ids_to_register() const {
  std::vector<Uuid> ids;
  for (const auto& d : directories_) {
    if (d != nullptr) ids.push_back(d->id());
  }
  if (!missed_.empty()) ids.insert(ids.end(), missing_ids_.begin(), missing_ids_.end());
  return ids;
}

std::string PartitionHost::missing_directories() const {
  std::string text;
  for (size_t i = 0; i < directories_.size(); ++i) {
    if (directories_[i] == nullptr) text += (text.empty() ? "" : ", ") + states_[i]->path();
  }
  return text.empty() ? "a directory that is not in log.dirs any more, or was replaced by an empty one"
                      : text;
}

Status PartitionHost::may_place() const {
  Status why = Error(ErrorCode::kafka_storage_error, "there is no log dir");
  for (const auto& state : states_) {
    why = state->may_append(partition::Origin::client);
    if (why.ok()) return why;
  }
  return why;
}

std::shared_ptr<partition::DirectoryState> PartitionHost::state_of(const std::string& path) const {
  const size_t i = directory_index(path);
  return i < states_.size() ? states_[i] : nullptr;
}

std::optional<std::pair<size_t, Offset>> PartitionHost::lost(const log::CommitKey& key) const {
  std::optional<std::pair<size_t, Offset>> out;
  for (size_t i = 0; i < journals_.size(); ++i) {
    if (journals_[i] == nullptr) continue;
    const auto known = journals_[i]->known(key);
    if (known && known->durable_end > (out ? out->second : Offset(0))) out = {i, known->durable_end};
  }
  return out;
}

// The directory keeps what is there, under a name that is no partition's.
void PartitionHost::give_up(const log::TopicPartition& key, OpenPlan& plan, const Uuid& topic_id) {
  plan.anew = true;
  if (const auto it = found_.find(key);
      it != found_.end() && (!it->second.topic_id || *it->second.topic_id == topic_id)) {
    plan.stale.push_back(it->second.path);
    found_.erase(it);
  }
  for (Checkpoints& c : checkpoints_) {
    for (log::OffsetCheckpoint* known :
         {&c.recovery_points, &c.log_starts, &c.cleaned_ends, &c.high_watermarks})
      known->erase(key);
  }
}

// Of the directories of this name that were found, the one that is this topic's stays in found_; those of
// another topic are to be moved away.
Status PartitionHost::choose_directory(const log::TopicPartition& key, const Uuid& topic_id, bool expendable,
                                       OpenPlan& plan) {
  const auto first = found_.find(key);
  if (first == found_.end()) return {};
  std::vector<Found> mine;
  std::vector<std::string> stale;
  const auto has_records = [&](const Found& f) {
    const auto known = journals_[f.directory]->known({topic_id, key.partition});
    return known && known->durable_end != Offset(0);
  };
  const auto sort = [&](const Found& f) {
    const bool other = f.topic_id && *f.topic_id != topic_id;  // an older topic of that name
    // The first sync carries partition.metadata: without it nothing was promised, and whose it is is unknown.
    // If records of this topic were synced here it is damaged: opening it says so, nothing is moved away.
    if ((other || f.metadata_torn) && !has_records(f)) {
      stale.push_back(f.path);
    } else {
      mine.push_back(f);
    }
  };
  sort(first->second);
  const auto [rival, end] = rivals_.equal_range(key);
  std::for_each(rival, end, [&](const auto& r) { sort(r.second); });
  if (mine.size() > 1) {
    // One that does not say whose it is, and of which nothing is known, yields to one that does; of those one
    // that was begun in a directory that then failed, to where it was begun again.
    const auto named = std::stable_partition(
        mine.begin(), mine.end(), [&](const Found& f) { return f.topic_id == topic_id || has_records(f); });
    const auto used = std::stable_partition(mine.begin(), named,
                                            [&](const Found& f) { return !f.empty || has_records(f); });
    if (named == mine.begin() || used - mine.begin() > 1) {
      // Which one the cluster counts on is not known here. If it counts on none, all are put aside.
      if (!expendable)
        return Error(ErrorCode::corrupt, "the partition lies in " + mine[0].path + " and in " + mine[1].path);
      damaged_.insert({topic_id, key.partition});
    }
    std::for_each(mine.begin() + 1, mine.end(), [&](const Found& f) { stale.push_back(f.path); });
    mine.resize(1);
  }
  rivals_.erase(rival, end);
  plan.stale = std::move(stale);
  if (mine.empty()) {
    found_.erase(first);
  } else {
    first->second = std::move(mine.front());
  }
  return {};
}

Result<PartitionHost::OpenPlan> PartitionHost::plan(Spec spec) {
  const log::CommitKey commit_key{spec.topic_id, spec.name.partition};
  OpenPlan plan;
  const log::TopicPartition key{spec.name.topic, spec.name.partition};
  TRY(choose_directory(key, spec.topic_id, spec.expendable, plan));
  if (spec.expendable && damaged_.erase(commit_key) > 0) give_up(key, plan, spec.topic_id);
  const auto it = found_.find(key);
  if (it != found_.end()) {
    Found& f = it->second;
    f.claimed = true;
    plan.directory = f.directory;
    plan.path = f.path;
    if (const log::RestingLog* rest = at_rest(f.directory, spec)) plan.rest = *rest;
    const Checkpoints& c = checkpoints_[f.directory];
    plan.clean = false;  // until a checkpoint knows it: moved in, whoever closed it was somebody else
    if (c.is_of(key, spec.topic_id)) {
      if (const auto r = c.recovery_points.find(key); r != c.recovery_points.end()) {
        plan.recovery_point = r->second;
        plan.clean = directories_[f.directory]->was_clean();
      }
      if (const auto s = c.log_starts.find(key); s != c.log_starts.end()) {
        plan.log_start = s->second;
        plan.log_start_exact = plan.clean;
      }
      if (const auto e = c.cleaned_ends.find(key); e != c.cleaned_ends.end()) plan.cleaned_end = e->second;
      if (const auto h = c.high_watermarks.find(key); h != c.high_watermarks.end())
        plan.high_watermark = h->second;
    }
    if (const auto known = journals_[f.directory]->known(commit_key)) {
      plan.durable_end = known->durable_end;
      if (known->recovery_cap) plan.recovery_point = std::min(plan.recovery_point, *known->recovery_cap);
      if (known->log_start) {
        plan.log_start = *known->log_start;
        plan.log_start_exact = true;
      }
    }
  } else if (const auto missing = plan.anew ? std::nullopt : lost(commit_key)) {
    // It was here and is not: opening it says so. Never begun anew, that would hide the loss.
    plan.directory = missing->first;
    plan.durable_end = missing->second;
    plan.path = directories_[plan.directory]->partition_path(spec.name.topic, spec.name.partition);
    plan.create = true;
    plan.clean = directories_[plan.directory]->was_clean();
    const Checkpoints& c = checkpoints_[plan.directory];
    if (c.is_of(key, spec.topic_id)) {
      if (const auto s = c.log_starts.find(key); s != c.log_starts.end()) plan.log_start = s->second;
    }
    if (const auto known = journals_[plan.directory]->known(commit_key); known && known->log_start)
      plan.log_start = *known->log_start;
  } else {
    // Data that exist are never begun anew, empty, next to where they are.
    const std::pair<log::TopicPartition, Uuid> identity{key, spec.topic_id};
    if (spec.existing && !missing_ids_.empty() && plan.stale.empty()) missed_.insert(identity);
    // A broker that came back without any of its directories has replicas nowhere else: they are copied
    // again.
    if (spec.expendable && all_missing_) missed_.erase(identity);
    if (missed_.contains(identity)) {
      return Error(
          ErrorCode::kafka_storage_error,
          "the partition lies in no directory that can be read; it should be in " + missing_directories());
    }
    for (size_t i = 0; i < manifests_.size(); ++i) {
      if (at_rest(i, spec) == nullptr) continue;
      return Error(ErrorCode::corrupt, directories_[i]->partition_path(spec.name.topic, spec.name.partition) +
                                           " is not there, but was when the broker stopped");
    }
    for (size_t i = 0; i < checkpoints_.size(); ++i) {
      if (!checkpoints_[i].reached_disk(key, spec.topic_id)) continue;
      return Error(ErrorCode::corrupt, directories_[i]->partition_path(spec.name.topic, spec.name.partition) +
                                           " is not there, but records of it were on disk");
    }
    size_t best = directories_.size();
    const auto better = [&](size_t a, size_t b) {
      if (states_[a]->full() != states_[b]->full()) return states_[b]->full();
      return counts_[a] < counts_[b];
    };
    for (size_t i = 0; i < directories_.size(); ++i) {
      if (!states_[i]->failed() && (best == directories_.size() || better(i, best))) best = i;
    }
    if (best == directories_.size())
      return Error(ErrorCode::kafka_storage_error, "every log directory is offline");
    ++counts_[best];
    plan.directory = best;
    plan.path = directories_[best]->partition_path(spec.name.topic, spec.name.partition);
    plan.create = true;
    plan.clean = true;
    // What was recorded of its start outlived a log that never came to be synced: it goes on there.
    for (const auto& journal : journals_) {
      const auto known = journal && !plan.anew ? journal->known(commit_key) : std::nullopt;
      if (known && known->log_start) plan.log_start = std::max(plan.log_start, *known->log_start);
    }
    if (plan.log_start == Offset(0)) plan.rest = log::RestingLog{};
  }
  TRY(states_[plan.directory]->usable());
  plan.spec = std::move(spec);
  return plan;
}

Result<PartitionRef> PartitionHost::open(const OpenPlan& plan) const {
  if (plan.anew) {
    trace_.warn("{}: what is here is damaged and others have it: it is copied anew", plan.spec.name.text());
    for (const auto& journal : journals_)
      if (journal) TRY(journal->lower({plan.spec.topic_id, plan.spec.name.partition}, Offset(0)));
  }
  for (const std::string& stale : plan.stale) {
    // Perhaps somebody moved it in and forgot the topic id: kept, as a name that is no partition's.
    trace_.warn("{} {}; renamed to {}.<id>.stray", stale,
                plan.anew ? "is damaged" : "belongs to another topic of that name", stale);
    // A partition that was never written to has no directory yet.
    const Status renamed = disk_.rename(stale, stale + "." + random_.uuid().to_string() + ".stray");
    if (!renamed && renamed.code() != ErrorCode::not_found) return renamed.error();
    // The new one may lie in another directory: a crash must not leave both.
    TRY(disk_.sync_directory(io::parent_path(stale)));
  }
  if (plan.create && plan.log_start > Offset(0)) {
    // Known to the directory where it lay before: the next start asks the one where it lies.
    TRY(journals_[plan.directory]->advance_start({plan.spec.topic_id, plan.spec.name.partition},
                                                 plan.log_start));
  }
  partition::Partition::Environment environment;
  environment.disk = &disk_;
  environment.clock = &clock_;
  environment.self = node_id_;
  environment.trace = trace_.named("partition");
  environment.directory_state = states_[plan.directory];
  environment.journal = journals_[plan.directory];
  if (const auto m = sync_metrics_.find(directories_[plan.directory]->path()); m != sync_metrics_.end())
    environment.sync = m->second;
  environment.on_storage_failure = on_storage_failure_;
  environment.standing = standing_;
  const std::string& directory = directories_[plan.directory]->path();
  const auto ahead = [&](LeaderEpoch epoch) {
    // Appended to, the log would have epochs that go backwards, and a recovery would cut it there. What is
    // known of the metadata may be older than this start, as it is in a snapshot: then it is no damage.
    return Error(plan.spec.existing ? ErrorCode::unknown_leader_epoch : ErrorCode::corrupt,
                 plan.path + " has leader epoch " + std::to_string(epoch.v) + ", the topic only " +
                     std::to_string(plan.spec.leadership.epoch.v) +
                     ": a directory from elsewhere is taken in with `millrace disk adopt`");
  };
  if (plan.rest) {
    if (plan.spec.leads && plan.rest->last_epoch > plan.spec.leadership.epoch)
      return ahead(plan.rest->last_epoch);
    auto partition =
        std::make_shared<partition::Partition>(std::move(environment), plan.spec.name, plan.spec.topic_id,
                                               directory, plan.spec.config, *plan.rest, plan.high_watermark);
    TRY(begin_role(*partition, plan.spec));
    return partition;
  }
  log::OpenParams params;
  params.directory = plan.path;
  params.config = plan.spec.config->log;
  params.now = clock_.now();
  params.clean_shutdown = plan.clean;
  params.recovery_point = plan.recovery_point;
  params.durable_end = plan.durable_end;
  params.log_start_exact = plan.log_start_exact;
  params.log_start_offset = plan.log_start;
  params.cleaned_end = plan.cleaned_end;
  params.create = plan.create;
  params.topic_id = plan.spec.topic_id;
  log::RecoveryStats stats;
  TRY_ASSIGN(std::unique_ptr<log::Log> log,
             log::Log::open(disk_, std::move(params), trace_.named("log"), &stats));
  if (plan.spec.leads && log->latest_epoch() > plan.spec.leadership.epoch) return ahead(log->latest_epoch());
  if (stats.segments_scanned > 0) {
    trace_.info("{}: recovered, {} bytes scanned, {} cut{}{}", plan.spec.name.text(), stats.bytes_scanned,
                stats.bytes_cut, stats.cut_reason.empty() ? "" : ": ", stats.cut_reason);
  }
  auto partition = std::make_shared<partition::Partition>(std::move(environment), plan.spec.name,
                                                          plan.spec.topic_id, directory, plan.spec.config,
                                                          std::move(log), plan.high_watermark);
  TRY(begin_role(*partition, plan.spec));
  return partition;
}

void PartitionHost::abandon(const OpenPlan& plan) {
  ASSERT(plan.create);
  if (plan.rest && counts_[plan.directory] > 0) --counts_[plan.directory];
}

std::string PartitionHost::tombstone(const partition::Partition& partition) {
  return io::join_path(
      partition.directory(),
      log::deleted_directory_name(partition.name().topic, partition.name().partition, random_.uuid()));
}

void PartitionHost::forget(const partition::Partition& partition) {
  for (const auto& journal : journals_)
    if (journal) journal->forget({partition.topic_id(), partition.name().partition});
  const log::TopicPartition key{partition.name().topic, partition.name().partition};
  missed_.erase({key, partition.topic_id()});
  // What was found at the start is gone, whether or not it said of which topic it was.
  const auto found = found_.find(key);
  if (found != found_.end() && found->second.claimed &&
      (!found->second.topic_id || *found->second.topic_id == partition.topic_id()))
    found_.erase(found);
  const size_t directory = directory_index(partition.directory());
  ASSERT(directory < counts_.size());
  if (counts_[directory] > 0) --counts_[directory];
}

void PartitionHost::opened(const OpenPlan& plan, const partition::Partition& partition) {
  found_.erase({plan.spec.name.topic, plan.spec.name.partition});
  if (plan.clean || plan.high_watermark <= partition.usage().offsets.log_end) return;
  trace_.warn(
      "{} ends at {}, though records below {} were committed: it was not synced when the broker ended",
      plan.spec.name.text(), partition.usage().offsets.log_end.v, plan.high_watermark.v);
  unsynced_.insert({plan.spec.topic_id, plan.spec.name.partition});
}

void PartitionHost::forget_manifests() {
  manifests_.clear();
}

void PartitionHost::report_strays(const std::function<bool(const Uuid& topic_id)>& exists) {
  for (const auto& journal : journals_)
    if (journal) journal->keep_only([&](const log::CommitKey& key) { return exists(key.topic_id); });
  for (const auto& [key, f] : found_) {
    if (f.claimed) continue;
    trace_.warn("{} holds a partition that the cluster does not know; it is left alone", f.path);
  }
}

std::optional<BrokerEpoch> PartitionHost::clean_epoch() const {
  std::optional<BrokerEpoch> epoch;
  for (size_t i = 0; i < directories_.size(); ++i) {
    if (states_[i]->failed() || !directories_[i]->was_clean()) return std::nullopt;
    const std::optional<BrokerEpoch> named = directories_[i]->last_broker_epoch();
    if (!named || (epoch && epoch != named)) return std::nullopt;
    epoch = named;
  }
  return epoch;
}

Status PartitionHost::begin_serving() {
  for (size_t i = 0; i < directories_.size(); ++i) {
    if (states_[i]->failed()) continue;
    const Status removed = directories_[i]->remove_clean_marker();
    if (removed.ok()) continue;
    if (i == 0) return removed;
    (void)states_[i]->fail(removed.error());
    trace_.error("{} is offline: {}", states_[i]->path(), removed.error().message);
  }
  return {};
}

size_t PartitionHost::directory_index(const std::string& path) const {
  for (size_t i = 0; i < directories_.size(); ++i) {
    const std::string& d = states_[i]->path();
    if (path == d || (path.size() > d.size() && path.starts_with(d) && path[d.size()] == '/')) return i;
  }
  return directories_.size();
}

// What is known of partitions that lie there but were not opened (damaged ones) stays known: without it the
// next start would take their damage for a torn tail.
void PartitionHost::keep_absent(size_t directory, Checkpoints& sheet) const {
  const Checkpoints& known = checkpoints_[directory];
  const auto keep = [](const log::TopicPartition& key, const auto& from, auto& to) {
    if (const auto it = from.find(key); it != from.end()) to[key] = it->second;
  };
  for (const auto& [key, recovery_point] : known.recovery_points) {
    if (sheet.recovery_points.contains(key)) continue;
    if (!disk_.exists(directories_[directory]->partition_path(key.topic, key.partition))) continue;
    sheet.recovery_points[key] = recovery_point;
    keep(key, known.log_starts, sheet.log_starts);
    keep(key, known.cleaned_ends, sheet.cleaned_ends);
    keep(key, known.high_watermarks, sheet.high_watermarks);
    if (!known.topic_ids) continue;
    keep(key, *known.topic_ids, *sheet.topic_ids);
    const auto topic = known.topic_ids->find(key);
    if (topic == known.topic_ids->end() || !journals_[directory]) continue;
    // The checkpoint that is written now answers the cap.
    const auto noted = journals_[directory]->known({topic->second, key.partition});
    if (noted && noted->recovery_cap)
      sheet.recovery_points[key] = std::min(recovery_point, *noted->recovery_cap);
  }
}

Status PartitionHost::write_checkpoints(const std::vector<PartitionRef>& partitions) const {
  Status outcome;
  // Durable ends first: the recovery point never runs ahead of them. And caps that were set before the
  // recovery points below are read are answered by them.
  std::vector<uint64_t> serials;
  for (size_t i = 0; i < journals_.size(); ++i) {
    serials.push_back(journals_[i] == nullptr ? 0 : journals_[i]->serial());
    if (!states_[i]->failed() && journals_[i]) (void)journals_[i]->flush();  // told where it fails
  }
  std::vector<Checkpoints> sheets(directories_.size());
  for (Checkpoints& sheet : sheets) sheet.topic_ids.emplace();
  for (const PartitionRef& p : partitions) {
    const size_t i = directory_index(p->directory());
    ASSERT(i < sheets.size());
    const partition::Partition::Usage usage = p->usage();
    if (usage.segments == 0) continue;  // never written
    const log::TopicPartition key{p->name().topic, p->name().partition};
    sheets[i].recovery_points[key] = usage.recovery_point;
    sheets[i].log_starts[key] = usage.offsets.log_start;
    sheets[i].high_watermarks[key] = usage.offsets.high_watermark;
    (*sheets[i].topic_ids)[key] = p->topic_id();
    if (p->config()->log.compact_policy) sheets[i].cleaned_ends[key] = usage.cleaned_end;
  }
  for (size_t i = 0; i < sheets.size(); ++i) {
    if (states_[i]->failed()) continue;
    keep_absent(i, sheets[i]);
  }
  for (size_t i = 0; i < sheets.size(); ++i) {
    if (states_[i]->failed()) continue;
    // What one directory cannot take is no reason to leave the others out.
    const auto write = [&]() -> Status {
      TRY(directories_[i]->write_checkpoint(log::kRecoveryPointCheckpoint, sheets[i].recovery_points));
      TRY(directories_[i]->write_checkpoint(log::kLogStartCheckpoint, sheets[i].log_starts));
      TRY(directories_[i]->write_checkpoint(log::kHighWatermarkCheckpoint, sheets[i].high_watermarks));
      TRY(directories_[i]->write_topic_ids(*sheets[i].topic_ids));
      TRY(directories_[i]->write_checkpoint(log::kCleanerCheckpoint, sheets[i].cleaned_ends));
      return journals_[i]->checkpointed(serials[i]);
    };
    if (Status written = write(); !written.ok()) outcome = std::move(written);
  }
  return outcome;
}

Status PartitionHost::write_clean_markers(const std::vector<PartitionRef>& partitions, BrokerEpoch epoch) {
  std::vector<log::Manifest> manifests(directories_.size());
  std::vector<std::unordered_map<Uuid, size_t>> rows(directories_.size());  // topic -> index in the manifest
  std::set<log::TopicPartition> vouched;
  for (const PartitionRef& p : partitions) {
    vouched.insert({p->name().topic, p->name().partition});
    const std::optional<log::RestingLog> rest = p->resting();
    if (!rest || !rest->on_disk()) continue;
    const size_t i = directory_index(p->directory());
    ASSERT(i < manifests.size());
    const auto [row, added] = rows[i].emplace(p->topic_id(), manifests[i].topics.size());
    if (added) manifests[i].topics.push_back({p->name().topic, p->topic_id(), {}});
    manifests[i].topics[row->second].partitions.push_back({p->name().partition, *rest});
  }
  for (size_t i = 0; i < directories_.size(); ++i) {
    if (states_[i]->failed()) continue;
    TRY(journals_[i]->close());
    const auto other = std::find_if(found_.begin(), found_.end(), [&](const auto& f) {
      return f.second.directory == i && !vouched.contains(f.first);
    });
    if (other != found_.end()) {
      // The recovery points of the others are their ends: the scan at the next start is short.
      trace_.info("{}: no clean-shutdown marker, {} was not open", states_[i]->path(), other->second.path);
      continue;
    }
    manifests[i].broker_epoch = epoch;
    TRY(directories_[i]->write_manifest(manifests[i]));
    TRY(directories_[i]->write_clean_marker(epoch));
  }
  return {};
}

std::vector<PartitionHost::DirectoryInfo> PartitionHost::directories() const {
  std::vector<DirectoryInfo> out;
  for (size_t i = 0; i < directories_.size(); ++i) {
    int64_t sync_us = probed_us_[i];
    const auto m = sync_metrics_.find(states_[i]->path());
    if (m != sync_metrics_.end() && m->second.seconds != nullptr && m->second.seconds->count() > 0)
      sync_us = static_cast<int64_t>(m->second.seconds->quantile(0.5) * 1e6);
    out.push_back({states_[i]->path(), directories_[i] == nullptr ? Uuid() : directories_[i]->id(),
                   states_[i], sync_us});
  }
  return out;
}

}  // namespace millrace::broker
