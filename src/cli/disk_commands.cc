#include "cli/disk_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "cli/json.h"
#include "io/posix_disk.h"
#include "ledger/metadata_check.h"
#include "log/file_names.h"
#include "log/partition_metadata.h"
#include "log/repair.h"
#include "log/verify.h"

namespace millrace::cli {
namespace {

constexpr size_t kVerifyThreadsMax = 8;
constexpr size_t kPropertiesMax = 4 << 20;
constexpr std::string_view kMetadataDirectory = "__cluster_metadata-0";
constexpr uint64_t kProgressBytes = 64 << 20;  // between two lines of progress

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string last_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

std::optional<log::PartitionName> partition_name_of(const std::string& path) {
  std::optional<log::PartitionName> name = log::parse_partition_directory(last_name(path));
  if (name && name->being_deleted) name.reset();
  return name;
}

/// log.dirs (or log.dir) of a properties file.
Result<std::vector<std::string>> log_dirs_of(io::Disk& disk, const std::string& file) {
  TRY_ASSIGN(const Bytes bytes, disk.read_file(file, kPropertiesMax));
  std::string value;
  std::string_view text = as_text(bytes);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    const auto trim = [](std::string_view s) {
      const size_t first = s.find_first_not_of(" \t\r");
      return first == std::string_view::npos ? std::string_view()
                                             : s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
    };
    line = trim(line);
    const size_t equals = line.find_first_of("=:");
    if (equals == std::string_view::npos || line.front() == '#') continue;
    const std::string_view key = trim(line.substr(0, equals));
    if (key == "log.dirs" || (key == "log.dir" && value.empty())) value = trim(line.substr(equals + 1));
  }
  std::vector<std::string> out;
  for (size_t at = 0; at <= value.size();) {
    const size_t comma = std::min(value.find(',', at), value.size());
    const size_t first = value.find_first_not_of(' ', at);
    if (first < comma) out.push_back(without_slash(value.substr(first, comma - first)));
    at = comma + 1;
  }
  if (out.empty()) return Error(ErrorCode::not_found, file + " names no log.dirs");
  return out;
}

/// Held while the command works; nothing if there never was a broker.
Result<std::unique_ptr<io::DirectoryLock>> lock_against_broker(io::Disk& disk, const std::string& directory,
                                                               std::string_view way_out) {
  if (!disk.exists(io::join_path(directory, ".lock"))) return std::unique_ptr<io::DirectoryLock>();
  Result<std::unique_ptr<io::DirectoryLock>> lock = disk.lock_directory(directory);
  if (!lock.ok() && lock.code() == ErrorCode::already_exists) {
    return Error(ErrorCode::already_exists, fmt::format("a broker uses {}: {}", directory, way_out));
  }
  return lock;
}

std::string bytes_text(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} bytes", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

Json json_of_finding(const log::Finding& f) {
  Json j = Json::object();
  j["severity"] = f.severity == log::Severity::damage ? "damage" : "note";
  j["path"] = f.path;
  j["position"] = f.position ? Json(*f.position) : Json();
  j["offset"] = f.offset != kNoOffset ? Json(f.offset.v) : Json();
  j["what"] = f.what;
  return j;
}

// --- verify disk ---

class DiskVerification {
 public:
  DiskVerification(io::Disk& disk, const VerifyDisk& options) : disk_(disk), options_(options) {}

  Status run() {
    std::vector<std::string> paths;
    for (const std::string& p : options_.paths) paths.push_back(without_slash(p));
    if (!options_.config.empty()) {
      TRY_ASSIGN(const std::vector<std::string> dirs, log_dirs_of(disk_, options_.config));
      paths.insert(paths.end(), dirs.begin(), dirs.end());
    }
    if (paths.empty()) return Error(ErrorCode::invalid_argument, "no directory: name one, or --config FILE");
    for (const std::string& path : paths) {
      if (!disk_.exists(path)) return Error(ErrorCode::not_found, "there is no " + path);
      TRY(add_path(path));
    }
    find_twins();
    check_all();
    what_is_missing();
    return {};
  }

