#include "broker/lifecycle.h"

#include <algorithm>
#include <utility>

namespace millrace::broker {
namespace {

constexpr int64_t kRetryMs = 100;
// Between heartbeats of one who waits to go: each may be the one that lets it.
constexpr int64_t kLeavingStepMs = 50;
// Whoever leaves and hears nothing of a controller for so long goes without.
constexpr int64_t kSilenceMs = 2'000;

}  // namespace

Lifecycle::Lifecycle(io::Loop& loop, const io::Clock& clock, Trace trace, BrokerId self, Links links)
    : loop_(loop), clock_(clock), trace_(std::move(trace)), self_(self), links_(std::move(links)) {}

Lifecycle::~Lifecycle() {
  *alive_ = false;
  stop();
}

void Lifecycle::stop() {
  state_ = State::left;
  ++attempt_;
  if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  if (left_) std::exchange(left_, nullptr)();
}

void Lifecycle::begin() {
  ASSERT(state_ == State::idle);
  state_ = State::catching_up;
  step();
}

void Lifecycle::adopt(BrokerEpoch epoch) {
  ASSERT(state_ == State::idle);
  epoch_ = epoch;
  served_ = adopted_ = true;
  fenced_ = false;
  state_ = State::serving;
}

void Lifecycle::on_controller_changed(bool known, bool here) {
  controller_known_ = known;
  // Only now does anyone count how long this broker is silent.
  if (known && !here && std::exchange(adopted_, false)) links_.on_heard(clock_.now().mono_ms);
  if (state_ == State::idle || state_ == State::left) return;
  ++attempt_;
  asking_ = false;
  if (known) step();
}

template <class Reply>
std::function<void(Result<Reply>)> Lifecycle::current(std::function<void(Result<Reply>)> f) {
  asking_ = true;
  asked_ms_ = clock_.now().mono_ms;
  return [this, alive = alive_, attempt = ++attempt_, f = std::move(f)](Result<Reply> r) {
    if (!*alive || attempt != attempt_) return;
    asking_ = false;
    f(std::move(r));
  };
}

void Lifecycle::again_in(int64_t ms) {
  if (timer_ != 0) loop_.cancel(timer_);
  timer_ = loop_.call_after(ms, [this] {
    timer_ = 0;
    step();
  });
}

void Lifecycle::step() {
  if (state_ == State::idle || state_ == State::left) return;
  if (state_ == State::leaving) {
    const int64_t now_ms = clock_.now().mono_ms;
    if (now_ms >= leave_by_ms_ || now_ms - last_answer_ms_ >= kSilenceMs) {
      trace_.warn(
          "leaving the cluster without the controller's word: what this broker leads is led anew "
          "when its session ends");
      finish_leaving();
      return;
    }
    again_in(kLeavingStepMs);
  }
  if (asking_ || (adopted_ && state_ == State::serving)) return;
  if (!controller_known_) {
    if (state_ != State::leaving) again_in(kRetryMs);
    return;
  }
  switch (state_) {
    case State::catching_up:
      catch_up();
      break;
    case State::registering:
      enroll();
      break;
    case State::registered:
    case State::serving:
    case State::leaving:
      beat();
      break;
    case State::idle:
    case State::left:
      break;
  }
}

void Lifecycle::catch_up() {
  control::BrokerHeartbeat nobody;
  nobody.broker = self_;
  links_.heartbeat(nobody, current<control::BrokerHeartbeatReply>([this](auto r) {
                     if (!r.ok()) return again_in(kRetryMs);
                     state_ = State::registering;
                     step();
                   }));
}

void Lifecycle::enroll() {
  links_.register_broker(links_.registration(), current<control::RegisterBrokerReply>([this](auto r) {
                           if (!r.ok()) return again_in(kRetryMs);
                           if (!r->outcome.ok()) {
                             const Error why(r->outcome.error, r->outcome.message);
                             // A dead predecessor's session ends within seconds, and a cluster is founded
                             // soon.
                             if (why.code != ErrorCode::duplicate_broker_registration &&
                                 why.code != ErrorCode::invalid_request) {
                               trace_.error("the controller does not register this broker: {}", why.message);
                               if (!served_) return links_.on_refused(why);
                             }
                             uint64_t held_back = 0;
                             if (complaints_.admit(clock_.now().mono_ms, held_back))
                               trace_.warn("the controller does not register this broker yet: {}",
                                           why.message);
                             return again_in(2 * kRetryMs);
                           }
                           epoch_ = r->epoch;
                           state_ = State::registered;
                           trace_.info("registered with epoch {}", epoch_.v);
                           links_.on_heard(asked_ms_);
                           links_.on_registered(epoch_);
                           step();
                         }));
}

void Lifecycle::beat() {
  control::BrokerHeartbeat heartbeat;
  heartbeat.broker = self_;
  heartbeat.epoch = epoch_;
  heartbeat.applied = links_.published();
  heartbeat.want_shutdown = state_ == State::leaving;
  heartbeat.offline_log_dirs = links_.offline_log_dirs();
  heartbeat.damaged = links_.damaged();
  links_.heartbeat(heartbeat, current<control::BrokerHeartbeatReply>([this](const auto& r) { on_beat(r); }));
}

void Lifecycle::on_beat(const Result<control::BrokerHeartbeatReply>& r) {
  const bool leaving = state_ == State::leaving;
  if (!r.ok()) {
    if (!leaving) again_in(kRetryMs);
    return;
  }
  last_answer_ms_ = clock_.now().mono_ms;
  if (!r->outcome.ok()) {
    if (leaving) return finish_leaving();  // it is not known any more
    trace_.warn("the controller does not know this registration: {}; registering again", r->outcome.message);
    fenced_ = true;
    state_ = State::registering;
    return again_in(kRetryMs);
  }
  links_.on_heard(asked_ms_);
  if (r->should_shutdown) {
    if (leaving) finish_leaving();
    return;
  }
  if (leaving) return;
  if (r->fenced != fenced_) {
    fenced_ = r->fenced;
    if (fenced_) {
      trace_.warn("this broker is fenced: the controller has not heard of it for too long");
    } else {
      trace_.info("unfenced");
    }
  }
  if (!fenced_ && state_ == State::registered) {
    state_ = State::serving;
    if (!std::exchange(served_, true)) links_.on_serving();
  }
  again_in(fenced_ ? std::min(kRetryMs, links_.interval_ms()) : links_.interval_ms());
}

void Lifecycle::leave(int64_t timeout_ms, std::function<void()> done) {
  if (state_ != State::registered && state_ != State::serving) {
    done();
    return;
  }
  left_ = std::move(done);
  state_ = State::leaving;
  last_answer_ms_ = clock_.now().mono_ms;
  leave_by_ms_ = last_answer_ms_ + timeout_ms;
  ++attempt_;
  asking_ = false;
  step();
}

void Lifecycle::finish_leaving() {
  stop();
}

std::string Lifecycle::waiting_for() const {
  switch (state_) {
    case State::idle:
      return "the metadata quorum";
    case State::catching_up:
    case State::registering:
      return controller_known_ ? "registration with the controller" : "a leader of the metadata log";
    case State::registered:
      return "the controller to unfence this broker";
    case State::serving:
    case State::leaving:
    case State::left:
      break;
  }
  return {};
}

}  // namespace millrace::broker
