// The leader's half of one partition's replication, as a pure machine: whose ends are known, how far the high
// watermark may go, who belongs to the ISR. It knows nothing of locks, logs or clocks; the partition's door
// drives it under its lock.
//
// Every replica has two ends: the log end and the durable end (what it has fsynced; in `replicated`
// durability the durable end is the log end). The high watermark is the smallest durable end over the maximal
// ISR, leader included, and never retreats. The maximal ISR is what the controller has confirmed plus whom an
// unanswered proposal adds; whom a proposal removes counts until the controller has answered. With fewer
// confirmed members than the effective min.insync.replicas the mark stands still (KIP-966).
//
// A proposal's outcome is unknown until the controller says otherwise: it is dropped only on an answer that
// means "not applied", confirmed by an answer or by an image with a later partition epoch, and sent again
// otherwise. The sender keeps the proposals of one reign in order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/time.h"
#include "log/epoch_cache.h"

namespace millrace::replica {

inline constexpr BrokerEpoch kNoBrokerEpoch{-1};

struct Ends {
  Offset log_end{0};
  Offset durable_end{0};
  bool operator==(const Ends&) const = default;
};

/// What the metadata image says about one replica's broker.
struct BrokerState {
  BrokerId id = kNoBroker;
  BrokerEpoch epoch = kNoBrokerEpoch;  // of its registration
  bool may_join = true;                // neither fenced nor shutting down
};

/// What the metadata image says about the partition that this broker leads.
struct Assignment {
  int32_t partition_epoch = 0;
  std::vector<BrokerState> replicas;  // the leader included
  std::vector<BrokerId> isr;
};

struct LeaderSettings {
  size_t min_insync = 1;  // already capped by the replication factor
  int64_t lag_time_max_ms = 30'000;
};

/// One follower's fetch, as far as replication is concerned. `durable_end` above `fetch_offset` is cut to it.
struct FollowerFetch {
  BrokerId follower = kNoBroker;
  BrokerEpoch broker_epoch = kNoBrokerEpoch;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;  // the one it follows
  Offset fetch_offset{0};                     // its log end
  Offset durable_end{0};
  LeaderEpoch last_fetched_epoch = kNoLeaderEpoch;  // of its last record; none: an empty log
};

struct FetchOutcome {
  /// fenced_leader_epoch, unknown_leader_epoch (also: not a replica that this leader knows of),
  /// stale_broker_epoch, invalid_request, offset_out_of_range.
  ErrorCode error = ErrorCode::none;
  /// No records then: the follower cuts its log and asks again.
  std::optional<log::EpochEnd> diverging;
  /// Waiting producers, consumers and followers are to be told.
  bool high_watermark_advanced = false;

  bool accepted() const { return error == ErrorCode::none && !diverging; }
};

struct IsrMember {
  BrokerId id = kNoBroker;
  BrokerEpoch epoch = kNoBrokerEpoch;  // of the incarnation that fetched; none: not heard in this reign
  bool operator==(const IsrMember&) const = default;
};

/// To the controller. `number` comes back with the answer.
struct IsrProposal {
  uint64_t number = 0;
  LeaderEpoch leader_epoch;
  int32_t partition_epoch = 0;
  std::vector<IsrMember> isr;  // ascending
};

/// The controller's answer, or why there was none.
struct IsrAnswer {
  uint64_t number = 0;
  ErrorCode error = ErrorCode::none;
  LeaderEpoch leader_epoch;  // these three with `none` only
  int32_t partition_epoch = 0;
  std::vector<BrokerId> isr;
};

class Leader {
 public:
  /// A reign begins at the local log end. The ISR contains `self`. `high_watermark` is what is known to be
  /// committed already (as a follower or from the checkpoint); beyond it nothing is until this reign says so.
  Leader(BrokerId self, LeaderEpoch epoch, const Assignment& assignment, LeaderSettings settings, Ends local,
         Offset high_watermark, Now now);
  /// Of a partition whose ISR nobody changes.
  Leader(BrokerId self, LeaderEpoch epoch, const std::vector<BrokerId>& isr, size_t min_insync, Ends local,
         Offset high_watermark);