  std::string render(Output output) const {
    if (output == Output::json) return render_json(json());
    std::string out;
    for (const log::Finding& f : findings_.list) {
      if (options_.quiet && f.severity == log::Severity::note) continue;
      out +=
          fmt::format("{}  {}\n", f.severity == log::Severity::damage ? "DAMAGE" : "note  ", log::text_of(f));
    }
    const uint64_t told = findings_.list.size();
    if (findings_.damages + findings_.notes > told) {
      out += fmt::format("... and {} more\n", findings_.damages + findings_.notes - told);
    }
    out +=
        fmt::format("{} partitions, {} segments, {} batches, {} records, {} read{}: {} damages, {} notes\n",
                    jobs_.size(), total_.segments, total_.batches, total_.records, bytes_text(total_.bytes),
                    metadata_ ? fmt::format(", {} metadata entries, {} topics", metadata_->entries,
                                            metadata_->image.topics().size())
                              : std::string(),
                    findings_.damages, findings_.notes);
    return out;
  }

  ExitCode code() const { return findings_.damages > 0 ? ExitCode::damaged : ExitCode::ok; }

 private:
  struct Job {
    std::string path;
    log::PartitionName name;
    std::optional<Uuid> topic_id;
    log::PartitionCheck check;
    Result<log::PartitionVerdict> verdict = ErrorCode::unknown_server_error;
  };

  Status add_path(const std::string& path) {
    const bool is_data_directory = disk_.exists(io::join_path(path, "meta.properties"));
    const std::optional<log::PartitionName> name = partition_name_of(path);
    if (!is_data_directory && name) return add_partition(path, *name);
    TRY(lock(path));
    TRY_ASSIGN(log::DirectoryVerdict verdict, log::verify_directory(disk_, path));
    findings_.append(verdict.findings);
    for (const log::PartitionDirectory& p : verdict.partitions) {
      Job job{p.path, {p.topic, p.partition, false}, p.topic_id, log::check_of(verdict, p)};
      if (last_name(p.path) == kMetadataDirectory) {
        job.check.clean = false;  // its end is its own matter: no checkpoint knows it
        TRY_ASSIGN(ledger::MetadataVerdict metadata, ledger::verify_metadata_log(disk_, p.path));
        findings_.append(metadata.findings);
        metadata_ = std::move(metadata);
      }
      jobs_.push_back(std::move(job));
    }
    data_directories_.push_back(path);
    return {};
  }

  Status add_partition(const std::string& path, const log::PartitionName& name) {
    const std::string parent = io::parent_path(path);
    if (std::find(locked_.begin(), locked_.end(), parent) == locked_.end()) TRY(lock(parent));
    Job job{path, name, std::nullopt, {}};
    if (disk_.exists(io::join_path(parent, "meta.properties"))) {
      TRY_ASSIGN(const log::DirectoryVerdict verdict, log::verify_directory(disk_, parent));
      for (const log::PartitionDirectory& p : verdict.partitions) {
        if (p.path != path) continue;
        job.topic_id = p.topic_id;
        job.check = log::check_of(verdict, p);
      }
    }
    jobs_.push_back(std::move(job));
    return {};
  }

  Status lock(const std::string& path) {
    if (options_.force) return {};
    TRY_ASSIGN(
        std::unique_ptr<io::DirectoryLock> held,
        lock_against_broker(disk_, path,
                            "stop it first, or say --force (what it writes meanwhile may look like damage)"));
    if (held) locks_.push_back(std::move(held));
    locked_.push_back(path);
    return {};
  }

  void find_twins() {
    std::vector<const Job*> sorted;
    for (const Job& job : jobs_) {
      if (last_name(job.path) != kMetadataDirectory) sorted.push_back(&job);
    }
    const auto key = [](const Job* j) { return std::pair(j->name.topic, j->name.partition); };
    std::sort(sorted.begin(), sorted.end(), [&](const Job* a, const Job* b) { return key(a) < key(b); });
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (key(sorted[i - 1]) == key(sorted[i]))
        add(log::Severity::damage, sorted[i]->path, "the partition lies also in " + sorted[i - 1]->path);
    }
  }

