// Hosts a pure machine on one partition: orders its requests, appends what it wants recorded, holds every
// reply until the last offset it saw is committed, loads the machine from the log and discards it when an
// append fails. Lives on one loop; the machine never leaves it.
//
// A Machine has: handle(Token, const Request&, const Context&, Now, Output&) per request type, apply(key,
// value, Now) as the only change of replicated state, tick(Now, Output&), next_deadline_mono_ms(),
// on_loaded(Now). Output has `replies` {token, response} and `records` {key, optional value}.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/plants.h"
#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "ledger/partition_reader.h"
#include "partition/partition.h"
#include "record/builder.h"

namespace millrace::ledger {

template <class Machine, class Token, class Output, class Context, class Response>
class MachineRunner final
    : public partition::CommitWaiter,
      public std::enable_shared_from_this<MachineRunner<Machine, Token, Output, Context, Response>> {
 public:
  using Done = std::function<void(Result<Response>)>;
  using Make = std::function<std::unique_ptr<Machine>()>;

  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    Trace trace;
  };
  static constexpr size_t kOutstandingMax = 100'000;
  static constexpr int64_t kRestartMs = 1'000;

  MachineRunner(Environment environment, std::shared_ptr<partition::Partition> partition, Make make)
      : env_(std::move(environment)), partition_(std::move(partition)), make_(std::move(make)) {}

  io::Loop& loop() override { return *env_.loop; }

  /// Begins loading. On the loop; requests before the end of it get coordinator_load_in_progress.
  void start() {
    state_ = State::loading;
    const uint64_t life = ++life_;
    machine_ = make_();
    // What is appended and not committed yet is not read, but may well become part of the state: wait for it.
    // A new leader hears of its followers within milliseconds.
    const Result<partition::Offsets> offsets = partition_->offsets();
    if (offsets.ok() && offsets->high_watermark < offsets->log_end) {
      restart_later();
      loads_at_ = offsets->log_end;
      const auto tag = static_cast<uint64_t>(loads_at_.v);
      if (partition_->await_commit(loads_at_, this->shared_from_this(), tag)) {
        env_.loop->post([self = this->shared_from_this(), this, tag] { on_commit(tag, ErrorCode::none); });
      }
      return;
    }
    loads_at_ = kNoOffset;
    if (planted(Plant::serve_before_loaded)) state_ = State::active;
    auto reader = std::make_shared<PartitionReader>(*env_.disk, *env_.loop, partition_);
    reader->run(
        [self = this->shared_from_this(), this, life](const StoredRecord& r) {
          if (life == life_) machine_->apply(r.key, r.value, Now{env_.clock->now().mono_ms, r.timestamp_ms});
        },
        [self = this->shared_from_this(), this, life, begun_ns = env_.clock->mono_ns()](Status status,
                                                                                        uint64_t records) {
          if (life != life_) return;
          if (!status.ok()) {
            // Tried every second, for as long as the partition cannot be read.
            uint64_t held_back = 0;
            if (complaints_.admit(env_.clock->now().mono_ms, held_back)) {
              env_.trace.error("{}: loading failed: {}", partition_->name().text(), status.error().message);
            }
            restart_later();
            return;
          }
          if (records > 0) {
            env_.trace.info("{}: {} records loaded in {} ms", partition_->name().text(), records,
                            (env_.clock->mono_ns() - begun_ns) / 1'000'000);
          }
          state_ = State::active;
          machine_->on_loaded(env_.clock->now());
          arm_tick();
        });
  }

  /// Stops for good (the partition moves or goes). Outstanding requests get `why`.
  void stop(ErrorCode why) {
    state_ = State::stopped;
    ++life_;
    abandon(why);
  }

  /// One request. On the loop; `done` is called once, on the loop.
  template <class Request>
  void submit(const Request& request, const Context& context, Done done) {
    if (state_ != State::active) {
      done(Error(state_ == State::stopped ? ErrorCode::not_coordinator
                                          : ErrorCode::coordinator_load_in_progress));
      return;
    }
    if (waiting_.size() >= kOutstandingMax) {
      done(Error(ErrorCode::coordinator_not_available, "too many requests wait for this coordinator"));
      return;
    }
    const Token token(++last_token_);
    waiting_.emplace(token, std::move(done));
    Output out;
    machine_->handle(token, request, context, env_.clock->now(), out);
    absorb(std::move(out));
  }

  bool active() const { return state_ == State::active; }
  const Machine* machine() const { return machine_.get(); }
  const partition::Partition& partition() const { return *partition_; }

  /// `tag`: the offset that was awaited.
  void on_commit(uint64_t tag, ErrorCode outcome) override {
    if (state_ == State::loading && outcome == ErrorCode::none &&
        loads_at_ == Offset(static_cast<int64_t>(tag)))
      start();
    if (state_ != State::active) return;
    if (outcome != ErrorCode::none) {
      fail(outcome);
      return;
    }
    committed_ = std::max(committed_, Offset(static_cast<int64_t>(tag)));
    release();
  }

 private:
  enum class State : uint8_t { loading, active, stopped };
  struct Held {
    Offset committed_at;
    Token token;
    Response response;
  };

