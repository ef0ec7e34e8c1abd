// This broker's life in the cluster, as the active controller sees it: it registers, says every half second
// that it lives and how far it has followed the metadata log, is unfenced when that is far enough, registers
// again when the controller does not know it any more, and takes its leave before it stops. Lives on the
// control loop.
//
//   catching up -> registering -> registered (fenced) -> serving -> leaving -> left
//
// The first question is a heartbeat that names no registration: it is refused, but its answer is given only
// when everything the controller had published is published here, too. So every partition is open before this
// broker registers, and it can say which came back damaged.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/trace.h"
#include "control/broker_requests.h"
#include "io/clock.h"
#include "io/loop.h"

namespace millrace::broker {

class Lifecycle {
 public:
  /// What it needs of the broker; all on the control loop.
  struct Links {
    std::function<void(control::RegisterBroker, std::function<void(Result<control::RegisterBrokerReply>)>)>
        register_broker;
    std::function<void(control::BrokerHeartbeat, std::function<void(Result<control::BrokerHeartbeatReply>)>)>
        heartbeat;
    /// What it registers with, as of now.
    std::function<control::RegisterBroker()> registration;
    std::function<LogIndex()> published;
    std::function<std::vector<Uuid>()> offline_log_dirs;
    /// Found while they served.
    std::function<std::vector<control::DamagedReplica>()> damaged;
    std::function<int64_t()> interval_ms;  // broker.heartbeat.interval.ms
    /// The controller has answered, and not that it knows nothing of this broker, what it was asked at
    /// `asked_mono_ms`: from then on at the earliest it counts a session.
    std::function<void(int64_t asked_mono_ms)> on_heard;
    /// A registration is in force and seen here.
    std::function<void(BrokerEpoch)> on_registered;
    /// Unfenced for the first time.
    std::function<void()> on_serving;
    /// The controller will never take this registration.
    std::function<void(const Error&)> on_refused;
  };

  Lifecycle(io::Loop& loop, const io::Clock& clock, Trace trace, BrokerId self, Links links);
  ~Lifecycle();

  void begin();
  /// Registered and unfenced already: the first broker, on the node that is the whole quorum. Nobody waits
  /// for its heartbeats while the controller is in the same process.
  void adopt(BrokerEpoch epoch);
  /// The controller is another now, or there is one again: what it was asked may never be answered. `here`:
  /// in this very process.
  void on_controller_changed(bool known, bool here = false);
  /// Asks the controller to move what this broker leads elsewhere; `done` when it has, or after a time.
  void leave(int64_t timeout_ms, std::function<void()> done);
  void stop();

  BrokerEpoch epoch() const { return epoch_; }
  /// What is being waited for, for people; empty while it serves.
  std::string waiting_for() const;

 private:
  enum class State { idle, catching_up, registering, registered, serving, leaving, left };

  void step();
  void again_in(int64_t ms);
  void catch_up();
  void enroll();
  void beat();
  void on_beat(const Result<control::BrokerHeartbeatReply>& r);
  void finish_leaving();
  /// Wraps a callback: it comes only if nothing newer has been asked, and the object lives.
  template <class Reply>
  std::function<void(Result<Reply>)> current(std::function<void(Result<Reply>)> f);

  io::Loop& loop_;
  const io::Clock& clock_;
  Trace trace_;
  const BrokerId self_;
  const Links links_;
  State state_ = State::idle;
  BrokerEpoch epoch_{-1};
  bool served_ = false;
  bool adopted_ = false;
  bool fenced_ = true;
  bool controller_known_ = false;
  uint64_t attempt_ = 0;
  bool asking_ = false;
  io::TimerId timer_ = 0;
  int64_t leave_by_ms_ = 0;
  int64_t last_answer_ms_ = 0;
  int64_t asked_ms_ = 0;  // what is being asked, or was last
  std::function<void()> left_;
  TraceLimit complaints_{1, 5'000};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