  void check_all() {
    for (Job& job : jobs_) {
      job.check.records = options_.records;
      job.check.on_bytes = [this](uint64_t bytes) { note_progress(bytes); };
      if (metadata_) ask_metadata(job);
    }
    // The largest first would be better; by name is what a reader expects, and threads even it out.
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < jobs_.size(); i = next++)
        jobs_[i].verdict = log::verify_partition(disk_, jobs_[i].path, jobs_[i].check);
    };
    size_t threads =
        options_.threads != 0
            ? options_.threads
            : std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), kVerifyThreadsMax);
    threads = std::min(threads, std::max<size_t>(jobs_.size(), 1));
    std::vector<std::thread> pool;
    for (size_t i = 1; i < threads; ++i) pool.emplace_back(work);
    work();
    for (std::thread& t : pool) t.join();
    if (told_progress_) progress("");
    for (const Job& job : jobs_) {
      if (!job.verdict.ok()) {
        add(log::Severity::damage, job.path, job.verdict.error().message);
        continue;
      }
      total_.segments += job.verdict->segments;
      total_.batches += job.verdict->batches;
      total_.records += job.verdict->records;
      total_.bytes += job.verdict->bytes;
      findings_.append(job.verdict->findings);
    }
  }

  void note_progress(uint64_t bytes) {
    const std::lock_guard guard(progress_mutex_);
    read_ += bytes;
    if (!progress_wanted() || read_ < next_progress_) return;
    next_progress_ = read_ + kProgressBytes;
    told_progress_ = true;
    progress(fmt::format("{} read", bytes_text(read_)));
  }

  /// What the metadata know of the partition.
  void ask_metadata(Job& job) {
    if (last_name(job.path) == kMetadataDirectory) return;
    const meta::Topic* topic = metadata_->image.topic(job.name.topic);
    if (topic == nullptr || static_cast<size_t>(job.name.partition.v) >= topic->partitions.size()) {
      add(log::Severity::note, job.path, "a partition that the cluster does not know");
      return;
    }
    job.check.topic_id = topic->id;
    const meta::ConfigValues* own = metadata_->image.topic_config(job.name.topic);
    if (own == nullptr) return;
    const auto policy = own->find("cleanup.policy");
    job.check.holes_are_damage = policy != own->end() && policy->second == "delete";
  }

  /// Partitions that were written once and have no directory any more.
  void what_is_missing() {
    for (const std::string& directory : data_directories_) {
      const Result<log::DirectoryVerdict> verdict = log::verify_directory(disk_, directory);
      if (!verdict.ok() || !metadata_) continue;
      for (const auto& [key, point] : verdict->recovery_points) {
        const meta::Topic* topic = metadata_->image.topic(key.topic);
        if (topic == nullptr || point <= Offset(0)) continue;
        const bool there = std::any_of(jobs_.begin(), jobs_.end(), [&](const Job& job) {
          return job.name.topic == key.topic && job.name.partition == key.partition;
        });
        const auto start = verdict->log_starts.find(key);
        if (there || (start != verdict->log_starts.end() && start->second >= point)) continue;
        add(log::Severity::damage,
            io::join_path(directory, log::partition_directory_name(key.topic, key.partition)),
            fmt::format("is missing, but reached offset {}", point.v));
      }
    }
  }

  void add(log::Severity severity, std::string path, std::string what) {
    findings_.add({severity, std::move(path), {}, kNoOffset, std::move(what)});
  }

  Json json() const {
    Json j = Json::object();
    j["damages"] = findings_.damages;
    j["notes"] = findings_.notes;
    j["segments"] = total_.segments;
    j["batches"] = total_.batches;
    j["records"] = total_.records;
    j["bytes"] = total_.bytes;
    if (metadata_) {
      j["metadata_entries"] = metadata_->entries;
      j["topics"] = metadata_->image.topics().size();
    }
    Json partitions = Json::array();
    for (const Job& job : jobs_) {
      Json p = Json::object();
      p["path"] = job.path;
      p["topic"] = job.name.topic;
      p["partition"] = job.name.partition.v;
      p["topic_id"] = job.topic_id ? Json(job.topic_id->to_string()) : Json();
      if (job.verdict.ok()) {
        p["start_offset"] = job.verdict->start.v;
        p["end_offset"] = job.verdict->end.v;
        p["bytes"] = job.verdict->bytes;
        p["damages"] = job.verdict->findings.damages;
        p["notes"] = job.verdict->findings.notes;
      }
      partitions.push_back(std::move(p));
    }
    j["partitions"] = std::move(partitions);
    Json findings = Json::array();
    for (const log::Finding& f : findings_.list) findings.push_back(json_of_finding(f));
    j["findings"] = std::move(findings);
    return j;
  }

  io::Disk& disk_;
  const VerifyDisk& options_;
  std::vector<std::unique_ptr<io::DirectoryLock>> locks_;
  std::vector<std::string> locked_;
  std::vector<std::string> data_directories_;
  std::vector<Job> jobs_;
  std::optional<ledger::MetadataVerdict> metadata_;
  log::Findings findings_;
  log::PartitionVerdict total_;
  std::mutex progress_mutex_;
  uint64_t read_ = 0;
  uint64_t next_progress_ = kProgressBytes;
  bool told_progress_ = false;
};

