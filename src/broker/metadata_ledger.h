// The metadata log of this node: follows it, publishes what is committed, keeps snapshots of it, and, while
// this node leads it, hosts the controller machine: requests in order, their records as entries, replies when
// the entries are committed and what they changed has been published. Lives on the control loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
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
    /// A snapshot is kept when so much has been committed since the last one (Kafka:
    /// metadata.log.max.record.bytes.between.snapshots).
    size_t snapshot_every_bytes = size_t{20} << 20;
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
  LogIndex committed() const { return committed_.applied_index(); }
  /// What is committed and published here.
  LogIndex published() const { return published_; }
  /// `f` once, on the loop: when entry `index` is published here, or `timeout_ms` have passed.
  void when_published(LogIndex index, int64_t timeout_ms, std::function<void()> f);
  /// The machine, while this node leads; for what is read off it.
  const control::Controller* controller() const { return controller_.get(); }
  /// Nothing is decided by itself any more: the node is about to end.
  void stop();
  /// Blocking; nothing may be submitted any more.
  Status close() { return runner_.close(); }
  /// The log's directory failed elsewhere.
  void abandon(const Error& why) { runner_.abandon(why); }
  /// Why the log failed for good; empty while it works.
  const std::string& failure() const { return failure_; }
  bool failed() const { return !failure_.empty(); }

  enum class Until : uint8_t { committed, published };
  /// One request to the controller; `done(Result<Reply>)` once, on the loop, when what it saw is committed,
  /// or also published here. Errors: not_controller, kafka_storage_error (the metadata log failed, or finds
  /// no space; nothing was recorded).
  template <class Request, class Done>
  void submit(Request request, Done done, Until until = Until::published) {
    using Reply = decltype(decide(request).reply);
    if (!leading_) {
      done(Result<Reply>(
          failure_.empty() ? Error(ErrorCode::not_controller, "this node does not lead the metadata log")
                           : Error(ErrorCode::kafka_storage_error, "the metadata log failed: " + failure_)));
      return;
    }
    auto decision = decide(request);
    if (Status appended = append(decision.records, decision.atomic); !appended.ok()) {
      done(Result<Reply>(std::move(appended).error()));
      return;
    }
    hold(until, [reply = std::move(decision.reply), done = std::move(done)](ErrorCode code) mutable {
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

  /// Proposes the records as one entry, or several if they need not be one, and applies them to the machine,
  /// so that the next request sees them. On an error some entries may have been proposed if `atomic` is
  /// false.
  Status append(std::span<const meta::Record> records, bool atomic);
  void arm_tick(int64_t at_mono_ms);
  void tick();
  /// Keeps a reply until everything the machine has seen is committed or published.
  void hold(Until until, std::function<void(ErrorCode)> release);
  static void release_up_to(std::deque<Held>& held, LogIndex index);
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
  std::deque<Held> held_;                                                    // until published
  std::deque<Held> held_committed_;                                          // until committed
  std::multimap<LogIndex, std::shared_ptr<std::function<void()>>> waiting_;  // for publication
  io::TimerId tick_timer_ = 0;
  bool stopped_ = false;
  std::string failure_;  // why the log failed, empty if it did not
  bool leading_ = false;
  bool publishing_ = false;
};

}  // namespace millrace::broker
