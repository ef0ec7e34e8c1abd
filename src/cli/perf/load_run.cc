#include "cli/perf/load_run.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace millrace::cli::perf {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kWaitMax = 100'000'000;

}  // namespace

LoadRun::LoadRun(LoadOptions options)
    : options_(std::move(options)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

LoadRun::~LoadRun() {
  calls_.clear();
  fetches_.clear();
  if (epoll_ >= 0) ::close(epoll_);
}

Status LoadRun::watch(size_t index) {
  Watched& w = watched_[index];
  const uint32_t events = EPOLLIN | (w.channel->wants_write() ? EPOLLOUT : 0u);
  if (events == w.events) return {};
  epoll_event e{};
  e.events = events;
  e.data.u64 = index;
  const int how = w.events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(epoll_, how, w.channel->socket(), &e) != 0) {
    return Error(ErrorCode::io_error, std::string("epoll: ") + std::strerror(errno));
  }
  w.events = events;
  return {};
}

Status LoadRun::watch_all() {
  for (const auto& c : calls_) watched_.push_back({c.get(), 0});
  for (const auto& c : fetches_) watched_.push_back({c.get(), 0});
  for (size_t i = 0; i < watched_.size(); ++i) {
    TRY(watched_[i].channel->flush());
    TRY(watch(i));
  }
  return {};
}

void LoadRun::offer_due(int64_t now) {
  if (options_.rate <= 0 || calls_.empty()) return;
  for (;;) {
    const int64_t due = began_ns_ + static_cast<int64_t>(static_cast<double>(offered_) * 1e9 / options_.rate);
    if (due > now) return;
    ++offered_;
    const size_t index = next_channel_;
    next_channel_ = next_channel_ + 1 == calls_.size() ? 0 : next_channel_ + 1;
    calls_[index]->offer(due);
  }
}

Status LoadRun::wait_and_serve(int64_t until_ns) {
  std::array<epoll_event, 256> events;
  int64_t wait = options_.spin ? 0 : std::clamp<int64_t>(until_ns - now_ns(), 0, kWaitMax);
  const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(wait)};
  const int n = ::epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  if (n < 0 && errno != EINTR) {
    return Error(ErrorCode::io_error, std::string("epoll: ") + std::strerror(errno));
  }
  for (int i = 0; i < n; ++i) {
    const epoll_event& e = events[static_cast<size_t>(i)];
    const auto index = static_cast<size_t>(e.data.u64);
    Channel& channel = *watched_[index].channel;
    TRY(channel.on_ready((e.events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0, (e.events & EPOLLOUT) != 0));
    TRY(watch(index));
  }
  return {};
}

bool LoadRun::over(int64_t now) const {
  if (options_.requests_max > 0) {
    const Tally& counted = calls_.empty() ? fetches_tally_ : calls_tally_;
    return counted.requests >= options_.requests_max;
  }
  if (options_.until_ends &&
      std::all_of(fetches_.begin(), fetches_.end(), [](const auto& f) { return f->at_ends(); })) {
    return true;
  }
  return window_ns_ > 0 && now - window_ns_ >= static_cast<int64_t>(options_.seconds * 1e9);
}

Status LoadRun::begin_window(int64_t now) {
  calls_tally_.clear();
  fetches_tally_.clear();
  before_ = {};
  window_ns_ = now;
  costs_before_.clear();
  for (const int32_t pid : options_.broker_pids) {
    TRY_ASSIGN(ProcessCost cost, cost_of(pid));
    costs_before_.push_back(cost);
  }
  TRY_ASSIGN(own_before_, cost_of(::getpid()));
  return {};
}

LoadSample LoadRun::sample(int64_t now) {
  const LoadSample total{.at_s = static_cast<double>(now - (window_ns_ > 0 ? window_ns_ : began_ns_)) / 1e9,
                         .requests = calls_tally_.requests,
                         .bytes = calls_tally_.bytes,
                         .fetched_bytes = fetches_tally_.bytes};
  const LoadSample difference{.at_s = total.at_s - (window_ns_ > 0 ? 0 : options_.warmup_s),
                              .requests = total.requests - before_.requests,
                              .bytes = total.bytes - before_.bytes,
                              .fetched_bytes = total.fetched_bytes - before_.fetched_bytes};
  before_ = total;
  return difference;
}

Result<LoadOutcome> LoadRun::run(const std::function<bool(const LoadSample&)>& on_second) {
  LoadOutcome outcome;
  const bool at_once = options_.requests_max > 0 || options_.until_ends || options_.warmup_s <= 0;
  if (at_once) TRY(begin_window(now_ns()));
  began_ns_ = now_ns();
  const int64_t warm_ns = began_ns_ + static_cast<int64_t>(options_.warmup_s * 1e9);
  int64_t next_sample = began_ns_ + kSecond;
  for (const auto& c : calls_) c->begin();
  for (const auto& c : fetches_) c->begin();
  TRY(watch_all());
  int64_t now = now_ns();
  while (!over(now)) {
    if (window_ns_ == 0 && now >= warm_ns) {
      TRY(begin_window(now));
      next_sample = now + kSecond;
    }
    const uint64_t offered = offered_;
    offer_due(now);
    if (offered_ != offered) {
      // Those that were offered something send it at once.
      const size_t some = std::min<size_t>(calls_.size(), static_cast<size_t>(offered_ - offered));
      for (size_t i = 0; i < some; ++i) {
        const size_t index = (next_channel_ + calls_.size() - 1 - i) % calls_.size();
        TRY(calls_[index]->flush());
        TRY(watch(index));
      }
    }
    if (now >= next_sample) {
      const LoadSample s = sample(now);
      if (window_ns_ > 0) outcome.samples.push_back(s);
      if (!on_second(s)) return Error(ErrorCode::cancelled, "interrupted");
      next_sample += kSecond;
    }
    int64_t until = std::min(next_sample, now + kWaitMax);
    if (window_ns_ == 0) until = std::min(until, warm_ns);
    if (options_.rate > 0) {
      until = std::min(until,
                       began_ns_ + static_cast<int64_t>(static_cast<double>(offered_) * 1e9 / options_.rate));
    }
    TRY(wait_and_serve(until));
    now = now_ns();
  }
  outcome.seconds = static_cast<double>(now - window_ns_) / 1e9;
  for (size_t i = 0; i < options_.broker_pids.size(); ++i) {
    TRY_ASSIGN(const ProcessCost cost, cost_of(options_.broker_pids[i]));
    outcome.brokers.push_back({options_.broker_pids[i], cost.since(costs_before_[i])});
  }
  TRY_ASSIGN(const ProcessCost own, cost_of(::getpid()));
  outcome.generator = own.since(own_before_);
  outcome.calls = calls_tally_;
  outcome.fetches = fetches_tally_;
  (void)::getloadavg(&outcome.load_average, 1);  // 0 if it is not known

  // What is under way is answered before connections close: nothing is left half written.
  for (const Watched& w : watched_) w.channel->stop();
  const int64_t give_up = now + kDrainNs;
  const auto quiet = [this] {
    return std::all_of(watched_.begin(), watched_.end(), [](const Watched& w) { return w.channel->quiet(); });
  };
  while (!quiet()) {
    if (now_ns() > give_up) return Error(ErrorCode::timed_out, "requests were not answered within 30 s");
    TRY(wait_and_serve(now_ns() + kWaitMax));
  }
  return outcome;
}

}  // namespace millrace::cli::perf