// --- repair and adopt ---

struct PartitionPlace {
  std::string path;
  std::string data_directory;
  log::PartitionKey key;
  log::PartitionCheck check;
  std::unique_ptr<io::DirectoryLock> lock;
};

Result<PartitionPlace> place_of(io::Disk& disk, const std::string& path_given) {
  PartitionPlace place;
  place.path = without_slash(path_given);
  const std::optional<log::PartitionName> name = partition_name_of(place.path);
  if (!name) return Error(ErrorCode::invalid_argument, place.path + " is no partition's directory (TOPIC-N)");
  if (!disk.exists(place.path)) return Error(ErrorCode::not_found, "there is no " + place.path);
  place.data_directory = io::parent_path(place.path);
  TRY_ASSIGN(place.lock, lock_against_broker(disk, place.data_directory, "stop it first"));
  place.key.name = {name->topic, name->partition};
  const Result<std::optional<log::PartitionMetadata>> metadata =
      log::read_partition_metadata(disk, place.path);
  if (metadata.ok() && *metadata) place.key.topic_id = (*metadata)->topic_id;
  TRY_ASSIGN(const log::DirectoryVerdict directory, log::verify_directory(disk, place.data_directory));
  for (const log::PartitionDirectory& p : directory.partitions) {
    if (p.path == place.path) place.check = log::check_of(directory, p);
  }
  return place;
}

std::string text_of_loss(const log::Loss& loss) {
  const std::string offsets = loss.from < loss.to ? fmt::format("offsets {} to {} ({} offsets)", loss.from.v,
                                                                loss.to.v - 1, loss.to.v - loss.from.v)
                                                  : std::string("no offset that is known");
  if (loss.path.empty()) return fmt::format("{}: {}\n", offsets, loss.why);
  return fmt::format("{}: {} bytes at position {} of {}: {}\n", offsets, loss.bytes, loss.position, loss.path,
                     loss.why);
}

}  // namespace

Result<ExitCode> verify_disk(io::Disk& disk, const VerifyDisk& options, Output output, std::string& out) {
  DiskVerification verification(disk, options);
  TRY(verification.run());
  out = verification.render(output);
  return verification.code();
}