  /// The local log grew or was synced; told before a follower may read what is new. True if the high
  /// watermark advanced.
  bool on_local(Ends ends);
  /// The configured minimum changed (already capped by the replication factor). True if the mark advanced.
  bool set_min_insync(size_t min_insync);
  void set_lag_time_max_ms(int64_t ms) { settings_.lag_time_max_ms = ms; }

  /// A follower fetches: checks epochs and the place where its log stops agreeing with this one (`epochs`),
  /// then believes its ends. May lead to a proposal.
  FetchOutcome on_fetch(const FollowerFetch& fetch, Offset log_start, const log::EpochCache& epochs, Now now);
  /// Proposes to drop members that have not caught up for replica.lag.time.max.ms; sends an unanswered
  /// proposal again when its time has come. True if the high watermark advanced (a follower that it waited
  /// for is given up).
  bool tick(Now now);
  /// When tick() has something to do, at the latest.
  int64_t next_deadline_mono_ms() const;

  /// What is to be sent to the controller now. An answer, or its absence (request_timed_out), is owed.
  std::optional<IsrProposal> take_proposal();
  /// True if the high watermark advanced.
  bool on_answer(const IsrAnswer& answer, Now now);
  /// The image changed under the same leader epoch. Earlier partition epochs only tell about brokers. True if
  /// the high watermark advanced.
  bool on_assignment(const Assignment& assignment, Now now);

  /// Whether acks=all may be accepted now.
  bool enough_in_sync() const { return isr_.size() >= settings_.min_insync; }
  /// Whether the reign's start is committed. Before, what earlier reigns committed is not all known here:
  /// ListOffsets of the end answers offset_not_available, and nothing that builds on the last stable offset
  /// is served.
  bool knows_committed_end() const { return high_watermark_ >= epoch_start_; }
  Offset high_watermark() const { return high_watermark_; }
  Offset epoch_start() const { return epoch_start_; }
  LeaderEpoch epoch() const { return epoch_; }
  int32_t partition_epoch() const { return partition_epoch_; }
  Ends local() const { return local_; }
  /// Confirmed by the controller, ascending.
  std::vector<BrokerId> isr() const { return {isr_.begin(), isr_.end()}; }
  /// With whom an unanswered proposal adds.
  std::vector<BrokerId> maximal_isr() const;
  /// Without itself: assigned, or in the ISR.
  std::vector<BrokerId> known_replicas() const;
  bool proposal_pending() const { return pending_.has_value(); }
  /// Nothing: not heard in this reign.
  std::optional<Ends> ends_of(BrokerId id) const;
  std::optional<int64_t> last_caught_up_mono_ms(BrokerId id) const;

 private:
  struct Follower {
    BrokerState broker;
    BrokerEpoch fetched_as = kNoBrokerEpoch;
    std::optional<Ends> ends;
    std::optional<int64_t> last_fetch_ms;
    Offset leader_end_at_last_fetch{0};  // durable
    std::optional<int64_t> last_caught_up_ms;
  };
  struct Pending {
    IsrProposal proposal;
    std::set<BrokerId> isr;
    bool to_send = true;
    int64_t send_again_ms = kNoDeadline;
  };

  void adopt(const std::vector<BrokerState>& replicas);
  void confirm(int32_t partition_epoch, const std::vector<BrokerId>& isr);
  void propose(std::set<BrokerId> isr);
  bool in_maximal_isr(BrokerId id) const;
  bool may_join(const Follower& f) const;
  bool caught_up(const Follower& f) const;
  static void note_fetch(Follower& f, Ends ends, Ends leader, int64_t now_ms);
  bool advance();

  BrokerId self_;
  LeaderEpoch epoch_;
  BrokerEpoch self_epoch_ = kNoBrokerEpoch;
  LeaderSettings settings_;
  Ends local_;
  Offset epoch_start_;
  Offset high_watermark_;
  int32_t partition_epoch_ = 0;
  std::set<BrokerId> isr_;
  std::map<BrokerId, Follower> followers_;  // assigned or in the ISR, without self
  std::optional<Pending> pending_;
  uint64_t proposals_ = 0;
  int64_t now_ms_ = 0;  // the latest that was told
  int64_t last_tick_ms_ = 0;
  int64_t propose_after_ms_ = 0;  // a refused proposal is not repeated at once
};

}  // namespace millrace::replica
