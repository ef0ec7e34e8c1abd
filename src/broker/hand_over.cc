#include "broker/hand_over.h"

#include <utility>

namespace millrace::broker {
namespace {

constexpr int64_t kSettleMs = 100;  // followers that are in sync take a few
constexpr int64_t kStepMs = 2;
constexpr int64_t kHoldMs = 1'000;  // longer, and waiting would cost more than being refused

}  // namespace

void HandOver::begin(const std::vector<PartitionRef>& partitions, std::function<void()> then) {
  for (const PartitionRef& p : partitions)
    if (p->hold_appends()) held_.push_back(p);
  unsettled_ = held_;
  then_ = std::move(then);
  settle_until_ms_ = clock_.now().mono_ms + kSettleMs;
  limit_ = loop_.call_after(kHoldMs, [this] {
    limit_ = 0;
    end();
  });
  settle();
}

void HandOver::settle() {
  step_ = 0;
  std::erase_if(unsettled_, [](const PartitionRef& p) { return !p->commits_awaited(); });
  if (!unsettled_.empty() && clock_.now().mono_ms < settle_until_ms_) {
    step_ = loop_.call_after(kStepMs, [this] { settle(); });
    return;
  }
  unsettled_.clear();
  if (then_) std::exchange(then_, nullptr)();
}

void HandOver::on_published() {
  std::erase_if(held_, [](const PartitionRef& p) {
    if (p->role() == partition::Partition::Role::leader) return false;
    p->release_appends();
    return true;
  });
}

void HandOver::end() {
  for (const PartitionRef& p : std::exchange(held_, {})) p->release_appends();
}

void HandOver::stop() {
  if (step_ != 0) loop_.cancel(std::exchange(step_, 0));
  if (limit_ != 0) loop_.cancel(std::exchange(limit_, 0));
  end();
}

}  // namespace millrace::broker