Result<ExitCode> repair_partition(io::Disk& disk, const DiskRepair& options, Output output,
                                  std::string& out) {
  if (options.drop_from_damage == options.skip_damaged) {
    return Error(ErrorCode::invalid_argument,
                 "say what is to be given up: --drop-from-damage (everything from the first damage on) or "
                 "--skip-damaged (only what is damaged)");
  }
  TRY_ASSIGN(const PartitionPlace place, place_of(disk, options.path));
  const log::RepairMode mode =
      options.drop_from_damage ? log::RepairMode::drop_from_damage : log::RepairMode::skip_damaged;
  TRY_ASSIGN(const log::RepairPlan plan, log::plan_repair(disk, place.path, mode, place.check));
  if (output == Output::json) {
    Json j = Json::object();
    Json losses = Json::array();
    for (const log::Loss& loss : plan.losses) {
      losses.push_back({{"path", loss.path},
                        {"position", loss.position},
                        {"bytes", loss.bytes},
                        {"first_offset", loss.from.v},
                        {"end_offset", loss.to.v},
                        {"why", loss.why}});
    }
    j["losses"] = std::move(losses);
    j["log_end_offset"] = plan.end.v;
    j["done"] = !options.dry_run && !plan.losses.empty();
    out = render_json(j);
  } else if (plan.losses.empty()) {
    out = fmt::format("{}: nothing is damaged, nothing was changed\n", place.path);
  } else {
    out = fmt::format("{}: {}\n", place.path, options.dry_run ? "would be given up" : "given up");
    for (const log::Loss& loss : plan.losses) out += "  " + text_of_loss(loss);
    out += fmt::format("the log {} at offset {}; the bytes {} in {}/*.lost\n",
                       options.dry_run ? "would end" : "ends", plan.end.v,
                       options.dry_run ? "would be kept" : "are kept", place.path);
  }
  if (options.dry_run || plan.losses.empty()) return ExitCode::ok;
  TRY(confirm(options.yes, "giving up records of " + place.path));
  TRY(log::carry_out(disk, plan));
  TRY(log::record_end(disk, place.data_directory, place.key, plan.end));
  return ExitCode::ok;
}

Result<ExitCode> adopt_partition(io::Disk& disk, const DiskAdopt& options, Output output, std::string& out) {
  const Result<Uuid> topic_id = Uuid::parse(options.topic_id);
  if (!topic_id.ok()) return Error(ErrorCode::invalid_argument, options.topic_id + " is no topic id");
  if (options.leader_epoch < 0) return Error(ErrorCode::invalid_argument, "a leader epoch is not negative");
  TRY_ASSIGN(const PartitionPlace place, place_of(disk, options.path));
  TRY(confirm(options.yes, "rewriting the identity of " + place.path));
  TRY_ASSIGN(const log::Adopted adopted,
             log::adopt(disk, place.path, {*topic_id, LeaderEpoch(options.leader_epoch)}));
  TRY(log::record_end(disk, place.data_directory, place.key, std::nullopt));
  TRY(log::record_end(disk, place.data_directory, {place.key.name, *topic_id}, std::nullopt));
  TRY(log::vouch(disk, place.data_directory, {*topic_id, place.key.name.partition}, adopted.end));
  if (output == Output::json) {
    Json j = Json::object();
    j["path"] = place.path;
    j["topic_id"] = topic_id->to_string();
    j["start_offset"] = adopted.start.v;
    j["end_offset"] = adopted.end.v;
    j["batches"] = adopted.batches;
    j["batches_rewritten"] = adopted.rewritten;
    out = render_json(j);
  } else {
    out = fmt::format("{}: topic id {}, offsets {} to {}, {} batches ({} got leader epoch {})\n", place.path,
                      topic_id->to_string(), adopted.start.v, adopted.end.v, adopted.batches,
                      adopted.rewritten, options.leader_epoch);
  }
  return ExitCode::ok;
}

namespace {

template <class Work>
ExitCode on_this_disk(const Context& context, Work work) {
  io::PosixDisk disk({.descriptors_max = 256, .threads = 1});
  std::string out;
  const Result<ExitCode> code = work(disk, context.output, out);
  if (!code.ok()) return fail(code.error());
  if (const Status printed = print(out); !printed.ok()) return fail(printed.error());
  return *code;
}

}  // namespace

ExitCode run(const VerifyDisk& options, const Context& context) {
  return on_this_disk(context,
                      [&](io::Disk& d, Output o, std::string& s) { return verify_disk(d, options, o, s); });
}
ExitCode run(const DiskRepair& options, const Context& context) {
  return on_this_disk(
      context, [&](io::Disk& d, Output o, std::string& s) { return repair_partition(d, options, o, s); });
}
ExitCode run(const DiskAdopt& options, const Context& context) {
  return on_this_disk(
      context, [&](io::Disk& d, Output o, std::string& s) { return adopt_partition(d, options, o, s); });
}

}  // namespace millrace::cli