  void absorb(Output out) {
    if (!out.records.empty() && !append(out)) return;
    for (auto& reply : out.replies) held_.push_back({seen_, reply.token, std::move(reply.response)});
    release();
    arm_tick();
  }

  bool append(const Output& out) {
    const Now now = env_.clock->now();
    record::BatchBuilder builder;
    for (const auto& r : out.records) {
      builder.append(now.wall_ms, ByteView(r.key), r.value ? record::OptionalBytes(*r.value) : std::nullopt);
    }
    Bytes batch = builder.build();
    const Result<partition::Appended> appended =
        partition_->append(batch, true, *env_.loop, now, partition::Origin::broker);
    if (!appended.ok()) {
      fail(appended.code());
      return false;
    }
    for (const auto& r : out.records) {
      machine_->apply(r.key, r.value ? std::optional<ByteView>(*r.value) : std::nullopt, now);
    }
    seen_ = appended->last_offset + 1;
    return true;
  }

  // Sends what is committed; waits once for the newest offset that still is not.
  void release() {
    while (!held_.empty()) {
      if (!is_committed(held_.front().committed_at)) return;
      Held h = std::move(held_.front());
      held_.pop_front();
      const auto it = waiting_.find(h.token);
      if (it == waiting_.end()) continue;  // its client is gone
      Done done = std::move(it->second);
      waiting_.erase(it);
      done(std::move(h.response));
    }
  }

  bool is_committed(Offset at) {
    if (at <= committed_ || planted(Plant::commit_answered_early)) return true;
    if (at <= awaited_) return false;
    if (partition_->await_commit(at, this->shared_from_this(), static_cast<uint64_t>(at.v))) {
      committed_ = std::max(committed_, at);
      return true;
    }
    awaited_ = at;
    return false;
  }

  void fail(ErrorCode why) {
    env_.trace.warn("{}: an append failed ({}); the coordinator is loaded again", partition_->name().text(),
                    error_name(why));
    restart_later();  // first: who is told may ask again at once
    abandon(coordinator_code(why));
  }

  // What was appended may yet be committed, here or elsewhere: not_coordinator would say that it is not.
  void abandon(ErrorCode why) {
    std::unordered_map<Token, Done> waiting = std::exchange(waiting_, {});
    std::vector<Done> in_doubt;
    for (const Held& h : std::exchange(held_, {})) {
      const auto it = waiting.find(h.token);
      if (it == waiting.end()) continue;
      in_doubt.push_back(std::move(it->second));
      waiting.erase(it);
    }
    seen_ = committed_ = awaited_ = Offset(0);
    for (const Done& done : in_doubt) done(Error(ErrorCode::coordinator_not_available));
    for (const auto& [token, done] : waiting) done(Error(why));
  }

  void restart_later() {
    state_ = State::loading;
    loads_at_ = kNoOffset;
    env_.loop->call_after(kRestartMs, [self = this->shared_from_this(), this, life = ++life_] {
      if (life == life_) start();
    });
  }

  // Kafka's mapping of append errors to what a coordinator tells its clients.
  static ErrorCode coordinator_code(ErrorCode code) {
    switch (code) {
      case ErrorCode::unknown_topic_or_partition:
      case ErrorCode::not_enough_replicas:
      case ErrorCode::not_enough_replicas_after_append:
      case ErrorCode::request_timed_out:
      case ErrorCode::no_space:  // it comes back by itself when there is room
        return ErrorCode::coordinator_not_available;
      case ErrorCode::not_leader_or_follower:
      case ErrorCode::kafka_storage_error:
        return ErrorCode::not_coordinator;
      default:
        return ErrorCode::unknown_server_error;
    }
  }

  void arm_tick() {
    const int64_t at = machine_->next_deadline_mono_ms();
    if (at == kNoDeadline || (timer_ != 0 && at >= timer_at_)) return;
    if (timer_ != 0) env_.loop->cancel(timer_);
    timer_at_ = at;
    timer_ = env_.loop->call_after(std::max<int64_t>(at - env_.clock->now().mono_ms, 0),
                                   [self = this->shared_from_this(), this] { tick(); });
  }

  void tick() {
    timer_ = 0;
    if (state_ != State::active) return;
    Output out;
    machine_->tick(env_.clock->now(), out);
    absorb(std::move(out));
  }

  const Environment env_;
  const std::shared_ptr<partition::Partition> partition_;
  const Make make_;
  State state_ = State::loading;
  uint64_t life_ = 0;            // of what was begun before, nothing counts
  Offset loads_at_ = kNoOffset;  // loading: begins when everything below is committed
  std::unique_ptr<Machine> machine_;
  std::unordered_map<Token, Done> waiting_;
  std::deque<Held> held_;
  uint64_t last_token_ = 0;
  Offset seen_{0};       // after the last record appended
  Offset committed_{0};  // known to be committed
  Offset awaited_{0};    // greatest offset this runner waits for
  io::TimerId timer_ = 0;
  int64_t timer_at_ = kNoDeadline;
  TraceLimit complaints_{1, 60'000};
};

}  // namespace millrace::ledger
