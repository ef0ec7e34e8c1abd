#include "broker/scrubber.h"

#include <algorithm>

namespace millrace::broker {
namespace {

constexpr int64_t kScrubTickMs = 250;
constexpr int64_t kStepBytesMax = 16 << 20;  // one job on the disk's pool
constexpr size_t kSegmentsPerStep = 256;     // small ones cost their opening, not their bytes

}  // namespace

// What a step found, told on the control loop.
struct Scrubber::Outcome {
  uint64_t bytes = 0;
  uint64_t damaged = 0;
  uint64_t rebuilt = 0;
  bool pass_done = false;
  std::vector<std::string> errors;
  std::vector<std::string> warnings;
};

Scrubber::Scrubber(Environment environment, std::function<std::vector<PartitionRef>()> partitions,
                   std::function<Settings()> settings)
    : env_(std::move(environment)), partitions_(std::move(partitions)), settings_(std::move(settings)) {
  MetricsRegistry& m = *env_.metrics;
  bytes_ = &m.counter("millrace_scrubbed_bytes_total", "Bytes of closed segments that the scrub has read.");
  passes_ = &m.counter("millrace_scrub_passes_total", "Passes of the scrub over a data directory.");
  damaged_ = &m.counter("millrace_scrub_damaged_ranges_total",
                        "Damaged places that the scrub has found in closed segments.");
  rebuilt_ = &m.counter("millrace_scrub_rebuilt_indexes_total",
                        "Segments whose indexes did not fit and were made anew by the scrub.");
}

Scrubber::~Scrubber() = default;

void Scrubber::start() {
  last_tick_ms_ = env_.clock->now().mono_ms;
  env_.loop->call_after(kScrubTickMs, [this] { tick(); });
}

void Scrubber::tick() {
  if (stopping_) return;
  const Settings settings = settings_();
  const int64_t now = env_.clock->now().mono_ms;
  const int64_t passed = std::clamp<int64_t>(now - last_tick_ms_, 0, 4 * kScrubTickMs);
  last_tick_ms_ = now;
  if (settings.bytes_per_second > 0 && settings.interval_ms > 0) {
    begin_passes(now, settings);
    // Divided first: the rate may be the largest number there is.
    const int64_t share = std::max<int64_t>(settings.bytes_per_second / 1000, 1);
    const int64_t grant = share > kStepBytesMax ? kStepBytesMax * 64 : share * passed;
    for (const std::shared_ptr<Lane>& lane : lanes_) {
      if (!lane->in_pass) continue;
      lane->allowance = std::min(lane->allowance + grant, kStepBytesMax * 64);
      run_lane(lane);
    }
  }
  env_.loop->call_after(kScrubTickMs, [this] { tick(); });
}

// A pass takes what is there when it begins, from a random place on: restarts do not always favour the first.
void Scrubber::begin_passes(int64_t now_ms, const Settings& settings) {
  const bool due = lanes_.empty() || std::any_of(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
                     return !lane->in_pass && now_ms >= lane->next_pass_ms;
                   });
  if (!due) return;
  const std::vector<PartitionRef> all = partitions_();
  for (const PartitionRef& p : all) {
    const bool known = std::any_of(lanes_.begin(), lanes_.end(),
                                   [&](const auto& lane) { return lane->directory == p->directory(); });
    if (known) continue;
    lanes_.push_back(std::make_shared<Lane>());
    lanes_.back()->directory = p->directory();
  }
  for (const std::shared_ptr<Lane>& lane : lanes_) {
    if (lane->in_pass || now_ms < lane->next_pass_ms) continue;
    lane->to_do.clear();
    for (const PartitionRef& p : all) {
      if (p->directory() == lane->directory) lane->to_do.push_back(p);
    }
    if (lane->to_do.empty()) continue;
    const auto first = static_cast<std::ptrdiff_t>(env_.random->next_u64() % lane->to_do.size());
    std::rotate(lane->to_do.begin(), lane->to_do.begin() + first, lane->to_do.end());
    lane->next_pass_ms = now_ms + settings.interval_ms;
    lane->in_pass = true;
    lane->allowance = 0;
  }
}

void Scrubber::run_lane(const std::shared_ptr<Lane>& lane) {
  if (stopping_ || lane->running || !lane->in_pass || lane->allowance <= 0) return;
  lane->running = true;
  auto outcome = std::make_shared<Outcome>();
  env_.disk->run(
      *env_.loop, [disk = env_.disk, lane, outcome] { step(*disk, *lane, *outcome); },
      [this, lane, outcome] { end_step(lane, *outcome); });
}

// On the disk's pool; the lane is this job's alone while `running`.
void Scrubber::step(io::Disk& disk, Lane& lane, Outcome& out) {
  const uint64_t budget = static_cast<uint64_t>(std::min(lane.allowance, kStepBytesMax));
  for (size_t segments = 0; out.bytes < budget && segments < kSegmentsPerStep;) {
    if (!lane.segment) {
      if (!lane.partition) {
        if (lane.to_do.empty()) {
          out.pass_done = true;
          return;
        }
        lane.partition = std::move(lane.to_do.back());
        lane.to_do.pop_back();
        lane.from = Offset(0);
      }
      std::optional<log::ScrubTarget> target = lane.partition->scrub_target(lane.from);
      if (!target) {
        lane.partition.reset();
        ++segments;  // also a partition costs something
        continue;
      }
      lane.from = target->next_base;
      lane.segment = std::make_unique<log::SegmentScrub>(disk, std::move(*target));
      lane.told = 0;
      ++segments;
    }
    log::SegmentScrub& s = *lane.segment;
    const uint64_t before = s.bytes_read();
    const Result<bool> done = s.step(static_cast<size_t>(budget - out.bytes));
    out.bytes += s.bytes_read() - before;
    for (; lane.told < s.damaged().size(); ++lane.told) {
      const log::DamagedRange& range = s.damaged()[lane.told];
      if (!lane.partition->note_damage(range, s.target().file)) continue;
      ++out.damaged;
      out.errors.push_back(range.what);
    }
    if (!done.ok()) {
      out.errors.push_back(lane.partition->name().text() + ": " + done.error().message);
    } else if (!*done) {
      continue;
    } else if (!s.index_problem().empty()) {
      const Status rebuilt = lane.partition->rebuild_indexes_of(s.target().base);
      out.warnings.push_back(s.index_problem() + (rebuilt.ok() ? "; the indexes were made anew"
                                                               : "; " + rebuilt.error().message));
      if (rebuilt.ok()) ++out.rebuilt;
    }
    lane.segment.reset();
  }
}

void Scrubber::end_step(const std::shared_ptr<Lane>& lane, const Outcome& out) {
  lane->running = false;
  lane->allowance -= static_cast<int64_t>(out.bytes);
  bytes_->add(out.bytes);
  damaged_->add(out.damaged);
  rebuilt_->add(out.rebuilt);
  for (const std::string& e : out.errors) env_.trace.error("scrub: {}", e);
  for (const std::string& w : out.warnings) env_.trace.warn("scrub: {}", w);
  if (out.pass_done) {
    lane->in_pass = false;
    passes_->add();
    env_.trace.info("scrub: a pass over {} is done", lane->directory);
    return;
  }
  run_lane(lane);
}

}  // namespace millrace::broker
