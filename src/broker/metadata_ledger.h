// The metadata log of this node: follows it, publishes what is committed, keeps snapshots of it, and, while
// this node leads it, hosts the controller machine: requests in order, their records as entries, replies when
// the entries are committed and what they changed has been published. Lives on the control loop.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/trace.h"
#include "broker/peers.h"
#include "control/controller.h"
#include "ledger/raft_runner.h"
#include "meta/image.h"

namespace millrace::broker {

class MetadataLedger {
 public:
  using Environment = ledger::RaftRunner::Environment;
  /// A newly committed image and what changed since the last one; `published` is to be called, on the loop,
  /// when every reader has it: the replies that depend on it leave then. The next call comes after that.
  using OnCommitted =
      std::function<void(std::shared_ptr<const meta::Image>, meta::Delta, std::function<void()> published)>;

  struct Start {
    ledger::RaftRunner::Quorum quorum;
    Uuid cluster_id;  // recorded first, by the first leader
    std::shared_ptr<const meta::ConfigValues> settings;
    OnCommitted on_committed;
    /// A leader is known (maybe this node), or none; what it has committed may not be here yet.
    std::function<void(BrokerId leader)> on_leader;
    /// The log cannot be written any more; the node must go.
    std::function<void(const Error&)> on_failure;
  };

  MetadataLedger(Environment environment, Peers& peers)
      : env_(environment), peers_(peers), runner_(std::move(environment)) {}

  /// Reads the log. Blocking, once, before start().
  Status open(const std::string& directory) { return runner_.open(directory); }
  /// Takes part in the quorum, as voter or follower.
  void start(Start start);
  const ledger::RaftRunner& runner() const { return runner_; }
  ledger::RaftRunner& runner() { return runner_; }
  bool leading() const { return leading_; }
  /// What is committed and published here.
  LogIndex published() const { return published_; }
  /// Blocking; nothing may be submitted any more.
  Status close() { return runner_.close(); }
  /// The log's directory failed elsewhere.
  void abandon(const Error& why) { runner_.abandon(why); }
  /// Why the log failed for good; empty while it works.
  const std::string& failure() const { return failure_; }

  /// One request to the controller; `done(Result<Reply>)` once, on the loop. Errors: not_controller,
  /// kafka_storage_error (the metadata log failed, or finds no space; nothing was recorded).
  template <class Request, class Done>
  void submit(Request request, Done done) {
    using Reply = decltype(decide(request).reply);
    if (!leading_) {
      done(Result<Reply>(
          failure_.empty() ? Error(ErrorCode::not_controller, "this node does not lead the metadata log")
                           : Error(ErrorCode::kafka_storage_error, "the metadata log failed: " + failure_)));
      return;
    }
    auto decision = decide(request);
    if (!decision.records.empty()) {
      if (Status appended = append(decision.records); !appended.ok()) {
        done(Result<Reply>(std::move(appended).error()));
        return;
      }
    }
    hold([reply = std::move(decision.reply), done = std::move(done)](ErrorCode code) mutable {
      if (code != ErrorCode::none) {
        done(Result<Reply>(Error(code, "the metadata log could not be written")));
      } else {
        done(Result<Reply>(std::move(reply)));
      }
    });
  }

 private:
  struct Held {
    LogIndex at;
    std::function<void(ErrorCode)> release;
  };

  auto decide(const control::CreateTopics& r) {
    return controller_->handle(r, [this] { return env_.random->uuid(); }, env_.clock->now());
  }
  template <class Request>
  auto decide(const Request& r) {
    return controller_->handle(r, env_.clock->now());
  }

  /// Proposes one entry and applies its records to the machine, so that the next request sees them.
  Status append(const std::vector<meta::Record>& records);
  /// Keeps a reply until everything the machine has seen is published.
  void hold(std::function<void(ErrorCode)> release);
  void on_commit(const std::vector<raft::Entry>& entries);
  void on_snapshot(const raft::SnapshotMeta& meta, const Slice& state);
  void on_leadership(bool leading);
  void on_leader(BrokerId leader);
  void keep_snapshot();
  void publish();
  void release();
  void fail(const Error& why);

  const Environment env_;
  Peers& peers_;
  ledger::RaftRunner runner_;
  Start start_;
  std::unique_ptr<control::Controller> controller_;  // while leading
  meta::Image committed_;
  size_t bytes_since_snapshot_ = 0;
  meta::Delta delta_;     // since the last publication
  LogIndex appended_{0};  // what the machine has seen
  LogIndex published_{0};
  std::deque<Held> held_;
  std::string failure_;  // why the log failed, empty if it did not
  bool leading_ = false;
  bool publishing_ = false;
};

}  // namespace millrace::broker
