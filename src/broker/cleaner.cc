#include "broker/cleaner.h"

#include <algorithm>

namespace millrace::broker {
namespace {

// One step on the pool: short beside a sync that waits for the same thread.
constexpr uint64_t kStepBytes = 1u << 20;
constexpr int64_t kBackoffMinMs = 10;
constexpr size_t kReadBytesMin = 64u << 10;

std::string text_of(const meta::ConfigView& settings, std::string_view key) {
  const std::optional<std::string> text = settings.broker_value(key);
  ASSERT(text.has_value());
  return *text;
}

}  // namespace

CleanerSettings cleaner_settings(const meta::ConfigView& settings) {
  const auto number = [&](std::string_view key) {
    return meta::parse_config_int(text_of(settings, key)).value();
  };
  const auto real = [&](std::string_view key) {
    return meta::parse_config_double(text_of(settings, key)).value();
  };
  CleanerSettings s;
  s.enable = meta::parse_config_bool(text_of(settings, "log.cleaner.enable")).value();
  s.threads = static_cast<size_t>(number("log.cleaner.threads"));
  s.map_bytes = static_cast<size_t>(number("log.cleaner.dedupe.buffer.size"));
  s.map_load_factor = real("log.cleaner.io.buffer.load.factor");
  s.read_bytes = static_cast<size_t>(number("log.cleaner.io.buffer.size"));
  s.bytes_per_second_max = real("log.cleaner.io.max.bytes.per.second");
  s.backoff_ms = number("log.cleaner.backoff.ms");
  return s;
}

// One log being cleaned. The pool has it during a step, the control loop between steps.
struct Cleaner::Run {
  PartitionRef partition;
  log::CompactionLimits limits;
  int64_t began_ms = 0;
  std::unique_ptr<log::Compaction> compaction;  // made by the first step
  bool more = true;
  Status outcome;
  uint64_t bytes = 0;  // of the last step
  log::CompactionStats counted;
};

Cleaner::Cleaner(Environment environment) : env_(std::move(environment)) {
  register_metrics();
}

void Cleaner::start() {
  arm();
}

void Cleaner::stop(std::function<void()> done) {
  stopping_ = true;
  on_stopped_ = std::move(done);
  if (timer_ != 0) env_.loop->cancel(std::exchange(timer_, 0));
  maybe_stopped();
}

void Cleaner::maybe_stopped() {
  if (!stopping_ || looking_ || !runs_.empty() || !on_stopped_) return;
  std::exchange(on_stopped_, nullptr)();
}

std::map<std::string, std::string> Cleaner::uncleanable() const {
  std::map<std::string, std::string> out;
  for (const auto& [name, s] : set_aside_) {
    if (!s.partition.expired()) out[name] = s.reason;
  }
  return out;
}

bool Cleaner::is_set_aside(const PartitionRef& partition) const {
  const auto it = set_aside_.find(partition->name().text());
  return it != set_aside_.end() && it->second.partition.lock() == partition;
}

// --- looking ---

void Cleaner::arm() {
  if (stopping_ || timer_ != 0) return;
  timer_ = env_.loop->call_after(std::max(env_.settings().backoff_ms, kBackoffMinMs), [this] {
    timer_ = 0;
    look();
    arm();
  });
}

void Cleaner::look() {
  const CleanerSettings settings = env_.settings();
  if (stopping_ || looking_ || !settings.enable || runs_.size() >= settings.threads) return;
  struct Search {
    std::vector<PartitionRef> candidates;
    std::vector<std::pair<double, PartitionRef>> found;
    double ratio_max = 0;
  };
  auto search = std::make_shared<Search>();
  std::erase_if(set_aside_, [](const auto& item) { return item.second.partition.expired(); });
  for (PartitionRef& p : env_.partitions()) {
    const bool busy =
        std::any_of(runs_.begin(), runs_.end(), [&](const auto& run) { return run->partition == p; });
    if (!busy && !is_set_aside(p)) search->candidates.push_back(std::move(p));
  }
  looking_ = true;
  env_.disk->run(
      *env_.loop,
      [search, clock = env_.clock] {
        for (PartitionRef& p : search->candidates) {
          const std::shared_ptr<const partition::PartitionConfig> config = p->config();
          if (!config->log.compact_policy) continue;
          const Result<log::CompactionNeed> need = p->compaction_need(clock->now());
          if (!need.ok() || need->dirty_bytes == 0) continue;
          const double ratio = need->dirty_ratio();
          search->ratio_max = std::max(search->ratio_max, ratio);
          if (need->overdue || ratio > config->log.min_cleanable_dirty_ratio)
            search->found.emplace_back(ratio, std::move(p));
        }
        std::stable_sort(search->found.begin(), search->found.end(),
                         [](const auto& a, const auto& b) { return a.first > b.first; });
      },
      [this, search] {
        std::vector<PartitionRef> found;
        for (auto& [ratio, p] : search->found) found.push_back(std::move(p));
        on_looked(std::move(found), search->ratio_max);
      });
}

void Cleaner::on_looked(std::vector<PartitionRef> found, double ratio_max) {
  looking_ = false;
  dirty_ratio_max_ = ratio_max;
  const CleanerSettings settings = env_.settings();
  for (PartitionRef& p : found) {
    if (stopping_ || runs_.size() >= settings.threads) break;
    auto run = std::make_shared<Run>();
    run->partition = std::move(p);
    run->began_ms = env_.clock->now().mono_ms;
    run->limits.map_bytes = settings.map_bytes / settings.threads;
    run->limits.map_load_factor = settings.map_load_factor;
    run->limits.read_bytes = std::max(settings.read_bytes / settings.threads, kReadBytesMin);
    run->limits.secret = {env_.random->next_u64(), env_.random->next_u64()};
    runs_.push_back(run);
    step(run);
  }
  maybe_stopped();
}

// --- one run ---

void Cleaner::step(const std::shared_ptr<Run>& run) {
  env_.disk->run(
      *env_.loop,
      [run, clock = env_.clock] {
        const Now now = clock->now();
        run->bytes = 0;
        if (!run->compaction) {
          Result<std::unique_ptr<log::Compaction>> begun = run->partition->begin_compaction(run->limits, now);
          if (!begun.ok()) run->outcome = begun.error();
          run->more = begun.ok() && *begun != nullptr;
          if (run->more) run->compaction = std::move(*begun);
          return;
        }
        const log::CompactionStats before = run->compaction->stats();
        const Result<bool> more = run->partition->compact(*run->compaction, kStepBytes, now);
        run->more = more.ok() && *more;
        if (!more.ok()) run->outcome = more.error();
        const log::CompactionStats& after = run->compaction->stats();
        run->bytes = after.bytes_read - before.bytes_read + after.bytes_written - before.bytes_written;
      },
      [this, run] { on_step(run); });
}

void Cleaner::on_step(const std::shared_ptr<Run>& run) {
  if (run->compaction) {
    const log::CompactionStats& now = run->compaction->stats();
    bytes_read_->add(now.bytes_read - run->counted.bytes_read);
    bytes_written_->add(now.bytes_written - run->counted.bytes_written);
    run->counted = now;
  }
  if (!run->more) {
    end(run, run->outcome);
    return;
  }
  if (stopping_) {
    // Between two steps nothing is half-done but files that the next open removes.
    run->compaction->abandon();
    end(run, Error(ErrorCode::cancelled, "the broker stops"));
    return;
  }
  // All runs together stay below the limit: each step moves the moment at which the next may begin.
  const int64_t now_ms = env_.clock->now().mono_ms;
  const double rate = std::max(env_.settings().bytes_per_second_max, 1.0);
  const double cost_ms = std::min(static_cast<double>(run->bytes) * 1000.0 / rate, 3'600'000.0);
  throttled_until_ms_ = std::max(throttled_until_ms_, now_ms) + static_cast<int64_t>(cost_ms);
  const int64_t wait_ms = throttled_until_ms_ - now_ms;
  if (wait_ms <= 0) {
    step(run);
    return;
  }
  // In turns of at most a second, so that a stop need not wait for long.
  auto wait = std::make_shared<std::function<void()>>();
  *wait = [this, run, until = throttled_until_ms_, weak = std::weak_ptr<std::function<void()>>(wait)] {
    const int64_t left = until - env_.clock->now().mono_ms;
    if (stopping_ || left <= 0) {
      step(run);
    } else if (auto self = weak.lock()) {
      env_.loop->call_after(std::min<int64_t>(left, 1000), [self] { (*self)(); });
    }
  };
  env_.loop->call_after(std::min<int64_t>(wait_ms, 1000), [wait] { (*wait)(); });
}

void Cleaner::end(const std::shared_ptr<Run>& run, const Status& outcome) {
  std::erase(runs_, run);
  const std::string name = run->partition->name().text();
  if (outcome.ok()) {
    const int64_t took_ms = env_.clock->now().mono_ms - run->began_ms;
    last_run_seconds_ = static_cast<double>(took_ms) / 1000.0;
    completed_->add();
    if (run->compaction) {
      const log::CompactionStats& s = run->compaction->stats();
      if (s.bytes_before > s.bytes_after) bytes_freed_->add(s.bytes_before - s.bytes_after);
      env_.trace.info(
          "{}: compacted up to offset {} in {} ms: {} segments of {} bytes became {} of {} bytes, {} records "
          "gone",
          name, run->compaction->cleaned_end().v, took_ms, s.segments_before, s.bytes_before,
          s.segments_after, s.bytes_after, s.records_dropped);
    }
    if (!stopping_) {
      env_.on_cleaned();
      look();
    }
  } else if (outcome.code() != ErrorCode::cancelled && outcome.code() != ErrorCode::closed) {
    failed_->add();
    const bool passing = outcome.code() == ErrorCode::no_space ||
                         outcome.code() == ErrorCode::kafka_storage_error ||
                         outcome.code() == ErrorCode::not_leader_or_follower;
    if (!passing) set_aside_[name] = {run->partition, outcome.error().message};
    env_.trace.error("{}: compaction failed{}: {}", name, passing ? "" : ", it is not tried again",
                     outcome.error().message);
  }
  maybe_stopped();
}

// --- metrics ---

void Cleaner::register_metrics() {
  MetricsRegistry& m = *env_.metrics;
  using Samples = MetricsRegistry::Samples;
  completed_ = &m.counter("millrace_cleaner_runs_total", "Compaction runs that ended well.");
  failed_ = &m.counter("millrace_cleaner_failed_runs_total", "Compaction runs that ended with an error.");
  bytes_read_ = &m.counter("millrace_cleaner_read_bytes_total", "Bytes of batches that compaction read.");
  bytes_written_ = &m.counter("millrace_cleaner_written_bytes_total", "Bytes that compaction wrote.");
  bytes_freed_ =
      &m.counter("millrace_cleaner_freed_bytes_total", "Bytes by which compaction made logs smaller.");
  m.gauge("millrace_cleaner_dirty_ratio_max",
          "Greatest share of a compacted log that waits for compaction, at the last look.",
          [this](Samples& s) { s.push_back({{}, dirty_ratio_max_}); });
  m.gauge("millrace_cleaner_uncleanable_partitions", "Compacted logs that are set aside because of damage.",
          [this](Samples& s) { s.push_back({{}, static_cast<double>(uncleanable().size())}); });
  m.gauge("millrace_cleaner_running", "Compaction runs going on.",
          [this](Samples& s) { s.push_back({{}, static_cast<double>(runs_.size())}); });
  m.gauge("millrace_cleaner_last_run_seconds", "How long the last compaction run took.",
          [this](Samples& s) { s.push_back({{}, last_run_seconds_}); });
}

}  // namespace millrace::broker
